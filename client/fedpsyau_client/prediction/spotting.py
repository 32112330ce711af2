"""Where a micro-expression is in a curve of movement: apex, onset, or nothing.

A curve holds how much the face has moved against one reference frame. A micro-expression that
begins after the reference makes it rise and fall again within half a second. The rule:

1. The curve is smoothed with a Gaussian of 10 ms (0.6 frames at least).
2. Every frame has a height: how far the curve rises to it from the lowest frame before it, and how
   far it falls from it to the lowest frame after it, whichever is less. The apex is the frame of
   the greatest height, the first of equals.
3. It counts if its height is at least `LEAST_HEIGHT`, and `NOISE_FACTOR` times the noise, which is
   told by the quietest quarter of the curve's second differences.
4. The onset is the last frame before the apex at which no more than a tenth of the height shows.

A clip that was cut to one expression may end at its apex; `falls` then is false and the fall is not
asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEAST_HEIGHT",
    "LONGEST_SECONDS",
    "NOISE_FACTOR",
    "Peak",
    "find_peak",
    "noise_of",
    "rise_to_last",
    "smoothed",
]

#: A micro-expression lasts no longer, in seconds, from onset to offset.
LONGEST_SECONDS: Final = 0.5

#: Least height of an apex, in pixels of the 128 crop. Lossy compression renews the picture every
#: dozen frames or so, and a still face then seems to move by nearly as much.
LEAST_HEIGHT: Final = 0.1

#: Least height of an apex, in standard deviations of the curve's noise.
NOISE_FACTOR: Final = 6.0

_SMOOTHING_SECONDS: Final = 0.01
_LEAST_SMOOTHING: Final = 0.6

#: Where the Gaussian is cut off, in its standard deviations.
_SMOOTHING_REACH: Final = 4

#: Share of the height that shows at the onset.
_ONSET_SHARE: Final = 0.1

#: Noise is told by the lower quartile of second differences, not by their median: in a short curve
#: most of them belong to the expression itself. The quartile of |x| for a standard normal x.
_QUARTILE: Final = 0.31864

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Peak:
    """What was found in a curve.

    onset, apex: positions in the curve. height, threshold: in pixels, height >= threshold.
    """

    onset: int
    apex: int
    height: float
    threshold: float


def smoothed(movement: Curve, fps: float) -> Curve:
    """Smooth a curve (N,), N >= 2, of `fps` frames a second; its ends are continued evenly.

    The first value, of the reference against itself, says nothing of the noise that all others
    have, so the lowest of them stands in for it.
    """
    filled = np.concatenate([[movement[1:].min()], movement[1:]])
    sigma = max(_SMOOTHING_SECONDS * fps, _LEAST_SMOOTHING)
    reach = int(np.ceil(_SMOOTHING_REACH * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(filled, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def noise_of(movement: Curve) -> float:
    """Standard deviation of a curve's noise, from its second differences; 0 if it has too few."""
    second = np.diff(movement[1:], 2)
    if not len(second):
        return 0.0
    return float(np.quantile(np.abs(second), 0.25) / (_QUARTILE * np.sqrt(6)))


def find_peak(movement: Curve, fps: float, falls: bool = True) -> Peak | None:
    """Find the micro-expression in a curve (N,), N >= 2, whose first frame is the reference.

    falls: whether the movement must fall again before the curve ends. None if nothing stands out.
    """
    curve = smoothed(movement, fps)
    height = curve - np.minimum.accumulate(curve)
    if falls:
        height = np.minimum(height, curve - np.minimum.accumulate(curve[::-1])[::-1])
    return _peak(movement, curve, int(np.argmax(height)), float(height.max()), fps)


def rise_to_last(movement: Curve, fps: float) -> Peak | None:
    """As `find_peak`, where the last frame is known to be the apex."""
    curve = smoothed(movement, fps)
    return _peak(movement, curve, len(curve) - 1, float(curve[-1] - curve.min()), fps)


def _peak(movement: Curve, curve: Curve, apex: int, height: float, fps: float) -> Peak | None:
    threshold = max(LEAST_HEIGHT, NOISE_FACTOR * noise_of(movement))
    if apex == 0 or height < threshold:
        return None
    before = curve[:apex]
    onset = int(np.flatnonzero(before <= before.min() + _ONSET_SHARE * height)[-1])
    longest = max(round(LONGEST_SECONDS * fps), 1)
    return Peak(max(onset, apex - longest), apex, height, threshold)
