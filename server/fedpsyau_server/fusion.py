"""Fusion of the sites' models, as pure functions of packed models (design section 6).

One pass over all models in site-name order gives their weighted mean m, and one over each w_k its
g_k, which needs m and w_k only. So time is O(K P) for K sites and P parameters, and memory is m and
a few pieces, however many sites there are. What comes out is computed when it is read.

Every number goes through the same operations in the same order, whatever order replies came in,
wherever pieces end and however many threads work: the bits are the same (floating-point sums depend
on their order, so the order is fixed here and nowhere else).

Everything is a step x + c (y - x) from one number towards another, so that equal models stay what
they are, bit for bit. Steps are taken in float32, and means of eight models are joined in float64.
All is in float64 where models are, and where m's rounding would be amplified: a site with most of
the clips counts far more in m than in its own g_k.

Rounding, for numbers of size W at most and u = 2^-24: a step adds 3 u |c| |y - x|, for difference,
factor and product, and u W for the sum. In a mean of eight these are seven steps, whose |c| count
for 1 at most in the result: it is off by 7 u W + 6 u W at most, and m, in float32, by 14 u W. With
m's weight b_k in g_k, and c_k being the smaller of b_k and 1 - b_k, g_k is off by (14 b_k + 6 |c_k|
+ 1) u W at most. That is 2e-7 W for theta = 0.9 and up to a seventh of the clips, and 2.1e-6 W at
worst, where b_k = 2. It takes numbers of opposite signs and all roundings to one side; what tests
draw stays below 2e-7 W.
Numbers of opposite signs beyond half of what the type holds overflow in their difference.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpsyau_model.exchange import pack_tensors, unpack_tensors
from fedpsyau_server.packed_model import PIECE, Layout, ModelInMemory, PackedModel, packed

Model = dict[str, np.ndarray]

#: Fused models that are read in turns, so that the mean stays in a core's cache for all of them.
TOGETHER = 4

#: Models whose mean is taken in float32 before it is joined with that of the others in float64.
_AT_ONCE = 8

#: Pieces of the mean that a thread makes from all models before it takes the next ones.
_BLOCK = 4

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
    site keeps its own. threads: for m; as many as pay by default. Returns g_k for every site,
    each tensor in its own dtype; where that is w_k, w_k itself.
    """
    sites = _checked_sites(contributions)
    clips = {site: contributions[site].clips for site in sites}
    total = sum(clips.values())
    weights = {site: _own_weight(theta, site) for site in sites}
    fused = {site: contributions[site].model for site in sites}
    mixed = [site for site in sites if weights[site] < 1.0 and total > clips[site]]
    if not mixed:
        return fused
    # What w_k counts in the mean m over all, as a part of the mean of the others in g_k.
    own_in_mean = {
        site: (1.0 - weights[site]) * clips[site] / (total - clips[site]) for site in mixed
    }
    precision = np.float64 if max(own_in_mean.values()) > 1.0 else np.float32
    means = _weighted_means(
        contributions, clips, sites, np.dtype(precision), threads or fusion_threads()
    )
    for site in mixed:
        fused[site] = _Personalised(
            fused[site],
            means,
            of_own=weights[site] - own_in_mean[site],
            of_mean=(1.0 - weights[site]) * total / (total - clips[site]),
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
    means = _weighted_means(
        contributions, weights, sites, np.dtype(np.float32), threads or fusion_threads()
    )
    return _Mean(_without_integers(contributions[sites[0]].model), means)


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


#: The mean over all sites for every run of the models' layout; None for whole numbers.
_Means = Sequence[np.ndarray | None]


@dataclass(frozen=True)
class _Personalised:
    """g_k = of_own w_k + of_mean m, made while it is read; the two weights sum to 1."""

    own: PackedModel
    means: _Means
    of_own: float
    of_mean: float

    @property
    def layout(self) -> Layout:
        return self.own.layout

    def pieces(self, run: int, start: int, stop: int) -> Iterator[np.ndarray]:
        trained = self.own.pieces(run, start, stop)
        mean = self.means[run]
        if mean is None:
            yield from trained
            return
        fused = np.empty(min(PIECE, stop - start), self.layout.runs[run].dtype)
        for begin, own in zip(range(start, stop, PIECE), trained, strict=True):
            g, all_sites = fused[: len(own)], mean[begin : begin + len(own)]
            if abs(self.of_mean) <= abs(self.of_own):
                _step(own, all_sites, self.of_mean, out=g, precision=mean.dtype)
            else:
                _step(all_sites, own, self.of_own, out=g, precision=mean.dtype)
            yield g


@dataclass(frozen=True)
class _Mean:
    """The mean over all sites. layout: has no whole numbers."""

    layout: Layout
    means: _Means

    def pieces(self, run: int, start: int, stop: int) -> Iterator[np.ndarray]:
        mean = [each for each in self.means if each is not None][run]
        for begin in range(start, stop, PIECE):
            piece = mean[begin : min(begin + PIECE, stop)]
            yield piece.astype(self.layout.runs[run].dtype, copy=False)


_of_this_thread = threading.local()


def _workspace(row: int, dtype: np.dtype[Any], count: int) -> np.ndarray:
    """Numbers of this thread that stay in its core's cache, whatever model they are used for.

    row: 0 is for `_step`, 1 for a mean of some models, from 2 on for a block of that of all.
    """
    if not hasattr(_of_this_thread, "rows"):
        _of_this_thread.rows = np.empty((2 + _BLOCK, PIECE))
    numbers: np.ndarray = _of_this_thread.rows[row:].reshape(-1).view(dtype)[:count]
    return numbers


def _step(
    x: np.ndarray, y: np.ndarray, c: float, out: np.ndarray, precision: np.dtype[Any]
) -> None:
    """Write x + c (y - x), computed in a precision, into `out`, which may be x."""
    change = _workspace(0, precision, len(x))
    np.subtract(y, x, out=change, dtype=precision)
    change *= c
    np.add(x, change, out=out, casting="same_kind")


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


def _weighted_means(
    contributions: Mapping[str, Contribution],
    weights: Mapping[str, float],
    sites: list[str],
    precision: np.dtype[Any],
    threads: int,
) -> _Means:
    """The weighted mean over `sites` in the order given, in a precision or in the models' if finer.

    Blocks are shared out among threads; every number is made by one of them.
    """
    terms = [
        (contributions[site].model, float(weights[site])) for site in sites if weights[site] > 0
    ]
    means = [
        np.empty(run.count, np.promote_types(run.dtype, precision)) if run.floating else None
        for run in terms[0][0].layout.runs
    ]
    block = _BLOCK * PIECE
    with ThreadPoolExecutor(threads) as pool:
        blocks = [
            pool.submit(_average, terms, run, mean[start : start + block], start)
            for run, mean in enumerate(means)
            if mean is not None
            for start in range(0, len(mean), block)
        ]
        for each in blocks:
            each.result()
    return means


def _average(
    terms: list[tuple[PackedModel, float]], run: int, mean: np.ndarray, start: int
) -> None:
    """Fill a block of a run's mean, which begins at number `start` of the run."""
    few = len(terms) <= _AT_ONCE
    of_all = mean if few else _workspace(2, np.dtype(np.float64), len(mean))
    weight = 0.0
    for first in range(0, len(terms), _AT_ONCE):
        some = terms[first : first + _AT_ONCE]
        of_some = sum(each for _, each in some)
        weight += of_some
        begin = 0
        for piece in _mean_of_some(some, run, start, start + len(mean), mean.dtype):
            joined = of_all[begin : begin + len(piece)]
            if first == 0:
                np.copyto(joined, piece)
            else:
                _step(joined, piece, of_some / weight, joined, of_all.dtype)
            begin += len(piece)
    if not few:
        np.copyto(mean, of_all, casting="same_kind")


def _mean_of_some(
    terms: Sequence[tuple[PackedModel, float]],
    run: int,
    start: int,
    stop: int,
    precision: np.dtype[Any],
) -> Iterator[np.ndarray]:
    """Pieces of the mean of some models, computed in a precision, model after model."""
    models = [model.pieces(run, start, stop) for model, _ in terms]
    weights = [weight for _, weight in terms]
    shares = [weight / sum(weights[: count + 1]) for count, weight in enumerate(weights)]
    for begin in range(start, stop, PIECE):
        mean = _workspace(1, precision, min(PIECE, stop - begin))
        np.copyto(mean, next(models[0]))
        for model, share in zip(models[1:], shares[1:], strict=True):
            _step(mean, next(model), share, mean, precision)
        yield mean


def _without_integers(model: PackedModel) -> Layout:
    if all(run.floating for run in model.layout.runs):
        return model.layout
    tensors = unpack_tensors(packed(model))
    floating = {n: each for n, each in tensors.items() if np.issubdtype(each.dtype, np.floating)}
    return ModelInMemory(pack_tensors(floating)).layout
