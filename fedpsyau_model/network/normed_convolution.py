"""Convolutions that batch norm and ReLU follow, computed together wherever they can be.

`nn.Sequential(convolution, batch norm, ReLU)` is how such a layer is built and named; here is how
it is run. In eval mode batch norm is a scale and a shift, which the convolution's weights take
over. In training several layers side by side share one pass over their maps: every channel has
statistics of its own, so it does not matter whose layer it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NormedWeights", "convolve", "normed", "normed_convolution", "normed_weights"]


def normed_convolution(before: int, after: int, kernel_size: int) -> nn.Sequential:
    """Build convolution, batch norm and ReLU, which keep height and width."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class NormedWeights(NamedTuple):
    """What is learnt in a convolution, (out, in, K, K), and in the batch norm behind it."""

    weight: Tensor
    norm: nn.BatchNorm2d

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weights to convolve with and the shift to add, (out,), that hold an eval-mode batch norm.

        While batch norm is in training mode they are the plain weights, and there is no shift.
        """
        weight, norm = self
        if norm.training:
            return weight, None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


def normed_weights(layer: nn.Module) -> NormedWeights:
    """Weights of a layer that `normed_convolution` has built."""
    convolution, norm, _ = layer.children()
    return NormedWeights(cast(Tensor, convolution.weight), cast(nn.BatchNorm2d, norm))


def convolve(maps: Tensor, *layers: NormedWeights) -> Tensor:
    """Run the convolutions of layers with equal kernels over the same maps.

    maps: (B, in, H, W). Returns (B, all outs, H, W), channels side by side, to be handed to
    `normed`.
    """
    folded = [layer.folded() for layer in layers]
    shifts = [shift for _, shift in folded if shift is not None]
    weight = torch.cat([weight for weight, _ in folded])
    return F.conv2d(maps, weight, torch.cat(shifts) if shifts else None, padding="same")


def normed(maps: Tensor, *norms: nn.BatchNorm2d) -> Tensor:
    """Batch norm, unless the weights have taken it over, and ReLU.

    maps: (B, C, H, W), the channels of all `norms` side by side.
    """
    return _side_by_side(maps, norms).relu_() if norms[0].training else maps.relu()


def _side_by_side(maps: Tensor, norms: Sequence[nn.BatchNorm2d]) -> Tensor:
    """Batch norm in training mode with the parameters of several, whose statistics it updates."""
    first = norms[0]
    counts = [cast(Tensor, norm.num_batches_tracked) for norm in norms]
    means = [cast(Tensor, norm.running_mean) for norm in norms]
    variances = [cast(Tensor, norm.running_var) for norm in norms]
    mean, variance = torch.cat(means), torch.cat(variances)
    torch._foreach_add_(counts, 1)
    result = F.batch_norm(
        maps,
        mean,
        variance,
        torch.cat([norm.weight for norm in norms]),
        torch.cat([norm.bias for norm in norms]),
        training=True,
        # As torch's own module has it: without a momentum, the mean over all batches.
        momentum=1 / float(counts[0]) if first.momentum is None else first.momentum,
        eps=first.eps,
    )
    sizes = [len(each) for each in means]
    torch._foreach_copy_(means, torch.split(mean, sizes))
    torch._foreach_copy_(variances, torch.split(variance, sizes))
    return result
