"""Local training and prediction: the one loop behind federations, folds and pre-training."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.errors import TrainingDivergedError, WeightsMismatchError
from fedpsyau_model.loss import (
    LossTerms,
    add_proximal_gradient,
    inverse_frequency_weights,
    recognition_loss,
)
from fedpsyau_model.network import AuGatDsi
from fedpsyau_model.processor import each_on_one_thread, kept_memory
from fedpsyau_model.randomness import seeded_randomness
from fedpsyau_model.schedules import Epoch
from fedpsyau_model.settings import LossSettings, TrainingSettings


class MeanLosses(NamedTuple):
    """Means of an epoch: `total` and `emotion` over its clips, AU terms over its coded AUs.

    The terms are before weighting, but for `proximal`, which holds its weight / 2.
    """

    total: float
    emotion: float
    au: float
    au_aux: float
    proximal: float


class Pull(NamedTuple):
    """A penalty weight / 2 ||w - centre||^2 over the trained parameters w."""

    centre: Mapping[str, np.ndarray]
    """Model that w is pulled to, as `state_arrays` gives it; what is not trained is ignored."""
    weight: float
    """>= 0: alpha4 of equation 9, or lambda of MR-MTL and Ditto."""


#: What is minimised besides a pull: network, batch of clips and prior weight -> the loss's terms.
Objective = Callable[[AuGatDsi, ClipTensors, float], LossTerms]


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
    pull: Pull | None = None,
    only: Collection[str] | None = None,
    objective: Objective | None = None,
    progress: Progress | None = None,
) -> MeanLosses:
    """Train the model in place, on its own device, with a fresh AdamW.

    clips: N >= 1 clips; moved to the model's device if they are elsewhere.
    epochs: what to run, at least one epoch (see `epochs_of_round` and `epochs_alone`).
    training: batch size and weight decay are taken from it.
    generator: on the CPU; source of shuffling and dropout. The same one gives the same bits on one
        machine with one number of threads, and torch's global random state is left alone.
    pull: penalty that holds the weights near those of another model, or None.
    only: names of the parameters to train; the others stay as they are. None: all that are not
        frozen. Batch norm and dropout work as in training in all parts alike.
    objective: what to minimise; by default the recognition loss (equation 8) that `loss` weights.

    Returns the losses of the last epoch. Raises TrainingDivergedError if the loss is not finite,
    before weights take harm from it (batch-norm statistics may); WeightsMismatchError if the
    pull's centre does not fit; ValueError without clips or epochs.
    """
    if not len(clips) or not epochs:
        raise ValueError(f"nothing to train: {len(clips)} clips, {len(epochs)} epochs")
    device = next(model.parameters()).device
    clips = clips.to(device)
    with _frozen_but(model, only), kept_memory():
        step = new_step(model, objective or recognition(model, clips, loss), training, pull)
        model.train()
        with seeded_randomness(_drawn_seed(generator), device):
            for number, epoch in enumerate(epochs, start=1):
                means = _run_epoch(step, clips, epoch, number, training.batch_size, generator)
                if progress is not None:
                    progress(number, means)
    return means


def recognition(model: AuGatDsi, clips: ClipTensors, loss: LossSettings) -> Objective:
    """Make the objective of equation 8, with class weights from `clips` if `loss` asks for them."""
    class_weights = (
        inverse_frequency_weights(clips.emotion, model.class_count) if loss.class_weights else None
    )

    def objective(model: AuGatDsi, batch: ClipTensors, prior_weight: float) -> LossTerms:
        output = model(batch.flow, batch.rois, prior_weight)
        return recognition_loss(
            output, batch.emotion, batch.au, batch.au_known, class_weights, loss
        )

    return objective


@contextmanager
def _frozen_but(model: AuGatDsi, only: Collection[str] | None) -> Iterator[None]:
    """Freeze all parameters that are not named, as long as the block runs."""
    frozen = [
        value
        for name, value in model.named_parameters()
        if only is not None and name not in only and value.requires_grad
    ]
    for value in frozen:
        value.requires_grad_(False)
    try:
        yield
    finally:
        for value in frozen:
            value.requires_grad_(True)


class Step(NamedTuple):
    """What every step of a training has in common."""

    model: AuGatDsi
    optimiser: torch.optim.AdamW
    parameters: list[Tensor]
    centre: list[Tensor] | None
    pull_weight: float
    objective: Objective


def new_step(
    model: AuGatDsi, objective: Objective, training: TrainingSettings, pull: Pull | None
) -> Step:
    """Make the step that trains what is not frozen of a model, with a fresh AdamW.

    Raises WeightsMismatchError if the pull's centre does not fit.
    """
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    return Step(
        model=model,
        optimiser=torch.optim.AdamW(
            trained.values(),
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        ),
        parameters=list(trained.values()),
        centre=None if pull is None else _reference(trained, pull.centre),
        pull_weight=0.0 if pull is None else pull.weight,
        objective=objective,
    )


def _run_epoch(
    step: Step,
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
        losses = train_step(step, batch, epoch.prior_weight)
        if not math.isfinite(losses.total):
            raise TrainingDivergedError(
                f"The loss became {losses.total} in epoch {number}, batch {batch_number}, at a "
                f"learning rate of {epoch.learning_rate:g}, so training was stopped; no weight "
                "was updated with it. Lower training.learning-rate (or alpha4, if the proximal "
                "term is what grew), and check that the features hold finite numbers only."
            )
        labelled = int(batch.au_known.sum())
        counted = [len(batch), len(batch), labelled, labelled, len(batch)]
        weights = torch.tensor(counted, dtype=torch.float64)
        sums += weights * torch.tensor(losses, dtype=torch.float64)
        counts += weights
    return MeanLosses(*(sums / counts.clamp(min=1)).tolist())


def train_step(step: Step, batch: ClipTensors, prior_weight: float) -> MeanLosses:
    """Make one update, unless the loss is not finite. Returns the losses of before."""
    terms = step.objective(step.model, batch, prior_weight)
    step.optimiser.zero_grad()
    torch.autograd.backward(terms.total)
    proximal = torch.zeros_like(terms.total)
    if step.centre is not None:
        proximal = add_proximal_gradient(step.parameters, step.centre, step.pull_weight)
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


def _reference(trained: Mapping[str, Tensor], centre: Mapping[str, np.ndarray]) -> list[Tensor]:
    reference = []
    for name, parameter in trained.items():
        if name not in centre or centre[name].shape != tuple(parameter.shape):
            raise WeightsMismatchError(
                f"The model to stay near does not fit the network: {name} should have shape "
                f"{tuple(parameter.shape)} and "
                + (f"has {centre[name].shape}" if name in centre else "is missing")
                + ". Use a model that was made with the same [network] settings."
            )
        reference.append(torch.tensor(centre[name]).to(parameter))
    return reference


def _drawn_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


class Predictions(NamedTuple):
    """Logits of N clips on the CPU; `au` is None for a network without the AU branch."""

    emotion: Tensor
    """(N, C)"""
    au: Tensor | None
    """(N, 12), after the graph."""


def predict(
    model: AuGatDsi, clips: ClipTensors, prior_weight: float, batch_size: int = 32
) -> Predictions:
    """Run the network over clips in eval mode; the model's own mode is restored.

    prior_weight: rho that the model was last trained with; 0 for a finished one.
    On a CPU, batches share out the threads. The same clips in the same batches give the same bits,
    however many threads there are.
    """
    device = next(model.parameters()).device

    @torch.inference_mode()
    def logits(indices: Tensor) -> tuple[Tensor, Tensor | None]:
        batch = clips.subset(indices).to(device)
        emotion, au, _ = model(batch.flow, batch.rois, prior_weight)
        return emotion.cpu(), None if au is None else au.cpu()

    was_training = model.training
    model.eval()
    batches = torch.split(torch.arange(len(clips)), batch_size)
    try:
        with kept_memory():
            if device.type == "cpu":
                found = each_on_one_thread(logits, batches)
            else:
                found = [logits(indices) for indices in batches]
    finally:
        model.train(was_training)
    au = [au for _, au in found if au is not None]
    return Predictions(torch.cat([emotion for emotion, _ in found]), torch.cat(au) if au else None)
