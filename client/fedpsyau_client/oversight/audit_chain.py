"""The audit log on disk: files of lines, each of which names the hash of the one before.

STATE/PARTITION/audit/000001.jsonl, 000002.jsonl, ...   one JSON object a line, only appended to

A line that was changed, taken out or put in breaks the chain. A process that is killed while it
writes leaves half a line; the next one notes that with the hash of what it found, and the chain
goes on from the last whole line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedpsyau_model.errors import AuditChainError, AuditLogError
from fedpsyau_model.input_files import LARGEST_TEXT, read_input

__all__ = ["START", "TORN", "ChainEnd", "Entry", "audit_files", "line_hash", "read_chain"]

#: What the first line of all names as the hash of the one before.
START: Final = "0" * 64

#: Kind of the note on bytes that are no whole line.
TORN: Final = "torn-line"


@dataclass(frozen=True)
class Entry:
    """A whole line: what it says, the hash that the next one must name, and where it stands."""

    content: dict[str, Any]
    hash: str
    file: Path
    line: int


@dataclass
class ChainEnd:
    """Where a chain ends: what the next line goes on from, and bytes that are no whole line."""

    number: int = 0
    hash: str = START
    torn: bytes = b""
    torn_since: str = ""
    """File and line of the first torn byte."""


def line_hash(line: bytes) -> str:
    """SHA-256 of a line without its line feed, 64 hex digits."""
    return hashlib.sha256(line).hexdigest()


def audit_files(folder: Path) -> list[Path]:
    """The files of an audit log in the order in which they were written."""
    return sorted(folder.glob("[0-9]*.jsonl"), key=lambda path: int(path.stem))


def read_chain(files: Sequence[Path], end: ChainEnd, *, anchored: bool = True) -> Iterator[Entry]:
    """Yield the whole lines of files, checking that each names the one before.

    end: where the chain stands so far; it is moved along. anchored: whether the first line must
    go on from `end`; otherwise it is taken as it is, as for an older part that was put elsewhere.

    Raises AuditChainError where the chain is broken, AuditLogError where a file cannot be read.
    """
    for file in files:
        for number, line in enumerate(_lines(file), start=1):
            content = _parsed(line)
            if content is None:
                end.torn_since = end.torn_since or f"{file.name} line {number}"
                end.torn += line
                continue
            if not anchored:
                end.number, end.hash, anchored = content["n"] - 1, content["prev"], True
            _require_next(content, end, f"{file.name} line {number}")
            body = line.rstrip(b"\n")
            end.number, end.hash = content["n"], line_hash(body)
            end.torn, end.torn_since = b"", ""
            yield Entry(content, end.hash, file, number)


def _lines(file: Path) -> list[bytes]:
    try:
        return read_input(file, LARGEST_TEXT).splitlines(keepends=True)
    except OSError as error:
        raise AuditLogError(
            f"The audit log {file} cannot be read: {error.strerror}. Give the folder back to this "
            "user, or restore it."
        ) from None


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A whole line's content, or None for anything else."""
    if not line.endswith(b"\n"):
        return None
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("n"), int):
        return None
    return content if isinstance(content.get("prev"), str) else None


def _require_next(content: dict[str, Any], end: ChainEnd, place: str) -> None:
    """Raise AuditChainError unless a line goes on from where the chain stands."""
    if content["n"] != end.number + 1 or content["prev"] != end.hash:
        raise _broken(
            f"{place} says that it is entry {content['n']} after {content['prev'][:12]}, and "
            f"entry {end.number} is {end.hash[:12]}"
        )
    noted = content.get("sha256") if content.get("kind") == TORN else None
    found = line_hash(end.torn.rstrip(b"\n")) if end.torn else None
    if noted != found:
        raise _broken(f"what stands before {place} ({end.torn_since}) is no line of this log")


def _broken(what: str) -> AuditChainError:
    return AuditChainError(
        f"The audit log is not what was written: {what}. A line was changed, taken out or put in. "
        "Keep the folder as it is for whoever looks into it; a client starts again once it has "
        "been moved elsewhere."
    )
