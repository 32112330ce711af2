"""What a run's lines say, as values: scores of every site and round, and summaries of a round.

UF1 and UAR are computed here from the confusion counts in ``rounds.jsonl``. Two summaries over
sites stand side by side under their own names: the mean over sites, which counts every site the
same, and the pooled score, which comes from the sum of all confusion counts. The pooled score is
never an average of scores. Nothing is chosen by a score on held-out clips: what is reported is the
last round.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import RunFolderError
from fedpsyau_model.exchange import OPTIONAL_PARTS, OptionalPart
from fedpsyau_model.metrics import uar, uf1
from fedpsyau_server.report.events import any_synthetic
from fedpsyau_server.run_folder import RunFolder

Counts = npt.NDArray[np.int64]

#: Which of the two evaluations of a round: the model as received, or after local training.
Stage = Literal["received", "trained"]
STAGES: tuple[Stage, ...] = ("received", "trained")

#: What a site did in a round.
Part = Literal["answered", "silent", "absent", "quarantined"]

#: Parts of the training loss in a round's line; all of them together are `loss_total`.
LOSS_PARTS = ("loss_emotion", "loss_au", "loss_au_aux", "loss_proximal")


@dataclass(frozen=True)
class Scores:
    """UF1 and UAR in [0, 1]; None where no clip was held out."""

    uf1: float | None
    uar: float | None

    @classmethod
    def of(cls, confusion: Counts) -> Scores:
        """Scores of a confusion matrix (C, C), rows the true class."""
        return cls(_defined(uf1(confusion)), _defined(uar(confusion)))

    @classmethod
    def mean(cls, scores: Iterable[Scores]) -> Scores:
        """Mean over sites, every site counting the same; sites without a score are left out."""
        scores = list(scores)
        return cls(_mean(each.uf1 for each in scores), _mean(each.uar for each in scores))

    @classmethod
    def quantile(cls, share: float, scores: Iterable[Scores]) -> Scores:
        """UF1 and, for itself, UAR below which a share of the sites that have a score lie."""
        scores = list(scores)
        return cls(
            _quantile(share, (each.uf1 for each in scores)),
            _quantile(share, (each.uar for each in scores)),
        )


@dataclass(frozen=True)
class SiteRound:
    """A site's valid reply of one round.

    train_clips, test_clips: clips it trained on and held out. confusion: counts (C, C) by stage.
    losses: as the site reported them, by their names in the message schema. update_norm: Euclidean
    norm of the change to the received model. seconds: time of the site's own work. kept_back: what
    the site's policy does not let out; its counts are zero and its losses and seconds None.
    """

    site: str
    round: int
    train_clips: int
    test_clips: int
    confusion: Mapping[Stage, Counts]
    losses: Mapping[str, float | None]
    update_norm: float
    seconds: float | None
    kept_back: tuple[OptionalPart, ...] = ()

    def scores(self, stage: Stage) -> Scores:
        """UF1 and UAR of the received or the trained model."""
        return self._scores[stage]

    @cached_property
    def _scores(self) -> dict[Stage, Scores]:
        return {stage: Scores.of(self.confusion[stage]) for stage in STAGES}


@dataclass(frozen=True)
class Round:
    """One whole round: the valid replies by site, and why others are missing."""

    number: int
    replies: Mapping[str, SiteRound]
    absent: frozenset[str]
    quarantined: Mapping[str, str]

    def part(self, site: str) -> Part:
        """Say what a site did in this round."""
        if site in self.replies:
            return "answered"
        if site in self.quarantined:
            return "quarantined"
        return "absent" if site in self.absent else "silent"

    def mean(self, stage: Stage) -> Scores:
        """Mean of the answering sites' scores."""
        return Scores.mean(reply.scores(stage) for reply in self.replies.values())

    def quantile(self, share: float, stage: Stage) -> Scores:
        """Scores below which a share of the answering sites' lie."""
        return Scores.quantile(share, (reply.scores(stage) for reply in self.replies.values()))

    def pooled_confusion(self, stage: Stage) -> Counts:
        """Sum of the answering sites' confusion counts, (C, C)."""
        replies = self.replies.values()
        pooled: Counts = np.stack([reply.confusion[stage] for reply in replies]).sum(axis=0)
        return pooled

    def pooled(self, stage: Stage) -> Scores:
        """Scores of the pooled confusion counts."""
        return Scores.of(self.pooled_confusion(stage))

    def mean_loss(self, name: str) -> float | None:
        """Mean of a loss over the sites that tell it; None if none does."""
        return _mean(reply.losses[name] for reply in self.replies.values())

    def loss_quantile(self, share: float, name: str) -> float | None:
        """Value of a loss below which a share of the sites that tell it lie."""
        return _quantile(share, (reply.losses[name] for reply in self.replies.values()))

    def worst(self) -> SiteRound | None:
        """Find the site whose trained model has the lowest UF1; None if no site has one.

        Sites of equal UF1 are told apart by UAR, then by name.
        """
        return next(iter(self.worst_ones(1)), None)

    def worst_ones(self, count: int) -> list[SiteRound]:
        """Find as many sites as there are of the lowest UF1, `count` at most, the worst first."""
        scored = [
            reply for reply in self.replies.values() if reply.scores("trained").uf1 is not None
        ]
        return heapq.nsmallest(count, scored, key=_badness)


@dataclass(frozen=True)
class RunTables:
    """All that the report says of a run, read once.

    synthetic: whether the sites said that their data are synthetic; None if that is not known.
    rounds: every whole round, at least one. planned: rounds that the run is set to have.
    """

    folder: RunFolder
    classes: tuple[str, ...]
    rounds: tuple[Round, ...]
    planned: int
    synthetic: bool | None

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites that may take part, as the run's configuration lists them."""
        return self.folder.config.sites

    @property
    def last(self) -> Round:
        """The last whole round."""
        return self.rounds[-1]

    @property
    def round_numbers(self) -> list[int]:
        """Numbers of the whole rounds, rising."""
        return [each.number for each in self.rounds]

    def latest(self, site: str) -> SiteRound | None:
        """Find a site's last valid reply of all; None if it never gave one."""
        replies = [each.replies[site] for each in self.rounds if site in each.replies]
        return replies[-1] if replies else None

    @property
    def progress(self) -> str:
        """How far the run has come, in a sentence."""
        done = f"{self.last.number} of {self.planned} rounds"
        return {
            "completed": f"The run is complete: {done}.",
            "running": f"The run is not at its end: {done} are whole, and its server either works "
            "on the next one or was killed.",
            "failed": f"The run failed after {done}; go on with fedpsyau-server --resume.",
            "stopped": f"The run was stopped after {done}; go on with fedpsyau-server --resume.",
        }[self.folder.state.status]


def read_tables(folder: RunFolder) -> RunTables:
    """Read a run's rounds; RunFolderError if there is no whole round, or a line does not fit."""
    settings = folder.config.federation_settings()
    lines = folder.rounds()
    if not lines:
        raise RunFolderError(
            f"The run {folder.path} has no whole round yet (status: {folder.state.status}), so "
            "there is nothing to report. Wait for its first round, or see events.jsonl in it for "
            "what happened."
        )
    try:
        classes = CLASS_NAMES[settings.network.classes]
        rounds = tuple(_read_round(line, len(classes)) for line in lines)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(
            f"A line of {folder.path / 'rounds.jsonl'} is not one of fedpsyau "
            f"{folder.config.version} ({type(error).__name__}: {error}). It was edited or written "
            "by another version; report it with that version."
        ) from None
    return RunTables(
        folder,
        classes,
        rounds,
        settings.rounds.rounds,
        any_synthetic(folder),
    )


def _read_round(line: Mapping[str, Any], classes: int) -> Round:
    number = int(line["round"])
    return Round(
        number,
        {
            site: _read_reply(site, number, record, classes)
            for site, record in line["sites"].items()
        },
        frozenset(line["absent"]),
        dict(line["quarantined"]),
    )


def _read_reply(site: str, number: int, record: Mapping[str, Any], classes: int) -> SiteRound:
    given = {
        "confusion": record["trained"]["confusion"],
        "losses": record["loss_total"],
        "seconds": record["train_seconds"],
    }
    return SiteRound(
        site=site,
        round=number,
        train_clips=int(record["train_clips"]),
        test_clips=int(record["test_clips"]),
        confusion={stage: _counts(record[stage]["confusion"], classes) for stage in STAGES},
        losses={name: _float(record[name]) for name in ("loss_total", *LOSS_PARTS)},
        update_norm=float(record["update_norm"]),
        seconds=_float(record["train_seconds"]),
        kept_back=tuple(part for part in OPTIONAL_PARTS if given[part] is None),
    )


def _counts(cells: list[list[int]] | None, classes: int) -> Counts:
    return np.array(cells or np.zeros((classes, classes)), dtype=np.int64)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _badness(reply: SiteRound) -> tuple[float, float, str]:
    scores = reply.scores("trained")
    return (scores.uf1 or 0.0, scores.uar or 0.0, reply.site)


def _defined(score: float) -> float | None:
    return None if math.isnan(score) else score


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _quantile(share: float, values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.quantile(known, share)) if known else None
