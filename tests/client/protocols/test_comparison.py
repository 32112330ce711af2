"""Paired comparison of runs, on predictions made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpsyau_client.protocols.comparison import compare_pooled, compare_runs
from fedpsyau_client.protocols.fold_result import FoldResult
from fedpsyau_client.protocols.plan import DataPart, Plan
from fedpsyau_client.protocols.pooled import Pooled, pool, score
from fedpsyau_client.protocols.train_run import TrainRun
from fedpsyau_model.errors import RunFolderError, RunsDifferError
from fedpsyau_model.metrics import confusion_matrix
from fedpsyau_model.settings import LossSettings, NetworkSettings, TrainingSettings

#: Twelve clips of six subjects; each class occurs four times.
SUBJECTS = [f"lab/s{i // 2}" for i in range(12)]
TRUTH = [0, 1, 2] * 4


def plan(classes: str = "three", seed: int = 0) -> Plan:
    part = DataPart(partition="a", dataset="lab", data_hash="0" * 64, synthetic=False)
    return Plan(
        protocol="loso",
        seed=seed,
        epochs=1,
        data=(part,),
        network=NetworkSettings.model_validate({"classes": classes}),
        loss=LossSettings(),
        training=TrainingSettings(),
    )


def result(predicted: list[int], plan_hash: str = "", number: int = 1, **change: Any) -> FoldResult:
    count = len(predicted)
    values: dict[str, Any] = {
        "number": number,
        "name": f"fold {number}",
        "plan_hash": plan_hash,
        "train_clips": 1,
        "train_subjects": 1,
        "chosen_epoch": 1,
        "losses": [(1, 1, 1, 1, 0)],
        "validation_uf1": None,
        "seconds": 0,
        "confusion": np.zeros((3, 3), dtype=int).tolist(),
        "au_counts": None,
        "clip": [f"a/{i:02d}" for i in range(count)],
        "subject": SUBJECTS[:count],
        "truth": TRUTH[:count],
        "predicted": predicted,
        "probabilities": [[1.0, 0.0, 0.0]] * count,
        "au_known": [[True] * 12] * count,
        "au": [[0] * 12] * count,
        "au_probabilities": None,
    }
    return FoldResult(**(values | change))


def write_run(path: Path, predicted: list[int], classes: str = "three", **change: Any) -> TrainRun:
    run = TrainRun.create(path, plan(classes))
    found = result(predicted, run.plan.plan_hash(), **change)
    (path / "folds" / "0001.json").write_text(found.model_dump_json())
    (path / "summary.json").touch()
    return run


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_folds_in_any_order_pool_alike() -> None:
    whole = result([0, 1, 2, 0, 1, 1, 0, 0, 2, 1, 1, 2])
    parts = [
        whole.model_copy(
            update={
                name: [value for i, value in enumerate(getattr(whole, name)) if SUBJECTS[i] in own]
                for name in ("clip", "subject", "truth", "predicted", "au", "au_known")
            }
        )
        for own in ({"lab/s5", "lab/s2"}, {"lab/s0"}, {"lab/s1", "lab/s3", "lab/s4"})
    ]
    one, other = pool([whole]), pool(parts)
    for name in ("clip", "subject", "truth", "predicted", "confusion"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    expected = confusion_matrix(whole.truth, whole.predicted, 3)
    np.testing.assert_array_equal(one.confusion.sum(axis=0), expected)
    assert one.aus is None


def test_au_counts_leave_out_clips_without_labels() -> None:
    au = [[1, 0] + [0] * 10, [1, 1] + [0] * 10, [0, 0] + [0] * 10]
    called = [[0.5, 0.9] + [0.0] * 10, [0.4, 0.9] + [0.0] * 10, [0.9, 0.0] + [0.0] * 10]
    found = result(
        [0, 1, 2], au=au, au_probabilities=called, au_known=[[True] * 12, [True] * 12, [False] * 12]
    )
    aus = pool([found]).aus
    assert aus is not None
    # Subjects s0 (two clips) and s1 (the one without labels); AU1: hit, miss; AU2: false, hit.
    np.testing.assert_array_equal(aus[:, :2], [[[1, 0, 1], [1, 1, 0]], [[0, 0, 0], [0, 0, 0]]])
    scores = score(pool([found]), generator(), 50)
    assert scores.au_f1 is not None
    assert scores.au_f1[0].value == pytest.approx(2 / 3)
    assert scores.au_f1_mean is not None
    assert scores.au_f1_mean.value == pytest.approx(2 / 3)
    assert np.isnan(scores.au_f1[2].value)


def test_a_perfect_run_has_no_spread() -> None:
    scores = score(pool([result(TRUTH)]), generator(), 200)
    for each in (scores.uf1, scores.uar, scores.accuracy):
        assert (each.value, each.low, each.high) == (1, 1, 1)


def pooled(predicted: list[int]) -> Pooled:
    return pool([result(predicted)])


def test_a_run_equals_itself() -> None:
    mixed = pooled([0, 1, 2, 0, 0, 0, 1, 1, 2, 2, 1, 0])
    for each in compare_pooled(mixed, mixed, generator(), 200):
        assert (each.difference, each.low, each.high, each.p) == (0, 0, 0, 1)


def test_a_run_that_is_always_better_is_better() -> None:
    worst = pooled([(truth + 1) % 3 for truth in TRUTH])
    for each in compare_pooled(worst, pooled(TRUTH), generator(), 199):
        assert (each.first, each.second, each.difference, each.low) == (0, 1, 1, 1)
        assert each.p == pytest.approx(2 / 200)


def test_the_pairing_is_by_subject() -> None:
    # B is right on one clip of every subject on which A is wrong, and the other way round never:
    # the difference in accuracy is 1/2 whoever is drawn.
    half = pooled([truth if i % 2 else (truth + 1) % 3 for i, truth in enumerate(TRUTH)])
    accuracy = compare_pooled(half, pooled(TRUTH), generator(), 500)[2]
    assert (accuracy.difference, accuracy.low, accuracy.high) == (0.5, 0.5, 0.5)
    # Subjects that are all right or all wrong: the difference depends on who is drawn.
    some = pooled([truth if i < 6 else (truth + 1) % 3 for i, truth in enumerate(TRUTH)])
    accuracy = compare_pooled(some, pooled(TRUTH), generator(), 500)[2]
    assert accuracy.difference == 0.5
    assert accuracy.low < 0.2 < 0.8 < accuracy.high


def test_two_runs_on_disk(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a", [0] * 12), write_run(tmp_path / "b", TRUTH)
    comparison = compare_runs(first, second, generator(), 100)
    assert (comparison.clips, comparison.subjects, comparison.synthetic) == (12, 6, False)
    uf1 = comparison.differences[0]
    # Class 0 only: F1 2 * 4 / (12 + 4), and 0 for the two classes that occur and are not predicted.
    assert uf1.first == pytest.approx(0.5 / 3)
    assert uf1.second == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clip": [f"b/{i:02d}" for i in range(12)]}, r"tested 12 clips \(a/00, .*\) that"),
        ({"subject": ["lab/s9", *SUBJECTS[1:]]}, r"1 clip \(a/00\) belong to another subject"),
        ({"truth": [1, *TRUTH[1:]]}, r"1 clip \(a/00\) have another class"),
        ({"classes": "seven"}, "three classes, .* seven"),
    ],
)
def test_runs_on_other_clips_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    first, second = write_run(tmp_path / "a", TRUTH), write_run(tmp_path / "b", TRUTH, **change)
    with pytest.raises(RunsDifferError, match=says):
        compare_runs(first, second, generator(), 10)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a", TRUTH), write_run(tmp_path / "b", TRUTH)
    (tmp_path / "b" / "summary.json").unlink()
    with pytest.raises(RunFolderError, match=r"b is not finished"):
        compare_runs(first, second, generator(), 10)
