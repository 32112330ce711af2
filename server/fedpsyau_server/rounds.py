"""The round loop: send every site its model, collect what it trained, fuse, save.

It knows sites by name and does not know how they are reached: that is a `SiteLink`, which is
Flower in a federation (`flower_link.py`) and can be plain function calls in a simulation.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import FedPsyAUError, QuorumError, RunFolderError
from fedpsyau_model.exchange import TrainingOrder, TrainingReport, with_others
from fedpsyau_model.foreign_text import printable
from fedpsyau_model.metrics import uar, uf1
from fedpsyau_server.fusion import Model
from fedpsyau_server.model_wire import ModelWire, UnusableModelError
from fedpsyau_server.packed_model import ModelFile, PackedModel, packed, unpacked
from fedpsyau_server.reply_checks import (
    norm_faults,
    report_fault,
    size_fault,
    update_norm,
)
from fedpsyau_server.round_draft import RoundDraft
from fedpsyau_server.run_folder import ContributionMark, RunFolder
from fedpsyau_server.strategies import newcomer_model, next_models, others_means

log = logging.getLogger(__name__)

#: Seconds between two notices that a run waits for its quorum.
NOTICE_SECONDS = 60.0


class Order:
    """What goes to a site in a round: the order and the packed personal model.

    The model lies on disk, and is read whenever it is asked for: who keeps it, keeps it in memory.
    """

    def __init__(self, order: TrainingOrder, pack: Callable[[], bytes]) -> None:
        """pack: puts the model's bytes together, the same every time."""
        self.order = order
        self._pack = pack
        self._size: int | None = None

    @property
    def model(self) -> bytes:
        """The packed model as it is sent."""
        model = self._pack()
        self._size = len(model)
        return model

    @property
    def size(self) -> int:
        """Bytes of the packed model; it is read for this only if it has never been."""
        return len(self.model) if self._size is None else self._size


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

    def wait_for_sites(
        self, enough: int, seconds: float, among: Collection[str] | None = None
    ) -> list[str]:
        """Take sites in until `enough` are connected, for at most `seconds`.

        among: the sites that count; all by default. Returns the names of those of them that are
        connected; fewer than `enough` if time ran out.
        """

    def enrolled_clips(self, site: str) -> int:
        """Training clips that a site named when it joined."""

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Iterator[Reply]:
        """Send each site its order; yield replies as they come, for at most `seconds`.

        Called again for the same round, it goes on waiting where an order is on its way already.
        """


@dataclass
class _Collected:
    """Valid replies of a round, and what was wrong with the others."""

    models: dict[str, PackedModel] = field(default_factory=dict)
    reports: dict[str, TrainingReport] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    def fault_of(self, site: str) -> str | None:
        """Why the site has no valid reply; None if it has one, or none is known of."""
        return self.quarantined.get(site) or self.lost.get(site)

    def keep(self, site: str, model: PackedModel, report: TrainingReport, norm: float) -> None:
        self.models[site], self.reports[site], self.norms[site] = model, report, norm
        self.lost.pop(site, None)

    def quarantine(self, site: str, reason: str) -> None:
        self.quarantined[site] = reason
        self.lost.pop(site, None)
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
        self._marks = dict(folder.state.contributions)
        self._wire = ModelWire(folder.path, self._settings.exchange.precision)
        self._find_models()

    def _find_models(self) -> None:
        """Look up where the models of the last whole round are; none of them is read."""
        self._models: dict[str, ModelFile] = self._folder.models()
        self._contributions = self._folder.contributions()
        self._newcomer: ModelFile | None = None

    def run(self) -> None:
        """Run all rounds that are left, once. Raises QuorumError if too few sites take part."""
        rounds = self._settings.rounds
        first = self._folder.state.round + 1
        try:
            for number in range(first, rounds.rounds + 1):
                present = self._gather() if number == first else self._reassemble(number)
                self._run_round(number, present)
        finally:
            self._wire.close()
        self._folder.finish("completed")
        self._folder.log_event("completed", rounds=rounds.rounds)

    def _gather(self) -> list[str]:
        """Wait for all sites before the first round; for those of the rounds before a resume.

        A resumed run that went on with the first few would not be the run that it continues.
        """
        seconds = self._settings.rounds.join_seconds
        wanted = max(len(self._marks) or len(self._sites), self._min_sites)
        present = self._link.wait_for_sites(wanted, seconds)
        if len(present) < self._min_sites:
            raise self._too_few(present, f"after {seconds:.0f} s", "join-seconds")
        return present

    def _reassemble(self, number: int) -> list[str]:
        """Wait until as many sites as a round needs are connected."""
        rounds = self._settings.rounds
        deadline = time.monotonic() + rounds.quorum_seconds
        present = self._link.wait_for_sites(self._min_sites, 0.0)
        if len(present) < self._min_sites:
            present = self._wait_for(number, self._min_sites, self._sites, deadline)
        if len(present) < self._min_sites:
            raise self._too_few(present, f"for {rounds.quorum_seconds:.0f} s", "quorum-seconds")
        return present

    def _too_few(self, present: list[str], how_long: str, setting: str) -> QuorumError:
        return QuorumError(
            f"Only {len(present)} of the {len(self._sites)} sites are connected "
            f"({', '.join(present) or 'none'}), and [rounds] min-sites is {self._min_sites}. "
            f"Missing {how_long}: {', '.join(sorted(set(self._sites) - set(present)))}. Start "
            f"their clients and go on with --resume, give them more time with [rounds] {setting}, "
            "or lower min-sites."
        )

    def _wait_for(
        self, number: int, enough: int, among: Collection[str], deadline: float
    ) -> list[str]:
        """Wait until `enough` of the sites `among` are connected, saying so every now and then."""
        present: list[str] = []
        for _ in range(math.ceil(max(0.0, deadline - time.monotonic()) / NOTICE_SECONDS)):
            left = max(0.0, deadline - time.monotonic())
            self._folder.log_event(
                "waiting",
                round=number,
                needed=enough,
                sites=sorted(set(among) - set(present)),
                seconds=round(left, 1),
            )
            present = self._link.wait_for_sites(enough, min(left, NOTICE_SECONDS), among)
            if len(present) >= enough:
                break
        return present

    def _run_round(self, number: int, present: list[str]) -> None:
        started = time.monotonic()
        self._folder.log_event(
            "round-started", round=number, rounds=self._settings.rounds.rounds, sites=present
        )
        with self._folder.new_round(number) as draft:
            sent = {site: self._model_for(site, draft) for site in present}
            collected = self._collect(number, sent, draft)
            exchanged = time.monotonic()
            self._folder.log_event("collected", round=number, sites=sorted(collected.models))
            self._contribute(number, collected)
            current: dict[str, PackedModel] = {**self._models, **sent}
            models = next_models(
                self._settings.strategy, current, self._contributions, frozenset(collected.models)
            )
            draft.write_models(models)
            fused = time.monotonic()
        self._folder.finish_round(
            self._record(number, sorted(sent), collected, fused - started), models, self._marks
        )
        self._find_models()
        written = time.monotonic()
        phases = {
            "exchange": exchanged - started,
            "fuse": fused - exchanged,
            "write": written - fused,
        }
        self._folder.log_event(
            "round-done",
            round=number,
            seconds=round(written - started, 3),
            phases={name: round(seconds, 4) for name, seconds in phases.items()},
        )

    def _model_for(self, site: str, draft: RoundDraft) -> ModelFile:
        """What a site is sent; all sites that have no model yet are sent the same."""
        if site in self._models:
            return self._models[site]
        if self._newcomer is None:
            start = newcomer_model(
                self._settings.strategy, self._contributions, self._folder.initial()
            )
            self._newcomer = start if isinstance(start, ModelFile) else draft.keep_newcomer(start)
        return self._newcomer

    def _collect(self, number: int, sent: dict[str, ModelFile], draft: RoundDraft) -> _Collected:
        """Exchange models with the sites until enough have answered validly.

        sent: what every site is sent; sites that are asked later, to reach the quorum, are added.
        """
        rounds = self._settings.rounds
        collected = _Collected()
        self._exchange(number, sent, sent, collected, draft, rounds.round_seconds)
        deadline = time.monotonic() + rounds.quorum_seconds
        while len(collected.models) < self._min_sites:
            asked = self._missing(number, collected, deadline)
            sent |= {site: self._model_for(site, draft) for site in asked}
            again = {site: sent[site] for site in asked}
            left = deadline - time.monotonic()
            if not self._exchange(number, again, sent, collected, draft, left):
                raise self._too_few_replies(number, collected)  # all of the time has passed
        for site, reason in norm_faults(collected.norms, rounds.max_update_ratio).items():
            collected.quarantine(site, reason)
            draft.drop_reply(site)
            self._folder.log_event("quarantined", round=number, site=site, reason=reason)
        if len(collected.models) < self._min_sites:
            raise self._too_few_replies(number, collected)
        return collected

    def _exchange(
        self,
        number: int,
        asked: Mapping[str, ModelFile],
        sent: Mapping[str, ModelFile],
        collected: _Collected,
        draft: RoundDraft,
        seconds: float,
    ) -> int:
        """Send orders to the sites `asked` and take what comes; returns how many answered."""
        replies = 0
        orders = self._orders(number, asked, len(sent))
        for reply in self._link.exchange(orders, seconds):
            replies += 1
            self._take(number, reply, orders[reply.site], sent[reply.site], collected, draft)
            self._folder.log_event(
                "reply",
                round=number,
                site=reply.site,
                answered=len(collected.models),
                expected=len(sent),
                bytes=len(reply.model),
                fault=collected.fault_of(reply.site),
                lost=reply.lost,
            )
        for site in sorted(asked):
            if site not in collected.models and collected.fault_of(site) is None:
                self._folder.log_event("late", round=number, site=site)
        return replies

    def _missing(self, number: int, collected: _Collected, deadline: float) -> list[str]:
        """Wait for sites whose replies could still make up the quorum; returns their names.

        Those are the late and the lost ones: a site that has answered wrongly would do so again.
        Raises QuorumError once too few of them can come, or time has run out.
        """
        open_sites = set(self._sites) - collected.models.keys() - collected.quarantined.keys()
        needed = self._min_sites - len(collected.models)
        if len(open_sites) < needed:
            raise self._too_few_replies(number, collected)
        present = self._wait_for(number, needed, open_sites, deadline)
        if len(present) < needed:
            raise self._too_few_replies(number, collected)
        return present

    def _too_few_replies(self, number: int, collected: _Collected) -> QuorumError:
        faults = collected.quarantined | collected.lost
        reasons = "; ".join(f"{site}: {why}" for site, why in faults.items())
        return QuorumError(
            f"Round {number} has {len(collected.models)} valid replies, and [rounds] min-sites "
            f"is {self._min_sites}. {reasons.rstrip('.') or 'The others did not answer in time'}. "
            f"Go on from round {number - 1} with --resume once the sites are well."
        )

    def _orders(self, number: int, asked: Mapping[str, ModelFile], sites: int) -> dict[str, Order]:
        """Orders to the sites asked; where they choose theta, with the mean of the others' models.

        sites: how many take part in the round, be they asked now or before.
        """
        others: dict[str, PackedModel] = {}
        all_clips = 0
        if self._settings.strategy.chooses_theta:
            others = others_means(self._contributions)
            all_clips = sum(each.clips for each in self._contributions.values())
        order = TrainingOrder(
            run_id=self._folder.config.run_id,
            round=number,
            rounds=self._settings.rounds.rounds,
            sites=sites,
            all_clips=all_clips,
        )
        return {
            site: Order(order, partial(self._as_sent, number, site, model, others.get(site)))
            for site, model in asked.items()
        }

    def _as_sent(
        self, number: int, site: str, model: ModelFile, others: PackedModel | None
    ) -> bytes:
        """The model as it is sent to a site in round `number`; asked for again, the same."""
        if others is None and not self._wire.rounds_off:
            return packed(model)
        tensors = unpacked(model)
        if others is not None:
            tensors = with_others(tensors, unpacked(others))
        mark = self._marks.get(site)
        answered_last = mark is not None and mark.round == number - 1
        return self._wire.pack(number, site, tensors, goes_on=answered_last)

    def _take(
        self,
        number: int,
        reply: Reply,
        order: Order,
        sent: ModelFile,
        collected: _Collected,
        draft: RoundDraft,
    ) -> None:
        site = reply.site
        if reply.lost:
            collected.lost[site] = reply.fault or "lost"
            log.warning("round %d: no reply of %s: %s", number, site, collected.lost[site])
            return
        try:
            report = self._checked_report(number, reply, order)
            received, model = self._as_it_came(reply, order, sent)
        except _UnusableError as unusable:
            fault = printable(str(unusable))
            log.warning("round %d: the reply of %s is not used: %s", number, site, fault)
            collected.quarantine(site, fault)
            return
        norm = update_norm(model, received)
        collected.keep(site, draft.keep_reply(site, model), report, norm)

    def _checked_report(self, number: int, reply: Reply, order: Order) -> TrainingReport:
        """Report of a reply that can be used; _UnusableError with the reason else.

        These are the cheap checks: a model is unpacked only if its size is that of one.
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
        ) or size_fault(len(reply.model), order.size)
        if fault is not None:
            raise _UnusableError(fault)
        return reply.report

    def _as_it_came(self, reply: Reply, order: Order, sent: ModelFile) -> tuple[Model, Model]:
        """The model that a site received, and the one that came from it.

        Raises _UnusableError if that cannot be used.
        """
        try:
            return self._wire.read(reply.site, reply.model, lambda: order.model, unpacked(sent))
        except UnusableModelError as error:
            raise _UnusableError(str(error)) from None

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
        # A folder that cannot be written any more must not hide the cause.
        with suppress(RunFolderError):
            folder.finish("failed")
        with suppress(RunFolderError):
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
        cells = getattr(report, f"confusion_{name}")
        if cells is None:  # the site's policy keeps it back
            record[name] = {"confusion": None, "uf1": None, "uar": None}
            continue
        side = round(len(cells) ** 0.5)
        confusion = np.array(cells).reshape(side, side)
        record[name] = {
            "confusion": confusion.tolist(),
            "uf1": _number(uf1(confusion)),
            "uar": _number(uar(confusion)),
        }
    return record | {"update_norm": norm}


def _number(score: float) -> float | None:
    """JSON has no NaN, the score of a site that holds out no clip."""
    return None if math.isnan(score) else score
