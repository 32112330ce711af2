"""Fusion of the sites' models, as pure functions of packed models (design section 6).

One pass over all models in site-name order gives their weighted mean m, and one over each w_k its
g_k, which needs m and w_k only. So time is O(K P) for K sites and P parameters, and memory is m and
a few pieces, however many sites there are. What comes out is computed when it is read, and m piece
by piece just before, so that what is mixed with it is still in cache.

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
worst, where b_k = 2. It takes numbers of opposite signs and all roundings to one side; a tenth of
it, some 2e-7 W, is what random models show where b_k is nearly 2.
Numbers of opposite signs beyond half of what the type holds overflow in their difference.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from fedpsyau_model.exchange import pack_tensors, unpack_tensors
from fedpsyau_server.packed_model import PIECE, Layout, ModelInMemory, PackedModel, packed

Model = dict[str, np.ndarray]

#: Fused models that are read in turns, while what they are made of is in cache.
TOGETHER = 4

#: Models whose mean is taken in float32 before it is joined with that of the others in float64.
_AT_ONCE = 8

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
    contributions: Mapping[str, Contribution], theta: Theta
) -> dict[str, PackedModel]:
    """P-FedProx: g_k = theta w_k + (1 - theta) sum_{j != k} n_j w_j / sum_{j != k} n_j.

    contributions: K >= 1 sites with models of equal keys and shapes. theta: in [0, 1], one number
    or one per site; 1 is local training, n_k/N is FedAvg. Integer tensors are never averaged: a
    site keeps its own. Returns g_k for every site, each tensor in its own dtype; where that is w_k,
    w_k itself. Threads that read several g_k share the work for m.
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
    means = _means_of_runs(contributions, clips, np.dtype(precision))
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
) -> PackedModel:
    """The weighted mean of the sites' models; FedAvg with the default, their training clips.

    weights: >= 0 for every site, not all of them 0. Integer tensors are never averaged: they are
    left out of the result.
    """
    sites = _checked_sites(contributions)
    if weights is None:
        weights = {site: contributions[site].clips for site in sites}
    runs = _means_of_runs(contributions, weights, np.dtype(np.float32))
    means = [mean for mean in runs if mean is not None]
    with ThreadPoolExecutor(fusion_threads()) as pool:
        for mean in means:
            list(pool.map(mean.make, range(mean.pieces)))
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


class _MeanOfRun:
    """The weighted mean of a run of several models; a piece is made when it is first asked for.

    models: with weights > 0, in the order of the sites' names.
    """

    def __init__(
        self, models: Sequence[tuple[PackedModel, float]], run: int, precision: np.dtype[Any]
    ) -> None:
        self._models = models
        self._run = run
        numbers = models[0][0].layout.runs[run]
        self._mean = np.empty(numbers.count, np.promote_types(numbers.dtype, precision))
        self.pieces = -(-numbers.count // PIECE)
        self._made = [False] * self.pieces
        self._making = [threading.Lock() for _ in self._made]

    def numbers(self, start: int, stop: int) -> np.ndarray:
        """Numbers of the mean, which must not be changed."""
        for piece in range(start // PIECE, -(-stop // PIECE)):
            self.make(piece)
        return self._mean[start:stop]

    def make(self, piece: int) -> None:
        """Return when a piece is there; as long as another thread makes it, make those after it."""
        while not self._made[piece]:
            if not any(self._make_free(each) for each in range(piece, self.pieces)):
                with self._making[piece]:
                    pass  # there is nothing to do but to wait

    def _make_free(self, piece: int) -> bool:
        """Make a piece, unless it is there, or another thread makes it; whether it was made."""
        if self._made[piece] or not self._making[piece].acquire(blocking=False):
            return False
        try:
            if not self._made[piece]:
                start = piece * PIECE
                _average(self._models, self._run, start, self._mean[start : start + PIECE])
                self._made[piece] = True
        finally:
            self._making[piece].release()
        return True


def _means_of_runs(
    contributions: Mapping[str, Contribution],
    weights: Mapping[str, float],
    precision: np.dtype[Any],
) -> list[_MeanOfRun | None]:
    """The weighted mean over all sites for every run of the models' layout; None for whole numbers.

    It is taken in a precision, or in that of the models if it is finer.
    """
    models = [
        (contributions[site].model, float(weights[site]))
        for site in sorted(contributions)
        if weights[site] > 0
    ]
    return [
        _MeanOfRun(models, index, precision) if run.floating else None
        for index, run in enumerate(models[0][0].layout.runs)
    ]


@dataclass(frozen=True)
class _Personalised:
    """g_k = of_own w_k + of_mean m, made while it is read; the two weights sum to 1."""

    own: PackedModel
    means: Sequence[_MeanOfRun | None]
    of_own: float
    of_mean: float

    @property
    def layout(self) -> Layout:
        return self.own.layout

    def numbers(self, run: int, start: int, spare: np.ndarray) -> np.ndarray:
        mean = self.means[run]
        if mean is None:
            return self.own.numbers(run, start, spare)
        all_sites = mean.numbers(start, start + len(spare))
        own = self.own.numbers(run, start, spare)
        if abs(self.of_mean) <= abs(self.of_own):
            _step(own, all_sites, self.of_mean, out=spare, precision=all_sites.dtype)
        else:
            _step(all_sites, own, self.of_own, out=spare, precision=all_sites.dtype)
        return spare


@dataclass(frozen=True)
class _Mean:
    """The mean over all sites. layout: has no whole numbers."""

    layout: Layout
    means: Sequence[_MeanOfRun]

    def numbers(self, run: int, start: int, spare: np.ndarray) -> np.ndarray:
        mean = self.means[run].numbers(start, start + len(spare))
        return mean.astype(spare.dtype, copy=False)


_of_this_thread = threading.local()


class _For(IntEnum):
    """What numbers are worked on for."""

    CHANGE = 0  #: of a step
    FIRST = 1  #: model of a mean
    NEXT = 2  #: model of a mean
    SOME = 3  #: models' mean
    ALL = 4  #: models' mean


def _workspace(what: _For, dtype: np.dtype[Any], count: int) -> np.ndarray:
    """Numbers of this thread that stay in its core's cache, whatever model they are used for."""
    if not hasattr(_of_this_thread, "rows"):
        _of_this_thread.rows = np.empty((len(_For), PIECE))
    numbers: np.ndarray = _of_this_thread.rows[what].view(dtype)[:count]
    return numbers


def _step(
    x: np.ndarray, y: np.ndarray, c: float, out: np.ndarray, precision: np.dtype[Any]
) -> None:
    """Write x + c (y - x), computed in a precision, into `out`, which may be x or y."""
    change = _workspace(_For.CHANGE, precision, len(x))
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


def _average(
    models: Sequence[tuple[PackedModel, float]], run: int, start: int, mean: np.ndarray
) -> None:
    """Fill a piece of a run's mean, which begins at number `start` of the run."""
    if len(models) <= _AT_ONCE:
        _average_some(models, run, start, mean)
        return
    of_all = _workspace(_For.ALL, np.dtype(np.float64), len(mean))
    of_some = _workspace(_For.SOME, mean.dtype, len(mean))
    joined = 0.0
    for first in range(0, len(models), _AT_ONCE):
        some = models[first : first + _AT_ONCE]
        weight = sum(each for _, each in some)
        joined += weight
        _average_some(some, run, start, of_some)
        if first == 0:
            np.copyto(of_all, of_some)
        else:
            _step(of_all, of_some, weight / joined, of_all, of_all.dtype)
    np.copyto(mean, of_all, casting="same_kind")


def _average_some(
    models: Sequence[tuple[PackedModel, float]], run: int, start: int, mean: np.ndarray
) -> None:
    """The same for few models, in the precision of `mean`, model after model."""
    dtype = models[0][0].layout.runs[run].dtype
    spare = _workspace(_For.NEXT, dtype, len(mean))
    (first, joined), *others = models
    so_far = first.numbers(run, start, _workspace(_For.FIRST, dtype, len(mean)))
    if not others:
        np.copyto(mean, so_far)
    for model, weight in others:
        joined += weight
        _step(so_far, model.numbers(run, start, spare), weight / joined, mean, mean.dtype)
        so_far = mean


def _without_integers(model: PackedModel) -> Layout:
    if all(run.floating for run in model.layout.runs):
        return model.layout
    tensors = unpack_tensors(packed(model))
    floating = {n: each for n, each in tensors.items() if np.issubdtype(each.dtype, np.floating)}
    return ModelInMemory(pack_tensors(floating)).layout
