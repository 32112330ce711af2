"""Feature stores, as they lie in a data folder."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from damaged_inputs.cases import Reader
from damaged_inputs.file_damage import FILE_DAMAGE, ODD_NAMES, Damage, copied
from fedpsyau_client.store.clip_table import ClipTable
from fedpsyau_client.store.feature_store import (
    FLOW_SHAPE,
    ROIS_SHAPE,
    list_partitions,
    open_feature_store,
    write_feature_store,
)

_NAME = "lab_a"

_KEPT = tempfile.TemporaryDirectory()


def store_readers(cases: int) -> tuple[Reader, ...]:
    damage = {
        **{
            f"{name}: {file}": _on_file(file, harm)
            for file in ("manifest.json", "clips.csv", "features.safetensors")
            for name, harm in FILE_DAMAGE.items()
        },
        **_STORE_DAMAGE,
    }
    return (Reader("feature store", cases, write_store, _read, damage),)


def write_store(folder: Path, rng: np.random.Generator) -> Path:
    """A copy of one store: writing flushes to the disk, which takes its time."""
    return copied(_good_store(), folder / _NAME)


@functools.cache
def _good_store() -> Path:
    # The object lives as long as the process and takes the folder with it.
    folder = Path(_KEPT.name)
    rng = np.random.default_rng(0)
    count = 6
    clips = ClipTable(
        clip=np.array([f"c{number:05d}" for number in range(count)]),
        subject=np.array(["s001", "s001", "s002", "s002", "s003", "s003"]),
        emotion=np.array(["disgust", "happiness", "surprise", "", "anger", "fear"]),
        class3=np.array(["negative", "positive", "surprise", "", "negative", "negative"]),
        class7=np.array(["disgust", "happiness", "surprise", "", "anger", "fear"]),
        au_known=np.ones(count, dtype=np.bool_),
        aus=np.eye(count, 12, dtype=np.uint8),
    )
    write_feature_store(
        folder / _NAME,
        partition=_NAME,
        dataset="csv",
        synthetic=False,
        clips=clips,
        flow=rng.normal(size=(count, *FLOW_SHAPE)),
        rois=rng.normal(size=(count, *ROIS_SHAPE)),
        preprocessing={"flow": "dis"},
    )
    return folder / _NAME


def _read(folder: Path, out: Path) -> None:
    """Open it in both ways, and copy a part of it."""
    list_partitions(folder.parent)
    try:
        open_feature_store(folder, verify=False).labels("seven")
    finally:
        store = open_feature_store(folder)
    store.flow[:2].sum(), store.rois[-1].sum()


def _on_file(name: str, harm: Damage) -> Damage:
    def damage(folder: Path, rng: np.random.Generator) -> Path:
        harm(folder / name, rng)
        return folder

    return damage


def _on_manifest(change: Callable[[dict[str, Any], np.random.Generator], Any]) -> Damage:
    def damage(folder: Path, rng: np.random.Generator) -> Path:
        file = folder / "manifest.json"
        file.write_text(json.dumps(change(json.loads(file.read_text()), rng)))
        return folder

    return damage


def _odd_value(manifest: dict[str, Any], rng: np.random.Generator) -> Any:
    """Something else in the place of one value, at any depth."""
    odd = (None, -1, 10**30, 1.5, "", "\ud800", [], {}, True, "../../x", [None], "1", float("nan"))
    place: Any = manifest
    while True:
        key = sorted(place)[int(rng.integers(len(place)))]
        if not isinstance(place[key], dict) or not place[key] or rng.random() < 0.3:
            place[key] = odd[int(rng.integers(len(odd)))]
            return manifest
        place = place[key]


def _key_gone(manifest: dict[str, Any], rng: np.random.Generator) -> Any:
    del manifest[sorted(manifest)[int(rng.integers(len(manifest)))]]
    return manifest


def _resealed(harm: Damage) -> Damage:
    """Damage after which the manifest's sizes and checksums are made right again."""

    def damage(folder: Path, rng: np.random.Generator) -> Path:
        import hashlib

        harm(folder, rng)
        manifest = json.loads((folder / "manifest.json").read_text())
        for key, name in (("clips", "clips.csv"), ("features", "features.safetensors")):
            content = (folder / name).read_bytes()
            manifest["files"][key] = {
                "size-bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return damage


def _tensors(change: Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]) -> Damage:
    def damage(folder: Path, rng: np.random.Generator) -> Path:
        file = folder / "features.safetensors"
        tensors = {name: array.copy() for name, array in load_file(file).items()}
        save_file(
            {name: np.ascontiguousarray(each) for name, each in change(tensors, rng).items()}, file
        )
        return folder

    return damage


def _poisoned(tensors: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    array = tensors[("flow", "rois")[int(rng.integers(2))]].reshape(-1)
    array[int(rng.integers(array.size))] = (np.nan, np.inf, -np.inf)[int(rng.integers(3))]
    return tensors


def _clip_cells(folder: Path, rng: np.random.Generator) -> Path:
    file = folder / "clips.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()]
    odd = ("", "2", "-1", "../x", "a b", "nan", "é", "happy", '"', "\0", "c00001", "x" * 99)
    row, column = int(rng.integers(len(rows))), int(rng.integers(len(rows[0])))
    rows[row][column] = str(rng.choice(odd))
    file.write_text("\n".join(",".join(cells) for cells in rows) + "\n")
    return folder


def _header(folder: Path, rng: np.random.Generator) -> Path:
    """A forged header of the features file."""
    file = folder / "features.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    entry = header[("flow", "rois")[int(rng.integers(2))]]
    changes: tuple[dict[str, Any], ...] = (
        {"shape": [2**40, 3, 28, 28]},
        {"shape": [-1, 3, 28, 28]},
        {"shape": [0, 3, 28, 28]},
        {"dtype": "F64"},
        {"dtype": "??"},
        {"data_offsets": [0, 2**60]},
        {"data_offsets": [9, 1]},
        {"data_offsets": "all"},
    )
    entry.update(changes[int(rng.integers(len(changes)))])
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    return folder


def _renamed(folder: Path, rng: np.random.Generator) -> Path:
    pattern = list(ODD_NAMES.values())[int(rng.integers(len(ODD_NAMES)))]
    return folder.rename(folder.with_name(pattern.format("lab")))


def _folder(harm: str) -> Damage:
    def damage(folder: Path, rng: np.random.Generator) -> Path:
        moved = folder.rename(folder.with_name(f"{_NAME}_moved"))
        if harm == "a link":
            folder.symlink_to(moved.name)
        else:
            folder.touch()
            FILE_DAMAGE[harm](folder, rng)
        return folder

    return damage


_STORE_DAMAGE: dict[str, Damage] = {
    "an odd value in the manifest": _on_manifest(_odd_value),
    "a key gone from the manifest": _on_manifest(_key_gone),
    "one more key in the manifest": _on_manifest(lambda values, rng: {**values, "more": 1}),
    "a manifest that is a list": _on_manifest(lambda values, rng: [values]),
    "another schema version": _on_manifest(
        lambda values, rng: {**values, "schema-version": int(rng.integers(-3, 9))}
    ),
    "cells of the clip table": _resealed(_clip_cells),
    "numbers that are none": _resealed(_tensors(_poisoned)),
    "a tensor missing": _resealed(_tensors(lambda tensors, rng: {"flow": tensors["flow"]})),
    "a tensor more": _resealed(_tensors(lambda tensors, rng: {**tensors, "x": np.ones(2)})),
    "fewer clips": _resealed(
        _tensors(lambda tensors, rng: {**tensors, "flow": tensors["flow"][1:]})
    ),
    "another precision": _resealed(
        _tensors(lambda tensors, rng: {k: v.astype(np.float64) for k, v in tensors.items()})
    ),
    "another shape": _resealed(
        _tensors(lambda tensors, rng: {**tensors, "rois": tensors["rois"].reshape(6, -1)})
    ),
    "a forged header": _resealed(_header),
    "resealed rubbish": _resealed(_on_file("features.safetensors", FILE_DAMAGE["bits flipped"])),
    "resealed text": _resealed(_on_file("clips.csv", FILE_DAMAGE["bits flipped"])),
    "another name": _renamed,
    **{
        f"the folder: {name}": _folder(name)
        for name in ("missing", "a link", "a dangling link", "a link to itself", "a named pipe")
    },
    "the folder: a file": _folder("empty"),
}
