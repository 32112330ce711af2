"""How small and how large a frame may be."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fedpsyau_model.errors import FrameSizeError

__all__ = ["MAX_PIXELS", "MIN_SIDE", "check_frame_size"]

#: A frame whose shorter side is below this, in pixels, holds no face of use.
MIN_SIDE: Final = 64

#: Largest frame in pixels (10,000 x 10,000): 300 MB in memory.
MAX_PIXELS: Final = 100_000_000


def check_frame_size(shape: tuple[int, ...], file: Path) -> None:
    """Refuse a frame of the shape (H, W, ...) from `file` with FrameSizeError if it cannot do."""
    height, width = shape[:2]
    if min(height, width) < MIN_SIDE:
        raise FrameSizeError(
            f"{file} is {width} x {height} pixels; a frame needs at least {MIN_SIDE} on each side."
        )
    if height * width > MAX_PIXELS:
        raise FrameSizeError(
            f"{file} is {width} x {height} pixels, more than the {MAX_PIXELS // 10**6} million "
            "that are read. Cut the face out, or make it smaller."
        )
