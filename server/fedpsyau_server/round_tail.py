"""Following rounds.jsonl of a run folder while it grows."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

from fedpsyau_server.folder_errors import cannot_read

__all__ = ["RoundTail"]


class RoundTail:
    """Lines of whole rounds, each once. They are never touched again, so none is read twice."""

    def __init__(self, folder: Path) -> None:
        """folder: the run folder."""
        self._path = folder / "rounds.jsonl"
        self._round = 0
        self._end = 0

    def new(self, whole: int) -> list[dict[str, Any]]:
        """The lines from the last that was read up to that of round `whole`.

        What follows is not looked at: it may be half of a line, or one that a killed server left
        and that will be written anew. Raises RunFolderError if a line is missing or damaged; then
        the same lines are read again the next time.
        """
        first, last = self._round + 1, whole
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._end)
                lines = list(islice(stream, max(0, last - self._round)))
            rounds = [json.loads(line) for line in lines]
            numbers = [each["round"] for each in rounds]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise cannot_read(self._path, error) from None
        if numbers != list(range(first, last + 1)):
            raise cannot_read(self._path, f"its lines are not those of rounds {first} to {last}")
        self._round = max(self._round, last)
        self._end += sum(map(len, lines))
        return rounds
