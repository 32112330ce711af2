"""Training on all sites' clips in one place: what sharing data would give, as a reference.

It is no federation, and breaks the privacy that one is for. It runs through the same round loop:
every site's reply holds the one model, and the scores of that site's own held-out subjects.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from fedpsyau_client.local_training.evaluation import held_out_confusion
from fedpsyau_client.local_training.site import derived_seed
from fedpsyau_client.local_training.site_clips import SiteClips, divide_clips
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_experiments.in_process_link import TrainingProgress
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.exchange import TrainingOrder, TrainingReport, pack_tensors, unpack_tensors
from fedpsyau_model.model_state import load_state_arrays, state_arrays
from fedpsyau_model.network import build_network
from fedpsyau_model.schedules import Epoch, epochs_of_round
from fedpsyau_model.settings import FederationSettings
from fedpsyau_model.training import MeanLosses, train
from fedpsyau_server.rounds import Order, Reply

__all__ = ["PooledLink"]

#: In place of a partition's name, for the seed of the one training.
_ALL = "all sites"


@dataclass(frozen=True)
class _Trained:
    """The one training of a round."""

    order: TrainingOrder
    received: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    losses: MeanLosses
    epochs: tuple[Epoch, ...]
    seconds: float


class PooledLink:
    """A `SiteLink` behind which there are no sites, but all their data."""

    def __init__(
        self,
        settings: FederationSettings,
        data_folder: Path,
        *,
        threads: int,
        device: str,
        progress: TrainingProgress | None = None,
    ) -> None:
        """Load the data of ``[server] sites``, each divided as that site would divide it."""
        torch.set_num_threads(threads)
        self._settings = settings
        self._progress = progress
        self._network = build_network(settings.network, settings.seed, settings.shared_priors()).to(
            device
        )
        self._initial = state_arrays(self._network)
        self._clips: dict[str, SiteClips] = {}
        self.synthetic: dict[str, bool] = {}
        for site in sorted(settings.server.sites):
            store = open_feature_store(data_folder / site)
            generator = np.random.default_rng(derived_seed(settings.seed, site, 0))
            self._clips[site] = divide_clips(store, settings, generator, torch.device(device))
            self.synthetic[site] = store.manifest.synthetic
        self._all = _joined([clips.training for clips in self._clips.values()])

    def wait_for_sites(
        self, enough: int, seconds: float, among: Collection[str] | None = None
    ) -> list[str]:
        """See SiteLink."""
        return [site for site in self._clips if among is None or site in among]

    def enrolled_clips(self, site: str) -> int:
        """See SiteLink."""
        return len(self._clips[site].training)

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Iterator[Reply]:
        """See SiteLink. Trains once, and answers for every site."""
        received = self._evaluations(next(iter(orders.values())))
        trained = self._train(next(iter(orders.values())))
        model = pack_tensors({name: trained.state[name] for name in trained.received})
        for site in sorted(orders):
            confusion = self._evaluate(trained.state, site, trained.epochs[-1].prior_weight)
            yield Reply(site, self._report(site, trained, received[site], confusion), model)
            if self._progress is not None:
                self._progress(trained.order.round, site)

    def _evaluations(self, order: Order) -> dict[str, np.ndarray]:
        """Confusion matrices of the model that is about to be trained, by site."""
        state = self._initial | unpack_tensors(order.model)
        rho = self._epochs(order.order)[0].prior_weight
        return {site: self._evaluate(state, site, rho) for site in self._clips}

    def _train(self, order: Order) -> _Trained:
        started = time.monotonic()
        received = unpack_tensors(order.model)
        load_state_arrays(self._network, self._initial | received)
        epochs = self._epochs(order.order)
        seed = derived_seed(self._settings.seed, _ALL, order.order.round)
        losses = train(
            self._network,
            self._all,
            epochs,
            training=self._settings.training,
            loss=self._settings.loss,
            generator=torch.Generator().manual_seed(seed),
        )
        state = state_arrays(self._network)
        return _Trained(order.order, received, state, losses, epochs, time.monotonic() - started)

    def _epochs(self, order: TrainingOrder) -> tuple[Epoch, ...]:
        return epochs_of_round(order.round, order.rounds, self._settings.training)

    def _evaluate(
        self, state: Mapping[str, np.ndarray], site: str, prior_weight: float
    ) -> np.ndarray:
        """Confusion matrix (C, C) over a site's held-out clips, as that site would find it."""
        load_state_arrays(self._network, state)
        return held_out_confusion(self._network, self._clips[site], self._settings, prior_weight)

    def _report(
        self, site: str, trained: _Trained, before: np.ndarray, after: np.ndarray
    ) -> TrainingReport:
        return TrainingReport(
            partition=site,
            run_id=trained.order.run_id,
            round=trained.order.round,
            train_clips=len(self._clips[site].training),
            test_clips=len(self._clips[site].held_out),
            confusion_received=before.ravel().tolist(),
            confusion_trained=after.ravel().tolist(),
            loss_total=trained.losses.total,
            loss_emotion=trained.losses.emotion,
            loss_au=trained.losses.au,
            loss_au_aux=trained.losses.au_aux,
            loss_proximal=trained.losses.proximal,
            fisher_trace=0.0,
            theta=0.0,
            train_seconds=trained.seconds,
        )


def _joined(parts: list[ClipTensors]) -> ClipTensors:
    """All clips one after the other."""
    return ClipTensors(
        *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(ClipTensors))
    )
