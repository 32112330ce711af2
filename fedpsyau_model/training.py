"""Local training and prediction: the one loop behind federations, folds and pre-training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.errors import TrainingDivergedError, WeightsMismatchError
from fedpsyau_model.loss import add_proximal_gradient, inverse_frequency_weights, recognition_loss
from fedpsyau_model.network import AuGatDsi
from fedpsyau_model.randomness import seeded_randomness
from fedpsyau_model.schedules import Epoch
from fedpsyau_model.settings import LossSettings, TrainingSettings


class MeanLosses(NamedTuple):
    """Means of an epoch: `total` and `emotion` over its clips, AU terms over those labelled.

    The terms are before weighting, but for `proximal`, which holds its alpha4 / 2.
    """

    total: float
    emotion: float
    au: float
    au_aux: float
    proximal: float


#: Called after every epoch with its number, from 1, and its losses.
Progress = Callable[[int, MeanLosses], None]


def train(
    model: AuGatDsi,
    clips: ClipTensors,
    epochs: Sequence[Epoch],
    *,
    training: TrainingSettings,
    loss: LossSettings,
    generator: torch.Generator,
    received: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> MeanLosses:
    """Train the model in place, on its own device, with a fresh AdamW.

    clips: N >= 1 clips; moved to the model's device if they are elsewhere.
    epochs: what to run, at least one epoch (see `epochs_of_round` and `epochs_alone`).
    training: batch size and weight decay are taken from it.
    generator: on the CPU; source of shuffling and dropout. The same one gives the same bits on one
        machine with one number of threads, and torch's global random state is left alone.
    received: state of the model that weights are pulled to by the proximal term (equation 9), as
        `state_arrays` gives it; entries that are not trained are ignored. None: no such term.

    Returns the losses of the last epoch. Raises TrainingDivergedError if the loss is not finite,
    before weights take harm from it (batch-norm statistics may); WeightsMismatchError if
    `received` does not fit; ValueError without clips or epochs.
    """
    if not len(clips) or not epochs:
        raise ValueError(f"nothing to train: {len(clips)} clips, {len(epochs)} epochs")
    device = next(model.parameters()).device
    clips = clips.to(device)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimiser = torch.optim.AdamW(
        trained.values(), lr=epochs[0].learning_rate, weight_decay=training.weight_decay, fused=True
    )
    step = _Step(
        model=model,
        optimiser=optimiser,
        parameters=list(trained.values()),
        received=None if received is None else _reference(trained, received),
        class_weights=inverse_frequency_weights(clips.emotion, model.class_count)
        if loss.class_weights
        else None,
        loss=loss,
    )
    model.train()
    with seeded_randomness(_drawn_seed(generator), device):
        for number, epoch in enumerate(epochs, start=1):
            means = _run_epoch(step, clips, epoch, number, training.batch_size, generator)
            if progress is not None:
                progress(number, means)
    return means


class _Step(NamedTuple):
    """What every step of a training has in common."""

    model: AuGatDsi
    optimiser: torch.optim.AdamW
    parameters: list[Tensor]
    received: list[Tensor] | None
    class_weights: Tensor | None
    loss: LossSettings


def _run_epoch(
    step: _Step,
    clips: ClipTensors,
    epoch: Epoch,
    number: int,
    batch_size: int,
    generator: torch.Generator,
) -> MeanLosses:
    for group in step.optimiser.param_groups:
        group["lr"] = epoch.learning_rate
    order = torch.randperm(len(clips), generator=generator).to(clips.device)
    sums = torch.zeros(5, dtype=torch.float64)
    counts = torch.zeros(5, dtype=torch.float64)
    for batch_number, indices in enumerate(batches(order, batch_size), start=1):
        batch = clips.subset(indices)
        losses = _train_step(step, batch, epoch.prior_weight)
        if not math.isfinite(losses.total):
            raise TrainingDivergedError(
                f"The loss became {losses.total} in epoch {number}, batch {batch_number}, at a "
                f"learning rate of {epoch.learning_rate:g}, so training was stopped; no weight "
                "was updated with it. Lower training.learning-rate (or alpha4, if the proximal "
                "term is what grew), and check that the features hold finite numbers only."
            )
        labelled = int(batch.au_known.sum())
        clip_counts = [len(batch), len(batch), labelled, labelled, len(batch)]
        weights = torch.tensor(clip_counts, dtype=torch.float64)
        sums += weights * torch.tensor(losses, dtype=torch.float64)
        counts += weights
    return MeanLosses(*(sums / counts.clamp(min=1)).tolist())


def _train_step(step: _Step, batch: ClipTensors, prior_weight: float) -> MeanLosses:
    """Make one update, unless the loss is not finite."""
    output = step.model(batch.flow, batch.rois, prior_weight)
    terms = recognition_loss(
        output, batch.emotion, batch.au, batch.au_known, step.class_weights, step.loss
    )
    step.optimiser.zero_grad()
    torch.autograd.backward(terms.total)
    proximal = torch.zeros_like(terms.total)
    if step.received is not None:
        proximal = add_proximal_gradient(step.parameters, step.received, step.loss.alpha4)
    values = torch.stack([terms.total.detach() + proximal, *terms[1:], proximal]).tolist()
    if math.isfinite(values[0]):
        step.optimiser.step()
    return MeanLosses(*values)


def batches(order: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Cut (N,) indices into batches; a single clip left over joins the batch before it.

    Batch norm over one clip's values alone says nothing about other clips.
    """
    cut: tuple[Tensor, ...] = torch.split(order, batch_size)
    if len(cut) > 1 and len(cut[-1]) == 1:
        return (*cut[:-2], torch.cat(cut[-2:]))
    return cut


def _reference(trained: Mapping[str, Tensor], received: Mapping[str, np.ndarray]) -> list[Tensor]:
    reference = []
    for name, parameter in trained.items():
        if name not in received or received[name].shape != tuple(parameter.shape):
            raise WeightsMismatchError(
                f"The model to stay near does not fit the network: {name} should have shape "
                f"{tuple(parameter.shape)} and "
                + (f"has {received[name].shape}" if name in received else "is missing")
                + ". Use a model that was made with the same [network] settings."
            )
        reference.append(torch.tensor(received[name]).to(parameter))
    return reference


def _drawn_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


class Predictions(NamedTuple):
    """Logits of N clips on the CPU; `au` is None for a network without the AU branch."""

    emotion: Tensor
    """(N, C)"""
    au: Tensor | None
    """(N, 12), after the graph."""


@torch.inference_mode()
def predict(
    model: AuGatDsi, clips: ClipTensors, prior_weight: float, batch_size: int = 256
) -> Predictions:
    """Run the network over clips in eval mode; the model's own mode is restored.

    prior_weight: rho that the model was last trained with; 0 for a finished one.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    emotion: list[Tensor] = []
    au: list[Tensor] = []
    try:
        for indices in torch.split(torch.arange(len(clips)), batch_size):
            batch = clips.subset(indices).to(device)
            output = model(batch.flow, batch.rois, prior_weight)
            emotion.append(output.emotion.cpu())
            if output.au is not None:
                au.append(output.au.cpu())
    finally:
        model.train(was_training)
    return Predictions(torch.cat(emotion), torch.cat(au) if au else None)
