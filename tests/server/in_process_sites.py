"""A federation without a network: sites that are plain arithmetic, behind the real round loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedpsyau_model import __version__
from fedpsyau_model.exchange import (
    SCHEMA_VERSION,
    TrainingReport,
    pack_tensors,
    unpack_tensors,
    without_others,
)
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.fusion import Model
from fedpsyau_server.rounds import Order, Reply
from fedpsyau_server.run_folder import RunConfig, RunFolder

#: Three held-out clips, one of each class, of which two are recognised.
CONFUSION = [1, 0, 0, 0, 1, 0, 1, 0, 0]


@dataclass
class PlainSite:
    """A site that trains by adding `step` to every weight.

    absent: rounds in which it is not connected. silent: rounds in which it takes the order and
    does not answer. alters: what becomes of its reply in a round.
    """

    clips: int
    step: float
    absent: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()
    alters: Mapping[int, Callable[[Reply], Reply]] = field(default_factory=dict)
    test_clips: int = 3
    fisher_trace: float = 0.0
    theta: float = 0.0
    confusions: Callable[[int], tuple[list[int], list[int]]] = lambda _: (CONFUSION, CONFUSION)


class InProcessSites:
    """A SiteLink to plain sites; keeps what each of them was sent, by round."""

    def __init__(self, sites: Mapping[str, PlainSite], first_round: int = 1) -> None:
        self.sites = sites
        self.sent: dict[int, dict[str, Model]] = {}
        self.waited_for: list[int] = []
        self.all_clips: list[int] = []
        self._next_round = first_round

    def wait_for_sites(
        self, enough: int, seconds: float, among: Collection[str] | None = None
    ) -> list[str]:
        self.waited_for.append(enough)
        return sorted(
            name
            for name, site in self.sites.items()
            if self._next_round not in site.absent and (among is None or name in among)
        )

    def enrolled_clips(self, site: str) -> int:
        return self.sites[site].clips

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Iterator[Reply]:
        order = next(iter(orders.values())).order
        number = order.round
        self._next_round = number + 1
        self.all_clips.append(order.all_clips)
        self.sent[number] = {name: unpack_tensors(order.model) for name, order in orders.items()}
        for name in sorted(orders, reverse=True):
            site = self.sites[name]
            if number not in site.silent:
                reply = _trained(name, site, orders[name])
                yield site.alters.get(number, lambda same: same)(reply)


def _trained(name: str, site: PlainSite, order: Order) -> Reply:
    model = {
        key: (tensor + np.asarray(site.step, tensor.dtype)).astype(tensor.dtype)
        for key, tensor in without_others(unpack_tensors(order.model))[0].items()
    }
    received, trained = site.confusions(order.order.round)
    report = TrainingReport(
        partition=name,
        run_id=order.order.run_id,
        round=order.order.round,
        train_clips=site.clips,
        test_clips=site.test_clips,
        confusion_received=received,
        confusion_trained=trained,
        loss_total=1.0 / order.order.round,
        loss_emotion=0.8 / order.order.round,
        loss_au=0.1 / order.order.round,
        loss_au_aux=0.1 / order.order.round,
        loss_proximal=0.0,
        fisher_trace=site.fisher_trace,
        theta=site.theta,
        train_seconds=0.5,
    )
    return Reply(name, report, pack_tensors(model))


def altered_report(**changes: Any) -> Callable[[Reply], Reply]:
    """An alteration that changes fields of the report."""

    def alter(reply: Reply) -> Reply:
        assert reply.report is not None
        return replace(reply, report=reply.report.model_copy(update=changes))

    return alter


def altered_model(change: Callable[[Model], Model]) -> Callable[[Reply], Reply]:
    """An alteration that changes the model."""
    return lambda reply: replace(reply, model=pack_tensors(change(unpack_tensors(reply.model))))


def new_run(
    path: Path, sites: tuple[str, ...], initial: float = 0.0, **sections: dict[str, Any]
) -> RunFolder:
    """A run folder for `sites` that all start from two weights of value `initial`."""
    settings = FederationSettings.model_validate(
        {**sections, "server": {"sites": list(sites), "runs": str(path.parent)}}
    )
    config = RunConfig(
        run_id="0123456789abcdef0123456789abcdef",
        version=__version__,
        schema_version=SCHEMA_VERSION,
        agreement_hash=settings.agreement_hash(),
        started="2025-01-01T00:00:00+00:00",
        sites=sites,
        settings=settings.as_dict(),
    )
    return RunFolder.create(path, config, {"w": np.full(2, initial, dtype=np.float32)})
