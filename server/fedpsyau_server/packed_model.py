"""Packed models that are read piece by piece, so that no more than a piece need be in memory.

A packed model is safetensors: the length of a JSON header, the header, the numbers. Models with the
same names, types and shapes have the same first bytes and the same numbers at the same places, so
what is done to all of them number by number needs no names: only runs of numbers of one type.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fedpsyau_model.errors import RunFolderError
from fedpsyau_model.exchange import Tensors, pack_tensors, unpack_tensors

__all__ = [
    "PIECE",
    "Layout",
    "ModelFile",
    "ModelInMemory",
    "PackedModel",
    "Run",
    "packed",
    "parts",
    "unpacked",
]

#: Numbers in a piece: few enough to stay in a cache from one operation to the next, and so many
#: that what NumPy's calls cost does not show.
PIECE = 1 << 18

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


@dataclass(frozen=True)
class Run:
    """Numbers of one type, one after the other, of one or more tensors.

    offset: bytes before it, from the beginning of the packed model. count: of numbers.
    """

    dtype: np.dtype[Any]
    offset: int
    count: int

    @property
    def floating(self) -> bool:
        """Whether a mean makes sense of these numbers."""
        return bool(np.issubdtype(self.dtype, np.floating))


@dataclass(frozen=True)
class Layout:
    """What models of the same names, types and shapes have in common.

    head: all bytes before the numbers. size: bytes of the packed model.
    """

    head: bytes
    runs: tuple[Run, ...]
    size: int


class PackedModel(Protocol):
    """A model that can be read again and again, on several threads at a time."""

    @property
    def layout(self) -> Layout:
        """Where its numbers are."""

    def numbers(self, run: int, start: int, spare: np.ndarray) -> np.ndarray:
        """Numbers of the layout's `run`-th run from `start` on, as many as `spare` holds.

        spare: at most `PIECE` numbers of the run's type. What is returned is `spare`, filled, or
        the model's own memory, which must not be changed. Raises RunFolderError if the model cannot
        be read any more.
        """


@dataclass(frozen=True)
class ModelFile:
    """A model on disk. It is read, and not mapped: a disk that fails is then an OSError."""

    path: Path
    layout: Layout

    @classmethod
    def open(cls, path: Path) -> ModelFile:
        """Look at a file's header; ValueError if the file is not a whole model."""
        with path.open("rb") as stream:
            length = stream.read(8)
            header = stream.read(min(int.from_bytes(length, "little"), path.stat().st_size))
            layout = _layout(length + header)
            if layout.size != stream.seek(0, 2):
                raise ValueError(f"it has {stream.tell()} bytes, and should have {layout.size}")
        return cls(path, layout)

    def numbers(self, run: int, start: int, spare: np.ndarray) -> np.ndarray:
        """See PackedModel."""
        offset = self.layout.runs[run].offset + start * spare.itemsize
        try:
            file = os.open(self.path, os.O_RDONLY)
            try:
                _fill(file, spare.view(np.uint8).data, offset)
            finally:
                os.close(file)
        except OSError as error:
            raise RunFolderError(f"The model {self.path} cannot be read: {error}") from None
        return spare


@dataclass(frozen=True)
class ModelInMemory:
    """A model whose packed bytes are in memory."""

    data: bytes

    @classmethod
    def of(cls, tensors: Tensors) -> ModelInMemory:
        """Pack named tensors."""
        return cls(pack_tensors(tensors))

    @cached_property
    def layout(self) -> Layout:
        """See PackedModel."""
        return _layout(self.data[: 8 + int.from_bytes(self.data[:8], "little")])

    def numbers(self, run: int, start: int, spare: np.ndarray) -> np.ndarray:
        """See PackedModel."""
        offset = self.layout.runs[run].offset + start * spare.itemsize
        return np.frombuffer(self.data, spare.dtype, len(spare), offset)


def parts(model: PackedModel) -> Iterator[memoryview]:
    """The packed model from its first byte to its last; a part is there until the next one."""
    yield memoryview(model.layout.head)
    for index, run in enumerate(model.layout.runs):
        spare = np.empty(min(PIECE, run.count), run.dtype)
        for start in range(0, run.count, PIECE):
            piece = model.numbers(index, start, spare[: run.count - start])
            yield piece.view(np.uint8).data


def packed(model: PackedModel) -> bytes:
    """The whole packed model."""
    whole = BytesIO()
    for part in parts(model):  # copied one by one: a part is gone when the next one comes
        whole.write(part)
    return whole.getvalue()


def unpacked(model: PackedModel) -> Tensors:
    """All tensors of a model; MalformedMessageError if it is damaged."""
    return unpack_tensors(packed(model))


@lru_cache(maxsize=16)  # the models of a run have one layout, or two
def _layout(head: bytes) -> Layout:
    """Read a header; ValueError if it is none."""
    if len(head) < 8 or len(head) != 8 + int.from_bytes(head[:8], "little"):
        raise ValueError("its header is not whole")
    try:
        tensors = [each for name, each in json.loads(head[8:]).items() if name != "__metadata__"]
        spans = sorted((*each["data_offsets"], _DTYPES[each["dtype"]]) for each in tensors)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("its header is not that of a model") from None
    runs, end = [], 0
    for dtype, members in groupby(spans, key=lambda span: span[2]):
        begin = end
        for start, stop, _ in members:
            if start != end or stop < start:
                raise ValueError("its tensors do not lie one after the other")
            end = stop
        runs.append(
            Run(np.dtype(dtype), len(head) + begin, (end - begin) // np.dtype(dtype).itemsize)
        )
    return Layout(head, tuple(runs), len(head) + end)


def _fill(file: int, buffer: memoryview, offset: int) -> None:
    """Read from an offset until the buffer is full; OSError if the file ends before."""
    filled = 0
    while filled < len(buffer):
        count = os.preadv(file, [buffer[filled:]], offset + filled)
        if not count:
            raise OSError("it has become shorter")
        filled += count
