"""Damage to archives of arrays (.npz): wrong shapes, types and numbers, and code among them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from damaged_inputs.file_damage import Damage

Arrays = dict[str, Any]


def write_arrays(file: Path, arrays: Arrays) -> Path:
    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=True, **arrays)
    return file


def on_arrays(change: Callable[[Arrays, np.random.Generator], Arrays]) -> Damage:
    """Make damage of a function of an archive's arrays."""

    def damage(file: Path, rng: np.random.Generator) -> Path:
        with np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return write_arrays(file, change(arrays, rng))

    return damage


def _one(change: Callable[[Any, np.random.Generator], Any]) -> Damage:
    """Change one array of the archive, whichever."""

    def damage(arrays: Arrays, rng: np.random.Generator) -> Arrays:
        name = sorted(arrays)[int(rng.integers(len(arrays)))]
        return {**arrays, name: change(arrays[name], rng)}

    return on_arrays(damage)


def _numbers(change: Callable[[Any, np.random.Generator], Any]) -> Damage:
    """Change all arrays of floats."""

    def damage(arrays: Arrays, rng: np.random.Generator) -> Arrays:
        return {
            name: change(array.copy(), rng) if array.dtype.kind == "f" else array
            for name, array in arrays.items()
        }

    return on_arrays(damage)


def _with(value: float) -> Callable[[Any, np.random.Generator], Any]:
    def put(array: Any, rng: np.random.Generator) -> Any:
        array.reshape(-1)[int(rng.integers(array.size))] = value
        return array

    return put


def _without(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    gone = sorted(arrays)[int(rng.integers(len(arrays)))]
    return {name: array for name, array in arrays.items() if name != gone}


def _other_type(array: Any, rng: np.random.Generator) -> Any:
    types = ("complex64", "int8", "bool", "S3", "U2", "float16", ">f4", "datetime64[s]", "V5")
    with np.errstate(all="ignore"):
        try:
            return array.astype(str(rng.choice(types)))
        except (ValueError, TypeError):
            return np.zeros(array.shape, dtype=">i8")


def _other_shape(array: Any, rng: np.random.Generator) -> Any:
    changes: tuple[Callable[[], Any], ...] = (
        lambda: array[:-1],
        lambda: array[:0],
        lambda: array[None],
        lambda: array.ravel(),
        lambda: array[0],
        lambda: np.concatenate([array, array]),
        lambda: array.T,
        lambda: np.asfortranarray(array),
        lambda: array[..., :-1] if array.ndim > 1 else array.reshape(-1, 1),
        lambda: np.float64(3),
    )
    return changes[int(rng.integers(len(changes)))]()


def _objects(array: Any, rng: np.random.Generator) -> Any:
    """Python objects, whose reading would run code."""
    return np.array([*array.ravel()[:3].tolist(), {"a": 1}], dtype=object)


def _forged_header(file: Path, rng: np.random.Generator) -> Path:
    """Array headers that promise what is not there, or are no headers."""
    headers = (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (999999999, 3, 28, 28)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999999, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3, 28, 28)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2.5,)}",
        "{'descr': '<f4', 'fortran_order': 7, 'shape': (2,)}",
        "{'descr': '<q9', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<U999999999', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f4', 'shape': (2,)}",
        "__import__('os').getpid()",
        "(" * 300,
        "{",
        "",
    )
    text = headers[int(rng.integers(len(headers)))].ljust(118).encode() + b"\n"
    forged = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[sorted(members)[int(rng.integers(len(members)))]] = forged
    return _rewritten(file, list(members.items()))


def _members(change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> Damage:
    def damage(file: Path, rng: np.random.Generator) -> Path:
        with zipfile.ZipFile(file) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        return _rewritten(file, change(members))

    return damage


def _rewritten(file: Path, members: list[tuple[str, bytes]]) -> Path:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    file.write_bytes(content.getvalue())
    return file


def _password(file: Path, rng: np.random.Generator) -> Path:
    """Set the flag that says the members are encrypted."""
    content = bytearray(file.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(mark, start + 4)
    file.write_bytes(bytes(content))
    return file


def _other_compression(file: Path, rng: np.random.Generator) -> Path:
    """A method of compression that nobody knows."""
    content = bytearray(file.read_bytes())
    start = content.find(b"PK\x01\x02")
    content[start + 10] = int(rng.choice([6, 9, 77, 98]))
    file.write_bytes(bytes(content))
    return file


ARRAY_DAMAGE: dict[str, Damage] = {
    "an array missing": on_arrays(_without),
    "another dtype": _one(_other_type),
    "another shape": _one(_other_shape),
    "objects": _one(_objects),
    "NaN": _numbers(_with(np.nan)),
    "infinity": _numbers(_with(np.inf)),
    "out of range": _numbers(_with(1e30)),
    "all zeros": _numbers(lambda array, rng: array * 0),
    "all huge": _numbers(lambda array, rng: array + 1e9),
    "negative": _numbers(lambda array, rng: -array),
    "more arrays": on_arrays(lambda arrays, rng: {**arrays, "more": np.arange(3), "é": np.eye(2)}),
    "a forged header": _forged_header,
    "a member that is no array": _members(lambda members: [*members, ("x.npy", b"text")]),
    "a member twice": _members(lambda members: [*members, members[0]]),
    "members without ending": _members(
        lambda members: [(name.removesuffix(".npy"), data) for name, data in members]
    ),
    "no member": _members(lambda members: []),
    "members torn": _members(lambda members: [(name, data[:-9]) for name, data in members]),
    "a password": _password,
    "another compression": _other_compression,
}
