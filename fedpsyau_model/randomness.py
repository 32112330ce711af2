"""Randomness as a value: torch's own random state, borrowed for a while and given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Let what draws from torch's global state on the CPU and `device` draw from `seed`.

    For initial weights and dropout, which take no generator. The state before is restored at the
    end, also after an error. seed: any integer of 64 bits.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # torch.manual_seed would reseed every device, and only the forked ones are restored.
        torch.default_generator.manual_seed(seed)
        for forked in cuda:
            with torch.cuda.device(forked):
                torch.cuda.manual_seed(seed)
        yield
