"""The model that every site starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedpsyau_model.checkpoints import Checkpoint, read_checkpoint, start_from
from fedpsyau_model.model_state import state_arrays
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import FederationSettings
from fedpsyau_model.travelling import travelling_names


def initial_model(
    settings: FederationSettings, start: Checkpoint | None = None
) -> dict[str, np.ndarray]:
    """Weights drawn from the federation's seed: the tensors that travel, and no others.

    start: checkpoint, such as a pre-trained AU branch, whose tensors replace the drawn ones. Raises
        WeightsMismatchError if one of them does not fit the network.
    """
    network = build_network(settings.network, settings.seed, settings.shared_priors())
    if start is not None:
        start_from(network, start)
    arrays = state_arrays(network)
    return {name: arrays[name] for name in travelling_names(network, settings.strategy)}


def start_checkpoint(settings: FederationSettings) -> Checkpoint | None:
    """Read the checkpoint that [server] start names; None if it names none."""
    return read_checkpoint(Path(settings.server.start)) if settings.server.start else None
