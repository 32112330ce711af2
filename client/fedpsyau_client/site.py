"""The site: its data, its network and its own state, and what it answers to the server.

Knows nothing of Flower, so that a simulation can call it as a federation does. Data, network and
device stay loaded from the first order to the last.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from fedpsyau_client.feature_store import FeatureStore, open_feature_store
from fedpsyau_client.priors_file import PriorsFile, read_priors_file
from fedpsyau_client.settings import ClientSettings
from fedpsyau_client.site_state import SiteState
from fedpsyau_client.splits import split_by_subject
from fedpsyau_model import __version__
from fedpsyau_model.calibration import calibrate_batch_norm
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import JoinRefusedError, SettingsError
from fedpsyau_model.exchange import (
    SCHEMA_VERSION,
    Hello,
    Introduction,
    Tensors,
    TrainingOrder,
    TrainingReport,
    disagreement,
    pack_tensors,
    unpack_tensors,
)
from fedpsyau_model.metrics import confusion_matrix, uf1
from fedpsyau_model.model_state import load_state_arrays, shared_names, state_arrays
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.schedules import epochs_of_round
from fedpsyau_model.settings import FederationSettings, agreement_hash
from fedpsyau_model.training import predict, train
from fedpsyau_priors import Priors

log = logging.getLogger(__name__)


@dataclass
class _Run:
    """What the site has loaded for one run."""

    run_id: str
    settings: FederationSettings
    priors: Priors
    network: AuGatDsi
    own: Tensors
    """Initial values of the tensors that do not travel."""
    training: ClipTensors
    held_out: ClipTensors


class Site:
    """One site of a federation. Use `open`, which checks the data and locks the state folder."""

    def __init__(
        self,
        settings: ClientSettings,
        store: FeatureStore,
        state: SiteState,
        agreed: FederationSettings | None,
    ) -> None:
        self.partition = settings.partition
        self.state = state
        self._store = store
        self._agreed = agreed
        self._own_priors = read_priors_file(settings.priors) if settings.priors else None
        self._device = torch.device(settings.device)
        self._run: _Run | None = None

    @classmethod
    @contextmanager
    def open(
        cls, settings: ClientSettings, agreed: FederationSettings | None = None
    ) -> Iterator[Self]:
        """Open a site's data and state.

        agreed: settings that the site insists on; None takes what the server proposes.

        Raises DataNotFoundError, DataDamagedError or SchemaMismatchError for bad data,
        PriorsFileError for a bad file of the site's own priors,
        SettingsError for a device that is not there, NameTakenError if the site runs already.
        """
        _require_device(settings.device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        store = open_feature_store(settings.data / settings.partition)
        with SiteState(settings.state / settings.partition) as state:
            yield cls(settings, store, state, agreed)

    def introduce(self, hello: Hello) -> Introduction:
        """Answer a server's greeting: load what its settings ask for, or say why not."""
        proposed = json.loads(hello.agreement)
        own = self._agreed.agreement() if self._agreed else proposed
        refusal = disagreement(
            {
                "version": __version__,
                "schema_version": SCHEMA_VERSION,
                "agreement_hash": agreement_hash(own),
                "agreement": own,
            },
            hello.model_dump() | {"agreement": proposed},
            self.partition,
            "server",
        )
        counts = (0, 0)
        if not refusal:  # only then is it sure that the settings are known here
            run = self._load(hello.run_id, FederationSettings.model_validate(own))
            counts = (len(run.training), len(run.held_out))
            log.info(
                "joined run %s with %d training clips and %d held out", hello.run_id[:8], *counts
            )
        return Introduction(
            partition=self.partition,
            instance=self.state.instance,
            version=__version__,
            schema_version=SCHEMA_VERSION,
            agreement_hash=agreement_hash(own),
            train_clips=counts[0],
            test_clips=counts[1],
            synthetic=self._store.manifest.synthetic,
            refusal=refusal,
        )

    def train(self, order: TrainingOrder, model: bytes) -> tuple[TrainingReport, bytes]:
        """Train the personal model received, and report on the site's held-out subjects.

        Evaluates the received model before training and the trained one after. The same order
        gives the same bits on the same machine, whatever came before: nothing is carried over
        from an earlier round, and every random number comes from (seed, partition, round).

        Raises JoinRefusedError for an order of a run that was not joined, WeightsMismatchError for
        a model of another network, TrainingDivergedError if the loss is not finite.
        """
        run = self._run
        if run is None or run.run_id != order.run_id:
            raise JoinRefusedError(
                "The server sent an order of a run that this site has not joined. It is greeted "
                "anew when the server sees it again."
            )
        started = time.monotonic()
        settings = run.settings
        received = unpack_tensors(model)
        load_state_arrays(run.network, run.own | received)
        epochs = epochs_of_round(order.round, order.rounds, settings.training)
        confusion_received = _evaluate(run, epochs[0].prior_weight)
        losses = train(
            run.network,
            run.training,
            epochs,
            training=settings.training,
            loss=settings.loss,
            generator=torch.Generator().manual_seed(
                derived_seed(settings.seed, self.partition, order.round)
            ),
            received=received if settings.strategy.proximal else None,
        )
        confusion_trained = _evaluate(run, epochs[-1].prior_weight)
        trained = state_arrays(run.network)
        self._keep(run, order.round, trained)
        seconds = time.monotonic() - started
        log.info(
            "round %d of %d: UF1 %.3f received, %.3f trained, %.1f s",
            order.round,
            order.rounds,
            uf1(confusion_received),
            uf1(confusion_trained),
            seconds,
        )
        report = TrainingReport(
            partition=self.partition,
            run_id=run.run_id,
            round=order.round,
            train_clips=len(run.training),
            test_clips=len(run.held_out),
            confusion_received=confusion_received.ravel().tolist(),
            confusion_trained=confusion_trained.ravel().tolist(),
            loss_total=losses.total,
            loss_emotion=losses.emotion,
            loss_au=losses.au,
            loss_au_aux=losses.au_aux,
            loss_proximal=losses.proximal,
            train_seconds=seconds,
        )
        return report, pack_tensors({name: trained[name] for name in received})

    def _load(self, run_id: str, settings: FederationSettings) -> _Run:
        """Load network and data for a run, unless they are loaded already."""
        if self._run is None or self._run.run_id != run_id:
            priors = priors_in_force(settings, self._own_priors)
            network = build_network(settings.network, settings.seed, priors).to(self._device)
            training, held_out = self._divide(settings)
            state = state_arrays(network)
            travels = set(shared_names(network, settings.strategy.batch_norm))
            self._run = _Run(
                run_id=run_id,
                settings=settings,
                priors=priors,
                network=network,
                own={name: tensor for name, tensor in state.items() if name not in travels},
                training=training,
                held_out=held_out,
            )
        return self._run

    def _divide(self, settings: FederationSettings) -> tuple[ClipTensors, ClipTensors]:
        """Training and held-out clips, divided by subject with the federation's seed."""
        rows, labels = self._store.labels(settings.network.classes)
        split = split_by_subject(
            self._store.clips.subject[rows],
            settings.training.test_share,
            np.random.default_rng(derived_seed(settings.seed, self.partition, 0)),
            labels,
        )
        training, held_out = (
            self._clip_tensors(rows[part], labels[part]) for part in (split.train, split.test)
        )
        return training, held_out

    def _clip_tensors(self, rows: np.ndarray, labels: np.ndarray) -> ClipTensors:
        clips = self._store.clips
        return ClipTensors(
            flow=torch.from_numpy(self._store.flow[rows]),
            rois=torch.from_numpy(self._store.rois[rows]),
            emotion=torch.from_numpy(labels),
            au=torch.from_numpy(clips.aus[rows].astype(np.float32)),
            au_known=torch.from_numpy(clips.au_known[rows]),
        ).to(self._device)

    def _keep(self, run: _Run, round_number: int, trained: Tensors) -> None:
        self.state.save_personal(
            trained,
            {
                "partition": self.partition,
                "run": run.run_id,
                "round": round_number,
                "agreement_hash": run.settings.agreement_hash(),
                "settings": run.settings.agreement(),
                "priors": {"name": run.priors.name, "sha256": run.priors.fingerprint()},
                "data_sha256": self._store.manifest.files.features.sha256,
                "synthetic": self._store.manifest.synthetic,
                "version": __version__,
                "trained_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            },
        )


def priors_in_force(settings: FederationSettings, own: PriorsFile | None) -> Priors:
    """Priors that this site's network is built with, said in its log.

    own: the site's own file, which counts only where the federation lets sites use theirs. Its
    matrices stay at the site: they are neither weights nor part of any message.
    """
    if own and settings.network.priors == "site":
        priors = own.priors(settings.network.intrinsic_edges)
        log.info("priors of this site's own: %s", _described(priors))
        return priors
    priors = settings.shared_priors()
    log.info("priors of the federation: %s", _described(priors))
    if own:
        log.warning("the file of this site's own priors is not used: the federation shares its own")
    elif settings.network.priors == "site":
        log.warning("sites may use priors of their own, but this one was given none with --priors")
    return priors


def _described(priors: Priors) -> str:
    return f"{priors.name} (sha256 {priors.fingerprint()[:12]})"


def _evaluate(run: _Run, prior_weight: float) -> np.ndarray:
    """Confusion matrix (C, C) of the network over the held-out clips.

    Where batch-norm statistics are the site's own, they are first taken from its training clips.
    """
    if run.settings.strategy.batch_norm == "local":
        calibrate_batch_norm(run.network, run.training, prior_weight)
    classes = len(CLASS_NAMES[run.settings.network.classes])
    predicted = predict(run.network, run.held_out, prior_weight).emotion.argmax(dim=1)
    return confusion_matrix(run.held_out.emotion.cpu().numpy(), predicted.numpy(), classes)


def derived_seed(seed: int, partition: str, round_number: int) -> int:
    """Seed of a site's random numbers in one round, 63 bits, from a hash of all three.

    Round 0 is the division of its subjects into training and held-out ones.
    """
    digest = hashlib.sha256(f"{seed}/{partition}/{round_number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _require_device(device: str) -> None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError(
            f"device = {device!r}: torch sees no CUDA device here. Use --device cpu, or install "
            "torch's CUDA build and the driver."
        )
