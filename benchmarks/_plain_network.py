"""AU-GAT-DSI as one writes it down from the paper: what the fast network is held against.

The local regions are 161 patch slots, four groups of points one after the other: a point that two
groups look at stands in two slots. Every slot has a convolution call of its own, every attention
head and every branch its own layers, and nothing is shared, merged or folded. Definition and names
of the parameters are those of `fedpsyau_model.network`, so that its weights can be loaded and both
give the same logits in eval mode.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedpsyau_model.action_units import AU_GROUPS
from fedpsyau_model.facial_points import group_point_indices
from fedpsyau_model.network import AuGatDsi
from fedpsyau_priors import GraphPrior, GraphPriors, graph_priors, published_priors


class PlainLocalFeatures(nn.Module):
    """Three small convolutions, called for every slot."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Conv2d(64, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
        )

    def forward(self, slots: list[Tensor]) -> list[Tensor]:
        """Each slot (B, 3, 5, 5) -> (B, 75)."""
        return [self.layers(slot).flatten(1) for slot in slots]


class PlainSpatialStructure(nn.Module):
    """torch's transformer layer and a feed-forward over the 65 points of a face."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(75, 5, 2048, dropout=0.0, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(75, 2048), nn.ReLU(), nn.Linear(2048, 75))

    def forward(self, points: Tensor) -> Tensor:
        """(B, 65, 75) -> the same."""
        encoded: Tensor = self.feed_forward(self.encoder(points))
        return points + encoded


class PlainExcitation(nn.Module):
    """Squeeze-excitation over the points of a group, with a residual."""

    def __init__(self, points: int) -> None:
        super().__init__()
        squeezed = max(4, points // 16)
        self.gates = nn.Sequential(
            nn.Linear(points, squeezed), nn.ReLU(), nn.Linear(squeezed, points), nn.Sigmoid()
        )

    def forward(self, points: Tensor) -> Tensor:
        """(B, P, 75) -> the same."""
        gates: Tensor = self.gates(points.mean(dim=2))
        return points + points * gates[:, :, None]


class PlainGroup(nn.Module):
    """Maps of the AUs of one group."""

    def __init__(self, points: int, aus: int) -> None:
        super().__init__()
        self.excitation = PlainExcitation(points)
        self.maps = nn.Sequential(
            nn.Conv2d(3 * points, 2 * aus, 3, padding=1, bias=False),
            nn.Conv2d(2 * aus, aus, 1, bias=False),
            nn.BatchNorm2d(aus),
            nn.ReLU(),
        )

    def forward(self, slots: list[Tensor]) -> Tensor:
        """Slots (B, 75) of the group -> (B, n, 25)."""
        points = self.excitation(torch.stack(slots, dim=1))
        maps: Tensor = self.maps(points.reshape(len(points), -1, 5, 5))
        return maps.flatten(2)


class PlainAuFeatures(nn.Module):
    """The four groups."""

    def __init__(self) -> None:
        super().__init__()
        self.group_points = group_point_indices()
        self.groups = nn.ModuleList(
            PlainGroup(len(points), len(aus))
            for points, aus in zip(self.group_points, AU_GROUPS, strict=True)
        )

    def forward(self, points: Tensor) -> Tensor:
        """(B, 65, 75) -> (B, 12, 25), of length 1 at most."""
        maps = [
            group([points[:, index] for index in own])
            for group, own in zip(self.groups, self.group_points, strict=True)
        ]
        return F.normalize(torch.cat(maps, dim=1), dim=2, eps=0.1)


class PlainAttention(nn.Module):
    """Graph attention, one head after the other."""

    def __init__(self, before: int, after: int, heads: int) -> None:
        super().__init__()
        self.after = after
        self.transform = nn.Linear(before, heads * after, bias=False)
        self.source = nn.Parameter(torch.zeros(heads, after))
        self.target = nn.Parameter(torch.zeros(heads, after))

    def forward(self, nodes: Tensor, edges: Tensor, prior: Tensor, weight: float) -> Tensor:
        """(B, n, before) -> (B, n, heads * after)."""
        heads = []
        weights = torch.split(self.transform.weight, self.after)
        for transform, source, target in zip(weights, self.source, self.target, strict=True):
            transformed = nodes @ transform.t()
            pairs = (transformed @ source)[:, :, None] + (transformed @ target)[:, None, :]
            scores = F.leaky_relu(pairs, 0.2).masked_fill(~edges, float("-inf"))
            alpha = (1 - weight) * torch.softmax(scores, dim=2) + weight * prior
            heads.append(alpha @ transformed)
        return torch.cat(heads, dim=2)


class PlainGraph(nn.Module):
    """One DPK-GAT."""

    edges: Tensor
    prior: Tensor

    def __init__(self, prior: GraphPrior, beta: float, dropout: float) -> None:
        super().__init__()
        self.beta, self.dropout = beta, dropout
        self.register_buffer("edges", torch.tensor(prior.edges), persistent=False)
        self.register_buffer("prior", torch.tensor(prior.prior), persistent=False)
        self.hidden = PlainAttention(25, 64, 3)
        self.out = PlainAttention(192, 25, 1)

    def forward(self, features: Tensor, prior_weight: float) -> Tensor:
        """(B, n, 25) -> the same."""
        known = (self.edges, self.prior, self.beta * prior_weight)
        hidden = F.elu(self.hidden(F.dropout(features, self.dropout, self.training), *known))
        hidden = F.dropout(hidden, self.dropout, self.training)
        return features + F.elu(self.out(hidden, *known))


class PlainRelations(nn.Module):
    """Upper face, lower face, whole face."""

    def __init__(self, priors: GraphPriors, beta: float, dropout: float) -> None:
        super().__init__()
        self.upper = PlainGraph(priors.upper, beta, dropout)
        self.lower = PlainGraph(priors.lower, beta, dropout)
        self.whole = PlainGraph(priors.whole, beta, dropout)

    def forward(self, features: Tensor, prior_weight: float) -> Tensor:
        """(B, 12, 25) -> the same."""
        upper = self.upper(features[:, :6], prior_weight)
        lower = self.lower(features[:, 6:], prior_weight)
        related: Tensor = self.whole(torch.cat([upper, lower], dim=1), prior_weight)
        return related


def _predictor(dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(300, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 12)
    )


class PlainAuBranch(nn.Module):
    """From patches to AUs, by slots."""

    def __init__(self, priors: GraphPriors, beta: float, dropout: float) -> None:
        super().__init__()
        self.local_features = PlainLocalFeatures()
        self.spatial_structure = PlainSpatialStructure()
        self.au_features = PlainAuFeatures()
        self.auxiliary_predictor = _predictor(dropout)
        self.relations = PlainRelations(priors, beta, dropout)
        self.predictor = _predictor(dropout)
        self.slots = [index for own in group_point_indices() for index in own]

    def forward(self, rois: Tensor, prior_weight: float) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 65, 3, 5, 5) -> AU features (B, 12, 25), two AU logits (B, 12)."""
        points = self.point_features(rois)
        features = self.au_features(self.spatial_structure(points))
        au_aux = self.auxiliary_predictor(features)
        features = self.relations(features, prior_weight)
        return features, self.predictor(features), au_aux

    def point_features(self, rois: Tensor) -> Tensor:
        """(B, 65, 3, 5, 5) -> (B, 65, 75), by way of the slots."""
        by_slot = self.local_features([rois[:, index] for index in self.slots])
        points = [by_slot[self.slots.index(point)] for point in range(rois.shape[1])]
        return torch.stack(points, dim=1)


def _convolution(before: int, after: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


class PlainInceptionBlock(nn.Module):
    """Four branches, one after the other."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                _convolution(before, after, 1),
                nn.Sequential(_convolution(before, after, 1), _convolution(after, after, 3)),
                nn.Sequential(_convolution(before, after, 1), _convolution(after, after, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), _convolution(before, after, 1)),
            ]
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, 4 after, H, W)."""
        return torch.cat([branch(maps) for branch in self.branches], dim=1)


def _stream(before: int, first: int, second: int) -> nn.Sequential:
    return nn.Sequential(
        PlainInceptionBlock(before, first),
        nn.MaxPool2d(2, ceil_mode=True),
        PlainInceptionBlock(4 * first, second),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
    )


class PlainInception(nn.Module):
    """Both streams and the classifier."""

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        self.au_stream = _stream(12, 16, 48)
        self.global_stream = nn.Sequential(_stream(3, 6, 16), nn.Linear(3136, 1024), nn.ReLU())
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1792, classes))

    def forward(self, au_features: Tensor, flow: Tensor) -> Tensor:
        """(B, 12, 25) and (B, 3, 28, 28) -> (B, C)."""
        maps = au_features.reshape(-1, 12, 5, 5)
        features = torch.cat([self.au_stream(maps), self.global_stream(flow)], dim=1)
        emotion: Tensor = self.classifier(features)
        return emotion


class PlainNetwork(nn.Module):
    """The whole network with both streams, graphs and published priors."""

    def __init__(self, model: AuGatDsi) -> None:
        """model: whose weights are copied; with both streams, graphs and published priors."""
        super().__init__()
        settings = model.settings
        priors = graph_priors(published_priors(settings.intrinsic_edges))
        self.au_branch = PlainAuBranch(priors, settings.beta, settings.dropout)
        self.inception = PlainInception(model.class_count, settings.dropout)
        self.to(next(model.parameters()).dtype).load_state_dict(model.state_dict())

    def forward(
        self, flow: Tensor, rois: Tensor, prior_weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Emotion (B, C) and AU logits (B, 12) after and before the graph."""
        au_features, au, au_aux = self.au_branch(rois, prior_weight)
        return self.inception(au_features, flow), au, au_aux


class _PlainAuBranchOverPoints(PlainAuBranch):
    def point_features(self, rois: Tensor) -> Tensor:
        features: Tensor = self.local_features.layers(rois.flatten(0, 1))
        return features.reshape(*rois.shape[:2], -1)


def plain_over_points(model: AuGatDsi) -> PlainNetwork:
    """Make a plain network, in eval mode, whose batch norm sees each of the 65 points once.

    So the two can be compared in training mode too: with slots, a point in two groups counts twice.
    """
    plain = PlainNetwork(model).eval()
    plain.au_branch.__class__ = _PlainAuBranchOverPoints
    return plain
