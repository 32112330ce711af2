"""Small stores to train on: a synthetic twin, and stores of random motion with chosen labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fedpsyau_client.store.feature_store import ClipTable, write_feature_store
from fedpsyau_client.synthetic.twin import write_twin
from fedpsyau_model.emotions import CLASS_NAMES

MakeStore = Callable[..., Path]


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven synthetic partitions of 40 clips and 8 subjects each."""
    folder = tmp_path_factory.mktemp("protocols") / "data"
    write_twin(folder, scale=0.001)
    return folder


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Write a store of random motion below tmp_path/data; returns that folder."""

    def make(
        partition: str,
        subjects: Sequence[str],
        *,
        dataset: str = "lab",
        prefix: str | None = None,
        emotions: bool = True,
        aus: bool = True,
        seed: int = 0,
    ) -> Path:
        count = len(subjects)
        generator = np.random.default_rng(seed)
        labels = np.arange(count) % 3
        empty = np.full(count, "")
        active = generator.random((count, 12)) < 0.3
        clips = ClipTable(
            clip=np.array([f"{prefix or partition}-{i:03d}" for i in range(count)]),
            subject=np.array(subjects),
            emotion=np.array(["disgust", "happiness", "surprise"])[labels] if emotions else empty,
            class3=np.array(CLASS_NAMES["three"])[labels] if emotions else empty,
            class7=np.array(["disgust", "happiness", "surprise"])[labels] if emotions else empty,
            au_known=np.full(count, aus),
            aus=(active & aus).astype(np.uint8),
        )
        write_feature_store(
            tmp_path / "data" / partition,
            partition=partition,
            dataset=dataset,
            synthetic=False,
            clips=clips,
            flow=0.1 * generator.standard_normal((count, 3, 28, 28)),
            rois=0.4 * generator.standard_normal((count, 65, 3, 5, 5)),
            preprocessing={},
        )
        return tmp_path / "data"

    return make
