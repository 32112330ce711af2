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
from typing import Any, Self

import numpy as np
import torch
from pydantic import ValidationError

from fedpsyau_client.local_training.evaluation import (
    calibrate,
    confusion_of,
    held_out_confusion,
    held_out_logits,
)
from fedpsyau_client.local_training.procedures import PROCEDURES, LocalWork
from fedpsyau_client.local_training.received_model import ExpectedModel
from fedpsyau_client.local_training.site_belongings import SiteBelongings, opened_belongings
from fedpsyau_client.local_training.site_clips import SiteClips, divide_clips
from fedpsyau_client.local_training.theta_choice import (
    best_theta,
    mean_cross_entropy,
    mixture,
    theta_candidates,
)
from fedpsyau_client.own_priors.priors_file import PriorsFile
from fedpsyau_client.prediction.recogniser_file import calibration, recogniser_facts
from fedpsyau_client.settings import ClientSettings
from fedpsyau_model import __version__
from fedpsyau_model.errors import JoinRefusedError
from fedpsyau_model.exchange import (
    SCHEMA_VERSION,
    Hello,
    Introduction,
    MalformedMessageError,
    Tensors,
    TrainingOrder,
    TrainingReport,
    disagreement,
    pack_tensors,
)
from fedpsyau_model.metrics import uf1
from fedpsyau_model.model_state import load_state_arrays, state_arrays
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.precision import as_trained_sent
from fedpsyau_model.schedules import Epoch, epochs_of_round
from fedpsyau_model.settings import DEFAULT_THETA, FederationSettings, agreement_hash
from fedpsyau_model.travelling import head_names, travelling_names
from fedpsyau_priors import Priors

log = logging.getLogger(__name__)


@dataclass
class _Run:
    """What the site has loaded for one run."""

    run_id: str
    settings: FederationSettings
    priors: Priors
    network: AuGatDsi
    travels: ExpectedModel
    """The tensors that the site receives and sends; no other ever leaves it."""
    own: Tensors
    """Initial values of the others."""
    clips: SiteClips


class Site:
    """One site of a federation, over data and state that are open."""

    def __init__(
        self, belongings: SiteBelongings, agreed: FederationSettings | None = None
    ) -> None:
        """Take over what `opened_belongings` has opened.

        agreed: settings that the site insists on; None takes what the server proposes.
        """
        settings = belongings.settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.partition = settings.partition
        self.state = belongings.state
        self._store = belongings.store
        self._agreed = agreed
        self._own_priors = belongings.priors
        self._device = torch.device(settings.device)
        self._run: _Run | None = None
        self._read: tuple[bytes, Tensors, Tensors] | None = None

    @classmethod
    @contextmanager
    def open(
        cls, settings: ClientSettings, agreed: FederationSettings | None = None
    ) -> Iterator[Self]:
        """Open a site's data and state; raises what `opened_belongings` raises."""
        with opened_belongings(settings) as belongings:
            yield cls(belongings, agreed)

    def introduce(self, hello: Hello, unwilling: str = "") -> Introduction:
        """Answer a server's greeting: load what its settings ask for, or say why not.

        unwilling: why this site would not take part even if both sides' settings agree.

        Raises MalformedMessageError if the settings proposed are none.
        """
        proposed = proposed_agreement(hello)
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
        refusal = refusal or unwilling
        counts = (0, 0)
        if not refusal:  # only then is it sure that the settings are known here
            settings = _settings(own)
            refusal = _unwilling(settings)
        if not refusal:
            run = self._load(hello.run_id, settings)
            counts = (len(run.clips.training), len(run.clips.held_out))
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
        """Train the model received as the strategy has it, and report on the held-out subjects.

        Evaluates the model as received, before training, and the site's personal model after. The
        same order gives the same bits on the same machine, whatever came before: every random
        number comes from (seed, partition, round), and what a strategy carries over from an
        earlier round is on disk, under the run and that round.

        Raises what `require` raises, and TrainingDivergedError if the loss is not finite.
        """
        run, received, others = self._opened(order, model)
        self._read = None
        started = time.monotonic()
        procedure = PROCEDURES[run.settings.strategy.name]
        work = self._begin(run, order, received)
        load_state_arrays(run.network, work.start)
        confusion_received = held_out_confusion(
            run.network, run.clips, run.settings, work.epochs[0].prior_weight
        )
        theta = _chosen_theta(run, work, others, order)
        load_state_arrays(run.network, work.start)
        outcome = procedure.run(work)
        logits = held_out_logits(run.network, run.clips, run.settings, work.epochs[-1].prior_weight)
        confusion_trained = confusion_of(logits, run.clips)
        weight = procedure.weigh(work) if procedure.weigh else 0.0
        self._keep(run, order.round, state_arrays(run.network), work.epochs[-1], logits)
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
            train_clips=len(run.clips.training),
            test_clips=len(run.clips.held_out),
            confusion_received=confusion_received.ravel().tolist(),
            confusion_trained=confusion_trained.ravel().tolist(),
            loss_total=outcome.losses.total,
            loss_emotion=outcome.losses.emotion,
            loss_au=outcome.losses.au,
            loss_au_aux=outcome.losses.au_aux,
            loss_proximal=outcome.losses.proximal,
            fisher_trace=weight,
            theta=theta,
            train_seconds=seconds,
        )
        trained = {name: outcome.sent[name] for name in received}
        return report, self._packed(run, order.round, trained, received)

    def leave_run(self) -> None:
        """Let go of the run that was joined, which is over, and of what was carried through it."""
        if self._run is not None:
            self.state.forget(self._run.run_id)
            self._run = None

    def require(self, order: TrainingOrder, model: bytes) -> None:
        """Check an order without following it.

        Raises JoinRefusedError for an order of a run that was not joined, and what
        `ExpectedModel.read` raises for a model that this site's network does not take.
        """
        self._opened(order, model)

    def _opened(self, order: TrainingOrder, model: bytes) -> tuple[_Run, Tensors, Tensors]:
        """The run that an order is of, the model received, and the others' mean if it came."""
        run = self._run
        if run is None or run.run_id != order.run_id:
            raise JoinRefusedError(
                "The server sent an order of a run that this site has not joined. It is greeted "
                "anew when the server sees it again."
            )
        if self._read is None or self._read[0] is not model:  # else `require` has just read it
            with_others = run.settings.strategy.chooses_theta
            self._read = (model, *run.travels.read(model, with_others=with_others))
        return run, *self._read[1:]

    def _begin(self, run: _Run, order: TrainingOrder, received: Tensors) -> LocalWork:
        """What the round's procedure works with."""
        carried = None
        if _carried_names(run):
            carried = self.state.carried(run.run_id, order.round)
        own = run.own
        if carried is not None and run.settings.strategy.head_stays:
            own = own | {name: carried[name] for name in head_names(run.network)}
        seed = derived_seed(run.settings.seed, self.partition, order.round)
        return LocalWork(
            network=run.network,
            clips=run.clips.training,
            start=own | received,
            received=received,
            carried=carried,
            epochs=epochs_of_round(order.round, order.rounds, run.settings.training),
            settings=run.settings,
            generator=torch.Generator().manual_seed(seed),
        )

    def _load(self, run_id: str, settings: FederationSettings) -> _Run:
        """Load network and data for a run, unless they are loaded already."""
        if self._run is None or self._run.run_id != run_id:
            priors = priors_in_force(settings, self._own_priors)
            network = build_network(settings.network, settings.seed, priors).to(self._device)
            state = state_arrays(network)
            travels = ExpectedModel.of(
                {name: state[name] for name in travelling_names(network, settings.strategy)},
                settings.exchange.precision,
            )
            self._run = _Run(
                run_id=run_id,
                settings=settings,
                priors=priors,
                network=network,
                travels=travels,
                own={name: tensor for name, tensor in state.items() if name not in travels},
                clips=divide_clips(
                    self._store,
                    settings,
                    np.random.default_rng(derived_seed(settings.seed, self.partition, 0)),
                    self._device,
                ),
            )
        return self._run

    def _packed(self, run: _Run, round_number: int, trained: Tensors, received: Tensors) -> bytes:
        """Pack what is sent in the precision agreed on; keep what that takes from it."""
        precision = run.settings.exchange.precision
        residual = self.state.residual(run.run_id, round_number)
        encoded = as_trained_sent(trained, precision, received, residual)
        if encoded.residual:
            self.state.keep_residual(run.run_id, round_number, encoded.residual)
        return pack_tensors(encoded.tensors)

    def _keep(
        self, run: _Run, round_number: int, trained: Tensors, epoch: Epoch, logits: np.ndarray
    ) -> None:
        """Keep the personal model, and what the strategy goes on from in its next round.

        logits: (N, C), its answers to the held-out clips, by which it is calibrated.
        """
        if names := _carried_names(run):
            self.state.carry(run.run_id, round_number, {name: trained[name] for name in names})
        self.state.save_personal(
            trained,
            recogniser_facts(
                made_by="federation",
                network=run.settings.network,
                priors=run.priors,
                prior_weight=epoch.prior_weight,
                config_hash=run.settings.agreement_hash(),
                manifests=[self._store.manifest],
                calibration=calibration(
                    logits, run.clips.held_out.emotion.cpu().numpy(), run.clips.held_out_subjects
                ),
            ),
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


def proposed_agreement(hello: Hello) -> dict[str, Any]:
    """The settings that a greeting proposes; MalformedMessageError if it proposes none."""
    try:
        proposed = json.loads(hello.agreement)
    except (ValueError, RecursionError):
        proposed = None
    if not isinstance(proposed, dict):
        raise MalformedMessageError("The server's greeting proposes no settings.")
    return proposed


def _settings(agreement: dict[str, Any]) -> FederationSettings:
    try:
        settings = FederationSettings.model_validate(agreement)
    except ValidationError as error:
        keys = sorted({".".join(map(str, each["loc"]))[:80] for each in error.errors()})
        raise MalformedMessageError(
            f"The server's greeting proposes settings that this version does not know: wrong "
            f"{', '.join(keys[:5])}."
        ) from None
    if settings.agreement() != agreement:
        raise MalformedMessageError(
            "The server's greeting does not propose every setting in full, and no other."
        )
    return settings


def _unwilling(settings: FederationSettings) -> str:
    """Why no site takes part under such settings; empty if sites do."""
    if settings.strategy.name in PROCEDURES:
        return ""
    return f"strategy {settings.strategy.name}, for which a site would have to hand over its clips"


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


def _carried_names(run: _Run) -> tuple[str, ...]:
    """Names of what the strategy carries over from round to round."""
    carries = PROCEDURES[run.settings.strategy.name].carries
    if carries == "model" or run.settings.strategy.chooses_theta:
        return tuple(run.network.state_dict())
    return head_names(run.network) if carries == "head" else ()


def _chosen_theta(run: _Run, work: LocalWork, others: Tensors, order: TrainingOrder) -> float:
    """Theta that this site asks for from now on; 0 if it is not asked to choose.

    It is the one whose mixture of the site's last model with the others' mean does best on the
    clips set aside; without both of them, the default. The network holds anything afterwards.
    """
    if run.clips.choosing is None:
        return 0.0
    if work.carried is None or not others:
        return DEFAULT_THETA
    own, choosing, prior_weight = work.carried, run.clips.choosing, work.epochs[0].prior_weight

    def cost(theta: float) -> float:
        load_state_arrays(run.network, mixture(own, others, theta))
        calibrate(run.network, run.clips, run.settings, prior_weight)
        return mean_cross_entropy(
            run.network, choosing, work.clips, prior_weight, run.settings.loss.class_weights
        )

    grid = run.settings.strategy.theta_grid
    return best_theta(theta_candidates(grid, len(work.clips), order.all_clips), cost)


def derived_seed(seed: int, partition: str, round_number: int) -> int:
    """Seed of a site's random numbers in one round, 63 bits, from a hash of all three.

    Round 0 is the division of its subjects into training and held-out ones.
    """
    digest = hashlib.sha256(f"{seed}/{partition}/{round_number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
