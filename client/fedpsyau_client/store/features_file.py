"""``features.safetensors``: the two arrays of a feature store, written, mapped and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fedpsyau_client.store.clip_table import Texts
from fedpsyau_model.action_units import POINT_COUNT
from fedpsyau_model.errors import DataDamagedError

#: Shape of one clip's global flow: u, v (pixels of the 28 grid) and optical strain.
FLOW_SHAPE: tuple[int, ...] = (3, 28, 28)

#: Shape of one clip's patches: point, channel (u, v in pixels of the 128 grid; strain), 5x5.
ROIS_SHAPE: tuple[int, ...] = (POINT_COUNT, 3, 5, 5)

Floats = npt.NDArray[np.float32]

#: Clips whose ids a message lists before it stops.
_LISTED_CLIPS = 5

#: Clips that are looked at together for NaN and infinity, to keep memory small.
_CLIPS_PER_CHECK = 256


def write_features(file: Path, flow: Floats, rois: Floats) -> None:
    """Write both arrays, (N, 3, 28, 28) and (N, 65, 3, 5, 5), C-contiguous float32.

    Raises OSError if the disk refuses.
    """
    try:
        save_file({"flow": flow, "rois": rois}, file)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(str(error)) from error


def map_features(file: Path) -> tuple[Floats, Floats]:
    """Map flow and rois from the file, read-only; nothing is read until it is indexed.

    Raises DataDamagedError if the file is not what `write_features` writes.
    """
    try:
        with safe_open(file, framework="numpy") as tensors:  # checks the header against the size
            names = set(tensors.keys())
    except (OSError, SafetensorError) as error:
        raise DataDamagedError(f"{file} is not a safetensors file: {error}.") from None
    if names != {"flow", "rois"}:
        raise DataDamagedError(
            f"{file} holds the tensors {', '.join(sorted(names)) or '(none)'} instead of flow and "
            "rois. Prepare the partition again."
        )
    # safetensors copies what it hands to NumPy, but a site's features should stay on disk and in
    # the page cache, shared by all processes. So its checked header is used to map them here.
    with file.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(header_size))
    data_start = 8 + header_size
    return _map(file, header["flow"], data_start), _map(file, header["rois"], data_start)


def _map(file: Path, entry: Mapping[str, Any], data_start: int) -> Floats:
    if entry["dtype"] != "F32" or 0 in entry["shape"]:
        raise DataDamagedError(
            f"{file} holds a tensor of type {entry['dtype']} and shape {entry['shape']}; features "
            "are F32 and never empty. Prepare the partition again."
        )
    offset = data_start + entry["data_offsets"][0]
    return np.memmap(file, np.dtype("<f4"), "r", offset, tuple(entry["shape"]))


def check_shapes(flow: Floats, rois: Floats, count: int, source: str) -> None:
    """Raise DataDamagedError unless the arrays fit `count` clips; `source` begins the message."""
    for name, array, shape in (("flow", flow, FLOW_SHAPE), ("rois", rois, ROIS_SHAPE)):
        if array.shape != (count, *shape):
            raise DataDamagedError(
                f"{source}: {name} has the shape {array.shape}, but {count} clips need "
                f"{(count, *shape)}. Features and clip table must come from one preparation."
            )


def check_finite(flow: Floats, rois: Floats, clip_ids: Texts, source: str) -> None:
    """Raise DataDamagedError naming the clips whose features hold NaN or infinity."""
    wrong: list[str] = []
    for start in range(0, len(clip_ids), _CLIPS_PER_CHECK):
        part = slice(start, start + _CLIPS_PER_CHECK)
        finite = np.isfinite(flow[part]).all(axis=(1, 2, 3))
        finite &= np.isfinite(rois[part]).all(axis=(1, 2, 3, 4))
        wrong += clip_ids[part][~finite].tolist()
    if wrong:
        listed = ", ".join(wrong[:_LISTED_CLIPS])
        more = f" and {len(wrong) - _LISTED_CLIPS} more" if len(wrong) > _LISTED_CLIPS else ""
        raise DataDamagedError(
            f"{source}: {len(wrong)} of {len(clip_ids)} clips hold NaN or infinity "
            f"({listed}{more}) and would turn the whole model into NaN. Prepare these clips again, "
            "or leave them out."
        )
