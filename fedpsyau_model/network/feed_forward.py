"""A feed-forward layer with ReLU, worked off in pieces that stay in the processor's cache.

The hidden layer of `SpatialStructureEncoder` is 27 times as wide as its ends: 17 MB for 32 clips.
Going over the whole of it once for every operation costs as much as the matrix products.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from fedpsyau_model.network.pieces import pieces

#: Rows of a piece: its hidden layer, 2048 wide, takes 0.8 MB, which a core's own cache holds.
_ROWS_PER_THREAD = 96


def feed_forward(rows: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Compute ReLU(x W1' + b1) W2' + b2 for every row x.

    rows: (N, D). w1: (H, D), b1: (H,), w2: (E, H), b2: (E,), as `nn.Linear` has them.
    Returns (N, E).
    """
    # The first bias is one more column: to add it in advance would be one more pass over memory.
    rows, w1 = F.pad(rows, (0, 1), value=1.0), torch.cat([w1, b1[:, None]], dim=1)
    if torch.is_grad_enabled() and any(each.requires_grad for each in (rows, w1, w2, b2)):
        result: Tensor = _FeedForward.apply(rows, w1, w2, b2)  # type: ignore[no-untyped-call]
        return result
    return _forward(rows, w1, w2, b2, None)


def _forward(rows: Tensor, w1: Tensor, w2: Tensor, b2: Tensor, kept: Tensor | None) -> Tensor:
    """Compute ReLU(x W1') W2' + b2; kept: (N, H), filled with the hidden layer for `backward`."""
    result = rows.new_empty(len(rows), len(w2))
    cut = pieces(len(rows), _ROWS_PER_THREAD, rows.device)
    passing = rows.new_empty(_longest(cut), len(w1)) if kept is None else kept
    for piece in cut:
        hidden = passing[: piece.stop - piece.start] if kept is None else kept[piece]
        torch.mm(rows[piece], w1.t(), out=hidden).relu_()
        # Transposed: 75 columns fill vector registers badly, 96 rows well.
        torch.addmm(b2[:, None], w2, hidden.t(), out=result[piece].t())
    return result


class _FeedForward(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, w1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        hidden = rows.new_empty(len(rows), len(w1))
        ctx.save_for_backward(rows, hidden, w1, w2)
        return _forward(rows, w1, w2, b2, hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, hidden, w1, w2 = ctx.saved_tensors
        of_rows = torch.empty_like(rows)
        of_w1 = rows.new_zeros(w1.shape[::-1])
        of_w2 = torch.zeros_like(w2)
        cut = pieces(len(rows), _ROWS_PER_THREAD, rows.device)
        buffer = rows.new_empty(_longest(cut), len(w1))
        for piece in cut:
            own, before = hidden[piece], buffer[: piece.stop - piece.start]
            of_w2.addmm_(gradient[piece].t(), own)
            torch.mm(gradient[piece], w2, out=before)
            torch.ops.aten.threshold_backward.grad_input(before, own, 0, grad_input=before)
            of_w1.addmm_(rows[piece].t(), before)
            torch.mm(w1.t(), before.t(), out=of_rows[piece].t())
        return of_rows, of_w1.t(), of_w2, gradient.sum(dim=0)


def _longest(cut: list[slice]) -> int:
    lengths: list[int] = [piece.stop - piece.start for piece in cut]
    return max(lengths)
