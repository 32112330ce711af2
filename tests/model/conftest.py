from collections.abc import Callable

import pytest
import torch

from fedpsyau_model.clip_tensors import ClipTensors

MakeClips = Callable[..., ClipTensors]


@pytest.fixture(scope="session")
def make_clips() -> MakeClips:
    """Make clips of random motion, of the size that real flow has, with random labels."""

    def make(count: int, seed: int = 0, class_count: int = 3) -> ClipTensors:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(count, *shape, generator=generator)

        return ClipTensors(
            flow=0.1 * normal(3, 28, 28),
            rois=0.4 * normal(65, 3, 5, 5),
            emotion=torch.randint(class_count, (count,), generator=generator),
            au=(normal(12) > 1).float(),
            au_known=(torch.arange(count) % 4 != 3)[:, None].expand(-1, 12).clone(),
        )

    return make
