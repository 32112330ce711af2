"""LRM, localized ROI modeling: what each facial point does, seen beside the other points."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

#: Channels of a motion patch: u, v and optical strain.
MOTION_CHANNELS = 3

#: Height and width of the patch around a facial point.
PATCH_SIZE = 5

#: Features of one facial point: its patch after the extractor, flattened.
POINT_FEATURES = MOTION_CHANNELS * PATCH_SIZE * PATCH_SIZE

_EXTRACTOR_CHANNELS = (MOTION_CHANNELS, 32, 64, MOTION_CHANNELS)
_ENCODER_HEADS = 5
_ENCODER_WIDTH = 2048


class LocalFeatureExtractor(nn.Module):
    """LFE: one stack of 3x3 convolutions, 3 -> 32 -> 64 -> 3 maps, shared by all facial points."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(_EXTRACTOR_CHANNELS):
            layers += [
                nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, rois: Tensor) -> Tensor:
        """rois: (B, P, 3, 5, 5). Returns the features of every point, (B, P, 75)."""
        # All points of all clips are one batch. Channels-last because batch norm over patches as
        # small as these takes twice as long in the default layout.
        patches = rois.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.layers(patches)
        return features.reshape(*rois.shape[:2], POINT_FEATURES)


class SpatialStructureEncoder(nn.Module):
    """SSE: a transformer encoder layer across the points of one face, then a feed-forward layer.

    Clips never see each other: the batch stays the batch, the points are the sequence.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(
            POINT_FEATURES, _ENCODER_HEADS, _ENCODER_WIDTH, dropout=0.0, batch_first=True
        )
        self.feed_forward = nn.Sequential(
            nn.Linear(POINT_FEATURES, _ENCODER_WIDTH),
            # Not in place: a linear layer over three dimensions returns a view, and autograd
            # copies the whole of it several times if it is written to.
            nn.ReLU(),
            nn.Linear(_ENCODER_WIDTH, POINT_FEATURES),
        )

    def forward(self, points: Tensor) -> Tensor:
        """points: (B, P, 75). Returns the same shape, a residual around the whole encoder."""
        encoded: Tensor = self.feed_forward(self.encoder(points))
        return points + encoded
