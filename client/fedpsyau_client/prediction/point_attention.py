"""Which facial points the AU graph attended to, told from the network's own weights for one clip.

Two things in the network say what it looks at. The graph's attention alpha says how much action
unit i takes from action unit j; the gates of a group's squeeze-excitation say how much of a facial
point enters the action units of its group. From both:

    a_j = mean over the heads of both layers of the whole graph, and over i, of alpha_ij
    w_p = sum over the groups g that hold point p of  gate_gp * sum over the AUs j of g of a_j

divided by the largest, so that the most attended point has 1. It describes where the network is
open, not why it answered as it did: attention is no proof of cause, and the global flow stream,
which has no points, is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedpsyau_model.action_units import AU_GROUPS, AUS, POINT_COUNT
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.facial_points import group_point_indices
from fedpsyau_model.network import AuGatDsi
from fedpsyau_model.network.au_features import GroupSqueezeExcitation
from fedpsyau_model.network.graph_attention import AttentionLayer
from fedpsyau_model.training import Predictions, predict

__all__ = ["point_weights", "predict_with_attention"]


def predict_with_attention(
    network: AuGatDsi, clip: ClipTensors, prior_weight: float
) -> tuple[Predictions, Tensor | None]:
    """Run the network over one clip, and look at what it attends to.

    Returns its logits, and the weights (65,) of the facial points in [0, 1], which are None for a
    network without the graph.
    """
    branch = network.au_branch
    if branch is None or branch.relations is None:
        return predict(network, clip, prior_weight), None
    whole = branch.relations.whole
    gates = [
        module.gates for module in branch.modules() if isinstance(module, GroupSqueezeExcitation)
    ]
    with _recorded([whole.hidden, whole.out], gates) as (attentions, opened):
        logits = predict(network, clip, prior_weight)
    attention = torch.cat([each[0] for each in attentions]).mean(dim=0)
    return logits, point_weights(attention, [each[0] for each in opened])


def point_weights(attention: Tensor, gates: list[Tensor]) -> Tensor:
    """Weights (65,) of the facial points, the largest 1.

    attention: (12, 12), rows sum to 1. gates: for every AU group (its points,), in (0, 1).
    """
    attended = attention.mean(dim=0)
    weights = torch.zeros(POINT_COUNT)
    for aus, points, opened in zip(AU_GROUPS, group_point_indices(), gates, strict=True):
        weights[list(points)] += opened.cpu() * sum(attended[AUS.index(au)].cpu() for au in aus)
    return weights / weights.max()


@contextmanager
def _recorded(
    layers: Sequence[AttentionLayer], gates: Sequence[nn.Module]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Record attention (B, heads, n, n) and gates (B, points) while the block runs."""
    attentions: list[Tensor] = []
    opened: list[Tensor] = []

    def attended(layer: Any, arguments: tuple[Any, ...], _output: Any) -> None:
        attentions.append(layer.attention_of(*arguments))

    def passed(_gates: Any, _arguments: tuple[Any, ...], output: Tensor) -> None:
        opened.append(output)

    handles = [layer.register_forward_hook(attended) for layer in layers]
    handles += [gate.register_forward_hook(passed) for gate in gates]
    try:
        yield attentions, opened
    finally:
        for handle in handles:
            handle.remove()
