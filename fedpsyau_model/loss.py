"""The loss of local training (supplement 9.2, equations 8 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fedpsyau_model.network import NetworkOutput
from fedpsyau_model.settings import LossSettings


class LossTerms(NamedTuple):
    """Equation 8 and its terms before weighting, each a scalar."""

    total: Tensor
    emotion: Tensor
    au: Tensor
    au_aux: Tensor


def recognition_loss(
    output: NetworkOutput,
    emotion: Tensor,
    au: Tensor,
    au_known: Tensor,
    class_weights: Tensor | None,
    settings: LossSettings,
) -> LossTerms:
    """alpha1 CE(emotion) + alpha2 BCE(au) + alpha3 BCE(au_aux), equation 8.

    output: logits of B clips; AU logits may be None, their terms are 0 then.
    emotion: (B,) int64. au: (B, 12) float, 0 or 1. au_known: (B, 12) bool, AUs that were coded;
        `au` of the others is ignored.
    class_weights: (C,), or None for equal weights.

    The emotion term is the mean over clips of the weighted cross-entropy, so a batch of nothing
    but rare classes counts more than one of frequent classes. The AU terms are means over
    all AUs of all clips that were coded, exactly 0 if there are none.
    """
    cross_entropy = F.cross_entropy(
        output.emotion, emotion, weight=class_weights, reduction="none"
    ).mean()
    after_graph = _au_loss(output.au, au, au_known)
    before_graph = _au_loss(output.au_aux, au, au_known)
    total = (
        settings.alpha1 * cross_entropy
        + settings.alpha2 * after_graph
        + settings.alpha3 * before_graph
    )
    return LossTerms(total, cross_entropy, after_graph, before_graph)


def _au_loss(logits: Tensor | None, au: Tensor, au_known: Tensor) -> Tensor:
    if logits is None:
        return torch.zeros((), device=au.device)
    # Unknown labels may hold anything, even NaN, and NaN times 0 is NaN: replace before computing.
    labels = torch.where(au_known, au, 0.0)
    each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (each * au_known).sum() / au_known.sum().clamp(min=1)


def inverse_frequency_weights(emotion: Tensor, class_count: int) -> Tensor:
    """Class weights N / (K n_c) for n_c of N clips in class c, K classes being present.

    emotion: (N,) int64 in [0, class_count), N >= 1. Returns (class_count,) float32, whose mean
    over the N clips is 1. A class without clips gets 0: nothing of it can be learnt here.
    """
    counts = torch.bincount(emotion, minlength=class_count).float()
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0)


@torch.no_grad()
def add_proximal_gradient(
    parameters: Sequence[Tensor], centre: Sequence[Tensor], weight: float
) -> Tensor:
    """Add the gradient of a proximal term, as in equation 9, and return the term itself.

    The term is weight / 2 ||w - g||^2 over all `parameters` w and the `centre` g, so its
    gradient weight (w - g) is added to every `.grad`, which must be there already. In closed form
    it costs a tenth of what it would through autograd.
    """
    differences = torch._foreach_sub(list(parameters), list(centre))
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_add_(gradients, differences, alpha=weight)
    # Not a foreach norm: over millions of float32 numbers that one is off by some 0.1 %.
    return weight / 2 * torch.stack([change.square().sum() for change in differences]).sum()
