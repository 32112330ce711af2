"""One fold, from fresh weights to predictions of its test clips."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from fedpsyau_client.prediction.recogniser_file import calibration, recogniser_facts
from fedpsyau_client.protocols.clip_set import ClipSet, Indices
from fedpsyau_client.protocols.fold_result import AU_THRESHOLD, FoldResult
from fedpsyau_client.protocols.folds import Fold
from fedpsyau_client.protocols.plan import VALIDATION_SHARE, Plan
from fedpsyau_client.protocols.seeds import seed_for
from fedpsyau_client.splits import split_by_subject
from fedpsyau_model.calibration import calibrate_batch_norm
from fedpsyau_model.checkpoints import Checkpoint, start_from
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.metrics import au_counts, confusion_matrix, uf1
from fedpsyau_model.model_state import load_state_arrays, state_arrays
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.schedules import Epoch, epochs_alone
from fedpsyau_model.training import MeanLosses, predict, train

Model = dict[str, np.ndarray]

#: Decimal places of probabilities on disk; classes are told before rounding.
_DECIMALS = 6


class TrainedFold(NamedTuple):
    """What a fold leaves behind."""

    result: FoldResult
    model: Model
    recogniser: dict[str, Any]
    """What `fedpsyau predict` must know of the model."""


def train_fold(
    index: ClipSet,
    clips: ClipTensors,
    fold: Fold,
    plan: Plan,
    start: Checkpoint | None = None,
    progress: Callable[[int], None] = lambda clips: None,
    device: str = "cpu",
) -> TrainedFold:
    """Train a fresh network on a fold's training clips and test it on the others.

    clips: all clips of `index`, in its order. start: what the network starts from instead of the
    initial weights, as far as it goes. progress: called after every epoch with the clips trained.
    device: where the network runs.

    The test clips are looked at once, when the model is final. All random numbers come from (seed,
    protocol, fold name), so a fold has the same bits whatever ran before it, with one torch thread.
    """
    started = time.monotonic()
    network = build_network(plan.network, _seed(plan, fold, "weights"), plan.shared_priors())
    if start is not None:
        start_from(network, start)
    network.to(device)
    trained = _train(network, index, clips, fold, plan, progress)
    # Statistics come from clips that the weights were trained on, never from tested ones.
    training = clips.subset(torch.from_numpy(trained.rows))
    calibrate_batch_norm(network, training, trained.epoch.prior_weight)
    result = _tested(network, index, clips, fold, plan, trained)
    seconds = round(time.monotonic() - started, 3)
    return TrainedFold(
        result.model_copy(update={"seconds": seconds}),
        state_arrays(network),
        _recogniser(network, index, clips, plan, trained),
    )


class _Training(NamedTuple):
    """How the network came to its weights."""

    rows: Indices
    """Clips that it was trained on."""
    validation: Indices | None
    """Clips that its epoch was chosen by; None where the last one is taken."""
    epoch: Epoch
    """The epoch that it is taken from, and its number, from 1."""
    chosen: int
    losses: list[MeanLosses]
    validation_uf1: list[float | None] | None


def _train(
    network: AuGatDsi,
    index: ClipSet,
    clips: ClipTensors,
    fold: Fold,
    plan: Plan,
    progress: Callable[[int], None],
) -> _Training:
    """Train the network in place; it is left with the weights of the chosen epoch."""
    epochs = epochs_alone(plan.epochs, plan.training)
    rows, validation = fold.train, None
    if plan.select == "validation":
        rows, validation = inner_split(index, fold, plan)
    training = clips.subset(torch.from_numpy(rows))
    losses: list[MeanLosses] = []
    best = _BestEpoch(network, training, clips, validation, epochs)

    def after_epoch(number: int, means: MeanLosses) -> None:
        losses.append(means)
        best.look(number)
        progress(len(training))

    train(
        network,
        training,
        epochs,
        training=plan.training,
        loss=plan.loss,
        generator=torch.Generator().manual_seed(_seed(plan, fold, "training")),
        progress=after_epoch,
    )
    chosen = best.restore() if validation is not None else len(epochs)
    scores = None if validation is None else best.scores
    return _Training(rows, validation, epochs[chosen - 1], chosen, losses, scores)


class _BestEpoch:
    """Keeps the weights of the epoch with the best UF1 on validation clips, the first of equals."""

    def __init__(
        self,
        network: AuGatDsi,
        training: ClipTensors,
        clips: ClipTensors,
        validation: Indices | None,
        epochs: tuple[Epoch, ...],
    ) -> None:
        self._network = network
        self._training = training
        self._validation = (
            None if validation is None else clips.subset(torch.from_numpy(validation))
        )
        self._epochs = epochs
        self._best: tuple[float, int, Model] | None = None
        self.scores: list[float | None] = []

    def look(self, number: int) -> None:
        """Score the network as it is after epoch `number`; nothing that training uses changes."""
        if self._validation is None:
            return
        rho = self._epochs[number - 1].prior_weight
        calibrate_batch_norm(self._network, self._training, rho)
        predicted = predict(self._network, self._validation, rho).emotion.argmax(dim=1)
        truth = self._validation.emotion.numpy()
        score = uf1(confusion_matrix(truth, predicted.numpy(), self._network.class_count))
        self.scores.append(score)
        if self._best is None or score > self._best[0]:
            self._best = score, number, state_arrays(self._network)

    def restore(self) -> int:
        """Give the network the best epoch's weights; returns the epoch's number."""
        if self._best is None:
            raise ValueError("no epoch was scored")
        _, number, weights = self._best
        load_state_arrays(self._network, weights)
        return number


def inner_split(index: ClipSet, fold: Fold, plan: Plan) -> tuple[Indices, Indices]:
    """Divide a fold's training clips by subject into those trained on and those chosen by."""
    split = split_by_subject(
        index.subject[fold.train],
        VALIDATION_SHARE,
        np.random.default_rng(_seed(plan, fold, "validation")),
        index.emotion[fold.train],
    )
    return fold.train[split.train], fold.train[split.test]


def _tested(
    network: AuGatDsi,
    index: ClipSet,
    clips: ClipTensors,
    fold: Fold,
    plan: Plan,
    trained: _Training,
) -> FoldResult:
    test = clips.subset(torch.from_numpy(fold.test))
    logits = predict(network, test, trained.epoch.prior_weight)
    predicted = logits.emotion.argmax(dim=1).numpy()
    truth, known = test.emotion.numpy(), test.au_known.numpy()
    active = test.au.numpy().astype(bool)
    au_probabilities = None if logits.au is None else logits.au.double().sigmoid().numpy()
    return FoldResult(
        number=fold.number,
        name=fold.name,
        plan_hash=plan.plan_hash(),
        train_clips=len(trained.rows),
        train_subjects=len(np.unique(index.subject[trained.rows])),
        chosen_epoch=trained.chosen,
        losses=[tuple(each) for each in trained.losses],
        validation_uf1=trained.validation_uf1,
        seconds=0,
        confusion=confusion_matrix(truth, predicted, network.class_count).tolist(),
        au_counts=None
        if au_probabilities is None
        else au_counts(active, au_probabilities >= AU_THRESHOLD, known).tolist(),
        clip=index.clip[fold.test].tolist(),
        subject=index.subject[fold.test].tolist(),
        truth=truth.tolist(),
        predicted=predicted.tolist(),
        probabilities=_rounded(logits.emotion.double().softmax(dim=1).numpy()),
        au_known=known.tolist(),
        au=active.astype(int).tolist(),
        au_probabilities=None if au_probabilities is None else _rounded(au_probabilities),
    )


def _recogniser(
    network: AuGatDsi, index: ClipSet, clips: ClipTensors, plan: Plan, trained: _Training
) -> dict[str, Any]:
    """Describe the trained model; its temperature comes from validation clips, never tested ones.

    Their subjects chose its epoch, too, so that it looks slightly better there than it is.
    """
    found = None
    if trained.validation is not None:
        validation = clips.subset(torch.from_numpy(trained.validation))
        logits = predict(network, validation, trained.epoch.prior_weight).emotion.numpy()
        subjects = len(np.unique(index.subject[trained.validation]))
        found = calibration(logits, validation.emotion.numpy(), subjects)
    return recogniser_facts(
        made_by="train",
        network=plan.network,
        priors=plan.shared_priors(),
        prior_weight=trained.epoch.prior_weight,
        config_hash=plan.plan_hash(),
        manifests=[
            store.manifest
            for store in index.stores
            if store.manifest.partition in index.partition[trained.rows]
        ],
        calibration=found,
    )


def _rounded(probabilities: np.ndarray) -> list[list[float]]:
    rounded: list[list[float]] = probabilities.round(_DECIMALS).tolist()
    return rounded


def _seed(plan: Plan, fold: Fold, purpose: str) -> int:
    return seed_for(plan.seed, plan.protocol, fold.name, purpose)
