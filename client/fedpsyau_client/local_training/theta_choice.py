"""How a site chooses its own theta: the mixture that serves best on clips set aside for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.exchange import Tensors
from fedpsyau_model.loss import inverse_frequency_weights
from fedpsyau_model.network import AuGatDsi
from fedpsyau_model.training import predict

__all__ = ["best_theta", "mean_cross_entropy", "mixture", "theta_candidates"]


def theta_candidates(grid: Sequence[float], clips: int, all_clips: int) -> tuple[float, ...]:
    """Weights to choose among, ascending: the grid, and clips / all_clips, which is FedAvg's.

    all_clips: of all sites, this one included; 0 where it is not known.
    """
    fedavg = {clips / all_clips} if 0 < clips <= all_clips else set()
    return tuple(sorted({*grid, *fedavg}))


def mixture(own: Tensors, others: Tensors, theta: float) -> Tensors:
    """Tensors theta own + (1 - theta) others, computed in float64; `own` itself where theta is 1.

    own: may hold more tensors than `others`; those stay as they are.
    """
    return own | {
        name: (theta * own[name].astype(np.float64) + (1 - theta) * mean.astype(np.float64)).astype(
            mean.dtype
        )
        for name, mean in others.items()
    }


def best_theta(candidates: Sequence[float], cost: Callable[[float], float]) -> float:
    """The candidate of the lowest cost; of equals the largest, which is the most personal.

    A cost that is not a number is the highest.
    """
    costs = {theta: cost(theta) for theta in candidates}
    return min(costs, key=lambda theta: (math.isnan(costs[theta]), costs[theta], -theta))


def mean_cross_entropy(
    network: AuGatDsi,
    clips: ClipTensors,
    training: ClipTensors,
    prior_weight: float,
    class_weights: bool,
) -> float:
    """Mean cross-entropy of the emotion over `clips`, the network being in eval mode.

    class_weights: weight classes by their inverse frequency among the `training` clips, as the
        loss does. UF1 would be what counts in the end, but over a few clips it moves in leaps.
    """
    logits = predict(network, clips, prior_weight).emotion
    weights = None
    if class_weights:
        weights = inverse_frequency_weights(training.emotion, network.class_count).cpu()
    with torch.inference_mode():
        each = F.cross_entropy(logits, clips.emotion.cpu(), weight=weights, reduction="none")
    return float(each.mean())
