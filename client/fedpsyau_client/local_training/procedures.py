"""What a site does with a model that it receives, for every strategy.

A procedure trains through the one loop of `fedpsyau_model.training`; procedures differ in what they
start from, which part they train, what holds the weights near what, and what they send. The
definitions with their papers are in docs/algorithms.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch

from fedpsyau_model.alignment import align_to, class_prototypes, fisher_trace
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.exchange import Tensors
from fedpsyau_model.model_state import load_state_arrays, state_arrays
from fedpsyau_model.network import AuGatDsi
from fedpsyau_model.schedules import Epoch
from fedpsyau_model.settings import FederationSettings
from fedpsyau_model.training import MeanLosses, Objective, Pull, train
from fedpsyau_model.travelling import body_names, head_names

__all__ = ["PROCEDURES", "LocalWork", "Outcome", "Procedure"]


@dataclass(frozen=True)
class LocalWork:
    """What a procedure has at hand in one round."""

    network: AuGatDsi
    """Holds `start` when the procedure begins."""
    clips: ClipTensors
    """The site's training clips."""
    start: Tensors
    """Whole state: as received, completed with what is the site's own."""
    received: Tensors
    """What the server sent."""
    carried: Tensors | None
    """What the site kept of its last round, if the strategy keeps anything and there was one."""
    epochs: tuple[Epoch, ...]
    """The round's local epochs."""
    settings: FederationSettings
    generator: torch.Generator

    def train(
        self,
        epochs: Sequence[Epoch] | None = None,
        pull: Pull | None = None,
        only: Collection[str] | None = None,
        objective: Objective | None = None,
    ) -> MeanLosses:
        """Train the network as it is now; the round's epochs, all parts and the usual loss.

        The arguments change what their names say; see `fedpsyau_model.training.train`.
        """
        return train(
            self.network,
            self.clips,
            self.epochs if epochs is None else epochs,
            training=self.settings.training,
            loss=self.settings.loss,
            generator=self.generator,
            pull=pull,
            only=only,
            objective=objective,
        )


@dataclass(frozen=True)
class Outcome:
    """What a procedure has come to. The network holds the personal model, which is evaluated."""

    losses: MeanLosses
    sent: Tensors
    """Whole state, of which what travels is sent."""


@dataclass(frozen=True)
class Procedure:
    """A strategy as the site sees it."""

    run: Callable[[LocalWork], Outcome]
    carries: Literal["nothing", "head", "model"] = "nothing"
    """What of the personal model the site keeps on its disk for its next round."""
    weigh: Callable[[LocalWork], float] | None = None
    """What the server weighs the model by, other than the clips; the network holds the model."""


def _received_model(work: LocalWork) -> Outcome:
    """Train what was received, pulled to it if the strategy has a proximal term."""
    pull = Pull(work.received, work.settings.loss.alpha4)
    losses = work.train(pull=pull if work.settings.strategy.proximal else None)
    return Outcome(losses, state_arrays(work.network))


def _fedavg_finetune(work: LocalWork) -> Outcome:
    """Train what was received; then, for evaluation alone, fine-tune what was received.

    At the full learning rate: in late rounds the schedule would leave nothing of it.
    """
    losses = work.train()
    sent = state_arrays(work.network)
    load_state_arrays(work.network, work.start)
    epoch = Epoch(work.settings.training.learning_rate, work.epochs[-1].prior_weight)
    work.train((epoch,) * work.settings.strategy.finetune_epochs)
    return Outcome(losses, sent)


def _fedrep(work: LocalWork) -> Outcome:
    """Train the site's own head on the received body, then the body under that head."""
    head_epochs = (work.epochs[0],) * work.settings.strategy.head_epochs
    work.train(head_epochs, only=head_names(work.network))
    losses = work.train(only=body_names(work.network))
    return Outcome(losses, state_arrays(work.network))


def _fedas(work: LocalWork) -> Outcome:
    """Align the received body with the site's last model, then train body and head together."""
    align_epochs = (work.epochs[0],) * work.settings.strategy.align_epochs
    if work.carried is not None and align_epochs:
        load_state_arrays(work.network, work.carried)
        prototypes = class_prototypes(work.network, work.clips, work.epochs[0].prior_weight)
        load_state_arrays(work.network, work.start)
        work.train(align_epochs, only=body_names(work.network), objective=align_to(prototypes))
    losses = work.train()
    return Outcome(losses, state_arrays(work.network))


def _fisher_weight(work: LocalWork) -> float:
    return fisher_trace(
        work.network,
        work.clips,
        work.epochs[-1].prior_weight,
        work.settings.training.batch_size,
    )


def _mr_mtl(work: LocalWork) -> Outcome:
    """Train the site's own model, which nothing overwrites, pulled to the mean received."""
    load_state_arrays(work.network, work.carried or work.start)
    losses = work.train(pull=Pull(work.received, work.settings.strategy.pull))
    return Outcome(losses, state_arrays(work.network))


def _ditto(work: LocalWork) -> Outcome:
    """Train the global model and send it; then the site's own, pulled to the global received."""
    work.train()
    sent = state_arrays(work.network)
    load_state_arrays(work.network, work.carried or work.start)
    losses = work.train(pull=Pull(work.received, work.settings.strategy.pull))
    return Outcome(losses, sent)


#: By strategy. ``pooled`` has none: no site hands over its clips, whatever a server asks for.
PROCEDURES: Mapping[str, Procedure] = MappingProxyType(
    {
        "p-fedprox": Procedure(_received_model),
        "fedprox": Procedure(_received_model),
        "fedavg": Procedure(_received_model),
        "fedavg-finetune": Procedure(_fedavg_finetune),
        "fedrep": Procedure(_fedrep, carries="head"),
        "fedas": Procedure(_fedas, carries="model", weigh=_fisher_weight),
        "mr-mtl": Procedure(_mr_mtl, carries="model"),
        "ditto": Procedure(_ditto, carries="model"),
        "local": Procedure(_received_model),
    }
)
