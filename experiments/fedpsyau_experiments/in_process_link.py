"""The way to the sites by plain function calls: a `SiteLink` to real sites in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping

from fedpsyau_client.local_training.site import Site
from fedpsyau_model.errors import FedPsyAUError, JoinRefusedError
from fedpsyau_model.exchange import Hello, Introduction
from fedpsyau_server.rounds import Order, Reply

__all__ = ["InProcessLink", "TrainingProgress"]

log = logging.getLogger(__name__)

#: Called after a site's training in a round with the round and the site.
TrainingProgress = Callable[[int, str], None]


class InProcessLink:
    """Sites that are asked one after the other, in the order of their names.

    What is asked and answered is what crosses the wire in a federation, message for message, so
    that server and sites cannot tell the difference.
    """

    def __init__(
        self, sites: Mapping[str, Site], hello: Hello, progress: TrainingProgress | None = None
    ) -> None:
        """Greet every site. Raises JoinRefusedError if one does not take part."""
        self._sites = sites
        self._progress = progress
        self._introductions = {name: _joined(site, hello) for name, site in sorted(sites.items())}

    @property
    def synthetic(self) -> dict[str, bool]:
        """Whether a site's data is made up, by site."""
        return {site: each.synthetic for site, each in self._introductions.items()}

    def wait_for_sites(
        self, enough: int, seconds: float, among: Collection[str] | None = None
    ) -> list[str]:
        """See SiteLink: all are there at once."""
        return [site for site in self._introductions if among is None or site in among]

    def enrolled_clips(self, site: str) -> int:
        """See SiteLink."""
        return self._introductions[site].train_clips

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Iterator[Reply]:
        """See SiteLink. No time limit holds: a site that is slow is waited for."""
        for name in sorted(orders):
            yield _reply(self._sites[name], name, orders[name])
            if self._progress is not None:
                self._progress(orders[name].order.round, name)


def _joined(site: Site, hello: Hello) -> Introduction:
    introduction = site.introduce(hello)
    if introduction.refusal:
        raise JoinRefusedError(
            f"{introduction.partition} does not take part in the simulation: "
            f"{introduction.refusal}."
        )
    return introduction


def _reply(site: Site, name: str, order: Order) -> Reply:
    try:
        report, model = site.train(order.order, order.model)
    except FedPsyAUError as error:
        log.error("%s cannot answer: %s", name, error)
        return Reply(name, fault=f"the site reported a failure (code {error.exit_code})")
    return Reply(name, report, model)
