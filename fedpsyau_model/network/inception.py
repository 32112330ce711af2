"""DSI, dual-stream inception: AU maps and global optical flow, joined to classify the emotion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fedpsyau_model.action_units import AUS
from fedpsyau_model.network.local_regions import MOTION_CHANNELS, PATCH_SIZE
from fedpsyau_model.network.normed_convolution import (
    NormedWeights,
    convolve,
    normed,
    normed_convolution,
    normed_weights,
)
from fedpsyau_model.network.pooling import PoolQuarters, pool_neighbours
from fedpsyau_model.network.product import Linear

#: Height and width of the global optical flow.
FLOW_SIZE = 28

_BRANCHES = 4
_AU_CHANNELS = (16, 48)
_FLOW_CHANNELS = (6, 16)
_FLOW_FEATURES = 1024


_Pair = tuple[NormedWeights, NormedWeights]


class InceptionBlock(nn.Module):
    """Four branches side by side: 1x1; 1x1 - 3x3; 1x1 - 5x5; pooling - 1x1.

    Every convolution is followed by batch norm and ReLU. Batch norm makes the streams indifferent
    to the scale of their input: flow methods recover between 0.6 and 1.0 of a motion's magnitude,
    and a 28x28 flow is a few tenths of a pixel.
    """

    def __init__(self, in_channels: int, branch_channels: int) -> None:
        super().__init__()
        self.branch_channels = branch_channels
        self.branches = nn.ModuleList(
            [
                normed_convolution(in_channels, branch_channels, 1),
                nn.Sequential(
                    normed_convolution(in_channels, branch_channels, 1),
                    normed_convolution(branch_channels, branch_channels, 3),
                ),
                nn.Sequential(
                    normed_convolution(in_channels, branch_channels, 1),
                    normed_convolution(branch_channels, branch_channels, 5),
                ),
                nn.Sequential(
                    nn.MaxPool2d(3, stride=1, padding=1),
                    normed_convolution(in_channels, branch_channels, 1),
                ),
            ]
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Run the branches: (B, in_channels, H, W) -> (B, 4 branch_channels, H, W), >= 0.

        The three 1x1 convolutions over the same maps are one, and so are the batch norms that come
        after the branches' last convolutions.
        """
        width = self.branch_channels
        one, (before_three, three), (before_five, five), after_pooling = self._layers()
        first = convolve(maps, one, before_three, before_five)
        inner = normed(first[:, width:], before_three.norm, before_five.norm)
        last = [
            first[:, :width],
            convolve(inner[:, :width], three),
            convolve(inner[:, width:], five),
            convolve(pool_neighbours(maps), after_pooling),
        ]
        norms = (one.norm, three.norm, five.norm, after_pooling.norm)
        return normed(torch.cat(last, dim=1), *norms)

    def _layers(self) -> tuple[NormedWeights, _Pair, _Pair, NormedWeights]:
        branches: Any = self.branches
        one, three, five, (_, after_pooling) = branches
        return (
            normed_weights(one),
            (normed_weights(three[0]), normed_weights(three[1])),
            (normed_weights(five[0]), normed_weights(five[1])),
            normed_weights(after_pooling),
        )


class InceptionStream(nn.Sequential):
    """Two inception blocks, each followed by 2x2 pooling that keeps odd rims; then flattened."""

    def __init__(self, in_channels: int, branch_channels: tuple[int, int], size: int) -> None:
        """size: height and width of the input maps."""
        first, second = branch_channels
        super().__init__(
            InceptionBlock(in_channels, first),
            PoolQuarters(),
            InceptionBlock(_BRANCHES * first, second),
            PoolQuarters(),
            nn.Flatten(),
        )
        self.out_features = _BRANCHES * second * (-(-size // 4)) ** 2

    def forward(self, maps: Tensor) -> Tensor:
        """maps: (B, in_channels, H, W). Returns (B, out_features)."""
        # Channels-last: convolutions with few channels and pooling take half the time.
        maps = maps.contiguous(memory_format=torch.channels_last)
        for layer in self:
            maps = layer(maps)
        return maps


class DualStreamInception(nn.Module):
    """The classifier over one or both streams: 768 AU features and 1024 flow features -> C."""

    def __init__(
        self, class_count: int, dropout: float, *, au_stream: bool, global_stream: bool
    ) -> None:
        super().__init__()
        features = 0
        self.au_stream: InceptionStream | None = None
        self.global_stream: nn.Sequential | None = None
        if au_stream:
            self.au_stream = InceptionStream(len(AUS), _AU_CHANNELS, PATCH_SIZE)
            features += self.au_stream.out_features
        if global_stream:
            stream = InceptionStream(MOTION_CHANNELS, _FLOW_CHANNELS, FLOW_SIZE)
            reduction = Linear(stream.out_features, _FLOW_FEATURES)
            self.global_stream = nn.Sequential(stream, reduction, nn.ReLU(inplace=True))
            features += _FLOW_FEATURES
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, class_count))

    def forward(self, au_features: Tensor | None, flow: Tensor) -> Tensor:
        """Classify from the streams that this network has: emotion logits (B, C).

        au_features, flow: see `features`.
        """
        emotion: Tensor = self.classifier(self.features(au_features, flow))
        return emotion

    def features(self, au_features: Tensor | None, flow: Tensor) -> Tensor:
        """Run the streams that this network has: what the classifier sees, (B, F).

        au_features: (B, 12, 25), or None without an AU stream.
        flow: (B, 3, 28, 28); not looked at without a global stream.
        """
        streams: list[Tensor] = []
        if self.au_stream is not None and au_features is not None:
            streams.append(
                self.au_stream(au_features.reshape(-1, len(AUS), PATCH_SIZE, PATCH_SIZE))
            )
        if self.global_stream is not None:
            streams.append(self.global_stream(flow))
        return torch.cat(streams, dim=1)
