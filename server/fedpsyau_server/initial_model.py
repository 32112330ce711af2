"""The model that every site starts from."""

from __future__ import annotations

import numpy as np

from fedpsyau_model.model_state import shared_names, state_arrays
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import FederationSettings


def initial_model(settings: FederationSettings) -> dict[str, np.ndarray]:
    """Weights drawn from the federation's seed: the tensors that travel, and no others."""
    network = build_network(settings.network, settings.seed, settings.shared_priors())
    arrays = state_arrays(network)
    return {name: arrays[name] for name in shared_names(network, settings.strategy.batch_norm)}
