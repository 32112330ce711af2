"""Batch-norm statistics of a site's own data, for whatever weights a model has.

Running averages need more steps than a small site takes in a round, and they belong to the weights
of before: a model that was fused meanwhile would be judged with statistics that fit neither.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.network import AuGatDsi

#: Statistics settle long before this many clips; more only cost time.
MOST_CLIPS = 512

#: Largest batch, to bound memory.
_BATCH = 64


@torch.no_grad()
def calibrate_batch_norm(model: AuGatDsi, clips: ClipTensors, prior_weight: float) -> None:
    """Set every batch norm's statistics to means over `clips`, in place; weights stay.

    clips: N >= 1; of more than `MOST_CLIPS`, evenly spaced ones are used. Nothing is random:
    dropout is off, and batches are equal to within one clip. The model's own mode is restored.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    was_training = model.training
    momenta = [layer.momentum for layer in layers]
    model.eval()
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
            layer.train()
        for indices in _batches(len(clips)):
            batch = clips.subset(indices).to(_device(model))
            model(batch.flow, batch.rois, prior_weight)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.train(was_training)


def _batches(count: int) -> tuple[torch.Tensor, ...]:
    used = torch.linspace(0, count - 1, min(count, MOST_CLIPS)).round().long()
    batches: tuple[torch.Tensor, ...] = torch.tensor_split(used, -(-len(used) // _BATCH))
    return batches


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
