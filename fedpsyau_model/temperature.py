"""Temperature scaling: one number that makes a network's probabilities as sure as it is right.

Logits are divided by a temperature T before the softmax. The order of the classes stays, and so do
the answer and every score that is counted from answers (Guo, Pleiss, Sun, Weinberger, ICML 2017).
T is the one with the least negative log-likelihood on clips that the network was not trained on.
With b = 1 / T that is a convex function, whose slope is

    mean over clips of  sum_c p_c(b) z_c  -  z_truth,

so the minimum is where the slope changes its sign, found by bisection.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CALIBRATION_BINS",
    "TEMPERATURES",
    "class_probabilities",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
]

#: Temperatures that are looked at. A network that errs on no clip would have T -> 0 and one that
#: knows nothing T -> infinity, and a few clips can show either by chance.
TEMPERATURES: Final = (0.25, 20.0)

#: Bins of confidence, equally wide.
CALIBRATION_BINS: Final = 15

#: Halvings of the interval of 1 / T; beyond, float64 has no more digits.
_HALVINGS: Final = 60

Floats = NDArray[np.floating]
Classes = NDArray[np.integer]


def class_probabilities(logits: Floats, temperature: float) -> NDArray[np.float64]:
    """Softmax of logits (N, C) / temperature: (N, C), rows sum to 1."""
    return np.asarray(np.exp(_log_softmax(np.asarray(logits, dtype=np.float64) / temperature)))


def negative_log_likelihood(logits: Floats, truth: Classes, temperature: float) -> float:
    """Mean over clips of -log of the probability of the true class, >= 0.

    logits: (N, C), truth: (N,) class indices, N >= 1.
    """
    logs = _log_softmax(np.asarray(logits, dtype=np.float64) / temperature)
    return float(-logs[np.arange(len(truth)), truth].mean())


def fit_temperature(logits: Floats, truth: Classes) -> float:
    """Temperature with the least negative log-likelihood, within `TEMPERATURES`.

    logits: (N, C), truth: (N,) class indices; ValueError unless N >= 1 and all are finite.
    """
    z = np.asarray(logits, dtype=np.float64)
    if not len(truth) or not np.isfinite(z).all():
        raise ValueError(f"a temperature needs finite logits of at least one clip, not {z.shape}")
    of_truth = z[np.arange(len(truth)), truth]
    # b from the highest temperature to the lowest; the slope rises with b.
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if _slope(z, of_truth, low) >= 0:
        return TEMPERATURES[1]
    if _slope(z, of_truth, high) <= 0:
        return TEMPERATURES[0]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _slope(z, of_truth, middle) < 0:
            low = middle
        else:
            high = middle
    return float(2 / (low + high))


def expected_calibration_error(probabilities: Floats, truth: Classes) -> float:
    """How far confidence is from accuracy, in [0, 1]; 0 is perfect.

    probabilities: (N, C), truth: (N,), N >= 1. Clips are put into `CALIBRATION_BINS` bins by the
    probability of the class that is answered; the gap between mean probability and share of right
    answers is averaged over the bins, weighted by their clips.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    # Bins are open below and closed above, as a probability is never 0.
    number = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, None)
    gap = np.bincount(number, confidence - right, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(truth))


def _slope(logits: Floats, of_truth: Floats, inverse: float) -> float:
    expected = (np.exp(_log_softmax(inverse * logits)) * logits).sum(axis=1)
    return float((expected - of_truth).mean())


def _log_softmax(logits: Floats) -> NDArray[np.float64]:
    lowered = logits - logits.max(axis=1, keepdims=True)  # so that exp cannot overflow
    return np.asarray(lowered - np.log(np.exp(lowered).sum(axis=1, keepdims=True)))
