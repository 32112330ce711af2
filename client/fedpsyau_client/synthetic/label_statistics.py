"""Which emotions and action units occur together: summary statistics, and a model to draw from.

The numbers, each with its source, stand in ``data/label_statistics.json``.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import EMOTIONS
from fedpsyau_priors import cooccurrence_counts

__all__ = ["AuSetModel", "Source", "au_set_model", "draw_au_sets", "emotion_shares"]

#: The two data sets whose statistics are shipped.
Source = Literal["dfme", "casme3"]

Floats = NDArray[np.float64]

#: All 2^12 sets of action units, one a row, in the order of `AUS`.
_SETS: NDArray[np.bool_] = (np.arange(2 ** len(AUS))[:, None] >> np.arange(len(AUS))) % 2 == 1

#: Added to every count: what was never counted in some hundred clips is rare, not impossible.
_SMOOTHING: Final = 0.1
_SWEEPS: Final = 40


@functools.cache
def _statistics() -> dict[str, Any]:
    file = importlib.resources.files("fedpsyau_client.synthetic") / "data/label_statistics.json"
    statistics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert tuple(statistics["au_order"]) == AUS
    return statistics


def emotion_shares(source: Source) -> Floats:
    """(7,) share of every emotion among the clips of a data set, in the order of `EMOTIONS`."""
    counts = _statistics()[source]["emotion_counts"]
    shares = np.array([counts[emotion] for emotion in EMOTIONS], dtype=np.float64)
    return np.asarray(shares / shares.sum())


@dataclass(frozen=True, eq=False)
class AuSetModel:
    """How probable each of the 4,096 AU sets is under each emotion.

    probabilities: (7, 4096), rows sum to 1; set number s holds `AUS[i]` where bit i of s is set.
    """

    probabilities: Floats

    def au_rates(self) -> Floats:
        """(7, 12) probability of each AU under each emotion."""
        return np.asarray(self.probabilities @ _SETS)


@functools.cache
def au_set_model(source: Source) -> AuSetModel:
    """Fit the least committal model that has a data set's statistics.

    It is the maximum-entropy distribution of (emotion, AU set) with the counted emotions, the
    frequency of every AU under every emotion, and the frequency of every pair of AUs over all
    clips; found by iterative proportional fitting.
    """
    shares = emotion_shares(source)
    rates, pairs = _targets(source, shares)
    joint = np.repeat(shares[:, None] / len(_SETS), len(_SETS), axis=1)
    columns = range(len(AUS))
    both = {(a, b): _SETS[:, a] & _SETS[:, b] for a in columns for b in columns if a < b}
    for _ in range(_SWEEPS):
        for (a, b), together in both.items():
            _fit(joint, together, pairs[a, b])
        joint *= np.divide(shares, joint.sum(axis=1), where=shares > 0, out=shares.copy())[:, None]
        for a in columns:
            for emotion, share in enumerate(shares):
                if share > 0:
                    _fit(joint[emotion : emotion + 1], _SETS[:, a], rates[emotion, a])
    totals = joint.sum(axis=1, keepdims=True)
    return AuSetModel(np.where(totals > 0, joint / np.where(totals > 0, totals, 1), 1 / len(_SETS)))


def _targets(source: Source, shares: Floats) -> tuple[Floats, Floats]:
    """(7, 12) AU rates by emotion and (12, 12) pair rates over all clips, made to agree."""
    statistics = _statistics()[source]
    clips = statistics["cooccurrence_clips"]
    counts = statistics.get("cooccurrence", None)
    pairs = np.asarray(cooccurrence_counts() if counts is None else counts, dtype=np.float64)
    pairs = (pairs + _SMOOTHING) / (clips + 2 * _SMOOTHING)
    rates = np.array([statistics["emotion_au"][emotion] for emotion in EMOTIONS], dtype=np.float64)
    if counts is not None:
        totals = np.array([statistics["emotion_counts"][emotion] for emotion in EMOTIONS])
        rates = (rates + _SMOOTHING) / (totals[:, None] + 2 * _SMOOTHING)
    rates = np.clip(rates * (np.diag(pairs) / (shares @ rates)), 1e-4, 0.95)
    return rates, pairs


def _fit(joint: Floats, holds: NDArray[np.bool_], target: float) -> None:
    """Scale (E, 4096) in place so that a share `target` of its mass lies where `holds`."""
    mass = joint.sum()
    inside = joint[:, holds].sum() / mass
    joint *= np.where(holds, target / inside, (1 - target) / (1 - inside))


def draw_au_sets(
    source: Source, emotions: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw an AU set for every clip.

    emotions: (N,) positions in `EMOTIONS`. Returns (N, 12), in the order of `AUS`.
    """
    cumulative = au_set_model(source).probabilities.cumsum(axis=1)
    uniform = generator.random(len(emotions))
    sets = np.empty(len(emotions), dtype=np.int64)
    for emotion in np.unique(emotions):
        chosen = emotions == emotion
        row = cumulative[emotion] / cumulative[emotion, -1]
        sets[chosen] = np.searchsorted(row, uniform[chosen], side="right")
    return np.asarray(_SETS[np.minimum(sets, len(_SETS) - 1)])
