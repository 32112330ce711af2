"""What a site's data cost: opening a store of 1,500 clips, and time of an epoch outside its steps.

The store is a partition of the synthetic twin, opened as a client does it, checksums and all, with
its pages in memory; the best of several times counts. The epoch is one of a site's own training,
from the clips of the opened store to the trained network; a step is what
`benchmarks.train_step` measures: forward, loss, backward, update.

    python -m benchmarks.data_path
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from fedpsyau_client.local_training.site_clips import divide_clips
from fedpsyau_client.store.feature_store import (
    FeatureStore,
    open_feature_store,
    write_feature_store,
)
from fedpsyau_client.synthetic.twin import (
    DATASETS,
    make_partition,
    partition_clips,
    planned_partitions,
)
from fedpsyau_model import training
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.network import build_network
from fedpsyau_model.schedules import epochs_of_round
from fedpsyau_model.settings import FederationSettings

#: The partition of the twin with 1,513 clips.
PARTITION = "dfme_c5"


def main() -> None:
    """Print what was measured, then the figures."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    plan = next(each for each in planned_partitions(1.0) if each.name == PARTITION)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = make_partition(plan, 0)
        write_feature_store(
            folder / PARTITION,
            partition=PARTITION,
            dataset=DATASETS[plan.source],
            synthetic=True,
            clips=partition_clips(PARTITION, made.labels),
            flow=made.flow,
            rois=made.rois,
            preprocessing={},
        )
        seconds = []
        for _ in range(arguments.repeat):
            started = time.perf_counter()
            store = open_feature_store(folder / PARTITION)
            seconds.append(time.perf_counter() - started)
        size = store.manifest.files.features.size_bytes / 1e6
        print(f"store of {len(store)} clips, {size:.0f} MB, opened {arguments.repeat} times")
        share = _share_outside(store)
    print(f"data_overhead_fraction: {share:.4f}")
    print(f"store_open_seconds: {min(seconds):.3f}")


def _share_outside(store: FeatureStore) -> float:
    """Share of an epoch that passes outside the training steps."""
    settings = FederationSettings()
    device = torch.device("cpu")
    started = time.perf_counter()
    clips = divide_clips(store, settings, np.random.default_rng(0), device).training
    print(f"its clips divided and loaded in {time.perf_counter() - started:.3f} s, once a run")
    in_steps = 0.0
    step = training.train_step

    def timed(*arguments: object) -> training.MeanLosses:
        nonlocal in_steps
        started = time.perf_counter()
        losses = step(*arguments)  # type: ignore[arg-type]
        in_steps += time.perf_counter() - started
        return losses

    def epoch(clips: ClipTensors) -> None:
        training.train(
            build_network(settings.network, settings.seed),
            clips,
            epochs_of_round(1, 20, settings.training)[:1],
            training=settings.training,
            loss=settings.loss,
            generator=torch.Generator().manual_seed(0),
        )

    epoch(clips.subset(torch.arange(2)))  # The first optimiser of a process loads half of torch.
    with patch.object(training, "train_step", timed):
        started = time.perf_counter()
        epoch(clips)
        whole = time.perf_counter() - started
    print(f"epoch of {len(clips)} clips: {whole:.2f} s, of which {in_steps:.2f} s in its steps")
    return 1 - in_steps / whole


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=10, help="times the store is opened")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the network")
    return parser.parse_args()


if __name__ == "__main__":
    main()
