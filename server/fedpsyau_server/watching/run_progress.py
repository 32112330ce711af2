"""What the events of a run add up to: a fold over events.jsonl, and nothing that is not there.

So a server that is started anew knows all of it again from the run folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedpsyau_server.watching.fault_kinds import fault_kind

__all__ = ["RoundTimes", "RunProgress"]


@dataclass(frozen=True)
class RoundTimes:
    """How long a whole round took, in seconds, and its phases."""

    seconds: float
    phases: Mapping[str, float]


@dataclass
class RunProgress:
    """Where a run stands after the events that it was given, in their order.

    known: all sites of the federation. Times are seconds since 1970.
    """

    known: tuple[str, ...]
    rounds: int
    round: int = 0
    """The last whole round."""
    running: int | None = None
    """The round that is being run, if one is."""
    running_since: float = 0.0
    waiting_since: float | None = None
    """Since when the run waits for its quorum, if it does."""
    whole_at: float | None = None
    """When the last whole round was written."""
    starts: int = 0
    ended: str | None = None
    """The last word: ``ended`` or ``failed``."""
    here: set[str] = field(default_factory=set)
    seen: dict[str, float] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    """Round of every site's last valid reply."""
    late: set[str] = field(default_factory=set)
    """Sites that were late in the round that is run, or in the last one."""
    sent_bytes: Counter[str] = field(default_factory=Counter)
    received_bytes: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Replies that were not used, by site and kind of fault."""
    lost: Counter[str] = field(default_factory=Counter)
    """Rounds that a site had no part in because its connection broke."""
    refused: int = 0
    times: list[RoundTimes] = field(default_factory=list)

    def take(self, event: Mapping[str, Any]) -> None:
        """Go one event further; events that say nothing about progress are passed over."""
        if step := getattr(self, f"_on_{event['event'].replace('-', '_')}", None):
            step(event)

    def _on_started(self, event: Mapping[str, Any]) -> None:
        """A server has started, for the first time or anew: nobody is connected to it yet."""
        self.starts += 1
        self.running = self.waiting_since = self.ended = None
        self.here.clear()

    def _on_joined(self, event: Mapping[str, Any]) -> None:
        self._see(event)
        self.here.add(event["site"])

    _on_here = _on_joined

    def _on_gone(self, event: Mapping[str, Any]) -> None:
        self.here.discard(event["site"])

    def _on_refused(self, event: Mapping[str, Any]) -> None:
        self.refused += 1

    def _on_waiting(self, event: Mapping[str, Any]) -> None:
        if self.waiting_since is None:
            self.waiting_since = event["time"]

    def _on_round_started(self, event: Mapping[str, Any]) -> None:
        self.running, self.running_since = event["round"], event["time"]
        self.waiting_since = None
        self.late.clear()

    def _on_sent(self, event: Mapping[str, Any]) -> None:
        self.sent_bytes[event["site"]] += event["bytes"]
        self.waiting_since = None

    def _on_reply(self, event: Mapping[str, Any]) -> None:
        site = event["site"]
        if not event.get("lost"):
            self._see(event)
        self.received_bytes[site] += event.get("bytes", 0)
        if event["fault"] is None:
            self.answered[site] = event["round"]
            self.late.discard(site)
        elif event.get("lost"):
            self.lost[site] += 1
        else:
            self.quarantined[site, fault_kind(event["fault"])] += 1

    def _on_quarantined(self, event: Mapping[str, Any]) -> None:
        self.quarantined[event["site"], fault_kind(event["reason"])] += 1

    def _on_late(self, event: Mapping[str, Any]) -> None:
        self.late.add(event["site"])

    def _on_round_done(self, event: Mapping[str, Any]) -> None:
        self.round, self.whole_at = event["round"], event["time"]
        self.running = None
        self.times.append(RoundTimes(event["seconds"], event.get("phases", {})))

    def _on_ended(self, event: Mapping[str, Any]) -> None:
        self.ended = event["event"]
        self.running = self.waiting_since = None

    _on_failed = _on_ended

    def _see(self, event: Mapping[str, Any]) -> None:
        self.seen[event["site"]] = event["time"]
