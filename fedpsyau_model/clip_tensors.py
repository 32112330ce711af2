"""Clips as tensors: what the network looks at, and the labels that it should find."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fedpsyau_model.action_units import AUS, POINT_COUNT


@dataclass(frozen=True, eq=False)
class ClipTensors:
    """N clips, all tensors on one device; ValueError unless the shapes fit each other.

    flow: (N, 3, 28, 28) float32. rois: (N, 65, 3, 5, 5) float32. Both as `AuGatDsi` takes them.
    emotion: (N,) int64, class index; not looked at by `predict`.
    au: (N, 12) float32, 1 where an AU is active, else 0; anything where not known.
    au_known: (N, 12) bool, AUs that a coder looked for in the clip.
    """

    flow: Tensor
    rois: Tensor
    emotion: Tensor
    au: Tensor
    au_known: Tensor

    def __post_init__(self) -> None:
        clips = len(self.flow)
        expected = {
            "flow": (clips, 3, 28, 28),
            "rois": (clips, POINT_COUNT, 3, 5, 5),
            "emotion": (clips,),
            "au": (clips, len(AUS)),
            "au_known": (clips, len(AUS)),
        }
        for name, shape in expected.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise ValueError(f"{name} must have shape {shape}, not {found}")

    def __len__(self) -> int:
        return len(self.flow)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.flow.device

    def subset(self, indices: Tensor) -> ClipTensors:
        """Copy the clips at `indices`, (M,) int64, in that order."""
        indices = indices.to(self.device)
        return ClipTensors(
            *(getattr(self, field.name).index_select(0, indices) for field in fields(self))
        )

    def to(self, device: torch.device) -> ClipTensors:
        """Move the clips to `device`; they are not copied if they are there already."""
        return ClipTensors(*(getattr(self, field.name).to(device) for field in fields(self)))
