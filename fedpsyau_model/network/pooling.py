"""Max pooling without the positions of the maxima where no gradient asks for them.

Finding positions takes torch ten times as long as the maxima alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PoolQuarters", "pool_neighbours", "pool_quarters"]

_NOTHING = float("-inf")


def pool_neighbours(maps: Tensor) -> Tensor:
    """Maximum over 3x3 positions: (B, C, H, W) -> the same shape."""
    if _needs_positions(maps):
        return F.max_pool2d(maps, 3, stride=1, padding=1)
    maps = F.pad(maps, (1, 1, 1, 1), value=_NOTHING)
    rows = torch.maximum(torch.maximum(maps[:, :, :-2], maps[:, :, 1:-1]), maps[:, :, 2:])
    return torch.maximum(torch.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def pool_quarters(maps: Tensor) -> Tensor:
    """Maximum over 2x2 squares, odd rims kept: (B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2))."""
    if _needs_positions(maps):
        return F.max_pool2d(maps, 2, ceil_mode=True)
    height, width = maps.shape[2:]
    if height % 2 or width % 2:
        maps = F.pad(maps, (0, width % 2, 0, height % 2), value=_NOTHING)
    rows = torch.maximum(maps[:, :, ::2], maps[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


class PoolQuarters(nn.Module):
    """`pool_quarters` as a layer."""

    def forward(self, maps: Tensor) -> Tensor:
        """See `pool_quarters`."""
        return pool_quarters(maps)


def _needs_positions(maps: Tensor) -> bool:
    return maps.requires_grad and torch.is_grad_enabled()
