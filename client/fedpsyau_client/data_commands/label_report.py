"""What a label table holds and what is odd about it, for a person in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedpsyau_client.labels.oddity_kinds import ODDITY_KINDS
from fedpsyau_client.labels.table_summary import DROPPED, TableSummary
from fedpsyau_model.action_units import AUS

if TYPE_CHECKING:
    from fedpsyau_client.labels.clip_record import Oddity

__all__ = ["print_label_report"]

#: Oddities of one kind that are told in full, and rows that are listed after them.
_TOLD = 5
_LISTED = 12

_COLOURS = {"warning": "yellow", "note": "cyan"}


def print_label_report(
    title: str,
    summary: TableSummary,
    oddities: Mapping[str, Sequence[Oddity]],
    *,
    everything: bool,
) -> None:
    """Print counts by class, emotion, action unit and subject, then the oddities by kind.

    everything: tell every oddity instead of the first ones of each kind.
    """
    console = Console()
    console.print(f"[bold]{_shown(title)}[/bold]", highlight=False)
    console.print(
        f"{summary.clips} clips in {summary.videos} videos, {len(summary.subjects)} subjects, "
        f"{summary.coded} clips coded for action units\n",
        highlight=False,
    )
    for scheme, classes in summary.classes.items():
        console.print(_counts(f"clips by class ({scheme})", classes))
    console.print(_counts("clips by the table's own word", summary.emotions))
    if summary.coded:
        console.print(_action_units(summary))
    _print_subjects(console, summary)
    _print_oddities(console, oddities, everything)


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )


def _counts(title: str, counts: Mapping[str, int]) -> Table:
    table = _table(title)
    for name in counts:
        table.add_column(_shown(name) or "(none)", justify="right")
    table.add_row(*map(str, counts.values()), end_section=True)
    return table


def _action_units(summary: TableSummary) -> Table:
    table = _table("clips by action unit")
    for column in ("", "clips", "one side only", "uncertain", ""):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for au, count in summary.aus.items():
        numbers = (count.clips, count.one_sided, count.uncertain)
        table.add_row(f"AU{au}", *(str(number or "-") for number in numbers), _place(au, summary))
    return table


def _place(au: int, summary: TableSummary) -> str:
    if summary.coded_aus is not None and au not in summary.coded_aus:
        return "not coded in this data set"
    return "" if au in AUS else "not one of the network's twelve"


def _shown(text: str) -> str:
    """Text of a table as it may go to a terminal: no markup, no control characters."""
    return escape("".join(each if each.isprintable() else "\ufffd" for each in text))


def _print_subjects(console: Console, summary: TableSummary) -> None:
    console.print("\n[italic]clips by subject (of them dropped from the three classes)[/italic]")
    console.print(
        Columns(
            [
                f"{_shown(subject) or '(none)'} {sum(classes.values())} ({classes[DROPPED]})"
                for subject, classes in summary.subjects.items()
            ],
            padding=(0, 3),
        ),
        highlight=False,
    )


def _print_oddities(
    console: Console, oddities: Mapping[str, Sequence[Oddity]], everything: bool
) -> None:
    console.print()
    if not oddities:
        console.print("Nothing odd was found.")
    for kind, found in oddities.items():
        severity, meaning = ODDITY_KINDS[kind].severity, ODDITY_KINDS[kind].meaning
        colour = _COLOURS[severity]
        console.print(
            f"[{colour}]{severity}[/{colour}] [bold]{kind}[/bold] ({len(found)}): {meaning}",
            highlight=False,
            soft_wrap=True,
        )
        told = len(found) if everything else _TOLD
        for oddity in found[:told]:
            place = "table" if oddity.row is None else f"row {oddity.row}"
            console.print(f"  {place}: {_shown(oddity.message)}", highlight=False, soft_wrap=True)
        if rest := found[told:]:
            rows = ", ".join(str(oddity.row) for oddity in rest[:_LISTED])
            more = f" and {len(rest) - _LISTED} more" if len(rest) > _LISTED else ""
            console.print(f"  and rows {rows}{more}; --all tells them", highlight=False)
