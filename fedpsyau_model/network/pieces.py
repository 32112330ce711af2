"""Batches cut into pieces that a processor core's own cache holds."""

from __future__ import annotations

import torch

__all__ = ["pieces"]


def pieces(rows: int, per_thread: int, device: torch.device) -> list[slice]:
    """Cut `rows` rows into pieces of `per_thread` rows for every thread, the last one smaller.

    All of them are one piece on a device that hides memory's latency by itself; no rows are one
    piece as well.
    """
    size = per_thread * torch.get_num_threads() if device.type == "cpu" else max(1, rows)
    starts = range(0, max(1, rows), size)
    return [slice(start, min(start + size, rows)) for start in starts]
