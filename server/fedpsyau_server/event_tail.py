"""Following events.jsonl of a run folder while it grows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class EventTail:
    """Events that have been added since the last look; a line that is no event is passed over.

    past: begin with what is in the file already; else only what comes from now on counts.
    """

    def __init__(self, path: Path, past: bool) -> None:
        self._path = path
        self._read = 0 if past or not path.exists() else path.stat().st_size

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield whole new lines, each once; none while there is no file."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                if (event := _read(line)) is not None:
                    yield event


def _read(line: bytes) -> dict[str, Any] | None:
    """Read a line; None for what a full disk or a power cut has left of one."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
