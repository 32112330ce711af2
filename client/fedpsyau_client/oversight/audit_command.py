"""``fedpsyau-client audit``: what came in and what went out, from the site's own log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from fedpsyau_client.oversight.audit_chain import Entry

__all__ = ["audit_command"]


def audit_command(
    partition: Annotated[
        str | None, typer.Option(help="Name of this site. [default: the kit's]")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="The client's --state. [default: state]")
    ] = None,
    kit: Annotated[
        Path | None,
        typer.Option(help="This site's kit, a folder or an archive.", envvar="FEDPSYAU_KIT"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Leave out what is older: a time like 2026-05-31 or 2026-05-31T14:00."),
    ] = None,
    tensors: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Names and shapes of the tensors that LIST stands for."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check the whole chain of hashes, and say where it ends."),
    ] = False,
    holds: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="With --verify: a last hash that was noted earlier."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The lines as they are.")] = False,
) -> None:
    """Print the log of every message in and out. Ends with 124 if a line was changed."""
    from rich.console import Console

    from fedpsyau_client.local_training.site_state import audit_folder
    from fedpsyau_client.oversight.audit_reading import (
        entries_since,
        read_audit,
        tensor_list,
        verified,
    )
    from fedpsyau_client.oversight.own_state import state_folder

    folder = audit_folder(state_folder(partition, state, kit))
    if verify:
        typer.echo(verified(folder, holds))
        return
    entries = entries_since(read_audit(folder), since)
    if tensors:
        for name, kind, shape in tensor_list(entries, tensors):
            typer.echo(f"{name:60} {kind:5} {' x '.join(map(str, shape)) or 'one number'}")
    elif as_json:
        for entry in entries:
            typer.echo(json.dumps(entry.content))
    else:
        Console().print(_table(entries))


#: Headings of the table, and whether a column holds numbers.
_COLUMNS = (
    ("#", True),
    ("time (UTC)", False),
    ("", False),
    ("message", False),
    ("round", True),
    ("tensors", False),
    ("bytes", True),
    ("SHA-256", False),
    ("decision", False),
)


def _table(entries: list[Entry]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading, is_number in _COLUMNS:
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for entry in entries:
        refused = entry.content.get("decision") == "refused"
        style = "red" if refused else "dim" if entry.content["direction"] == "note" else None
        table.add_row(*_cells(entry.content), style=style)
    return table


def _cells(line: dict[str, Any]) -> list[str]:
    """Cells of one line; what the server wrote is shown as plain text."""
    from rich.markup import escape

    tensors = line.get("tensors") if line["direction"] != "note" else None
    size = f"{line['bytes']:,}" if "bytes" in line else ""
    decision = ": ".join(filter(None, (line.get("decision", ""), line.get("why", ""))))
    cells = [
        str(line["n"]),
        str(line["time"])[:19].replace("T", " "),
        line["direction"],
        line["kind"],
        str(line.get("round", "")),
        f"{tensors['count']} as {tensors['list']}" if tensors else "",
        size,
        str(line.get("sha256", ""))[:12],
        decision or _note(line),
    ]
    return [escape(_printable(cell)) for cell in cells]


def _note(line: dict[str, Any]) -> str:
    """What a line says that is no message."""
    if line["kind"] == "tensors":
        return f"{len(line['tensors'])} tensors as {line['list']}"
    known = {"n", "time", "direction", "kind", "prev", "bytes", "sha256", "agreement"}
    return ", ".join(f"{key} {value}" for key, value in line.items() if key not in known and value)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
