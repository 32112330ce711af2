"""From labels to motion: how strongly each clip moves, and what disturbs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.synthetic.action_unit_fields import (
    DISTURBANCES,
    affine_field,
    anchored_field,
    smooth_field,
)
from fedpsyau_client.synthetic.face_identity import SiteShift, SubjectTraits
from fedpsyau_client.synthetic.partition_labels import PartitionLabels
from fedpsyau_model.action_units import AUS, POINT_COUNT
from fedpsyau_model.emotions import EMOTIONS
from fedpsyau_model.facial_points import CROP_SIZE
from fedpsyau_model.motion import motion_features

__all__ = ["ClipDraws", "Difficulty", "draw_clips", "draw_features"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Difficulty:
    """How hard the twin is; lengths in pixels of the 128 crop.

    Tuned with benchmarks/twin_learnability.py. What keeps a linear classifier on the global flow
    below the network is above all geometry: movements are local, and faces of many shapes lie at
    different places of the crop, so that no pixel means the same in two clips. Convolutions and
    patches at facial points bear that; noise would hurt both alike.

    intensity, intensity_spread: median and log-spread of a clip's peak displacement.
    unit_spread: log-spread of the AUs of one clip among themselves.
    saturation: largest displacement that a movement approaches.
    trace: strength, as a share of the clip's intensity, with which a face also shows the AUs that
        are typical of its emotion without any coder seeing them.
    head_shift, head_gradient: spread of the head motion that alignment leaves, in pixels and in
        pixels per pixel.
    blink_rate, blink: share of clips with a lid movement between onset and apex, up or down, and
        its size. jaw: spread of the jaw's movement.
    smooth_noise, pixel_noise: error of the flow, correlated over some pixels, and not.
    misalignment: error of a clip's alignment; the face and its points are off together.
    landmark_noise: error of the facial points at which patches are taken.
    """

    intensity: float = 1.5
    intensity_spread: float = 0.40
    unit_spread: float = 0.25
    saturation: float = 2.5
    trace: float = 0.7
    head_shift: float = 0.3
    head_gradient: float = 0.004
    blink_rate: float = 0.35
    blink: float = 1.5
    jaw: float = 0.35
    smooth_noise: float = 0.08
    pixel_noise: float = 0.03
    misalignment: float = 8.0
    landmark_noise: float = 0.5


#: AUs typical of each emotion in FACS's tables of prototypes, as far as they are among the twelve.
_PROTOTYPES: Final = {
    "happiness": (6, 12),
    "surprise": (1, 2, 5),
    "disgust": (4, 9, 10),
    "sadness": (1, 4, 15, 17),
    "anger": (4, 5, 7),
    "fear": (1, 2, 4, 5),
    "contempt": (12, 14),
}

#: Nodes a side of the grids on which smooth noise is drawn.
_NOISE_NODES: Final = 14

#: Clips whose fields are made together; bounds memory, changes no bit of the result.
CLIPS_PER_CHUNK: Final = 32


@dataclass(frozen=True, eq=False)
class ClipDraws:
    """What is drawn for each of N clips before any field is made; all but points are float32."""

    strength: Array  # (N, 14, 2)
    turn: Array  # (N, 14)
    spread: Array  # (N,)
    points: Array  # (N, 65, 2), where the face's points are
    seen_points: Array  # (N, 65, 2), where a detector finds them
    translation: Array  # (N, 2)
    gradient: Array  # (N, 2, 2)
    noise: Array  # (N,)

    def part(self, rows: slice) -> ClipDraws:
        """Give the draws of some clips."""
        return ClipDraws(*(getattr(self, field.name)[rows] for field in fields(self)))


def draw_features(
    labels: PartitionLabels,
    subjects: SubjectTraits,
    site: SiteShift,
    seeds: Sequence[np.random.SeedSequence],
    difficulty: Difficulty,
    chunk: int = CLIPS_PER_CHUNK,
) -> Iterator[tuple[Array, Array]]:
    """Make the features of a partition, `chunk` clips at a time, in order.

    seeds: three, for the clips' own numbers, the smooth and the pixel noise.
    Yields (flow, rois) as `motion_features` gives them; the bits don't depend on `chunk`.
    """
    clip_generator, smooth, pixel = (np.random.default_rng(seed) for seed in seeds)
    draws = draw_clips(labels, subjects, site, difficulty, clip_generator)
    for start in range(0, len(labels), chunk):
        part = draws.part(slice(start, min(start + chunk, len(labels))))
        yield motion_features(_fields(part, site, difficulty, smooth, pixel), part.seen_points)


def _fields(
    draws: ClipDraws,
    site: SiteShift,
    difficulty: Difficulty,
    smooth: np.random.Generator,
    pixel: np.random.Generator,
) -> Array:
    """(N, 2, 128, 128) flow as the site's camera and flow method see it."""
    count = len(draws.spread)
    flow = anchored_field(draws.strength, draws.turn, draws.spread, draws.points)
    flow += affine_field(draws.translation, draws.gradient)
    flow *= np.float32(site.flow_gain)
    noise = smooth_field(
        np.float32(difficulty.smooth_noise)
        * smooth.standard_normal((count, 2, _NOISE_NODES, _NOISE_NODES), dtype=np.float32)
    )
    noise += np.float32(difficulty.pixel_noise) * pixel.standard_normal(
        (count, 2, CROP_SIZE, CROP_SIZE), dtype=np.float32
    )
    flow += draws.noise[:, None, None, None] * noise
    return flow


def draw_clips(
    labels: PartitionLabels,
    subjects: SubjectTraits,
    site: SiteShift,
    difficulty: Difficulty,
    generator: np.random.Generator,
) -> ClipDraws:
    """Draw how every clip of a partition moves."""
    count, who = len(labels), labels.subject
    restless = subjects.restlessness[who] * site.head_motion
    off = generator.normal(site.offset, difficulty.misalignment, (count, 2))
    points = subjects.points[who] + off[:, None, :]
    jitter = generator.normal(0.0, difficulty.landmark_noise, (count, POINT_COUNT, 2))
    strength = np.concatenate(
        [
            _au_strength(labels, subjects, difficulty, generator),
            _disturbances(subjects.restlessness[who], difficulty, generator),
        ],
        axis=1,
    )
    no_turn = np.zeros((count, len(DISTURBANCES)))
    return ClipDraws(
        **_as_float32(
            strength=strength,
            turn=np.concatenate([subjects.turn[who], no_turn], axis=1),
            spread=subjects.spread[who],
            points=points,
            seen_points=points + jitter,
            translation=restless[:, None]
            * generator.normal(0.0, difficulty.head_shift, (count, 2)),
            gradient=restless[:, None, None]
            * generator.normal(0.0, difficulty.head_gradient, (count, 2, 2)),
            noise=subjects.noise[who] * site.noise,
        )
    )


def _as_float32(**arrays: NDArray[Any]) -> dict[str, Array]:
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _au_strength(
    labels: PartitionLabels,
    subjects: SubjectTraits,
    difficulty: Difficulty,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """(N, 12, 2) peak displacement of every AU on both sides, in pixels."""
    count, who = len(labels), labels.subject
    clip = difficulty.intensity * generator.lognormal(0.0, difficulty.intensity_spread, count)
    unit = generator.lognormal(0.0, difficulty.unit_spread, (count, len(AUS)))
    trace = generator.uniform(0.0, 2 * difficulty.trace, (count, len(AUS)))
    typical = np.zeros((len(EMOTIONS), len(AUS)))
    for emotion, units in _PROTOTYPES.items():
        typical[EMOTIONS.index(emotion), [AUS.index(au) for au in units]] = 1
    trace = trace * typical[labels.emotion]
    shown = np.maximum(labels.shown, trace[..., None]) * clip[:, None, None] * unit[..., None]
    sides = np.stack([1 + subjects.balance[who], 1 - subjects.balance[who]], axis=-1)
    wanted = shown * subjects.au_gain[who][..., None] * sides
    return np.asarray(difficulty.saturation * np.tanh(wanted / difficulty.saturation))


def _disturbances(
    restlessness: NDArray[np.float64], difficulty: Difficulty, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(N, 2, 2) strength of blink and jaw on both sides, in pixels; down is positive."""
    count = len(restlessness)
    lids = generator.random(count) < difficulty.blink_rate * restlessness
    blink = lids * difficulty.blink * generator.normal(0.0, 1.0, count)
    jaw = restlessness * difficulty.jaw * generator.normal(0.0, 1.0, count)
    return np.repeat(np.stack([blink, jaw], axis=1)[..., None], 2, axis=-1)
