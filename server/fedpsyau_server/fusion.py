"""Fusion of the sites' models, as pure functions of packed models (design section 6).

Written as one leave-one-out sum over contributions in site-name order: one pass over all models for
the sum S of n_j w_j, in float64, and one over each w_k for its g_k, which needs S and w_k only. So
time is O(K P) for K sites and P parameters, and memory is S and a few pieces, however many sites
there are. What comes out is computed when it is read.

Every number goes through the same operations in the same order, whatever order replies came in,
wherever pieces end and however many threads work: the bits are the same (floating-point sums depend
on their order, so the order is fixed here and nowhere else).
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fedpsyau_model.exchange import pack_tensors, unpack_tensors
from fedpsyau_server.packed_model import PIECE, Layout, ModelInMemory, PackedModel, packed

Model = dict[str, np.ndarray]

#: Models that go through a piece of the sum in one go, so that it is fetched once for all of them.
TOGETHER = 4

#: More threads than these are not used: memory, or the disk, is busy by then.
_MOST_THREADS = 4


@dataclass(frozen=True)
class Contribution:
    """What one site brings to a fusion: its trained model w_k and its training clips n_k > 0.

    fisher_trace: >= 0, of strategies that weigh by it. theta: in [0, 1], where sites choose it.
    """

    model: PackedModel
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


def fuse_personalised(
    contributions: Mapping[str, Contribution], theta: Theta, threads: int | None = None
) -> dict[str, PackedModel]:
    """P-FedProx: g_k = theta w_k + (1 - theta) sum_{j != k} n_j w_j / sum_{j != k} n_j.

    contributions: K >= 1 sites with models of equal keys and shapes. theta: in [0, 1], one number
    or one per site; 1 is local training, n_k/N is FedAvg. Integer tensors are never averaged: a
    site keeps its own. threads: for the sum; as many as pay by default. Returns g_k for every site,
    each tensor in its own dtype; where that is w_k, w_k itself.
    """
    sites = _checked_sites(contributions)
    weights = {site: _own_weight(theta, site) for site in sites}
    clips = {site: contributions[site].clips for site in sites}
    total = sum(clips.values())
    fused = {site: contributions[site].model for site in sites}
    mixed = [site for site in sites if weights[site] < 1.0 and total > clips[site]]
    if mixed:
        weighted_sum = _weighted_sum(contributions, clips, sites, threads or fusion_threads())
        for site in mixed:
            fused[site] = _Personalised(
                fused[site], weighted_sum, clips[site], total - clips[site], weights[site]
            )
    return fused


def fuse_mean(
    contributions: Mapping[str, Contribution],
    weights: Mapping[str, float] | None = None,
    threads: int | None = None,
) -> PackedModel:
    """The weighted mean of the sites' models; FedAvg with the default, their training clips.

    weights: >= 0 for every site, not all of them 0. Integer tensors are never averaged: they are
    left out of the result.
    """
    sites = _checked_sites(contributions)
    if weights is None:
        weights = {site: contributions[site].clips for site in sites}
    weighted_sum = _weighted_sum(contributions, weights, sites, threads or fusion_threads())
    layout = _without_integers(contributions[sites[0]].model)
    return _Mean(layout, weighted_sum, sum(weights[site] for site in sites))


def fisher_weights(contributions: Mapping[str, Contribution]) -> dict[str, float]:
    """FedAS: each site's share of the sum of all Fisher traces; of the clips if all are 0."""
    traces = {site: contributions[site].fisher_trace for site in sorted(contributions)}
    total = math.fsum(traces.values())
    if total == 0:
        traces = {site: float(contributions[site].clips) for site in sorted(contributions)}
        total = math.fsum(traces.values())
    return {site: trace / total for site, trace in traces.items()}


def fusion_threads() -> int:
    """How many threads pay on this machine."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


#: Sum of weight_k w_k, float64, for every run of the models' layout; None for whole numbers.
_Sums = Sequence[np.ndarray | None]


@dataclass(frozen=True)
class _Personalised:
    """g_k, made from w_k and the sum over all sites while it is read."""

    own: PackedModel
    sums: _Sums
    clips: int
    others_clips: int
    theta: float

    @property
    def layout(self) -> Layout:
        return self.own.layout

    def pieces(self, run: int, start: int, stop: int) -> Iterator[np.ndarray]:
        trained = self.own.pieces(run, start, stop)
        weighted_sum = self.sums[run]
        if weighted_sum is None:
            yield from trained
            return
        fused = np.empty(min(PIECE, stop - start), self.layout.runs[run].dtype)
        for begin, piece in zip(range(start, stop, PIECE), trained, strict=True):
            count = len(piece)
            x, y = _workspace()[:, :count]
            g = fused[:count]
            np.copyto(x, piece)
            np.multiply(x, float(self.clips), out=y)
            np.subtract(weighted_sum[begin : begin + count], y, out=y)
            y /= self.others_clips
            y *= 1.0 - self.theta
            x *= self.theta
            x += y
            np.copyto(g, x, casting="same_kind")
            yield g


@dataclass(frozen=True)
class _Mean:
    """The mean, made from the sum over all sites while it is read. layout: has no whole numbers."""

    layout: Layout
    sums: _Sums
    total: float

    def pieces(self, run: int, start: int, stop: int) -> Iterator[np.ndarray]:
        weighted_sum = [each for each in self.sums if each is not None][run]
        for begin in range(start, stop, PIECE):
            mean = weighted_sum[begin : min(begin + PIECE, stop)] / self.total
            yield mean.astype(self.layout.runs[run].dtype)


_of_this_thread = threading.local()


def _workspace() -> np.ndarray:
    """Two pieces of float64 that nobody counts on once a piece is yielded.

    All models that a thread fuses use the same two: they stay in the core's cache.
    """
    if not hasattr(_of_this_thread, "pieces"):
        _of_this_thread.pieces = np.empty((2, PIECE))
    pieces: np.ndarray = _of_this_thread.pieces
    return pieces


def _own_weight(theta: Theta, site: str) -> float:
    weight = theta[site] if isinstance(theta, Mapping) else theta
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"theta must lie in [0, 1], and is {weight} for {site}")
    return float(weight)


def _checked_sites(contributions: Mapping[str, Contribution]) -> list[str]:
    if not contributions:
        raise ValueError("nothing to fuse: no site has contributed")
    sites = sorted(contributions)
    for site in sites:
        contribution = contributions[site]
        if contribution.clips <= 0:
            raise ValueError(f"{site} contributes {contribution.clips} clips; it must be positive")
        if contribution.model.layout != contributions[sites[0]].model.layout:
            raise ValueError(f"the model of {site} has other tensors than that of {sites[0]}")
    return sites


def _weighted_sum(
    contributions: Mapping[str, Contribution],
    weights: Mapping[str, float],
    sites: list[str],
    threads: int,
) -> _Sums:
    """Sum of weight_k w_k over `sites` in the order given. Each thread has numbers of its own."""
    terms = [(contributions[site].model, float(weights[site])) for site in sites]
    runs = terms[0][0].layout.runs
    sums = [np.zeros(run.count) if run.floating else None for run in runs]
    with ThreadPoolExecutor(threads) as pool:
        shares = [
            pool.submit(_add_up, terms, index, each, start, min(start + share, len(each)))
            for index, each in enumerate(sums)
            if each is not None
            for share in [max(PIECE, -(-len(each) // threads))]
            for start in range(0, len(each), share)
        ]
        for share in shares:
            share.result()
    return sums


def _add_up(
    terms: list[tuple[PackedModel, float]], run: int, total: np.ndarray, start: int, stop: int
) -> None:
    """Add weight_k w_k to numbers `start` to `stop` of a run's total."""
    product = np.empty(min(PIECE, stop - start))
    for first in range(0, len(terms), TOGETHER):
        together = terms[first : first + TOGETHER]
        models = [(model.pieces(run, start, stop), weight) for model, weight in together]
        for begin in range(start, stop, PIECE):
            sums = total[begin : min(begin + PIECE, stop)]
            for pieces, weight in models:
                term = product[: len(sums)]
                np.copyto(term, next(pieces))
                term *= weight
                sums += term


def _without_integers(model: PackedModel) -> Layout:
    if all(run.floating for run in model.layout.runs):
        return model.layout
    tensors = unpack_tensors(packed(model))
    floating = {n: each for n, each in tensors.items() if np.issubdtype(each.dtype, np.floating)}
    return ModelInMemory(pack_tensors(floating)).layout
