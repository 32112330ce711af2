"""What a reply must not be: each fault of a model and of a report, and norms by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedpsyau_model.exchange import TrainingReport
from fedpsyau_server.fusion import Model
from fedpsyau_server.reply_checks import model_fault, norm_faults, report_fault, update_norm


def sent() -> Model:
    return {
        "conv.weight": np.zeros((2, 3), dtype=np.float32),
        "bias": np.zeros(2, dtype=np.float32),
        "steps": np.array(4, dtype=np.int64),
    }


def with_cell(value: float) -> Model:
    model = sent()
    model["conv.weight"][1, 2] = value
    return model


def test_a_model_like_the_one_sent_has_no_fault() -> None:
    assert model_fault(with_cell(-7.5), sent()) is None


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({}, "tensors missing: ['bias', 'conv.weight', 'steps'], unexpected: none"),
        ({**sent(), "extra": np.zeros(1)}, "missing: none, unexpected: ['extra']"),
        (
            {**sent(), "bias": np.zeros((2, 1), dtype=np.float32)},
            "tensor bias is float32 (2, 1), not float32 (2,)",
        ),
        (
            {**sent(), "bias": np.zeros(2, dtype=np.float64)},
            "tensor bias is float64 (2,), not float32 (2,)",
        ),
        ({**sent(), "steps": np.array([4])}, "tensor steps is int64 (1,), not int64 ()"),
        (with_cell(np.nan), "tensor conv.weight holds values that are not finite"),
        (with_cell(np.inf), "tensor conv.weight holds values that are not finite"),
        (with_cell(-np.inf), "tensor conv.weight holds values that are not finite"),
    ],
)
def test_every_fault_of_a_model_is_told(reply: Model, told: str) -> None:
    fault = model_fault(reply, sent())
    assert fault is not None
    assert told in fault


def report(**changes: Any) -> TrainingReport:
    values: dict[str, Any] = {
        "partition": "a",
        "run_id": "run",
        "round": 3,
        "train_clips": 10,
        "test_clips": 4,
        "confusion_received": [1, 1, 2, 0],
        "confusion_trained": [2, 0, 0, 2],
        "loss_total": 1.0,
        "loss_emotion": 1.0,
        "loss_au": 0.0,
        "loss_au_aux": 0.0,
        "loss_proximal": 0.0,
        "fisher_trace": 0.0,
        "theta": 0.0,
        "train_seconds": 1.0,
    }
    return TrainingReport(**values | changes)


def fault_of(**changes: Any) -> str | None:
    return report_fault(report(**changes), "a", "run", 3, enrolled=10, classes=2)


@pytest.mark.parametrize("train_clips", [1, 10])
def test_a_report_within_its_enrolment_has_no_fault(train_clips: int) -> None:
    assert fault_of(train_clips=train_clips) is None


def test_a_site_may_hold_out_nothing() -> None:
    nothing = [0, 0, 0, 0]
    assert fault_of(test_clips=0, confusion_received=nothing, confusion_trained=nothing) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"partition": "b"}, "it answers for b, round 3, not for a, round 3"),
        ({"round": 2}, "it answers for a, round 2, not for a, round 3"),
        ({"run_id": "other"}, "it answers for the run other, not for run"),
        ({"train_clips": 11}, "it claims 11 training clips, and enrolled 10"),
        ({"confusion_received": [4]}, "confusion_received is not a 2 x 2 matrix over 4 clips"),
        ({"confusion_trained": [2, 0, 0, 3]}, "confusion_trained is not a 2 x 2 matrix over 4"),
        ({"confusion_trained": [5, -1, 0, 0]}, "confusion_trained is not a 2 x 2 matrix over 4"),
        ({"confusion_trained": []}, "confusion_trained is not a 2 x 2 matrix over 4"),
        ({"test_clips": 5}, "confusion_received is not a 2 x 2 matrix over 5 clips"),
    ],
)
def test_every_fault_of_a_report_is_told(changes: dict[str, Any], told: str) -> None:
    fault = fault_of(**changes)
    assert fault is not None
    assert told in fault


def test_the_norm_of_an_update_by_hand() -> None:
    reply = sent()
    reply["conv.weight"][0, 0] = 3.0
    reply["bias"][1] = -4.0
    assert update_norm(reply, sent()) == pytest.approx(5.0)
    assert update_norm(sent(), sent()) == 0.0


def test_a_norm_does_not_overflow_in_float32() -> None:
    reply = {"w": np.full(4, 1e25, dtype=np.float32)}
    assert update_norm(reply, {"w": np.zeros(4, dtype=np.float32)}) == pytest.approx(2e25)


def test_norms_beyond_a_multiple_of_the_median_are_refused() -> None:
    # The median of 1, 2, 3, 20.5 is 2.5, and 8 times that is 20.
    faults = norm_faults({"a": 1.0, "b": 2.0, "c": 3.0, "d": 20.5}, 8.0)
    assert faults == {"d": "its update norm 20.5 is beyond 8 times the median, 2.5"}
    assert norm_faults({"a": 1.0, "b": 2.0, "c": 3.0, "d": 20.0}, 8.0) == {}


@pytest.mark.parametrize("norms", [{}, {"a": 1.0}, {"a": 1.0, "b": 1e9}])
def test_without_a_majority_no_norm_is_refused(norms: dict[str, float]) -> None:
    assert norm_faults(norms, 2.0) == {}
