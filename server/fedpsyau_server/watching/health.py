"""Whether a run is well, judged from its progress alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fedpsyau_model.settings import RoundSettings
from fedpsyau_server.watching.run_progress import RunProgress

__all__ = ["Health", "health"]

#: Share of its deadline, and seconds, by which a round may overrun before the run is unwell.
#: Fusing and writing, and the last looks at the network, come after the deadline.
OVERRUN_SHARE = 0.5
OVERRUN_SECONDS = 120.0

Status = Literal["starting", "gathering", "running", "waiting", "overrun", "lost", "ended"]

#: What each status means for whoever decides whether to start the server again.
_WELL: dict[Status, bool] = {
    "starting": False,
    "gathering": True,
    "running": True,
    "waiting": True,
    "overrun": False,
    "lost": False,
    "ended": True,
}


@dataclass(frozen=True)
class Health:
    """The verdict, with the figures that a person would ask for next."""

    status: Status
    figures: dict[str, Any]

    @property
    def well(self) -> bool:
        """Whether the server does what it is there for; missing sites are not its fault."""
        return _WELL[self.status]

    def as_dict(self) -> dict[str, Any]:
        """What ``/healthz`` answers."""
        return {"status": self.status, "well": self.well, **self.figures}


def health(progress: RunProgress, serving: bool, rounds: RoundSettings, now: float) -> Health:
    """Judge a run.

    serving: whether the process that runs the rounds is alive; None while it is being started.
    now: seconds since 1970.
    """
    age = None if progress.whole_at is None else round(now - progress.whole_at, 1)
    return Health(
        _status(progress, serving, rounds, now),
        {
            "round": progress.running or progress.round,
            "whole_rounds": progress.round,
            "rounds": progress.rounds,
            "sites_known": len(progress.known),
            "sites_seen": len(progress.seen),
            "sites_connected": len(progress.here),
            "sites_late": len(progress.late),
            "last_whole_round_age_seconds": age,
        },
    )


def _status(progress: RunProgress, serving: bool, rounds: RoundSettings, now: float) -> Status:
    if progress.ended is not None:
        return "ended"
    if not serving:
        return "lost" if progress.starts else "starting"
    if progress.waiting_since is not None:
        return "waiting"
    if progress.running is None:
        return "gathering"
    allowed = rounds.round_seconds * (1 + OVERRUN_SHARE) + OVERRUN_SECONDS + rounds.quorum_seconds
    return "overrun" if now - progress.running_since > allowed else "running"
