"""When a clip's movement rises, peaks and falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClipTiming", "draw_timing", "with_rest"]

#: Share of the movement that is left at the offset.
_LEFT_OVER: Final = (0.05, 0.35)


@dataclass(frozen=True, eq=False)
class ClipTiming:
    """The course of a clip of F frames; the first is the onset, the last the offset.

    apex: index of the apex.
    strength: (F,) share of the peak that shows: 0 at the onset, 1 at the apex, less elsewhere.
    drift: (F,) share of the head's motion that has happened: 0 at the onset, 1 at the apex, and
        it goes on afterwards.
    """

    apex: int
    strength: NDArray[np.float64]
    drift: NDArray[np.float64]


def draw_timing(frames: int, generator: np.random.Generator) -> ClipTiming:
    """Draw a course of `frames` frames, at least 2: an apex around the middle, smooth flanks."""
    left_over = generator.uniform(*_LEFT_OVER)
    middle = generator.uniform(0.45, 0.7)
    apex = min(max(round(middle * (frames - 1)), 1), max(frames - 2, 1))
    frame = np.arange(frames)
    rise = np.clip(frame / apex, 0, 1)
    fall = np.clip((frame - apex) / max(frames - 1 - apex, 1), 0, 1)
    strength = _smooth_step(rise) * (1 - (1 - left_over) * _smooth_step(fall))
    return ClipTiming(apex, strength, frame / apex)


def with_rest(timing: ClipTiming, before: int, after: int) -> ClipTiming:
    """Let the face rest for `before` frames, and come back to rest within `after` frames.

    The head's motion begins with the movement and goes on at its pace to the end.
    """
    fading = timing.strength[-1] * (1 - np.arange(1, after + 1) / max(after, 1))
    pace = np.arange(1, after + 1) / timing.apex
    return ClipTiming(
        before + timing.apex,
        np.concatenate([np.zeros(before), timing.strength, fading]),
        np.concatenate([np.zeros(before), timing.drift, timing.drift[-1] + pace]),
    )


def _smooth_step(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * share))
