"""Feature stores as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedpsyau_client.store.store_summary import StoreSummary


def print_stores(summaries: Iterable[StoreSummary], title: str) -> None:
    """Print one row per store: clips, subjects, clips by class, data set."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_model.emotions import CLASS_NAMES

    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=0,
    )
    table.add_column("partition", no_wrap=True)
    for column in ("clips", "subjects", *CLASS_NAMES["three"]):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("data set", no_wrap=True)
    for summary in summaries:
        numbers = (summary.clips, summary.subjects, *summary.classes.values())
        table.add_row(
            summary.partition, *(str(number) for number in numbers), summary.dataset_label
        )
    Console().print(table)
