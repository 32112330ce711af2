"""Feature stores as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedpsyau_client.manifest import Manifest


def print_stores(manifests: Iterable[Manifest], title: str) -> None:
    """Print one row per store: clips, subjects, clips by class, data set."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_client.class_counts import three_class_counts
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
    for manifest in manifests:
        counts = manifest.counts
        numbers = (counts.clips, counts.subjects, *three_class_counts(counts.emotions).values())
        known_by_name = not manifest.synthetic or manifest.dataset.startswith("synthetic")
        dataset = manifest.dataset if known_by_name else f"{manifest.dataset} (synthetic)"
        table.add_row(manifest.partition, *(str(number) for number in numbers), dataset)
    Console().print(table)
