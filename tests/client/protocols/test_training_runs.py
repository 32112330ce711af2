"""Runs of a protocol: the same bits in any order and process, resumed, scored from counts."""

from __future__ import annotations

import csv
import dataclasses
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from html_reading import check_form, read_page
from sklearn import metrics as sk

from fedpsyau_client.prediction.recogniser_file import FEWEST_CLIPS, read_recogniser
from fedpsyau_client.protocols.clip_set import open_clip_set
from fedpsyau_client.protocols.fold_training import train_fold
from fedpsyau_client.protocols.fold_workers import run_folds
from fedpsyau_client.protocols.folds import plan_folds
from fedpsyau_client.protocols.outputs import RunSummary
from fedpsyau_client.protocols.plan import Job, Plan
from fedpsyau_client.protocols.summary_page import summary_page
from fedpsyau_client.protocols.train_run import TrainRun
from fedpsyau_client.protocols.training_job import Options, train_protocol
from fedpsyau_model.checkpoints import read_checkpoint, write_checkpoint
from fedpsyau_model.errors import (
    CheckpointError,
    FoldProcessError,
    OutputExistsError,
    RunFolderError,
    RunsDifferError,
    WeightsMismatchError,
)
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import FederationSettings, NetworkSettings
from fedpsyau_model.temperature import class_probabilities
from fedpsyau_model.training import predict

FOLDS = 3


def options(data: Path, out: Path, **more: Any) -> Options:
    settings = FederationSettings.model_validate({"seed": 5, "training": {"batch-size": 16}})
    values = {"protocol": "kfold", "folds": FOLDS, "epochs": 1, "partitions": ["dfme_c1"]}
    return Options(**{"data": data, "out": out, "settings": settings} | values | more)


def fold_contents(run: Path) -> list[dict[str, Any]]:
    """What the folds came to, but for the time they took."""
    contents = [json.loads(file.read_text()) for file in sorted((run / "folds").iterdir())]
    for each in contents:
        del each["seconds"]
    return contents


@pytest.fixture(scope="module")
def finished(twin: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    """A run of three folds in this process, with its models."""
    return train_protocol(
        options(twin, tmp_path_factory.mktemp("runs") / "whole", keep_models=True)
    )


def test_scores_come_from_the_pooled_predictions(finished: RunSummary) -> None:
    document = json.loads((finished.path / "summary.json").read_text())
    rows = list(csv.DictReader((finished.path / "predictions.csv").open()))
    assert len(rows) == document["clips"] == len({row["clip"] for row in rows})
    truth, predicted = ([row[key] for row in rows] for key in ("truth", "predicted"))
    either = sorted(set(truth) | set(predicted))
    f1 = sk.f1_score(truth, predicted, labels=either, average="macro", zero_division=0)
    assert document["uf1"]["value"] == pytest.approx(f1)
    recall = sk.recall_score(truth, predicted, labels=sorted(set(truth)), average="macro")
    assert document["uar"]["value"] == pytest.approx(recall)
    assert document["accuracy"]["value"] == pytest.approx(sk.accuracy_score(truth, predicted))
    np.testing.assert_array_equal(
        document["confusion"],
        sk.confusion_matrix(truth, predicted, labels=document["classes"]),
    )
    active = [row["AU4"] == "1" for row in rows]
    called = [float(row["p_AU4"]) >= 0.5 for row in rows]
    expected = sk.f1_score(active, called, zero_division=np.nan)
    found = document["au_f1"]["AU4"]["value"]
    assert np.nan if found is None else found == pytest.approx(expected)


def test_counts_of_folds_add_up_to_the_pooled_ones(finished: RunSummary) -> None:
    document = json.loads((finished.path / "summary.json").read_text())
    folds = fold_contents(finished.path)
    np.testing.assert_array_equal(
        sum(np.array(fold["confusion"]) for fold in folds), document["confusion"]
    )
    np.testing.assert_array_equal(
        sum(np.array(fold["au_counts"]) for fold in folds), list(document["au_counts"].values())
    )


def test_every_row_of_predictions_is_consistent(finished: RunSummary) -> None:
    for result in finished.results:
        probabilities = np.array(result.probabilities)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        assert probabilities.argmax(axis=1).tolist() == result.predicted


def test_a_run_says_that_it_is_synthetic_and_names_no_path(finished: RunSummary) -> None:
    assert json.loads((finished.path / "summary.json").read_text())["synthetic"] is True
    assert "synthetic" in (finished.path / "summary.md").read_text().splitlines()[0]
    for file in finished.path.rglob("*"):
        if file.suffix in {".json", ".csv", ".md", ".html", ".safetensors"}:
            assert str(finished.path.parent.parent).encode() not in file.read_bytes(), file


def test_the_page_needs_nothing_beside_it_and_has_the_numbers_of_the_json(
    finished: RunSummary,
) -> None:
    content = (finished.path / "summary.html").read_bytes()
    assert content == summary_page(finished)
    page = read_page(content)
    check_form(page)
    document = json.loads((finished.path / "summary.json").read_text())
    tables = {each.all("caption")[0].text: each for each in page.all("table")}
    scores = [document[name] for name in ("uf1", "uar", "accuracy", "au_f1_mean")]
    by_au = list(document["au_f1"].values())
    for caption, expected in (("Scores of all classes", scores), ("F1 of every action", by_au)):
        (found,) = [each for name, each in tables.items() if name.startswith(caption)]
        assert found.numbers() == [
            each[key]
            for each in expected
            for key in ("value", "low", "high")
            if each[key] is not None
        ]
    by_class = zip(
        np.sum(document["confusion"], axis=1),
        document["f1_by_class"],
        document["recall_by_class"],
        strict=True,
    )
    expected = [each for row in by_class for each in row if each is not None]
    assert tables["Scores by class"].numbers() == expected
    assert tables["All folds"].numbers() == np.ravel(document["confusion"]).tolist()
    assert document["plan_hash"] in page.text
    assert "SYNTHETIC DATA" in page.text
    assert all(" ".join(note.split()) in page.text for note in document["notes"])


def test_the_pictures_are_there(finished: RunSummary) -> None:
    for name in ("confusion.png", "curves.png"):
        assert (finished.path / name).read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_goes_on_to_the_same_bits(
    finished: RunSummary, twin: Path, tmp_path: Path
) -> None:
    asked = options(twin, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train_protocol(asked, report=_interrupt_after_first_fold)
    done = [file.name for file in (tmp_path / "run" / "folds").iterdir()]
    assert done == ["0001.json"]
    assert not (tmp_path / "run" / "summary.json").exists()
    with pytest.raises(OutputExistsError, match="--resume"):
        train_protocol(asked)
    begun: list[int] = []
    train_protocol(
        dataclasses.replace(asked, resume=True),
        begin=lambda folds, pending: begun.extend((len(folds), len(pending))),
    )
    assert begun == [FOLDS, FOLDS - 1]
    assert fold_contents(tmp_path / "run") == fold_contents(finished.path)
    same = ("summary.json", "predictions.csv")
    for name in same:
        assert (tmp_path / "run" / name).read_text() == (finished.path / name).read_text()


def _interrupt_after_first_fold(progress: Any) -> None:
    if progress.done:
        raise KeyboardInterrupt


def test_processes_and_order_do_not_change_a_bit(
    finished: RunSummary, twin: Path, tmp_path: Path
) -> None:
    run = TrainRun.create(tmp_path / "run", finished.plan)
    job = Job(plan=finished.plan, data=twin, run=run.path, keep_models=True)
    told: list[Any] = []
    run_folds(job, [3, 2, 1], 2, told.append)
    assert fold_contents(run.path) == fold_contents(finished.path)
    models = [sorted((path / "models").iterdir()) for path in (run.path, finished.path)]
    assert len(models[0]) == FOLDS
    for ours, theirs in zip(*models, strict=True):
        assert ours.read_bytes() == theirs.read_bytes()
    assert sorted(each.number for each in told if each.done) == [1, 2, 3]
    assert sum(each.amount for each in told) == sum(each.train_clips for each in finished.results)
    assert multiprocessing.active_children() == []


@pytest.mark.e2e
def test_a_process_that_dies_is_an_error_and_no_other_is_left(
    finished: RunSummary, twin: Path, tmp_path: Path
) -> None:
    run = TrainRun.create(tmp_path / "run", finished.plan)

    def kill_one(_progress: Any) -> None:
        for process in multiprocessing.active_children()[:1]:
            process.kill()

    with pytest.raises(FoldProcessError, match=r"fold \d ended with code -9"):
        run_folds(Job(plan=finished.plan, data=twin, run=run.path), [1, 2, 3], 2, kill_one)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 2}, r"epochs: here 2, there 1"),
        ({"folds": 4}, r"folds: here 4, there 3"),
        ({"select": "validation"}, r"select: here validation, there last"),
        ({"partitions": ["dfme_c2"]}, r"data\.dfme_c1\.data-hash: here \(absent\)"),
    ],
)
def test_a_run_of_another_configuration_does_not_go_on(
    finished: RunSummary, twin: Path, change: dict[str, Any], says: str
) -> None:
    before = sorted(finished.path.rglob("*"))
    with pytest.raises(RunsDifferError, match=says):
        train_protocol(options(twin, finished.path, resume=True, **change))
    assert sorted(finished.path.rglob("*")) == before


def test_a_run_that_another_process_works_on_is_left_alone(
    finished: RunSummary, twin: Path
) -> None:
    run = TrainRun.open(finished.path)
    with run.locked(), pytest.raises(RunFolderError, match="Another process"):
        train_protocol(options(twin, finished.path, resume=True))


def test_a_damaged_fold_is_named(finished: RunSummary, twin: Path, tmp_path: Path) -> None:
    run = TrainRun.create(tmp_path / "run", finished.plan)
    for name in ("0001.json", "0002.json"):
        text = (finished.path / "folds" / name).read_text()
        (run.path / "folds" / name).write_text(text if name == "0001.json" else text[:100])
    with pytest.raises(RunFolderError, match=r"0002\.json"):
        run.results()
    with pytest.raises(RunFolderError, match=r"no plan\.json"):
        TrainRun.open(twin)


def trained(twin: Path, plan: Plan, spoil: bool) -> dict[str, np.ndarray]:
    """The first fold's model; with its test clips as they are, or all but destroyed."""
    index = open_clip_set(twin, ["dfme_c1"], "three")
    fold = plan_folds(index, plan)[0]
    clips = index.tensors()
    if spoil:
        rows = torch.from_numpy(fold.test)
        for tensor in (clips.flow, clips.rois, clips.au):
            tensor[rows] = 100 * torch.rand_like(tensor[rows])
        clips.emotion[rows] = (clips.emotion[rows] + 1) % 3
    return train_fold(index, clips, fold, plan).model


@pytest.mark.parametrize(("select", "epochs"), [("last", 1), ("validation", 2)])
def test_nothing_of_the_test_clips_reaches_the_model(
    finished: RunSummary, twin: Path, select: str, epochs: int
) -> None:
    plan = finished.plan.model_copy(update={"select": select, "epochs": epochs})
    honest, spoiled = (trained(twin, plan, spoil) for spoil in (False, True))
    assert all(np.array_equal(honest[name], spoiled[name]) for name in honest)


def test_the_best_epoch_on_held_out_training_subjects_is_tested(
    finished: RunSummary, twin: Path, tmp_path: Path
) -> None:
    asked = options(
        twin, tmp_path / "run", protocol="holdout", select="validation", epochs=2, keep_models=True
    )
    (result,) = train_protocol(asked).results
    scores = result.validation_uf1
    assert scores is not None
    assert len(scores) == len(result.losses) == 2
    assert scores[result.chosen_epoch - 1] == max(scores)
    assert result.chosen_epoch == 1 + scores.index(max(scores))
    index = open_clip_set(twin, ["dfme_c1"], "three")
    assert result.train_clips < len(index) - len(result.clip)
    assert result.train_subjects < 8 - len(set(result.subject))
    # Its model can be asked about a video. The clips between trained and tested ones, here too few
    # for a temperature, are those that it would be calibrated on.
    left = len(index) - len(result.clip) - result.train_clips
    calibrated = read_recogniser(tmp_path / "run" / "models" / "0001.safetensors").facts.calibration
    assert (calibrated is None) == (left < FEWEST_CLIPS)
    assert calibrated is None or calibrated.clips == left


def test_a_kept_model_answers_as_in_its_fold(finished: RunSummary, twin: Path) -> None:
    """Read back as `fedpsyau predict` reads it; nothing was set aside, so it has no temperature."""
    recogniser = read_recogniser(finished.path / "models" / "0001.safetensors")
    facts, (fold, *_) = recogniser.facts, finished.results
    assert facts.calibration is None
    assert facts.synthetic
    assert facts.config_hash == finished.plan.plan_hash()
    assert [each.partition for each in facts.trained_on] == ["dfme_c1"]
    index = open_clip_set(twin, ["dfme_c1"], "three")
    rows = torch.from_numpy(np.flatnonzero(np.isin(index.clip, fold.clip)))
    logits = predict(recogniser.network, index.tensors().subset(rows), facts.prior_weight)
    np.testing.assert_allclose(
        class_probabilities(logits.emotion.numpy(), 1.0), fold.probabilities, atol=2e-6
    )


def test_training_starts_from_a_checkpoint(twin: Path, tmp_path: Path) -> None:
    asked = options(twin, tmp_path / "run", protocol="holdout", keep_models=True)
    # A rate so small that weights stay what they were; only zeros become all but zero.
    training = {"learning-rate": 1e-30, "weight-decay": 0}
    settings = FederationSettings.model_validate({"training": training})
    network = build_network(settings.network, 99)
    own = {
        name: value.detach().numpy()
        for name, value in network.named_parameters()
        if name.startswith("au_branch.")
    }
    write_checkpoint(tmp_path / "start.safetensors", own, {})
    asked = dataclasses.replace(asked, settings=settings, start=tmp_path / "start.safetensors")
    summary = train_protocol(asked)
    model = read_checkpoint(tmp_path / "run" / "models" / "0001.safetensors").tensors
    for name, expected in own.items():
        np.testing.assert_allclose(model[name], expected, rtol=0, atol=1e-25)
    assert summary.plan.start_sha256 == read_checkpoint(tmp_path / "start.safetensors").sha256


def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_written(
    twin: Path, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "start.safetensors", {"au_branch.nothing": np.zeros(2)}, {})
    asked = options(twin, tmp_path / "run", start=tmp_path / "start.safetensors")
    with pytest.raises(WeightsMismatchError, match="nothing"):
        train_protocol(asked)
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        train_protocol(dataclasses.replace(asked, start=tmp_path / "gone.safetensors"))
    assert not (tmp_path / "run").exists()


def test_a_network_without_the_au_branch_has_no_au_scores(twin: Path, tmp_path: Path) -> None:
    settings = FederationSettings(network=NetworkSettings.model_validate({"au-branch": False}))
    asked = options(twin, tmp_path / "run", protocol="holdout", settings=settings)
    train_protocol(asked)
    document = json.loads((asked.out / "summary.json").read_text())
    assert document["au_f1"] is document["au_f1_mean"] is document["au_counts"] is None
    assert "AU4" not in (asked.out / "summary.md").read_text()
