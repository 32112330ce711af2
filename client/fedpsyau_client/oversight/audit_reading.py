"""Reading an audit log: all lines, those since a time, and whether they are what was written."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from fedpsyau_client.oversight.audit_chain import (
    TORN,
    ChainEnd,
    Entry,
    audit_files,
    read_chain,
)
from fedpsyau_model.errors import AuditChainError, DataNotFoundError, SettingsError

__all__ = ["entries_since", "read_audit", "tensor_list", "verified"]


def read_audit(folder: Path) -> list[Entry]:
    """Read all lines of a log, the oldest first.

    Raises DataNotFoundError without a log, AuditLogError if it cannot be read, AuditChainError if
    a line was changed.
    """
    return _read(folder)[0]


def entries_since(entries: list[Entry], since: str | None) -> list[Entry]:
    """Leave out lines that are older than a time (ISO 8601, UTC unless it says otherwise)."""
    if since is None:
        return entries
    try:
        earliest = datetime.datetime.fromisoformat(since)
    except ValueError:
        raise SettingsError(
            f"--since {since!r} is no time. Give a date like 2026-05-31, or a time like "
            "2026-05-31T14:00, in UTC."
        ) from None
    if earliest.tzinfo is None:
        earliest = earliest.replace(tzinfo=datetime.UTC)
    return [
        entry
        for entry in entries
        if datetime.datetime.fromisoformat(entry.content["time"]) >= earliest
    ]


def tensor_list(entries: list[Entry], digest: str) -> list[Any]:
    """The (name, type, shape) that a list of tensors stands for; DataNotFoundError without one."""
    for entry in entries:
        if entry.content["kind"] == "tensors" and entry.content["list"].startswith(digest):
            listed: list[Any] = entry.content["tensors"]
            return listed
    raise DataNotFoundError(
        f"No list of tensors {digest} is in this log. The column `tensors` of the table names them."
    )


def verified(folder: Path, holds: str | None = None) -> str:
    """Check the whole chain and say what it is; as `read_audit` if it is broken.

    holds: the start of a hash that was the last one earlier, or None. AuditChainError if no line
    has it: the end of the log was cut off since, or all of it was written anew.
    """
    entries, end = _read(folder)
    if holds and not any(entry.hash.startswith(holds.lower()) for entry in entries):
        raise AuditChainError(
            f"The audit log in {folder} is whole, but no line has the hash {holds} that was noted "
            "earlier: its end was cut off, or all of it was written anew."
        )
    first = entries[0].content["n"] if entries else 1
    torn = sum(entry.content["kind"] == TORN for entry in entries)
    told = [f"{len(entries)} lines, {first} to {end.number}, are as they were written."]
    if first > 1:
        told.append(f"What comes before line {first} is elsewhere.")
    if torn:
        told.append(f"Cut off in the middle of a line {torn} times, each noted.")
    if end.torn:
        told.append("The last line is not whole: it is being written, or its writer was killed.")
    told.append(f"The last hash is {end.hash}; note it elsewhere to see later that nothing is cut.")
    return " ".join(told)


def _read(folder: Path) -> tuple[list[Entry], ChainEnd]:
    files = audit_files(folder)
    if not files:
        raise DataNotFoundError(
            f"There is no audit log in {folder}. Give the --partition and --state of the client "
            "that wrote one."
        )
    end = ChainEnd()
    return list(read_chain(files, end, anchored=files[0].stem == "000001")), end
