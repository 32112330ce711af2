"""``fedpsyau compare``: whether two runs of `fedpsyau train` differ."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedpsyau_model.command_line import new_app

if TYPE_CHECKING:
    from fedpsyau_client.protocols.comparison import Comparison, Difference

app = new_app("Compare two runs on the same clips: a paired bootstrap over subjects.")


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder of a run of `fedpsyau train`.")],
    run_b: Annotated[Path, typer.Argument(help="Folder of another one on the same clips.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell by how much RUN_B is better than RUN_A, and whether that could be chance.

    The difference is B minus A, with a 95 % interval and a two-sided p over resampled subjects.
    """
    import numpy as np

    from fedpsyau_client.protocols.comparison import compare_runs
    from fedpsyau_client.protocols.train_run import TrainRun

    generator = np.random.default_rng(seed)
    comparison = compare_runs(TrainRun.open(run_a), TrainRun.open(run_b), generator)
    if as_json:
        typer.echo(json.dumps(_document(comparison, run_a, run_b), indent=2))
    else:
        _print(comparison, run_a, run_b)


def _document(comparison: Comparison, run_a: Path, run_b: Path) -> dict[str, Any]:
    """Content of the JSON; what is not defined is null."""
    rows = [_defined(each) for each in comparison.differences]
    return {"a": str(run_a), "b": str(run_b), **asdict(comparison), "differences": rows}


def _defined(difference: Difference) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in asdict(difference).items()
    }


def _print(comparison: Comparison, run_a: Path, run_b: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_client.protocols.outputs import FEW_SUBJECTS, shown, signed

    made_up = ", synthetic data" if comparison.synthetic else ""
    table = Table(
        title=f"A: {run_a}, B: {run_b}; {comparison.clips} clips of "
        f"{comparison.subjects} subjects{made_up}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    table.add_column("score")
    for heading in ("A", "B", "B - A", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    for each in comparison.differences:
        table.add_row(
            each.score,
            shown(each.first),
            shown(each.second),
            signed(each.difference),
            f"{signed(each.low)} to {signed(each.high)}",
            shown(each.p),
        )
    console = Console()
    console.print(table)
    console.print(
        "Paired bootstrap over subjects. It tells chance in who was tested from a difference, not "
        "chance in training: repeat both runs with other seeds before you believe a small one.",
        style="dim",
    )
    if comparison.subjects < FEW_SUBJECTS:
        console.print(
            f"Only {comparison.subjects} subjects: with fewer than {FEW_SUBJECTS} intervals are "
            "too short and p is too small.",
            style="dim",
        )
