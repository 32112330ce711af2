"""Looking at a run from outside the process that runs it: its folder, and whether it is alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from fedpsyau_server.event_tail import EventTail
from fedpsyau_server.round_tail import RoundTail
from fedpsyau_server.run_folder import RunFolder
from fedpsyau_server.watching.health import Health, health
from fedpsyau_server.watching.metrics_page import Scores, metrics_page
from fedpsyau_server.watching.run_progress import RunProgress

__all__ = ["RunWatch"]


class RunWatch:
    """One run, watched. It may be asked from several threads."""

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.path
        self._rounds = folder.config.federation_settings().rounds
        self._events = EventTail(folder.path / "events.jsonl", past=True)
        self._progress = RunProgress(folder.config.sites, self._rounds.rounds)
        self._whole_rounds = RoundTail(folder.path)
        self._scores: dict[str, Mapping[str, float]] = {}
        self._lock = threading.Lock()

    def health(self) -> Health:
        """Whether the run is well at this moment."""
        with self._lock:
            return self._look()

    def metrics(self) -> bytes:
        """All metrics at this moment, in Prometheus' text format."""
        with self._lock:
            verdict = self._look()
            for line in self._whole_rounds.new(self._progress.round):
                self._scores |= _scores(line)
            return metrics_page(self._progress, verdict, self._scores)

    def _look(self) -> Health:
        for event in self._events.new():
            self._progress.take(event)
        serving = RunFolder.is_locked(self._path, "rounds")
        return health(self._progress, serving, self._rounds, time.time())


def _scores(line: Mapping[str, Any]) -> Scores:
    """UF1 of every site that replied in a round, of what it received and of what it trained.

    line: the round's line of rounds.jsonl.
    """
    return {
        site: {
            model: value
            for model in ("received", "trained")
            if (value := record[model]["uf1"]) is not None
        }
        for site, record in line["sites"].items()
    }
