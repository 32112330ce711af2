"""Who took part when: the course of every site over the rounds, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import get_args

from fedpsyau_server.report.tables import Part, RunTables

__all__ = ["MOST_INCIDENTS", "PARTS", "Incident", "SiteCourse", "Span", "incidents", "site_courses"]

#: What a site can have done in a round, in the order of the table's columns.
PARTS: tuple[Part, ...] = get_args(Part)

#: Rounds up to which every round of the picture stands by itself, and of all sites together.
_MOST_SINGLE_ROUNDS = 60
_MOST_SINGLE_IN_ALL = 2000

#: Incidents that the page lists.
MOST_INCIDENTS = 200


@dataclass(frozen=True)
class Span:
    """Rounds in a row, `first` to `last`, in which a site did the same."""

    part: Part
    first: int
    last: int

    @property
    def text(self) -> str:
        """What happened in which rounds, in words."""
        rounds = f"round {self.first}"
        return (
            f"{rounds} to {self.last}: {self.part}"
            if self.last > self.first
            else (f"{rounds}: {self.part}")
        )


@dataclass(frozen=True)
class SiteCourse:
    """A site's part in every round, and how often it did what."""

    site: str
    spans: tuple[Span, ...]
    counts: dict[Part, int]


@dataclass(frozen=True)
class Incident:
    """Rounds in a row in which a site gave no valid reply, and why."""

    site: str
    span: Span
    reason: str


def site_courses(tables: RunTables) -> list[SiteCourse]:
    """The course of every site, in the order of the run's sites."""
    return [_course(tables, site) for site in tables.sites]


def incidents(tables: RunTables) -> list[Incident]:
    """All rounds without a valid reply, by round; equal ones in a row are one incident."""
    found = [
        Incident(site, Span(part, rounds[0], rounds[-1]), reason)
        for site in tables.sites
        for (part, reason), rounds in _runs(tables, site)
        if part != "answered"
    ]
    return sorted(found, key=lambda each: (each.span.first, each.site))


def _course(tables: RunTables, site: str) -> SiteCourse:
    parts = [each.part(site) for each in tables.rounds]
    if len(parts) <= _MOST_SINGLE_ROUNDS and len(parts) * len(tables.sites) <= _MOST_SINGLE_IN_ALL:
        spans = [
            Span(part, each.number, each.number)
            for part, each in zip(parts, tables.rounds, strict=True)
        ]
    else:
        runs = groupby(zip(parts, tables.rounds, strict=True), key=lambda pair: pair[0])
        spans = [
            Span(part, (rounds := [each.number for _, each in members])[0], rounds[-1])
            for part, members in runs
        ]
    return SiteCourse(site, tuple(spans), {part: parts.count(part) for part in PARTS})


def _runs(tables: RunTables, site: str) -> list[tuple[tuple[Part, str], list[int]]]:
    return [
        (key, [each.number for each in members])
        for key, members in groupby(
            tables.rounds, key=lambda each: (each.part(site), each.quarantined.get(site, ""))
        )
    ]
