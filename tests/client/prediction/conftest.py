"""Rendered sequences as folders and videos, and model files that prediction can use."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fedpsyau_client.prediction.quiet_detector import quiet_detector
from fedpsyau_client.prediction.recogniser_file import RECOGNISER, calibration, recogniser_facts
from fedpsyau_client.preparation.landmark_model import find_landmark_model
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_client.synthetic.rendering.clip_timing import with_rest
from fedpsyau_client.synthetic.rendering.frames_folder import write_clip
from fedpsyau_client.synthetic.rendering.frames_twin import render_clips
from fedpsyau_client.synthetic.twin import draw_site, planned_partitions, write_twin
from fedpsyau_model.checkpoints import write_checkpoint
from fedpsyau_model.model_state import state_arrays
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import NetworkSettings
from fedpsyau_priors import published_priors

#: Course of a rendered sequence, in frames; a second has 30.
FPS, REST, EXPRESSION = 30, 5, 13

MakeModel = Callable[..., Path]


@dataclasses.dataclass(frozen=True)
class Sequence:
    """A rendered sequence; frames count from 1."""

    folder: Path
    onset: int
    apex: int
    frames: int


def render(folder: Path, seed: int, still: bool = False) -> Sequence:
    """Write a sequence of one synthetic subject as images."""

    def adapt(timing):
        rested = with_rest(timing, REST, REST)
        return dataclasses.replace(rested, strength=0 * rested.strength) if still else rested

    partition = planned_partitions(0.001)[seed % 7]
    drawn = draw_site(partition, seed)
    clips = render_clips(partition.name, drawn, seed, EXPRESSION, adapt=adapt)
    clip = next(itertools.islice(clips, 0, None))
    write_clip(folder, clip.frames)
    return Sequence(folder, REST + 1, clip.timing.apex + 1, 2 * REST + EXPRESSION)


@pytest.fixture(scope="session")
def moving(tmp_path_factory) -> Sequence:
    return render(tmp_path_factory.mktemp("moving") / "clip", seed=11)


@pytest.fixture(scope="session")
def still(tmp_path_factory) -> Sequence:
    return render(tmp_path_factory.mktemp("still") / "clip", seed=11, still=True)


@pytest.fixture(scope="session")
def video(moving, tmp_path_factory) -> Path:
    """The moving sequence as a video without loss."""
    file = tmp_path_factory.mktemp("video") / "clip.avi"
    pictures = [cv2.imread(str(each)) for each in sorted(moving.folder.iterdir())]
    codec = cv2.VideoWriter.fourcc(*"FFV1")
    writer = cv2.VideoWriter(str(file), codec, FPS, pictures[0].shape[1::-1])
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return file


@pytest.fixture(scope="session")
def detector():
    with quiet_detector(find_landmark_model()) as opened:
        yield opened


@pytest.fixture
def make_model(tmp_path: Path, make_manifest) -> MakeModel:
    """Write a model file of fresh weights; its answers mean nothing, but are answers."""

    def make(
        name: str = "model.safetensors",
        *,
        network: NetworkSettings | None = None,
        flow: str | None = "dis",
        calibrated: bool = True,
        synthetic: bool = False,
        seed: int = 0,
        changes: dict[str, object] | None = None,
    ) -> Path:
        settings = network or NetworkSettings()
        built = build_network(settings, seed)
        generator = np.random.default_rng(seed)
        classes = built.class_count
        facts = recogniser_facts(
            made_by="train",
            network=settings,
            priors=published_priors(settings.intrinsic_edges),
            prior_weight=0.25,
            config_hash="c" * 64,
            manifests=[make_manifest(flow, synthetic)],
            calibration=calibration(
                generator.normal(size=(40, classes)), generator.integers(classes, size=40), 5
            )
            if calibrated
            else None,
        )
        file = tmp_path / name
        write_checkpoint(file, state_arrays(built), {RECOGNISER: facts | (changes or {})})
        return file

    return make


@pytest.fixture
def make_manifest(tmp_path: Path, twin_store):
    """Manifest of a store whose motion was measured by a method, or by none that is known."""

    def make(flow: str | None, synthetic: bool):
        store = open_feature_store(twin_store)
        preprocessing = {"method": "test", "class_rule": "authors", "failed": {"no-face": 1}}
        return store.manifest.model_copy(
            update={
                "synthetic": synthetic,
                "preprocessing": preprocessing | ({"flow": flow} if flow else {}),
            }
        )

    return make


@pytest.fixture(scope="session")
def twin_store(tmp_path_factory) -> Path:
    """One store of the synthetic twin, 40 clips."""
    folder = tmp_path_factory.mktemp("twin") / "data"
    write_twin(folder, scale=0.001)
    return folder / "casme3_c1"
