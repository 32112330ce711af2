"""What flow images and flow arrays have in common: clips with labels, and images in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fedpsyau_client.flow_import.flow_encoding import Images
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_model.errors import ClipError

__all__ = ["FlowChunk", "FlowSource", "MissingFlow", "clips_per_chunk", "size_problem"]

#: Clips, and pixels of one channel, that are decoded together; this bounds memory.
_CLIPS_PER_CHUNK: Final = 64
_PIXELS_PER_CHUNK: Final = 64 * 128 * 128

#: Side of the smallest image: what the network sees.
_SMALLEST: Final = 28

#: Side of the largest image; beyond it somebody gave video frames or a contact sheet.
_LARGEST: Final = 2048


@dataclass(frozen=True, eq=False)
class MissingFlow:
    """A clip that has no usable flow: its position among the records, and why."""

    position: int
    error: ClipError


@dataclass(frozen=True, eq=False)
class FlowChunk:
    """Stored images (n, 3, S, S) of some clips, given by their positions among the records."""

    positions: Sequence[int]
    images: Images


class FlowSource(Protocol):
    """Where flow comes from."""

    @property
    def records(self) -> Sequence[ClipRecord]:
        """Every clip that has labels, in the order of its table or archive."""

    @property
    def eight_bit(self) -> bool:
        """Whether numbers are levels, 0 to 255, which an encoding turns into motion."""

    @property
    def unclaimed(self) -> int:
        """How many images or arrays belong to no clip."""

    def read(self) -> Iterator[FlowChunk | MissingFlow]:
        """Yield every clip once: in a chunk with others of its size, or as missing."""


def clips_per_chunk(size: int) -> int:
    """How many images of `size` pixels a side are decoded together, at least one."""
    return max(1, min(_CLIPS_PER_CHUNK, _PIXELS_PER_CHUNK // size**2))


def size_problem(height: int, width: int) -> str:
    """Why an image of this size cannot be used, or "" if it can."""
    if height != width:
        return f"it has {width}x{height} pixels, but an aligned face is square"
    if not _SMALLEST <= width <= _LARGEST:
        return f"it has {width}x{height} pixels; images have {_SMALLEST} to {_LARGEST} on a side"
    return ""
