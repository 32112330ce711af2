"""DPK-GAT, graph attention among action units that is guided by dynamic prior knowledge.

The intrinsic prior says which AUs are connected at all; the extrinsic prior says how much AUs
attend to each other at the start of training, and is faded out by its weight.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedpsyau_model.action_units import LOWER_AUS, UPPER_AUS
from fedpsyau_model.network.au_features import AU_FEATURES
from fedpsyau_priors import GraphPrior, GraphPriors

_HEADS = 3
_HEAD_FEATURES = 64
_NEGATIVE_SLOPE = 0.2


def attention(scores: Tensor, edges: Tensor, prior: Tensor, weight: float) -> Tensor:
    """Attention of every node to its neighbours: (1 - weight) softmax(scores) + weight prior.

    scores: (..., n, n), how much node i (row) wants to attend to node j (column).
    edges: (n, n) bool, true on the diagonal; a non-edge gets exactly 0 attention.
    prior: (n, n), rows sum to 1 and are 0 off the edges.
    weight: share of the prior, beta * rho in the paper's terms, in [0, 1].

    Returns (..., n, n); rows sum to 1.
    """
    learned = scores.masked_fill(~edges, float("-inf")).softmax(dim=-1)
    return torch.lerp(learned, prior.expand_as(learned), weight)


class AttentionLayer(nn.Module):
    """One layer of graph attention with independent heads, whose outputs are concatenated."""

    def __init__(self, in_features: int, out_features: int, heads: int) -> None:
        super().__init__()
        self.transform = nn.Linear(in_features, heads * out_features, bias=False)
        self.source = nn.Parameter(torch.empty(heads, out_features))
        self.target = nn.Parameter(torch.empty(heads, out_features))
        for parameter in (self.transform.weight, self.source, self.target):
            nn.init.xavier_uniform_(parameter)

    def forward(self, nodes: Tensor, edges: Tensor, prior: Tensor, weight: float) -> Tensor:
        """nodes: (B, n, in_features). Returns (B, n, heads * out_features)."""
        transformed, scores = self._projected(nodes)
        attended = attention(scores, edges, prior, weight) @ transformed
        return attended.transpose(1, 2).flatten(2)

    def attention_of(self, nodes: Tensor, edges: Tensor, prior: Tensor, weight: float) -> Tensor:
        """How much node i attends to node j for the arguments of `forward`: (B, heads, n, n)."""
        _, scores = self._projected(nodes)
        return attention(scores, edges, prior, weight)

    def _projected(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Features of every head, (B, heads, n, out_features), and scores, (B, heads, n, n)."""
        heads, out_features = self.source.shape
        # a.Wx = (W'a).x: what scores need of a node comes with its features, by one product.
        by_head = self.transform.weight.view(heads, out_features, -1)
        both = torch.stack([self.source, self.target])
        to_scores = (both.unsqueeze(2) @ by_head).view(2 * heads, -1)
        projected = F.linear(nodes, torch.cat([self.transform.weight, to_scores]))
        sizes = [heads * out_features, heads, heads]
        features, of_source, of_target = torch.split(projected, sizes, dim=2)
        transformed = features.reshape(*nodes.shape[:2], heads, out_features).transpose(1, 2)
        pairs = of_source.transpose(1, 2).unsqueeze(3) + of_target.transpose(1, 2).unsqueeze(2)
        return transformed, F.leaky_relu(pairs, _NEGATIVE_SLOPE)


class DpkGat(nn.Module):
    """DPK-GAT over the AUs of one graph: 3 heads x 64 features, then one head back to 25."""

    def __init__(self, prior: GraphPrior, beta: float, dropout: float) -> None:
        """beta: share of the extrinsic prior in the attention while its weight rho is 1."""
        super().__init__()
        self.beta = beta
        self.dropout = dropout
        # What is known beforehand is no weight: it comes from the settings, never from a model.
        self.register_buffer("edges", torch.from_numpy(prior.edges.copy()), persistent=False)
        self.register_buffer("prior", torch.from_numpy(prior.prior.copy()), persistent=False)
        self.edges: Tensor
        self.prior: Tensor
        self.hidden = AttentionLayer(AU_FEATURES, _HEAD_FEATURES, _HEADS)
        self.out = AttentionLayer(_HEADS * _HEAD_FEATURES, AU_FEATURES, heads=1)

    def forward(self, features: Tensor, prior_weight: float) -> Tensor:
        """features: (B, n, 25). prior_weight: rho in [0, 1]. Returns (B, n, 25), residual added."""
        known = (self.edges, self.prior, self.beta * prior_weight)
        dropped = F.dropout(features, self.dropout, self.training)
        hidden = F.elu(self.hidden(dropped, *known))
        hidden = F.dropout(hidden, self.dropout, self.training)
        return features + F.elu(self.out(hidden, *known))


class AuRelations(nn.Module):
    """The three graphs: upper face and lower face each on its own, then all 12 AUs together."""

    def __init__(self, priors: GraphPriors, beta: float, dropout: float) -> None:
        super().__init__()
        self.upper = DpkGat(priors.upper, beta, dropout)
        self.lower = DpkGat(priors.lower, beta, dropout)
        self.whole = DpkGat(priors.whole, beta, dropout)

    def forward(self, features: Tensor, prior_weight: float) -> Tensor:
        """features: (B, 12, 25), AUs in the order of `AUS`. Returns the same shape."""
        upper, lower = torch.split(features, [len(UPPER_AUS), len(LOWER_AUS)], dim=1)
        halves = [self.upper(upper, prior_weight), self.lower(lower, prior_weight)]
        related: Tensor = self.whole(torch.cat(halves, dim=1), prior_weight)
        return related
