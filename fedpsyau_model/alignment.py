"""What FedAS needs of a network: class prototypes, alignment to them, and Fisher information.

Yang, Huang, Ye: FedAS: Bridging Inconsistency in Personalized Federated Learning, CVPR 2024.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.errors import TrainingDivergedError
from fedpsyau_model.loss import LossTerms
from fedpsyau_model.network import AuGatDsi
from fedpsyau_model.training import Objective, batches

__all__ = ["align_to", "class_prototypes", "fisher_trace"]

#: Clips that go through the network at once, to bound memory.
_BATCH = 256


@torch.no_grad()
def class_prototypes(model: AuGatDsi, clips: ClipTensors, prior_weight: float) -> Tensor:
    """Mean features of every class over `clips`, in eval mode: (C, F).

    Rows of classes without clips are 0. The model's own mode is restored.
    """
    was_training = model.training
    model.eval()
    try:
        features = torch.cat(
            [
                model.features(batch.flow, batch.rois, prior_weight)
                for batch in map(clips.subset, torch.split(torch.arange(len(clips)), _BATCH))
            ]
        )
    finally:
        model.train(was_training)
    return class_means(features, clips.emotion, model.class_count)


def class_means(features: Tensor, emotion: Tensor, class_count: int) -> Tensor:
    """Mean of the rows of each class; features (N, F), emotion (N,) int64. Returns (C, F)."""
    members = F.one_hot(emotion, class_count).to(features)
    return (members.T @ features) / members.sum(dim=0).clamp(min=1).unsqueeze(1)


def align_to(prototypes: Tensor) -> Objective:
    """Make the objective of the alignment: mean squared distance of clips to their prototypes.

    prototypes: (C, F). The mean is over the clips of a batch and the F features.
    """

    def objective(model: AuGatDsi, batch: ClipTensors, prior_weight: float) -> LossTerms:
        features = model.features(batch.flow, batch.rois, prior_weight)
        distance = F.mse_loss(features, prototypes[batch.emotion])
        nothing = torch.zeros_like(distance)
        return LossTerms(distance, nothing, nothing, nothing)

    return objective


def fisher_trace(
    model: AuGatDsi, clips: ClipTensors, prior_weight: float, batch_size: int
) -> float:
    """Trace of the empirical Fisher information of the emotion's likelihood, >= 0.

    That is the mean over clips of the squared norm of the gradient of log p(emotion | clip) with
    respect to all trainable parameters. It is estimated from batches, in the order of the clips:
    of b clips, whose gradients have mean zero at an optimum, b ||mean gradient||^2 estimates the
    same number at a b-th of the cost; batches count by their clips. In eval mode; the model's own
    mode is restored, and gradients that its parameters hold are left alone.

    Raises TrainingDivergedError if it is not finite.
    """
    was_training = model.training
    model.eval()
    parameters = [value for value in model.parameters() if value.requires_grad]
    total = 0.0
    try:
        for indices in batches(torch.arange(len(clips)), batch_size):
            batch = clips.subset(indices)
            logits = model(batch.flow, batch.rois, prior_weight).emotion
            likelihood = F.cross_entropy(logits, batch.emotion)
            gradients = torch.autograd.grad(likelihood, parameters, allow_unused=True)
            norm = sum(float(each.square().sum()) for each in gradients if each is not None)
            total += len(batch) * (len(batch) * norm)
    finally:
        model.train(was_training)
    if not math.isfinite(total):
        raise TrainingDivergedError(
            f"The Fisher information of the trained model is {total}: its weights have grown out "
            "of bounds. Lower training.learning-rate."
        )
    return total / len(clips)
