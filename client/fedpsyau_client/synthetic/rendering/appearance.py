"""What skin, light and camera make of a face: colours, grain, shading, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.synthetic.face_identity import SiteShift

__all__ = ["Camera", "Look", "draw_camera", "draw_look", "draw_shading", "photographed", "skin"]

Array = NDArray[np.float32]

#: Grain of the skin: size of a grain in pixels of the enlarged photograph (2.1 of them are one
#: pixel of a frame).
_GRAIN_PX: Final = 5

#: Nodes a side of the grid that shades a face.
_SHADING_NODES: Final = 3


@dataclass(frozen=True)
class Look:
    """How one subject's skin looks.

    mirrored: the photograph is turned round. gamma, tint: tone, (blue, green, red) factors.
    colour: saturation, 1 as photographed. grain: spread of the grain, as a share of the brightness.
    """

    mirrored: bool
    gamma: float
    tint: tuple[float, float, float]
    colour: float
    grain: float


def draw_look(generator: np.random.Generator) -> Look:
    """Draw how one subject looks."""
    tone = generator.lognormal(-0.25, 0.12)
    blue, green, red = tone * generator.lognormal(0.0, [0.06, 0.03, 0.03])
    return Look(
        mirrored=bool(generator.random() < 0.5),
        gamma=float(generator.lognormal(0.0, 0.15)),
        tint=(float(blue), float(green), float(red)),
        colour=float(np.clip(generator.normal(0.9, 0.2), 0.2, 1.3)),
        grain=float(generator.uniform(0.03, 0.06)),
    )


def skin(photograph: NDArray[np.uint8], look: Look, generator: np.random.Generator) -> Array:
    """Give a photograph (H, W, 3) a subject's look. Returns float32, about 0 to 255.

    The grain is part of the skin and moves with it.
    """
    height, width = photograph.shape[:2]
    levels = np.arange(256, dtype=np.float32) / 255
    toned = cv2.LUT(photograph, 255 * levels ** np.float32(look.gamma))
    # Colours are mixed with the grey of their mean, then tinted: one matrix does both.
    mixed = look.colour * np.eye(3) + (1 - look.colour) / 3
    coloured = cv2.transform(toned, np.array(look.tint)[:, None] * mixed)
    nodes = generator.standard_normal((height // _GRAIN_PX, width // _GRAIN_PX), dtype=np.float32)
    grains = cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC)
    coloured *= (1 + np.float32(look.grain) * grains)[..., None]
    return np.asarray(coloured, dtype=np.float32)


@dataclass(frozen=True)
class Camera:
    """What a site's camera does to every frame.

    balance: (blue, green, red) factors. gamma: tone curve. blur: standard deviation in pixels.
    noise: standard deviation in grey levels of 256. flicker: spread of the change of light from
        onset to apex, as a share of the brightness.
    """

    balance: tuple[float, float, float]
    gamma: float
    blur: float
    noise: float
    flicker: float


def draw_camera(site: SiteShift, generator: np.random.Generator) -> Camera:
    """Draw the camera of a site; a site whose flow is noisy has a noisy camera."""
    gain = generator.lognormal(0.0, 0.08)
    blue, green, red = gain * generator.lognormal(0.0, 0.05, 3)
    return Camera(
        balance=(float(blue), float(green), float(red)),
        gamma=float(generator.lognormal(0.0, 0.08)),
        blur=float(generator.uniform(0.3, 0.6)),
        noise=site.noise * float(generator.uniform(0.6, 1.0)),
        flicker=float(generator.uniform(0.0, 0.01)),
    )


def draw_shading(size: int, spread: float, generator: np.random.Generator) -> Array:
    """(size, size, 1) smooth factors of brightness about 1, as uneven light gives."""
    nodes = generator.normal(0.0, spread, (_SHADING_NODES, _SHADING_NODES)).astype(np.float32)
    smooth = cv2.resize(nodes, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.exp(smooth)[..., None], dtype=np.float32)


def photographed(scene: Array, camera: Camera, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Take a picture (H, W, 3) uint8 of a scene (H, W, 3), about 0 to 255."""
    sharp = np.clip(scene * np.array(camera.balance, np.float32), 0, 255)
    toned = 255 * cv2.pow(sharp / 255, camera.gamma)
    seen = cv2.GaussianBlur(toned, (0, 0), camera.blur)
    seen += np.float32(camera.noise) * generator.standard_normal(seen.shape, dtype=np.float32)
    return np.asarray(np.clip(np.rint(seen), 0, 255), dtype=np.uint8)
