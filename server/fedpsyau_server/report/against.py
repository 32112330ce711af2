"""A run beside another one of the same sites, such as one in which every site trains alone.

The trained models are compared, on the same held-out clips. The server has counts only, no
prediction clip by clip, so that no test of the difference can be made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedpsyau_model.errors import RunsDifferError
from fedpsyau_server.report.rows import Row
from fedpsyau_server.report.tables import Counts, RunTables, Scores, SiteRound

__all__ = ["Against", "compare_runs"]


@dataclass(frozen=True)
class Against:
    """The other run, and rows of this run's scores beside those of the other.

    sites: a row for every site with held-out clips that answered in the last round of both runs.
    better, worse: how many of them have a higher, a lower UF1 in this run than in the other.
    """

    name: str
    strategy: str
    round: int
    agreement_hash: str
    sites: list[Row]
    summaries: list[Row]
    better: int
    worse: int


def compare_runs(this: RunTables, other: RunTables) -> Against:
    """Put the trained models of the last rounds of two runs side by side.

    Raises RunsDifferError if the runs have other classes, no site in common, or a site with other
    held-out clips.
    """
    if this.classes != other.classes:
        raise _different(
            this, other, f"one has {len(this.classes)} classes, the other {len(other.classes)}"
        )
    sites = [
        site
        for site in this.sites
        if _held_out(this, site) is not None and _held_out(other, site) is not None
    ]
    if not sites:
        raise _different(this, other, "no site with held-out clips answered in both last rounds")
    for site in sites:
        mine, theirs = (np.sum(_counts(each, site), axis=1) for each in (this, other))
        if not np.array_equal(mine, theirs):
            raise _different(
                this,
                other,
                f"{site} holds out {mine.tolist()} clips by class in one and {theirs.tolist()} in "
                "the other, so that it was evaluated on other subjects",
            )
    rows = [
        _row(site, Scores.of(_counts(this, site)), Scores.of(_counts(other, site)))
        for site in sites
    ]
    means = (Scores.mean(Scores.of(_counts(run, site)) for site in sites) for run in (this, other))
    pooled = (Scores.of(_sum(_counts(run, site) for site in sites)) for run in (this, other))
    return Against(
        name=other.folder.path.resolve().name,
        strategy=other.folder.config.federation_settings().strategy.name,
        round=other.last.number,
        agreement_hash=other.folder.config.agreement_hash,
        sites=rows,
        summaries=[
            _row(f"mean over {len(sites)} sites", *means),
            _row("pooled counts", *pooled),
        ],
        better=sum(row["uf1_this"] > row["uf1_other"] for row in rows),
        worse=sum(row["uf1_this"] < row["uf1_other"] for row in rows),
    )


def _held_out(run: RunTables, site: str) -> SiteRound | None:
    reply = run.last.replies.get(site)
    return reply if reply is not None and reply.test_clips else None


def _counts(run: RunTables, site: str) -> Counts:
    return run.last.replies[site].confusion["trained"]


def _sum(confusions: Iterable[Counts]) -> Counts:
    total: Counts = np.sum(list(confusions), axis=0)
    return total


def _row(site: str, this: Scores, other: Scores) -> Row:
    return {
        "site": site,
        "uf1_this": this.uf1,
        "uf1_other": other.uf1,
        "uar_this": this.uar,
        "uar_other": other.uar,
    }


def _different(this: RunTables, other: RunTables, why: str) -> RunsDifferError:
    return RunsDifferError(
        f"The runs {this.folder.path} and {other.folder.path} cannot stand side by side: {why}. "
        "Give --against a run of the same data, seed, classes and [training] test-share."
    )
