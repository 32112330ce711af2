"""AFR, first half: from facial points to one feature map per action unit, and AU prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedpsyau_model.action_units import AU_GROUPS, AUS
from fedpsyau_model.network.local_regions import MOTION_CHANNELS, PATCH_SIZE
from fedpsyau_model.network.normed_convolution import NormedWeights, convolve, normed

#: Features of one action unit: its 5x5 map, flattened.
AU_FEATURES = PATCH_SIZE * PATCH_SIZE

_REDUCTION = 16

#: 23 points / 16 would be a single unit, and nothing would be left once ReLU switches it off.
_SMALLEST_SQUEEZE = 4

_PREDICTOR_WIDTH = 128

#: Below this length a map is hardly active (batch-normalised maps have lengths of a few units) and
#: is left short: stretching it to length 1 would multiply its gradient without bound.
_SHORTEST_NORM = 0.1


class GroupSqueezeExcitation(nn.Module):
    """GSE: weigh the facial points of one AU group by what the whole group does."""

    def __init__(self, point_count: int) -> None:
        super().__init__()
        squeezed = max(_SMALLEST_SQUEEZE, point_count // _REDUCTION)
        self.gates = nn.Sequential(
            nn.Linear(point_count, squeezed),
            nn.ReLU(inplace=True),
            nn.Linear(squeezed, point_count),
            nn.Sigmoid(),
        )

    def forward(self, points: Tensor) -> Tensor:
        """points: (B, P, 75). Returns the same shape: x + gate(x) x, one gate in (0, 1) a point."""
        gates: Tensor = self.gates(points.mean(dim=2))
        return points + points * gates.unsqueeze(2)


class GroupFeatures(nn.Module):
    """Feature maps of the AUs of one anatomical group from the group's facial points."""

    def __init__(self, point_count: int, au_count: int) -> None:
        super().__init__()
        self.excitation = GroupSqueezeExcitation(point_count)
        self.channels = point_count * MOTION_CHANNELS
        self.maps = nn.Sequential(
            nn.Conv2d(self.channels, 2 * au_count, 3, padding=1, bias=False),
            nn.Conv2d(2 * au_count, au_count, 1, bias=False),
            nn.BatchNorm2d(au_count),
            nn.ReLU(inplace=True),
        )

    @property
    def norm(self) -> nn.BatchNorm2d:
        """Batch norm of the maps."""
        return cast(nn.BatchNorm2d, self.maps[2])

    def forward(self, points: Tensor) -> Tensor:
        """points: (B, P, 75), the group's own. Returns (B, n, 5, 5), to be handed to `normed`."""
        excited = self.excitation(points).view(-1, self.channels, PATCH_SIZE, PATCH_SIZE)
        # Nothing stands between the two convolutions, so they are one with the product's weights.
        wide, narrow = cast(Tensor, self.maps[0].weight), cast(Tensor, self.maps[1].weight)
        weight = (narrow.flatten(1) @ wide.flatten(1)).view(-1, *wide.shape[1:])
        return convolve(excited, NormedWeights(weight, self.norm))


class AuFeatureExtractor(nn.Module):
    """AFE: the features of all 12 AUs, in the order of `AUS`."""

    def __init__(self, group_points: Sequence[Sequence[int]]) -> None:
        """group_points: indices into the facial points, for each group of `AU_GROUPS`."""
        super().__init__()
        self.group_sizes = [len(points) for points in group_points]
        slots = torch.tensor([index for points in group_points for index in points])
        self.register_buffer("slots", slots, persistent=False)
        self.slots: Tensor
        self.groups = nn.ModuleList(
            GroupFeatures(size, len(aus))
            for size, aus in zip(self.group_sizes, AU_GROUPS, strict=True)
        )

    def forward(self, points: Tensor) -> Tensor:
        """points: (B, 65, 75). Returns (B, 12, 25), each AU's features of length 1 at most."""
        by_group = torch.split(points.index_select(1, self.slots), self.group_sizes, dim=1)
        maps = [group(own) for group, own in zip(self.groups, by_group, strict=True)]
        norms = [cast(GroupFeatures, group).norm for group in self.groups]
        features = normed(torch.cat(maps, dim=1), *norms)
        return F.normalize(features.flatten(2), dim=2, eps=_SHORTEST_NORM)


class AuPredictor(nn.Sequential):
    """AP: (B, 12, 25) AU features -> (B, 12) AU logits, through 300 -> 128 -> 12."""

    def __init__(self, dropout: float) -> None:
        first = nn.Linear(len(AUS) * AU_FEATURES, _PREDICTOR_WIDTH)
        # The 300 inputs are 12 vectors of length 1. The usual initial weights expect inputs of
        # size 1 each, and would start with a signal ten times too faint to be learnt in time.
        nn.init.normal_(first.weight, std=len(AUS) ** -0.5)
        super().__init__(
            nn.Flatten(),
            first,
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(_PREDICTOR_WIDTH, len(AUS)),
        )
