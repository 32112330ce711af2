"""What makes one synthetic subject differ from another, and one recording site from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.synthetic.label_statistics import Source
from fedpsyau_model.action_units import AUS, POINT_COUNT
from fedpsyau_model.facial_points import CROP_SIZE, EYE_LINE, MIDLINE, canonical_points

__all__ = ["SiteShift", "SubjectTraits", "draw_site_shift", "draw_subjects"]

Floats = NDArray[np.float64]

#: Spread (standard deviation) of faces, in pixels of the 128 crop: the part that bends smoothly
#: over the face, and each point on its own.
_BEND_PX: Final = 6.0
_POINT_PX: Final = 0.5

#: Nodes a side of the coarse grid that bends a face.
_BEND_NODES: Final = 4


@dataclass(frozen=True, eq=False)
class SubjectTraits:
    """S subjects, one a row.

    points: (S, 65, 2), where the facial points lie on the aligned 128 crop, pixels.
    au_gain: (S, 12), how strongly a subject shows each AU; 1 is usual.
    balance: (S, 12), asymmetry of each AU: the right side is scaled by 1 + balance, the left by
        1 - balance.
    turn: (S, 12), by how many radians each AU pulls off its usual direction.
    spread: (S,), factor on the reach of every movement.
    restlessness: (S,), factor on head motion, blinks and jaw motion.
    noise: (S,), factor on the noise of the flow.
    """

    points: Floats
    au_gain: Floats
    balance: Floats
    turn: Floats
    spread: Floats
    restlessness: Floats
    noise: Floats


def draw_subjects(count: int, generator: np.random.Generator) -> SubjectTraits:
    """Draw `count` subjects."""
    per_au = (count, len(AUS))
    return SubjectTraits(
        points=_draw_faces(count, generator),
        au_gain=generator.lognormal(0.0, 0.30, per_au),
        balance=np.clip(generator.normal(0.0, 0.20, per_au), -0.6, 0.6),
        turn=generator.normal(0.0, 0.20, per_au),
        spread=generator.lognormal(0.0, 0.12, count),
        restlessness=generator.lognormal(0.0, 0.35, count),
        noise=generator.lognormal(0.0, 0.25, count),
    )


def _draw_faces(count: int, generator: np.random.Generator) -> Floats:
    """(S, 65, 2): the canonical face, stretched from the eyes, bent, and jittered."""
    canonical = canonical_points().astype(np.float64)
    eyes = np.array([MIDLINE, EYE_LINE])
    # Alignment fixes the eyes, so a longer or broader face is a stretch away from them.
    stretch = generator.normal(1.0, [0.03, 0.06], (count, 2))
    faces = eyes + (canonical - eyes) * stretch[:, None, :]
    nodes = generator.normal(0.0, _BEND_PX, (count, _BEND_NODES, _BEND_NODES, 2))
    weights_x = _hat_weights(canonical[:, 0])
    weights_y = _hat_weights(canonical[:, 1])
    faces += np.einsum("pj,pi,sjic->spc", weights_y, weights_x, nodes)
    faces += generator.normal(0.0, _POINT_PX, (count, POINT_COUNT, 2))
    return np.asarray(np.clip(faces, 2, CROP_SIZE - 3))


def _hat_weights(positions: Floats) -> Floats:
    """(P, nodes) linear interpolation weights of the coarse grid; rows sum to 1."""
    scaled = positions * (_BEND_NODES - 1) / (CROP_SIZE - 1)
    return np.asarray(np.clip(1 - np.abs(scaled[:, None] - np.arange(_BEND_NODES)), 0, 1))


@dataclass(frozen=True)
class SiteShift:
    """What one site's camera, flow method and alignment do to every clip.

    flow_gain: recovered over true magnitude of the flow method.
    noise: factor on the noise of the flow.
    head_motion: factor on the head motion that alignment leaves over.
    offset: (x, y) pixels of the 128 crop by which the alignment is off.
    """

    flow_gain: float
    noise: float
    head_motion: float
    offset: tuple[float, float]


#: Mean of the sites of one data set; DFME is recorded at up to 500 frames a second.
_SHIFT_OF_SOURCE: Final = {
    "dfme": SiteShift(flow_gain=0.95, noise=1.0, head_motion=1.0, offset=(0.0, 0.0)),
    "casme3": SiteShift(flow_gain=0.80, noise=1.2, head_motion=1.2, offset=(1.5, -1.5)),
}


def draw_site_shift(source: Source, generator: np.random.Generator) -> SiteShift:
    """Draw one site: close to the other sites of its data set, further from the other data set."""
    usual = _SHIFT_OF_SOURCE[source]
    gain, noise, head_motion = generator.lognormal(0.0, [0.05, 0.10, 0.10])
    x, y = generator.normal(usual.offset, 0.7)
    return SiteShift(
        flow_gain=usual.flow_gain * float(gain),
        noise=usual.noise * float(noise),
        head_motion=usual.head_motion * float(head_motion),
        offset=(float(x), float(y)),
    )
