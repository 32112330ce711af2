"""Arrays of an ``.npz`` archive: their headers without their contents, and contents in chunks.

NumPy reads an array of an archive whole. Flow of thousands of clips may be larger than memory, so
here the member is read as a stream. Pickled objects run code when they are read, and never are.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from fedpsyau_model.errors import DataNotFoundError, FlowSourceError

__all__ = ["ArrayHeader", "array_chunks", "array_headers", "read_array"]

#: Largest array that is read whole: labels and names, never flow.
_LARGEST_WHOLE: Final = 256 * 2**20

#: What zipfile and NumPy raise for damaged archives and headers.
_READ_ERRORS: Final = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, RuntimeError),
    *(MemoryError, OverflowError, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


@dataclass(frozen=True)
class ArrayHeader:
    """What an array is like, as its header says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool


def array_headers(file: Path) -> dict[str, ArrayHeader]:
    """Header of every array, by its name in lower case.

    Raises DataNotFoundError if there is no such file; FlowSourceError if it is no archive of
    arrays, or one holds pickled objects.
    """
    if not file.is_file():
        raise DataNotFoundError(f"There is no archive {file}. Check the path of SOURCE.")
    with _readable(file), zipfile.ZipFile(file) as archive:
        headers = {}
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as stream:
                    headers[_array_name(member)] = _read_header(stream)
    pickled = sorted(name for name, header in headers.items() if header.dtype.hasobject)
    if pickled:
        raise FlowSourceError(
            f"{file} holds Python objects in {', '.join(pickled)}, and reading those would run "
            "code that somebody else wrote. Save plain arrays: numbers, or text with "
            "array.astype(str)."
        )
    return headers


def read_array(file: Path, name: str) -> npt.NDArray[Any]:
    """Read a small array whole. Raises FlowSourceError if it is damaged, or over 256 MB."""
    with _readable(file), zipfile.ZipFile(file) as archive, _open(archive, name) as stream:
        header = _read_header(stream)
        size = int(np.prod(header.shape, dtype=np.float64)) * header.dtype.itemsize
        if size > _LARGEST_WHOLE:
            raise FlowSourceError(f"{file}: {name} has {size / 2**20:.0f} MB, which is too much.")
        data = _read_exactly(stream, size)
        values: npt.NDArray[Any] = np.frombuffer(data, header.dtype)
        if header.fortran_order:
            return values.reshape(header.shape[::-1]).transpose()
        return values.reshape(header.shape)


def array_chunks(file: Path, name: str, length: int) -> Iterator[npt.NDArray[Any]]:
    """Yield an array in parts of `length` along its first axis, reading no more than one at a time.

    Raises FlowSourceError if it is damaged or cut short, or is stored in Fortran order.
    """
    with _readable(file), zipfile.ZipFile(file) as archive, _open(archive, name) as stream:
        header = _read_header(stream)
        if header.fortran_order:
            raise FlowSourceError(
                f"{file}: {name} is stored column by column (Fortran order) and cannot be read in "
                "parts. Save np.ascontiguousarray of it."
            )
        row = int(np.prod(header.shape[1:])) * header.dtype.itemsize
        for start in range(0, header.shape[0], length):
            count = min(length, header.shape[0] - start)
            data = _read_exactly(stream, count * row)
            yield np.frombuffer(data, header.dtype).reshape(count, *header.shape[1:])


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except _READ_ERRORS as error:
        raise FlowSourceError(
            f"{file} cannot be read as an .npz archive: {error}. Copy it again, or write it again "
            "with numpy.savez."
        ) from None


def _array_name(member: str) -> str:
    return member.removesuffix(".npy").lower()


@contextmanager
def _open(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    member = next(each for each in archive.namelist() if _array_name(each) == name)
    with archive.open(member) as stream:
        yield stream


def _read_header(stream: IO[bytes]) -> ArrayHeader:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"an array has the format version {version}")
    shape, fortran_order, dtype = read(stream)
    # A single row or column is stored alike in both orders, and NumPy may call it Fortran's.
    return ArrayHeader(shape, dtype, fortran_order and sum(each > 1 for each in shape) > 1)


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError(f"an array ends {size - len(data)} bytes too early")
    return data
