"""A checkpoint: named tensors with their provenance in one file, and how a network starts from it.

The file is a safetensors file; its metadata holds one entry, ``fedpsyau``, a JSON object that says
what made it. A checkpoint may hold a part of a network, such as the AU branch after pre-training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors
import safetensors.numpy

from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import CheckpointError, OutputWriteError

if TYPE_CHECKING:
    from torch import nn

#: Name of the entry in a provenance that says what a video may be judged by (`recogniser_file`).
RECOGNISER: Final = "recogniser"

_METADATA_KEY = "fedpsyau"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name, what made them, and the SHA-256 of the file (64 hex digits)."""

    tensors: Mapping[str, np.ndarray]
    provenance: Mapping[str, Any]
    sha256: str


def write_checkpoint(
    path: Path, tensors: Mapping[str, np.ndarray], provenance: Mapping[str, Any]
) -> None:
    """Write a checkpoint whole or not at all; equal content gives equal bytes.

    provenance: plain JSON values. Raises OutputWriteError if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, checkpoint_bytes(tensors, provenance))
    except OSError as error:
        raise OutputWriteError(
            f"The checkpoint {path} cannot be written: {error.strerror or error}. Check free space "
            "and permissions, or give another place."
        ) from None


def checkpoint_bytes(tensors: Mapping[str, np.ndarray], provenance: Mapping[str, Any]) -> bytes:
    """Bytes of a checkpoint's file; equal content gives equal bytes."""
    return safetensors.numpy.save(
        {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)},
        metadata={_METADATA_KEY: json.dumps(dict(provenance), sort_keys=True)},
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; CheckpointError if there is none at `path`, or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read: {error.strerror or error}. Give the file that "
            "`fedpsyau pretrain --out` wrote."
        ) from None
    try:
        tensors = safetensors.numpy.load(content)
        provenance = json.loads(_metadata(content).get(_METADATA_KEY, "{}"))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint, or was truncated: {error}. Write it again with "
            "`fedpsyau pretrain`, or copy it again."
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    return Checkpoint({name: tensors[name] for name in sorted(tensors)}, provenance, digest)


def start_from(network: nn.Module, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Set the network's tensors that the checkpoint holds; the others stay as initialised.

    Returns the names that were set. Raises WeightsMismatchError, and changes nothing, if the
    checkpoint holds a tensor that the network does not have, or has in another shape or dtype:
    a start that was taken in part would pass for one that was taken whole. CheckpointError if it
    holds no tensor at all.
    """
    if not checkpoint.tensors:
        raise CheckpointError("The checkpoint holds no tensor, so there is nothing to start from.")
    # Here, because who only reads and writes files does without torch.
    from fedpsyau_model.model_state import load_state_arrays, state_arrays

    load_state_arrays(network, state_arrays(network) | dict(checkpoint.tensors))
    return tuple(checkpoint.tensors)


def _metadata(content: bytes) -> dict[str, str]:
    """Read the metadata of a safetensors file: a length of 8 bytes, then a JSON header."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return metadata
