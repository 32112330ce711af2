"""A feed-forward layer with ReLU whose hidden layer is far wider than its ends.

In `SpatialStructureEncoder` it is 27 times as wide, 17 MB for 32 clips, so a pass over it costs as
much as a good part of a matrix product. Here ReLU is part of the first product, and the first
bias's gradient part of a product, too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from fedpsyau_model.network.product import product


def feed_forward(rows: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Compute ReLU(x W1' + b1) W2' + b2 for every row x.

    rows: (N, D). w1: (H, D), b1: (H,), w2: (E, H), b2: (E,), as `nn.Linear` has them.
    Returns (N, E).
    """
    # The first bias as one more column: its gradient comes with that of the weights.
    rows, w1 = F.pad(rows, (0, 1), value=1.0), torch.cat([w1, b1[:, None]], dim=1)
    result: Tensor = _FeedForward.apply(rows, w1, w2, b2)  # type: ignore[no-untyped-call]
    return result


class _FeedForward(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, w1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        hidden = product(rows, w1, relu=True)
        ctx.save_for_backward(rows, hidden, w1, w2)
        return product(hidden, w2, b2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, hidden, w1, w2 = ctx.saved_tensors
        of_hidden = product(gradient, w2.t())
        torch.ops.aten.threshold_backward.grad_input(of_hidden, hidden, 0, grad_input=of_hidden)
        return (
            product(of_hidden, w1.t()),
            product(rows.t(), of_hidden.t()).t(),
            product(gradient.t(), hidden.t()),
            gradient.sum(dim=0),
        )
