"""A site with random motion, and the messages that a server would send to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict

from fedpsyau_client.store.feature_store import ClipTable, write_feature_store
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.exchange import VALUES_RECORD, TrainingOrder
from fedpsyau_model.model_state import shared_names, state_arrays
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import FederationSettings

PARTITION = "clinic_1"
CLIPS = 40

Changes = dict[str, Any]


def federation(**sections: Changes) -> FederationSettings:
    sections = {"training": {"epochs": 1, "batch-size": 16}} | sections
    return FederationSettings.model_validate(sections)


def initial(settings: FederationSettings) -> dict[str, np.ndarray]:
    network = build_network(settings.network, settings.seed, settings.shared_priors())
    arrays = state_arrays(network)
    return {name: arrays[name] for name in shared_names(network, settings.strategy.batch_norm)}


def write_random_data(folder: Path) -> Path:
    """Write one partition of random motion, eight subjects, into a folder."""
    generator = np.random.default_rng(0)
    labels = np.arange(CLIPS) % 3
    emotion = np.array(["disgust", "happiness", "surprise"])[labels]
    clips = ClipTable(
        clip=np.array([f"clip{i:02d}" for i in range(CLIPS)]),
        subject=np.array([f"subject{i % 8}" for i in range(CLIPS)]),
        emotion=emotion,
        class3=np.array(CLASS_NAMES["three"])[labels],
        class7=emotion,
        au_known=np.ones(CLIPS, dtype=bool),
        aus=generator.integers(0, 2, (CLIPS, 12)).astype(np.uint8),
    )
    write_feature_store(
        folder / PARTITION,
        partition=PARTITION,
        dataset="random",
        synthetic=True,
        clips=clips,
        flow=generator.normal(scale=0.1, size=(CLIPS, 3, 28, 28)),
        rois=generator.normal(scale=0.4, size=(CLIPS, 65, 3, 5, 5)),
        preprocessing={},
    )
    return folder


def order(number: int = 1, run_id: str = "run") -> TrainingOrder:
    return TrainingOrder(run_id=run_id, round=number, rounds=4, sites=2, all_clips=0)


def message(kind: str, values: dict[str, Any], **records: Any) -> Message:
    content = RecordDict({VALUES_RECORD: ConfigRecord(values), **records})
    received = Message(content, 3, kind, group_id="1")
    received.metadata.__dict__["_message_id"] = "the message that is answered"
    return received
