"""``fedpsyau priors show``: the published matrices in the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.table import Table

MatrixName = Literal["intrinsic", "cooccurrence", "attention"]

_TITLES: dict[MatrixName, str] = {
    "intrinsic": "Intrinsic prior as published: 1 coordinated, 0 not",
    "cooccurrence": "Clips in DFME with both action units; the diagonal: with that one at all",
    "attention": "Extrinsic prior: DFME counts, each row divided by its sum",
}


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
