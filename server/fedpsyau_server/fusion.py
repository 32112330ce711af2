"""Fusion of the sites' models, as pure functions of arrays (design section 6).

Written as one leave-one-out sum, tensor by tensor in float64, over contributions in site-name
order: O(K P) time for K sites and P parameters, and the same bits whatever order replies came in
(floating-point sums depend on their order, so the order is fixed here and nowhere else).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Model = dict[str, np.ndarray]


@dataclass(frozen=True)
class Contribution:
    """What one site brings to a fusion: its trained model w_k and its training clips n_k > 0.

    fisher_trace: >= 0, of strategies that weigh by it. theta: in [0, 1], where sites choose it.
    """

    model: Mapping[str, np.ndarray]
    clips: int
    fisher_trace: float = 0.0
    theta: float = 0.0


#: A site's weight in its own fused model: a number for all sites, or one for each.
Theta = float | Mapping[str, float]


def mixing_matrix(clips: Mapping[str, int], theta: Theta) -> np.ndarray:
    """Weights of P-FedProx: row k holds what every site's model counts in g_k.

    clips: n_k of K sites. theta: own weight, in [0, 1]. Returns (K, K) float64 in site-name order;
    rows sum to 1. A lone site keeps its model whatever theta is.
    """
    sites = sorted(clips)
    counts = np.array([clips[site] for site in sites], dtype=np.float64)
    own = np.array([_own_weight(theta, site) for site in sites])
    if len(sites) == 1:
        return np.ones((1, 1))
    others = counts[None, :] * (1.0 - np.eye(len(sites)))
    others /= others.sum(axis=1, keepdims=True)
    return np.diag(own) + (1.0 - own)[:, None] * others


def fuse_personalised(contributions: Mapping[str, Contribution], theta: Theta) -> dict[str, Model]:
    """P-FedProx: g_k = theta w_k + (1 - theta) sum_{j != k} n_j w_j / sum_{j != k} n_j.

    contributions: K >= 1 sites with models of equal keys and shapes. theta: in [0, 1], one number
    or one per site; 1 is local training, n_k/N is FedAvg. Integer tensors are never averaged: a
    site keeps its own. Returns g_k for every site, each tensor in its own dtype.
    """
    sites = _checked_sites(contributions)
    clips = {site: contributions[site].clips for site in sites}
    total = sum(clips.values())
    fused: dict[str, Model] = {site: {} for site in sites}
    for name, own in contributions[sites[0]].model.items():
        if not np.issubdtype(own.dtype, np.floating):
            for site in sites:
                fused[site][name] = np.array(contributions[site].model[name])
            continue
        weighted_sum = _weighted_sum(contributions, clips, sites, name)
        for site in sites:
            trained = contributions[site].model[name].astype(np.float64)
            weight = _own_weight(theta, site)
            others_clips = total - contributions[site].clips
            if others_clips > 0 and weight < 1.0:
                others_mean = (weighted_sum - contributions[site].clips * trained) / others_clips
                trained = weight * trained + (1.0 - weight) * others_mean
            fused[site][name] = trained.astype(own.dtype)
    return fused


def fuse_mean(
    contributions: Mapping[str, Contribution], weights: Mapping[str, float] | None = None
) -> Model:
    """The weighted mean of the sites' models; FedAvg with the default, their training clips.

    weights: >= 0 for every site, not all of them 0. Integer tensors are never averaged: they are
    left out of the result.
    """
    sites = _checked_sites(contributions)
    if weights is None:
        weights = {site: contributions[site].clips for site in sites}
    total = sum(weights[site] for site in sites)
    return {
        name: (_weighted_sum(contributions, weights, sites, name) / total).astype(tensor.dtype)
        for name, tensor in contributions[sites[0]].model.items()
        if np.issubdtype(tensor.dtype, np.floating)
    }


def fisher_weights(contributions: Mapping[str, Contribution]) -> dict[str, float]:
    """FedAS: each site's share of the sum of all Fisher traces; of the clips if all are 0."""
    traces = {site: contributions[site].fisher_trace for site in sorted(contributions)}
    total = math.fsum(traces.values())
    if total == 0:
        traces = {site: float(contributions[site].clips) for site in sorted(contributions)}
        total = math.fsum(traces.values())
    return {site: trace / total for site, trace in traces.items()}


def _own_weight(theta: Theta, site: str) -> float:
    weight = theta[site] if isinstance(theta, Mapping) else theta
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"theta must lie in [0, 1], and is {weight} for {site}")
    return float(weight)


def _checked_sites(contributions: Mapping[str, Contribution]) -> list[str]:
    if not contributions:
        raise ValueError("nothing to fuse: no site has contributed")
    for site, contribution in contributions.items():
        if contribution.clips <= 0:
            raise ValueError(f"{site} contributes {contribution.clips} clips; it must be positive")
    return sorted(contributions)


def _weighted_sum(
    contributions: Mapping[str, Contribution],
    weights: Mapping[str, float],
    sites: list[str],
    name: str,
) -> np.ndarray:
    """Sum of weight_k w_k over `sites` in the order given, float64."""
    weighted_sum = np.zeros(contributions[sites[0]].model[name].shape, dtype=np.float64)
    for site in sites:
        weighted_sum += weights[site] * contributions[site].model[name].astype(np.float64)
    return weighted_sum
