"""What a run's events say for the report: who enrolled, with how much, and how often."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fedpsyau_server.run_folder import RunFolder

__all__ = ["Enrolment", "any_synthetic", "enrolments", "read_events"]


@dataclass(frozen=True)
class Enrolment:
    """A site as it joined last. clips: for training. joined: how often it joined."""

    clips: int
    synthetic: bool | None
    joined: int


def read_events(folder: RunFolder) -> list[dict[str, Any]]:
    """All events of a run, in order; without a line that is being written at this moment."""
    path = folder.path / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else ()
    return [event for line in lines if (event := _event(line))]


def enrolments(folder: RunFolder) -> dict[str, Enrolment]:
    """Every site that joined, by name."""
    found: dict[str, Enrolment] = {}
    for event in read_events(folder):
        if event.get("event") == "joined" and "site" in event:
            site = str(event["site"])
            before = found[site].joined if site in found else 0
            synthetic = bool(event["synthetic"]) if "synthetic" in event else None
            found[site] = Enrolment(int(event.get("clips", 0)), synthetic, before + 1)
    return found


def any_synthetic(folder: RunFolder) -> bool | None:
    """Whether any site joined with synthetic data; None if none says."""
    told = [
        bool(event["synthetic"])
        for event in read_events(folder)
        if event.get("event") == "joined" and "synthetic" in event
    ]
    return any(told) if told else None


def _event(line: str) -> dict[str, Any]:
    """One event; empty for a line that is no whole one."""
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}
