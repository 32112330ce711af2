"""AU pre-training: from AU labels alone to a checkpoint that training starts from."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedpsyau_client.protocols.pretraining import Pretrained, pretrain
from fedpsyau_client.protocols.training_job import Options, train_protocol
from fedpsyau_client.store.feature_store import open_feature_store, write_feature_store
from fedpsyau_model.checkpoints import Checkpoint, read_checkpoint
from fedpsyau_model.errors import NoLabelledClipsError, SettingsError, TooFewSubjectsError
from fedpsyau_model.model_state import state_arrays
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import FederationSettings, NetworkSettings

SUBJECTS = [f"s{i % 6}" for i in range(24)]
SETTINGS = FederationSettings.model_validate({"seed": 1, "training": {"batch-size": 8}})


def pretrained(data: Path, out: Path, epochs: int = 2) -> tuple[Pretrained, Checkpoint]:
    return pretrain(data, ["aus"], out, SETTINGS, epochs), read_checkpoint(out)


@pytest.fixture
def data(make_store) -> Path:
    """A store with AUs and no emotion, and another with both."""
    make_store("aus", SUBJECTS, emotions=False)
    return make_store("both", SUBJECTS, dataset="other")


def test_the_checkpoint_holds_the_au_part_and_says_what_made_it(data: Path, tmp_path: Path) -> None:
    found, checkpoint = pretrained(data, tmp_path / "aus.safetensors")
    names = [name for name in state_arrays(build_network(NetworkSettings(), 0)) if "au_b" in name]
    assert set(checkpoint.tensors) == set(names)
    assert all(name.startswith("au_branch.") for name in names)
    provenance = checkpoint.provenance
    assert provenance["kind"] == "au-pretraining"
    assert provenance["network"] == NetworkSettings().as_dict()
    assert [part["partition"] for part in provenance["data"]] == ["aus"]
    assert provenance["synthetic"] is found.synthetic is False
    assert str(tmp_path) not in str(provenance)
    assert found.training + found.validation == len(SUBJECTS)
    assert found.validation == 4  # one of six subjects
    assert len(found.loss) == 2
    assert found.epoch == 1 + found.loss.index(min(found.loss))
    assert found.counts.shape == (12, 3)


def test_the_same_seed_gives_the_same_file(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pretrained(data, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_emotions_play_no_part(make_store, tmp_path: Path) -> None:
    data = make_store("aus", SUBJECTS, emotions=False)
    _, without = pretrained(data, tmp_path / "without", epochs=1)
    shutil.rmtree(data / "aus")
    make_store("aus", SUBJECTS)
    _, given = pretrained(data, tmp_path / "given", epochs=1)
    assert all(
        np.array_equal(tensor, given.tensors[name]) for name, tensor in without.tensors.items()
    )


def test_training_starts_from_it(data: Path, tmp_path: Path) -> None:
    _, checkpoint = pretrained(data, tmp_path / "aus", epochs=1)
    options = Options(
        protocol="holdout",
        data=data,
        out=tmp_path / "run",
        settings=SETTINGS,
        epochs=1,
        partitions=["both"],
        start=tmp_path / "aus",
    )
    summary = train_protocol(options)
    assert summary.plan.start_sha256 == checkpoint.sha256
    assert "started from checkpoint" in (tmp_path / "run" / "summary.md").read_text()


def test_an_au_that_shows_is_learnt_for_other_subjects(tmp_path: Path, make_store) -> None:
    # Each of two AUs moves the whole face its way; the others are random, and cannot be learnt.
    data = make_store("aus", [f"s{i % 6}" for i in range(36)], emotions=False)
    store = open_feature_store(data / "aus")
    aus = np.zeros_like(store.clips.aus)
    shows_first = np.arange(36) // 6 % 2 == 0  # every subject shows both
    aus[shows_first, 0] = aus[~shows_first, 8] = 1
    rois = np.array(store.rois)
    rois[:, :, 1] += np.where(aus[:, 0] == 1, -1.0, 1.0)[:, None, None, None]
    write_feature_store(
        data / "aus",
        partition="aus",
        dataset="lab",
        synthetic=False,
        clips=dataclasses.replace(store.clips, aus=aus),
        flow=store.flow,
        rois=rois,
        preprocessing={},
        replace=True,
    )
    found, _ = pretrained(data, tmp_path / "out", epochs=10)
    assert found.loss[found.epoch - 1] < found.base_loss
    assert found.f1[0] == found.f1[8] == 1
    assert np.isnan(found.f1[1])


def test_what_cannot_be_pretrained_is_refused(make_store, tmp_path: Path) -> None:
    data = make_store("feelings", SUBJECTS, aus=False)
    with pytest.raises(NoLabelledClipsError, match="AU labels"):
        pretrain(data, [], tmp_path / "out", SETTINGS, 1)
    make_store("one", ["s1"] * 4)
    with pytest.raises(TooFewSubjectsError):
        pretrain(data, ["one"], tmp_path / "out", SETTINGS, 1)
    without = FederationSettings(network=NetworkSettings.model_validate({"au-branch": False}))
    with pytest.raises(SettingsError, match="au-branch"):
        pretrain(data, ["one"], tmp_path / "out", without, 1)
    assert not (tmp_path / "out").exists()
