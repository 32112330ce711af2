"""Writing the audit log: every message in and out, on disk before anything follows from it."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any, Final, Literal, Self

from fedpsyau_client.oversight.audit_chain import (
    TORN,
    ChainEnd,
    audit_files,
    line_hash,
    read_chain,
)
from fedpsyau_client.oversight.message_facts import MessageFacts, TensorFacts
from fedpsyau_model import __version__
from fedpsyau_model.errors import AuditLogError

__all__ = ["LARGEST_FILE", "AuditLog"]

#: Bytes after which the next line begins a new file.
LARGEST_FILE: Final = 16 << 20

Direction = Literal["in", "out", "note"]


class AuditLog:
    """The audit log of one site, opened to be appended to.

    Every line is flushed to the disk before the call returns. Whoever cannot write here must not
    send: every method raises AuditLogError if the line is not on the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = -1
        self._size = 0
        self._listed: set[str] = set()
        self._end = ChainEnd()
        self._go_on()
        self.note("opened", {"version": __version__})

    def received(self, facts: MessageFacts, refusal: str = "") -> None:
        """Write down a message of the server: accepted, or why it was refused."""
        self._message("in", facts, "refused" if refusal else "accepted", refusal)

    def sent(self, facts: MessageFacts) -> None:
        """Write down a message that is about to be handed to the connection."""
        self._message("out", facts, "sent", "")

    def note(self, kind: str, details: dict[str, Any]) -> None:
        """Write down something that is no message."""
        self._append({"direction": "note", "kind": kind} | details)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _message(self, direction: Direction, facts: MessageFacts, decision: str, why: str) -> None:
        if facts.tensors:
            self._list_once(facts.tensors)
        line = {
            "direction": direction,
            "kind": facts.kind,
            "run": facts.run,
            "round": facts.round,
            "decision": decision,
            "why": why,
            "values": facts.values,
            "tensors": None,
            "bytes": facts.size,
            "sha256": facts.sha256,
        }
        if facts.tensors:
            line["tensors"] = {"count": len(facts.tensors.listed), "list": facts.tensors.digest}
        self._append({key: value for key, value in line.items() if value not in (None, "")})

    def _list_once(self, tensors: TensorFacts) -> None:
        """Write a list of tensors out, once for every file that refers to it."""
        if tensors.digest not in self._listed:
            self.note("tensors", {"list": tensors.digest, "tensors": tensors.listed})
            self._listed.add(tensors.digest)

    def _append(self, content: dict[str, Any]) -> None:
        if self._size >= LARGEST_FILE:
            self._begin(int(audit_files(self._folder)[-1].stem) + 1)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        number = self._end.number + 1
        numbered = {"n": number, "time": now} | content | {"prev": self._end.hash}
        line = json.dumps(numbered, allow_nan=False, separators=(",", ":")).encode()
        try:
            written = os.write(self._file, line + b"\n")
            if written <= len(line):
                raise OSError(0, "only part of the line went to the disk")
            os.fsync(self._file)
        except OSError as error:
            raise self._unwritable(error) from None
        self._size += written
        self._end.number, self._end.hash = number, line_hash(line)

    def _go_on(self) -> None:
        """Open the last file and find where its chain ends; note what is no whole line there."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._unwritable(error) from None
        files = audit_files(self._folder)
        self._begin(int(files[-1].stem) if files else 1)
        # Older files are for `fedpsyau-client audit --verify`. The last may be empty, if its
        # writer was killed as it began.
        recent = audit_files(self._folder)[-2:]
        self._end_last_line(recent[-1])
        for entry in read_chain(recent, self._end, anchored=recent[0].stem == "000001"):
            if entry.file == recent[-1] and entry.content["kind"] == "tensors":
                self._listed.add(entry.content["list"])
        if torn := self._end.torn:
            self.note(TORN, {"bytes": len(torn), "sha256": line_hash(torn.rstrip(b"\n"))})
            self._end.torn = b""

    def _end_last_line(self, file: Path) -> None:
        """Give the last line its line feed, if its writer was killed before."""
        if not self._size:
            return
        try:
            with file.open("rb") as stream:
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    os.write(self._file, b"\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def _begin(self, number: int) -> None:
        """Open a file of the log, new or old, for appending."""
        self.close()
        path = self._folder / f"{number:06d}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, mode=0o600)
            self._size = os.fstat(self._file).st_size
            _flush_folder(self._folder)
        except OSError as error:
            raise self._unwritable(error) from None
        self._listed = set()

    def _unwritable(self, error: OSError) -> AuditLogError:
        return AuditLogError(
            f"The audit log in {self._folder} cannot be written: {error.strerror}. Nothing leaves "
            "this site that is not on record, so it stops here. Make room on the disk or give the "
            "folder back to this user, and start again."
        )


def _flush_folder(folder: Path) -> None:
    """Let a new file's name reach the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
