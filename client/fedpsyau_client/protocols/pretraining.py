"""Pre-training of the AU branch (LRM and AFR) on clips with AU labels (supplement 9.3).

The emotion of a clip plays no part and may be unknown. The dual-stream inception, which would
need it, is neither run nor saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedpsyau_client.protocols.clip_set import ClipSet, Indices, open_clip_set
from fedpsyau_client.protocols.fold_result import AU_THRESHOLD
from fedpsyau_client.protocols.plan import VALIDATION_SHARE
from fedpsyau_client.protocols.seeds import seed_for
from fedpsyau_client.splits import split_by_subject
from fedpsyau_model import __version__
from fedpsyau_model.action_units import AUS
from fedpsyau_model.calibration import calibrate_batch_norm
from fedpsyau_model.checkpoints import write_checkpoint
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.devices import require_device
from fedpsyau_model.errors import SettingsError
from fedpsyau_model.metrics import Counts, Scores, au_counts, au_f1
from fedpsyau_model.model_state import load_state_arrays, state_arrays
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.schedules import Epoch, epochs_alone
from fedpsyau_model.settings import FederationSettings, LossSettings
from fedpsyau_model.training import MeanLosses, predict, train

#: The part of the network that is trained, by the name of its module.
AU_PART = "au_branch."

#: Weight rho of the extrinsic prior: training starts with 1, and so it does after pre-training.
PRIOR_WEIGHT = 1.0


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What pre-training came to, on validation subjects, with the best epoch's weights.

    loss: mean over clips and AUs of the binary cross-entropy after the graph, by epoch.
    base_loss: that of always saying the AUs' shares among the training clips.
    counts: (12, 3) true positives, false positives and false negatives. f1: (12,), NaN for an AU
        that neither occurs nor is called.
    """

    training: int
    validation: int
    subjects: int
    synthetic: bool
    epoch: int
    loss: tuple[float, ...]
    base_loss: float
    counts: Counts
    f1: Scores


def pretrain(
    data: Path,
    partitions: list[str],
    out: Path,
    settings: FederationSettings,
    epochs: int,
    progress: Callable[[int, int], None] = lambda epoch, clips: None,
    device: str = "cpu",
) -> Pretrained:
    """Train the AU branch and write it as a checkpoint to `out`.

    partitions: stores below `data`; none for all. A fifth of the subjects validates; the epoch with
    their lowest AU loss is kept.
    settings: [network], [training], alpha2, alpha3 and the seed count.
    progress: called after every epoch with its number and the clips trained.
    device: where the network runs.

    Raises NoLabelledClipsError without AU labels, TooFewSubjectsError for fewer than two subjects,
    SettingsError for a network without the AU branch, and what opening a store raises.
    """
    if not settings.network.au_branch:
        raise SettingsError(
            "network.au-branch = False: a network without the AU branch has nothing to pre-train. "
            "Leave the setting out, or set it to true."
        )
    require_device(device)
    index = open_clip_set(data, partitions, "aus")
    network = build_network(
        settings.network, seed_for(settings.seed, "pretrain", "weights"), settings.shared_priors()
    )
    network.add_module("inception", _NoEmotion(network.class_count))
    network.to(device)
    training, validation = _divide(index, settings.seed)
    found = _train(network, training, validation, settings, epochs, progress)
    scored = _score(network, index, training, validation, found)
    tensors = {
        name: array for name, array in state_arrays(network).items() if name.startswith(AU_PART)
    }
    write_checkpoint(out, tensors, _provenance(index, settings, epochs, scored))
    return scored


class _NoEmotion(nn.Module):
    """Stands in for the classifier: says nothing of the emotion, and costs nothing."""

    def __init__(self, class_count: int) -> None:
        super().__init__()
        self._class_count = class_count

    def forward(self, au_features: Tensor, flow: Tensor) -> Tensor:
        """Give the same logits, (B, C), for every clip."""
        return flow.new_zeros(len(flow), self._class_count)


def _divide(index: ClipSet, seed: int) -> tuple[ClipTensors, ClipTensors]:
    generator = np.random.default_rng(seed_for(seed, "pretrain", "validation"))
    split = split_by_subject(index.subject, VALIDATION_SHARE, generator)
    clips = index.tensors()

    def part(rows: Indices) -> ClipTensors:
        return clips.subset(torch.from_numpy(rows))

    return part(split.train), part(split.test)


@dataclass
class _Course:
    """Validation loss by epoch, and the weights of the best."""

    loss: list[float]
    best: int
    weights: dict[str, np.ndarray]


def _train(
    network: AuGatDsi,
    training: ClipTensors,
    validation: ClipTensors,
    settings: FederationSettings,
    epochs: int,
    progress: Callable[[int, int], None],
) -> _Course:
    """Train by AU loss alone; the network is left with the best epoch's weights."""
    course = _Course([], 0, {})

    def after_epoch(number: int, _: MeanLosses) -> None:
        calibrate_batch_norm(network, training, PRIOR_WEIGHT)
        loss = _validation_loss(network, validation)
        if not course.loss or loss < min(course.loss):
            course.best, course.weights = number, state_arrays(network)
        course.loss.append(loss)
        progress(number, len(training))

    rates = epochs_alone(epochs, settings.training)
    train(
        network,
        training,
        [Epoch(each.learning_rate, PRIOR_WEIGHT) for each in rates],
        training=settings.training,
        # Both AU terms, as equation 8 weighs them against each other.
        loss=LossSettings.model_validate(settings.loss.as_dict() | {"class-weights": False}),
        generator=torch.Generator().manual_seed(seed_for(settings.seed, "pretrain", "training")),
        progress=after_epoch,
    )
    load_state_arrays(network, course.weights)
    return course


def _validation_loss(network: AuGatDsi, validation: ClipTensors) -> float:
    logits = predict(network, validation, PRIOR_WEIGHT).au
    assert logits is not None
    known = validation.au_known
    loss = nn.functional.binary_cross_entropy_with_logits(logits[known], validation.au[known])
    return float(loss)


def _score(
    network: AuGatDsi,
    index: ClipSet,
    training: ClipTensors,
    validation: ClipTensors,
    course: _Course,
) -> Pretrained:
    logits = predict(network, validation, PRIOR_WEIGHT).au
    assert logits is not None
    called = logits.sigmoid().numpy() >= AU_THRESHOLD
    known = validation.au_known
    counts = au_counts(validation.au.numpy(), called, known.numpy())
    # An AU that no training clip shows would otherwise cost an infinity.
    coded = training.au_known.sum(dim=0).clamp(min=1)
    active = torch.where(training.au_known, training.au, 0.0).sum(dim=0)
    shares = (active / coded).clamp(0.5 / len(training), 1 - 0.5 / len(training))
    base = nn.functional.binary_cross_entropy(
        shares.expand_as(validation.au)[known], validation.au[known]
    )
    return Pretrained(
        training=len(training),
        validation=len(validation),
        subjects=len(np.unique(index.subject)),
        synthetic=index.synthetic,
        epoch=course.best,
        loss=tuple(course.loss),
        base_loss=float(base),
        counts=counts,
        f1=au_f1(counts),
    )


def _provenance(
    index: ClipSet, settings: FederationSettings, epochs: int, scored: Pretrained
) -> dict[str, Any]:
    """What the checkpoint says of itself; no path, and nothing about a single person."""
    return {
        "kind": "au-pretraining",
        "version": __version__,
        "synthetic": index.synthetic,
        "data": [part.as_dict() for part in index.parts()],
        "seed": settings.seed,
        "epochs": epochs,
        "epoch": scored.epoch,
        "network": settings.network.as_dict(),
        "training": settings.training.as_dict(),
        "loss": {key: settings.loss.as_dict()[key] for key in ("alpha2", "alpha3")},
        "clips": {"training": scored.training, "validation": scored.validation},
        "validation-loss": scored.loss[scored.epoch - 1],
        "validation-au-counts": dict(
            zip((f"AU{au}" for au in AUS), scored.counts.tolist(), strict=True)
        ),
    }
