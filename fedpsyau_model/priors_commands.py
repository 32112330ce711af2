"""``fedpsyau priors``: look at the prior knowledge that guides the graphs.

The commands stand here and not beside the matrices, because `fedpsyau_priors` imports nothing of
ours and so cannot know the frame of the commands.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fedpsyau_model.command_line import new_app
from fedpsyau_model.errors import OutputExistsError, OutputWriteError

if TYPE_CHECKING:
    from rich.table import Table

app = new_app("Show or plot the prior knowledge of which action units go together.")

MatrixName = Literal["intrinsic", "cooccurrence", "attention"]

_TITLES: dict[MatrixName, str] = {
    "intrinsic": "Intrinsic prior as published: 1 coordinated, 0 not",
    "cooccurrence": "Clips in DFME with both action units; the diagonal: with that one at all",
    "attention": "Extrinsic prior: DFME counts, each row divided by its sum",
}

#: File types that the plot can be saved as.
PLOT_TYPES: tuple[str, ...] = (".png", ".pdf", ".svg")


@app.command()
def show(
    matrix: Annotated[MatrixName, typer.Option(help="Which matrix.")] = "intrinsic",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print one of the published matrices, with what is odd about it."""
    from fedpsyau_priors import action_units, oddities

    rows = _values(matrix)
    found = oddities()
    if as_json:
        document = {
            "matrix": matrix,
            "aus": list(action_units()),
            "rows": rows,
            "oddities": [{"pair": list(oddity.pair), "note": oddity.note} for oddity in found],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    from rich.console import Console

    console = Console()
    console.print(_table(matrix, rows, [oddity.pair for oddity in found]))
    for oddity in found:
        console.print(f"* {oddity.note}", style="yellow", highlight=False)


@app.command()
def plot(
    out: Annotated[
        Path, typer.Option(help=f"File to write, {', '.join(PLOT_TYPES)}.", metavar="FILE")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the file.")] = False,
) -> None:
    """Draw the intrinsic and the extrinsic prior side by side."""
    if out.suffix.lower() not in PLOT_TYPES:
        raise typer.BadParameter(
            f"{out} must end in one of {', '.join(PLOT_TYPES)}.", param_hint="--out"
        )
    if out.exists() and not replace:
        raise OutputExistsError(
            f"{out} is already there and was left as it is. Give another name, or --replace."
        )
    from fedpsyau_priors.plot import plot_priors

    unfinished = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        plot_priors().savefig(unfinished, format=out.suffix[1:].lower(), dpi=150)
        unfinished.replace(out)
    except OSError as error:
        raise OutputWriteError(
            f"{out} cannot be written: {error.strerror or error}. Check free space and "
            "permissions, or give another place."
        ) from error
    finally:
        with suppress(OSError):  # it is gone after a success, and never was where mkdir failed
            unfinished.unlink()
    typer.echo(f"Wrote {out}")


def _values(matrix: MatrixName) -> list[list[Any]]:
    from fedpsyau_priors import attention, cooccurrence_counts, published_intrinsic

    values: list[list[Any]]
    if matrix == "intrinsic":
        values = published_intrinsic().tolist()
    elif matrix == "cooccurrence":
        values = cooccurrence_counts().tolist()
    else:
        values = attention().tolist()
    return values


def _table(matrix: MatrixName, rows: list[list[Any]], odd: list[tuple[int, int]]) -> Table:
    from rich import box
    from rich.table import Table

    from fedpsyau_model.action_units import AUS, UPPER_AUS

    table = Table(title=_TITLES[matrix], box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("", style="bold")
    for au in AUS:
        table.add_column(f"AU{au}", justify="right", min_width=5)
    for au, row in zip(AUS, rows, strict=True):
        cells = [
            _cell(value, (min(au, other), max(au, other)) in odd)
            for other, value in zip(AUS, row, strict=True)
        ]
        table.add_row(f"AU{au}", *cells, end_section=au == UPPER_AUS[-1])
    return table


def _cell(value: float, odd: bool) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    if odd:
        return f"[bold yellow]{text}*[/]"
    return f"[dim]{text}[/]" if value == 0 else text
