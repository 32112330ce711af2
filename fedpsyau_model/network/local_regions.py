"""LRM, localized ROI modeling: what each facial point does, seen beside the other points."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedpsyau_model.network.feed_forward import feed_forward
from fedpsyau_model.network.normed_convolution import (
    convolve,
    normed,
    normed_convolution,
    normed_weights,
)
from fedpsyau_model.network.patch_matrix import patch_matrix, patch_taps
from fedpsyau_model.network.pieces import pieces
from fedpsyau_model.network.product import linear

#: Channels of a motion patch: u, v and optical strain.
MOTION_CHANNELS = 3

#: Height and width of the patch around a facial point.
PATCH_SIZE = 5

#: Features of one facial point: its patch after the extractor, flattened.
POINT_FEATURES = MOTION_CHANNELS * PATCH_SIZE * PATCH_SIZE

_EXTRACTOR_CHANNELS = (MOTION_CHANNELS, 32, 64, MOTION_CHANNELS)

#: Patches whose maps, 64 of them, stay in a core's own cache: 0.8 MB.
_PATCHES_PER_THREAD = 130

_ENCODER_HEADS = 5
_ENCODER_WIDTH = 2048


class LocalFeatureExtractor(nn.Module):
    """LFE: one stack of 3x3 convolutions, 3 -> 32 -> 64 -> 3 maps, shared by all facial points.

    All points of all clips are one batch.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(_EXTRACTOR_CHANNELS):
            layers += normed_convolution(before, after, kernel_size=3)
        self.layers = nn.Sequential(*layers)
        self.register_buffer("taps", patch_taps(PATCH_SIZE), persistent=False)
        self.taps: Tensor

    def forward(self, rois: Tensor) -> Tensor:
        """rois: (B, P, 3, 5, 5). Returns the features of every point, (B, P, 75)."""
        # Channels-last because batch norm over patches as small as these takes twice as long in
        # the default layout.
        patches = rois.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        *inner, last = (normed_weights(self.layers[start : start + 3]) for start in (0, 3, 6))
        weight, shift = last.folded()
        matrix = patch_matrix(weight, self.taps)
        if shift is None:  # Statistics are those of all patches.
            for layer in inner:
                patches = normed(convolve(patches, layer), layer.norm)
            features = _by_matrix(patches, matrix).reshape(-1, MOTION_CHANNELS, *rois.shape[3:])
            features = normed(features, last.norm)
        else:
            kernels = [layer.folded() for layer in inner]
            shifts = shift.repeat_interleave(len(self.taps))
            cut = pieces(len(patches), _PATCHES_PER_THREAD, patches.device)
            own = [_in_eval(patches[piece], kernels, matrix, shifts) for piece in cut]
            features = torch.cat(own)
        return features.reshape(*rois.shape[:2], POINT_FEATURES)


def _by_matrix(maps: Tensor, matrix: Tensor) -> Tensor:
    """The last convolution: channels-last (N, 64, 5, 5) -> (N, 75)."""
    return linear(maps.permute(0, 2, 3, 1).flatten(1), matrix)


def _in_eval(
    patches: Tensor,
    kernels: Sequence[tuple[Tensor, Tensor | None]],
    matrix: Tensor,
    shifts: Tensor,
) -> Tensor:
    """The whole stack, batch norm in its weights: (N, 3, 5, 5) -> (N, 75)."""
    for weight, shift in kernels:
        patches = F.conv2d(patches, weight, shift, padding="same").relu_()
    return (_by_matrix(patches, matrix) + shifts).relu_()


class PointEncoder(nn.TransformerEncoderLayer):
    """torch's transformer encoder layer, computed as it suits 65 points of 75 features.

    Parameters, their names, initial values and the definition (post-norm, no dropout) are torch's.
    """

    def __init__(self) -> None:
        super().__init__(
            POINT_FEATURES, _ENCODER_HEADS, _ENCODER_WIDTH, dropout=0.0, batch_first=True
        )

    def forward(self, points: Tensor) -> Tensor:  # type: ignore[override]
        """points: (B, P, 75). Returns the same shape; points of different clips do not mix."""
        rows = points.flatten(0, 1)
        rows = self.norm1(rows + self._attended(rows, points.shape[1]))
        hidden, out = self.linear1, self.linear2
        wide = feed_forward(rows, hidden.weight, hidden.bias, out.weight, out.bias)
        encoded: Tensor = self.norm2(rows + wide)
        return encoded.view_as(points)

    def _attended(self, rows: Tensor, point_count: int) -> Tensor:
        """Self-attention among each clip's points, P of them: (B P, 75) -> (B P, 75).

        Heads of 15 features get a zero as their 16th, which changes no scalar product: 16 numbers
        fill a vector register. It comes with the weights, so no activation is copied for it.
        """
        attention = self.self_attn
        each = POINT_FEATURES // _ENCODER_HEADS
        weight = F.pad(attention.in_proj_weight.view(3, _ENCODER_HEADS, each, -1), (0, 0, 0, 1))
        bias = F.pad(attention.in_proj_bias.view(3, _ENCODER_HEADS, each), (0, 1))
        projected = linear(rows, weight.flatten(0, 2), bias.flatten())
        by_head = projected.view(len(rows) // point_count, point_count, *bias.shape).permute(
            2, 0, 3, 1, 4
        )
        query, key, value = by_head.unbind()
        seen = F.scaled_dot_product_attention(query, key, value, scale=each**-0.5)
        out = F.pad(attention.out_proj.weight.view(-1, _ENCODER_HEADS, each), (0, 1)).flatten(1)
        return linear(
            seen.transpose(1, 2).reshape(len(rows), out.shape[1]), out, attention.out_proj.bias
        )


class SpatialStructureEncoder(nn.Module):
    """SSE: a transformer encoder layer across the points of one face, then a feed-forward layer.

    Clips never see each other: the batch stays the batch, the points are the sequence.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = PointEncoder()
        self.feed_forward = nn.Sequential(
            nn.Linear(POINT_FEATURES, _ENCODER_WIDTH),
            nn.ReLU(),
            nn.Linear(_ENCODER_WIDTH, POINT_FEATURES),
        )

    def forward(self, points: Tensor) -> Tensor:
        """points: (B, P, 75). Returns the same shape, a residual around the whole encoder."""
        hidden, out = cast(nn.Linear, self.feed_forward[0]), cast(nn.Linear, self.feed_forward[2])
        rows = self.encoder(points).flatten(0, 1)
        encoded = feed_forward(rows, hidden.weight, hidden.bias, out.weight, out.bias)
        return points + encoded.view_as(points)
