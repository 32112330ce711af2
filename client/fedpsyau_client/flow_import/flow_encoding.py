"""What the numbers of a stored flow image mean: which channel is what, how levels become motion.

8-bit images have lost their unit, and mostly nobody wrote down how. Two encodings cover what is
found in the wild:

``centred:SCALE``
    Level 128 is no motion and one level is SCALE pixels. ``centred:SCALE:STRAIN`` says besides that
    one level of the strain channel is STRAIN (dimensionless, level 0 being none).
``minmax``
    Every channel was stretched to the whole range, or it is not known what was done. The level at
    the border, where an aligned face hardly moves, is taken for no motion, and the whole range for
    one pixel of the 28x28 grid. Directions and the shape of the motion survive; magnitudes are in
    arbitrary units, and cannot be compared between clips if each was stretched by itself.

Numbers that are not 8-bit are displacements in pixels already: ``pixels``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
import numpy.typing as npt

from fedpsyau_model.errors import SettingsError
from fedpsyau_model.motion import FLOW_SIZE

__all__ = ["Channels", "Encoding", "decode", "parse_channels", "parse_encoding"]

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8] | Floats

EncodingName = Literal["centred", "minmax", "pixels"]

_NO_MOTION: Final = 128
_LEVELS: Final = 255

#: Rows and columns at the border, of 28, whose median is taken for no motion.
_BORDER_OF_28: Final = 2


@dataclass(frozen=True)
class Channels:
    """Which of the three channels is what.

    u, v: their positions; `signs` turns them to right and down (-1: stored the other way round).
    strain: its position, or None where the third channel holds something else.
    """

    u: int
    v: int
    strain: int | None
    signs: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Encoding:
    """How stored numbers become motion; `scale` and `strain_scale` are of ``centred`` only."""

    name: EncodingName
    scale: float = 1.0
    strain_scale: float | None = None

    @property
    def units(self) -> Literal["pixels", "arbitrary"]:
        """What a manifest says about magnitudes."""
        return "arbitrary" if self.name == "minmax" else "pixels"

    @property
    def knows_strain(self) -> bool:
        """Whether the strain channel can be used as it is stored."""
        return self.name != "centred" or self.strain_scale is not None

    def vector_size(self, image_size: int) -> int:
        """Side in pixels of the grid whose pixels decoded vectors are counted in."""
        return FLOW_SIZE if self.name == "minmax" else image_size


def parse_channels(text: str) -> Channels:
    """Read ``strain,v,u``: three of u, v, strain and other; -u and -v are stored reversed.

    Raises SettingsError.
    """
    names = [name.strip().lower() for name in text.split(",")]
    bare = [name.removeprefix("-") if name in ("-u", "-v") else name for name in names]
    if len(names) != 3 or sorted(bare) not in (["strain", "u", "v"], ["other", "u", "v"]):
        raise SettingsError(
            f"--channels {text} cannot be read. Name the three channels in the order in which the "
            "file has them (red, green, blue), such as u,v,strain or strain,v,u. Write -u or -v "
            "where the image counts leftwards or upwards, and other for a third channel that is "
            "not optical strain."
        )
    u, v = bare.index("u"), bare.index("v")
    strain = bare.index("strain") if "strain" in bare else None
    signs = tuple(-1 if names[channel].startswith("-") else 1 for channel in (u, v))
    return Channels(u, v, strain, cast("tuple[int, int]", signs))


def parse_encoding(text: str) -> Encoding:
    """Read ``minmax``, ``centred:SCALE`` or ``centred:SCALE:STRAIN``. Raises SettingsError."""
    name, *numbers = text.strip().lower().split(":")
    if name == "minmax" and not numbers:
        return Encoding("minmax")
    try:
        scales = [float(number) for number in numbers]
    except ValueError:
        scales = []
    usable = len(scales) in (1, 2) and all(math.isfinite(each) and each > 0 for each in scales)
    if name != "centred" or not usable:
        raise SettingsError(
            f"--encoding {text} cannot be read. Write minmax where it is not known what 8-bit "
            "levels mean; centred:0.05 where level 128 is no motion and a level is 0.05 pixels; "
            "centred:0.05:0.002 where a level of the strain channel is 0.002 besides."
        )
    return Encoding("centred", *scales)


def decode(images: Images, channels: Channels, encoding: Encoding) -> tuple[Floats, Floats | None]:
    """Turn stored images into flow, and into strain where it is stored and its scale is known.

    images: (N, 3, S, S). Returns flow (N, 2, S, S), u right and v down, in pixels of the grid
    `encoding.vector_size`, and strain (N, 1, S, S), at least 0, or None.
    """
    vectors = _decode_vectors(np.asarray(images[:, [channels.u, channels.v]], np.float32), encoding)
    flow = vectors * np.array(channels.signs, dtype=np.float32)[:, None, None]
    if channels.strain is None or not encoding.knows_strain:
        return flow, None
    stored = np.asarray(images[:, [channels.strain]], dtype=np.float32)
    return flow, stored * np.float32(_strain_unit(encoding))


def _decode_vectors(levels: Floats, encoding: Encoding) -> Floats:
    if encoding.name == "pixels":
        return levels
    if encoding.name == "centred":
        return (levels - np.float32(_NO_MOTION)) * np.float32(encoding.scale)
    return (levels - _border_level(levels)) / np.float32(_LEVELS)


def _border_level(levels: Floats) -> Floats:
    """Median over the border of each image and channel: (N, C, S, S) to (N, C, 1, 1)."""
    size = levels.shape[-1]
    width = max(1, round(size * _BORDER_OF_28 / FLOW_SIZE))
    inside = slice(width, size - width)
    border = np.ones((size, size), dtype=np.bool_)
    border[inside, inside] = False
    return np.asarray(np.median(levels[..., border], axis=-1), dtype=np.float32)[..., None, None]


def _strain_unit(encoding: Encoding) -> float:
    """What one stored unit of strain is; an unknown one is spread so that the range is 1."""
    if encoding.name == "centred":
        return cast(float, encoding.strain_scale)
    return 1 / _LEVELS if encoding.name == "minmax" else 1.0


def describe_channels(channels: Channels) -> Sequence[str]:
    """Names of the three channels in the order of the file, as manifests give them."""
    names = ["other"] * 3
    for name, position, sign in zip("uv", (channels.u, channels.v), channels.signs, strict=True):
        names[position] = name if sign > 0 else f"-{name}"
    if channels.strain is not None:
        names[channels.strain] = "strain"
    return names
