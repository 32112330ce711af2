"""Matrix products of float32 on a processor, by oneDNN instead of the BLAS that torch comes with.

That BLAS, MKL, keeps to AVX2 on processors of other makes than its own: it reaches less than half
of what oneDNN does there with AVX-512. torch has oneDNN's product under the name by which its
compiler calls it; tests/model/test_product.py holds what is expected of it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["Linear", "by_onednn", "linear", "product"]


def product(
    rows: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    """Compute x W' + b for every row x, or ReLU of it. No gradient flows back from it.

    rows: (N, D). weight: (E, D). bias: (E,). Any strides. Returns (N, E).
    """
    if by_onednn(rows):
        after = "relu" if relu else "none"
        result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, after, [], "")
        return result
    result = F.linear(rows, weight, bias)
    return result.relu_() if relu else result


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x W' + b for every row x, as `torch.nn.functional.linear` does.

    rows: (N, D). weight: (E, D). bias: (E,). Returns (N, E).
    """
    result: Tensor = _Linear.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return result


class Linear(nn.Linear):
    """torch's linear layer, computed by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, D). Returns (N, E)."""
        return linear(input, self.weight, self.bias)


def by_onednn(rows: Tensor) -> bool:
    """Whether `product` uses oneDNN for rows like these."""
    return (
        rows.device.type == "cpu"
        and rows.dtype is torch.float32
        and rows.numel() > 0
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and bool(torch.backends.mkldnn.enabled)
    )


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        rows_need, weight_needs, bias_needs = ctx.needs_input_grad
        return (
            product(gradient, weight.t()) if rows_need else None,
            product(gradient.t(), rows.t()) if weight_needs else None,
            gradient.sum(dim=0) if bias_needs else None,
        )
