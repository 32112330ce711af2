"""The round loop: send every site its model, collect what it trained, fuse, save.

It knows sites by name and does not know how they are reached: that is a `SiteLink`, which is
Flower in a federation (`flower_link.py`) and can be plain function calls in a simulation.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import FedPsyAUError, QuorumError
from fedpsyau_model.exchange import (
    MalformedMessageError,
    TrainingOrder,
    TrainingReport,
    pack_tensors,
    unpack_tensors,
    with_others,
)
from fedpsyau_model.foreign_text import printable
from fedpsyau_model.metrics import uar, uf1
from fedpsyau_server.fusion import Model
from fedpsyau_server.reply_checks import (
    model_fault,
    norm_faults,
    report_fault,
    size_fault,
    update_norm,
)
from fedpsyau_server.run_folder import ContributionMark, RunFolder
from fedpsyau_server.strategies import newcomer_model, next_models, others_means

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What goes to a site in a round: the order and the packed personal model."""

    order: TrainingOrder
    model: bytes


@dataclass(frozen=True)
class Reply:
    """What came back from a site: report and packed model, or why there is none.

    lost: the fault is the connection's, and nothing is known against the site.
    """

    site: str
    report: TrainingReport | None = None
    model: bytes = b""
    fault: str | None = None
    lost: bool = False


class SiteLink(Protocol):
    """The way to the sites."""

    def wait_for_sites(self, enough: int, seconds: float) -> list[str]:
        """Take sites in until all have joined, or `seconds` are over and `enough` have.

        Returns the names of those that are connected; fewer than `enough` if time ran out.
        """

    def enrolled_clips(self, site: str) -> int:
        """Training clips that a site named when it joined."""

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Iterator[Reply]:
        """Send each site its order; yield replies as they come, for at most `seconds`."""


@dataclass
class _Collected:
    """Valid replies of a round, and what was wrong with the others."""

    models: dict[str, Model] = field(default_factory=dict)
    reports: dict[str, TrainingReport] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    def fault_of(self, site: str) -> str | None:
        """Why the site has no valid reply; None if it has one, or none is known of."""
        return self.quarantined.get(site) or self.lost.get(site)

    def quarantine(self, site: str, reason: str) -> None:
        self.quarantined[site] = reason
        for collection in (self.models, self.reports, self.norms):
            collection.pop(site, None)


class _UnusableError(Exception):
    """A reply cannot be used; the text says why."""


class RoundLoop:
    """One run from its last whole round to its end."""

    def __init__(self, folder: RunFolder, link: SiteLink) -> None:
        self._folder = folder
        self._link = link
        self._settings = folder.config.federation_settings()
        self._sites = folder.config.sites
        self._min_sites = min(self._settings.rounds.min_sites, len(self._sites))
        self._models = folder.models()
        self._contributions = folder.contributions()
        self._marks = dict(folder.state.contributions)

    def run(self) -> None:
        """Run all rounds that are left. Raises QuorumError if too few sites take part."""
        rounds = self._settings.rounds
        wanted = self._expected_sites()
        for number in range(self._folder.state.round + 1, rounds.rounds + 1):
            present = self._wait(wanted, rounds.join_seconds)
            self._run_round(number, present)
            wanted = self._min_sites
        self._folder.finish("completed")
        self._folder.log_event("completed", rounds=rounds.rounds)

    def _expected_sites(self) -> int:
        """How many sites to wait for at the start: all, or those of the rounds before a resume.

        A resumed run that went on with the first few would not be the run that it continues.
        """
        return max(len(self._marks) or len(self._sites), self._min_sites)

    def _wait(self, wanted: int, seconds: float) -> list[str]:
        present = self._link.wait_for_sites(wanted, seconds)
        if len(present) < self._min_sites:
            raise QuorumError(
                f"Only {len(present)} of the {len(self._sites)} sites are connected "
                f"({', '.join(present) or 'none'}), and [rounds] min-sites is {self._min_sites}. "
                f"Missing after {seconds:.0f} s: "
                f"{', '.join(sorted(set(self._sites) - set(present)))}. Start their clients, give "
                "them more time with [rounds] join-seconds, or lower min-sites."
            )
        return present

    def _run_round(self, number: int, present: list[str]) -> None:
        started = time.monotonic()
        self._folder.log_event("round-started", round=number, sites=present)
        sent = {site: self._model_for(site) for site in present}
        collected = self._collect(number, sent)
        if len(collected.models) < self._min_sites:
            faults = collected.quarantined | collected.lost
            reasons = "; ".join(f"{site}: {why}" for site, why in faults.items())
            raise QuorumError(
                f"Round {number} has {len(collected.models)} valid replies, and [rounds] min-sites "
                f"is {self._min_sites}. {reasons or 'The other sites did not answer in time'}. "
                f"Go on from round {number - 1} with --resume once the sites are well."
            )
        self._contribute(number, collected)
        self._models = next_models(
            self._settings.strategy,
            self._models | sent,
            self._contributions,
            frozenset(collected.models),
        )
        self._folder.save_round(
            self._record(number, present, collected, time.monotonic() - started),
            self._models,
            collected.models,
            self._marks,
        )
        self._folder.log_event("round-done", round=number, seconds=time.monotonic() - started)

    def _model_for(self, site: str) -> Model:
        if site in self._models:
            return self._models[site]
        return newcomer_model(self._settings.strategy, self._contributions, self._folder.initial())

    def _collect(self, number: int, sent: Mapping[str, Model]) -> _Collected:
        collected = _Collected()
        orders = self._orders(number, sent)
        for reply in self._link.exchange(orders, self._settings.rounds.round_seconds):
            self._take(number, reply, orders[reply.site], sent[reply.site], collected)
            self._folder.log_event(
                "reply",
                round=number,
                site=reply.site,
                answered=len(collected.models),
                expected=len(sent),
                fault=collected.fault_of(reply.site),
                lost=reply.lost,
            )
        for site, reason in norm_faults(
            collected.norms, self._settings.rounds.max_update_ratio
        ).items():
            collected.quarantine(site, reason)
            self._folder.log_event("quarantined", round=number, site=site, reason=reason)
        return collected

    def _orders(self, number: int, sent: Mapping[str, Model]) -> dict[str, Order]:
        """Orders of a round; where sites choose theta, with the mean of the others' models."""
        others: dict[str, Model] = {}
        all_clips = 0
        if self._settings.strategy.chooses_theta:
            others = others_means(self._contributions)
            all_clips = sum(each.clips for each in self._contributions.values())
        order = TrainingOrder(
            run_id=self._folder.config.run_id,
            round=number,
            rounds=self._settings.rounds.rounds,
            all_clips=all_clips,
        )
        return {
            site: Order(order, pack_tensors(with_others(model, others.get(site, {}))))
            for site, model in sent.items()
        }

    def _take(
        self, number: int, reply: Reply, order: Order, sent: Model, collected: _Collected
    ) -> None:
        site = reply.site
        if reply.lost:
            collected.lost[site] = reply.fault or "lost"
            log.warning("round %d: no reply of %s: %s", number, site, collected.lost[site])
            return
        try:
            report, model = self._checked(number, reply, order, sent)
        except _UnusableError as unusable:
            fault = printable(str(unusable))
            log.warning("round %d: the reply of %s is not used: %s", number, site, fault)
            collected.quarantine(site, fault)
            return
        collected.models[site] = model
        collected.reports[site] = report
        collected.norms[site] = update_norm(model, sent)

    def _checked(
        self, number: int, reply: Reply, order: Order, sent: Model
    ) -> tuple[TrainingReport, Model]:
        """Report and model of a reply that can be used; _UnusableError with the reason else.

        The cheap checks come first: a model is unpacked only if its size is that of one.
        """
        if reply.report is None or reply.fault is not None:
            raise _UnusableError(reply.fault or "it has no report")
        fault = report_fault(
            reply.report,
            reply.site,
            self._folder.config.run_id,
            number,
            self._link.enrolled_clips(reply.site),
            len(CLASS_NAMES[self._settings.network.classes]),
        ) or size_fault(len(reply.model), len(order.model))
        if fault is not None:
            raise _UnusableError(fault)
        try:
            model = unpack_tensors(reply.model)
        except MalformedMessageError as error:
            raise _UnusableError(str(error)) from None
        if (fault := model_fault(model, sent)) is not None:
            raise _UnusableError(fault)
        return reply.report, model

    def _contribute(self, number: int, collected: _Collected) -> None:
        """Let fresh replies count, and those of silent sites while they are not too old."""
        for site, model in collected.models.items():
            report = collected.reports[site]
            self._marks[site] = ContributionMark(
                round=number,
                clips=report.train_clips,
                fisher_trace=report.fisher_trace,
                theta=report.theta,
            )
            self._contributions[site] = self._marks[site].contribution(model)
        oldest = number - self._settings.rounds.max_staleness
        for site in [site for site, mark in self._marks.items() if mark.round < oldest]:
            del self._marks[site], self._contributions[site]

    def _record(
        self, number: int, present: list[str], collected: _Collected, seconds: float
    ) -> dict[str, Any]:
        answered = sorted(collected.models)
        return {
            "round": number,
            "seconds": round(seconds, 3),
            "answered": answered,
            "silent": sorted(set(self._sites) - set(answered) - set(collected.quarantined)),
            "absent": sorted(set(self._sites) - set(present)),
            "lost": dict(sorted(collected.lost.items())),
            "quarantined": dict(sorted(collected.quarantined.items())),
            "contributions": {
                site: mark.model_dump() for site, mark in sorted(self._marks.items())
            },
            "sites": {
                site: _site_record(collected.reports[site], collected.norms[site])
                for site in answered
            },
        }


def run_rounds(folder: RunFolder, link: SiteLink) -> None:
    """Run the rounds that are left; a run that fails says so in its folder, and raises the cause.

    Raises QuorumError if too few sites take part.
    """
    try:
        RoundLoop(folder, link).run()
    except Exception as error:
        known = isinstance(error, FedPsyAUError)
        folder.finish("failed")
        folder.log_event(
            "failed",
            message=str(error) if known else f"{type(error).__name__}: {error}",
            exit_code=error.exit_code if isinstance(error, FedPsyAUError) else 1,
        )
        raise


def _site_record(report: TrainingReport, norm: float) -> dict[str, Any]:
    record = report.model_dump(
        exclude={"partition", "run_id", "round", "confusion_received", "confusion_trained"}
    )
    for name in ("received", "trained"):
        cells = np.array(getattr(report, f"confusion_{name}"))
        side = round(len(cells) ** 0.5)
        confusion = cells.reshape(side, side)
        record[name] = {
            "confusion": confusion.tolist(),
            "uf1": _number(uf1(confusion)),
            "uar": _number(uar(confusion)),
        }
    return record | {"update_norm": norm}


def _number(score: float) -> float | None:
    """JSON has no NaN, the score of a site that holds out no clip."""
    return None if math.isnan(score) else score
