"""What events add up to, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fedpsyau_model.settings import RoundSettings
from fedpsyau_server.watching.health import OVERRUN_SECONDS, health
from fedpsyau_server.watching.run_progress import RunProgress

ROUNDS = RoundSettings.model_validate(
    {"rounds": 3, "round-seconds": 100, "quorum-seconds": 50, "min-sites": 2}
)


def event(kind: str, time: float, **details: Any) -> dict[str, Any]:
    return {"event": kind, "time": time, **details}


#: Two sites; b is late in round 1 and answers wrongly in round 2, in which the server starts anew.
STORY = [
    event("started", 10.0, whole_rounds=0),
    event("refused", 11.0, site="x", reason="not known"),
    event("joined", 12.0, site="a", clips=5),
    event("joined", 13.0, site="b", clips=5),
    event("round-started", 14.0, round=1, sites=["a", "b"]),
    event("sent", 15.0, round=1, site="a", bytes=100),
    event("sent", 15.0, round=1, site="b", bytes=100),
    event("reply", 20.0, round=1, site="a", bytes=90, fault=None),
    event("late", 114.0, round=1, site="b"),
    event("collected", 114.0, round=1, sites=["a"]),
    event("round-done", 115.0, round=1, seconds=101.0, phases={"exchange": 100.0}),
    event("round-started", 116.0, round=2, sites=["a", "b"]),
    event("sent", 117.0, round=2, site="a", bytes=100),
    event("started", 130.0, whole_rounds=1),
    event("joined", 131.0, site="a", clips=5),
    event("joined", 132.0, site="b", clips=5),
    event("round-started", 133.0, round=2, sites=["a", "b"]),
    event("sent", 134.0, round=2, site="a", bytes=100),
    event("sent", 134.0, round=2, site="b", bytes=100),
    event("reply", 135.0, round=2, site="b", bytes=70, fault="tensor w holds ... not finite"),
    event("gone", 136.0, site="b"),
    event("reply", 136.5, round=2, site="a", bytes=0, fault="lost", lost=True),
    event("a kind that is not known yet", 137.0),
]


@pytest.fixture
def progress() -> RunProgress:
    return RunProgress(("a", "b", "c"), rounds=3)


def told(progress: RunProgress, *story: dict[str, Any]) -> RunProgress:
    for each in story:
        progress.take(each)
    return progress


def test_a_story_adds_up(progress: RunProgress) -> None:
    told(progress, *STORY)
    assert (progress.round, progress.running, progress.running_since) == (1, 2, 133.0)
    assert (progress.starts, progress.refused, progress.whole_at) == (2, 1, 115.0)
    assert progress.here == {"a"}
    assert progress.seen == {"a": 131.0, "b": 135.0}
    assert progress.answered == {"a": 1}
    assert progress.sent_bytes == {"a": 300, "b": 200}
    assert progress.received_bytes == {"a": 90, "b": 70}
    assert progress.quarantined == {("b", "not-finite"): 1}
    assert progress.lost == {"a": 1}
    assert progress.late == set()
    assert [each.seconds for each in progress.times] == [101.0]


def test_who_is_late_is_known_until_the_next_round_begins(progress: RunProgress) -> None:
    assert told(progress, *STORY[:9]).late == {"b"}
    assert told(progress, *STORY[9:11]).late == {"b"}
    assert told(progress, STORY[11]).late == set()


@pytest.mark.parametrize(
    ("story", "serving", "now", "status", "well"),
    [
        ([], False, 9.0, "starting", False),
        (STORY[:3], True, 13.0, "gathering", True),
        (STORY[:6], True, 20.0, "running", True),
        (STORY[:6], True, 14.0 + 150 + OVERRUN_SECONDS + 50, "running", True),
        (STORY[:6], True, 14.0 + 151 + OVERRUN_SECONDS + 50, "overrun", False),
        (STORY[:6], False, 20.0, "lost", False),
        ([*STORY[:6], event("waiting", 60.0, round=1)], True, 9999.0, "waiting", True),
        ([*STORY[:6], event("ended", 60.0)], False, 70.0, "ended", True),
        ([*STORY[:6], event("failed", 60.0)], False, 70.0, "ended", True),
        ([*STORY[:6], event("failed", 60.0), STORY[13]], True, 140.0, "gathering", True),
    ],
)
def test_health(
    progress: RunProgress,
    story: list[dict[str, Any]],
    serving: bool,
    now: float,
    status: str,
    well: bool,
) -> None:
    verdict = health(told(progress, *story), serving, ROUNDS, now)
    assert (verdict.status, verdict.well) == (status, well)


def test_health_has_the_figures_that_a_person_asks_for_next(progress: RunProgress) -> None:
    assert health(told(progress, *STORY), True, ROUNDS, 140.0).as_dict() == {
        "status": "running",
        "well": True,
        "round": 2,
        "whole_rounds": 1,
        "rounds": 3,
        "sites_known": 3,
        "sites_seen": 2,
        "sites_connected": 1,
        "sites_late": 0,
        "last_whole_round_age_seconds": 25.0,
    }
