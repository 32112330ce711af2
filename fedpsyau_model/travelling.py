"""Which part of the network travels between server and sites, and which part is the head.

The one place that says so; server and sites both ask here.
"""

from __future__ import annotations

from torch import nn

from fedpsyau_model.model_state import shared_names
from fedpsyau_model.network import AuGatDsi
from fedpsyau_model.settings import StrategySettings

__all__ = ["body_names", "head_names", "travelling_names"]


def head_names(network: AuGatDsi) -> tuple[str, ...]:
    """Names of the head's parameters: the layer from the joined streams to the emotions.

    The AU predictors belong to the body: what an action unit is does not differ between sites.
    """
    return _parameters_of(network, network.inception.classifier)


def body_names(network: AuGatDsi) -> tuple[str, ...]:
    """Names of all parameters but the head's, in the order of the state_dict."""
    head = set(head_names(network))
    return tuple(name for name, _ in network.named_parameters() if name not in head)


def travelling_names(network: AuGatDsi, strategy: StrategySettings) -> tuple[str, ...]:
    """Names of what a site receives and sends, in the order of the state_dict.

    Integers never travel, batch-norm statistics only if they are shared, the head only where it
    is not the site's own.
    """
    stays = set(head_names(network)) if strategy.head_stays else set()
    return tuple(name for name in shared_names(network, strategy.batch_norm) if name not in stays)


def _parameters_of(network: nn.Module, part: nn.Module) -> tuple[str, ...]:
    own = {id(parameter) for parameter in part.parameters()}
    return tuple(name for name, value in network.named_parameters() if id(value) in own)
