"""Faults as they really come from the checks, sorted into kinds."""

from __future__ import annotations

import numpy as np
import pytest

from fedpsyau_model.exchange import MalformedMessageError, TrainingReport, unpack_tensors
from fedpsyau_server.reply_checks import model_fault, norm_faults, report_fault
from fedpsyau_server.watching.fault_kinds import KINDS, fault_kind

SENT = {"w": np.zeros(2, dtype=np.float32)}
REPORT = TrainingReport(
    partition="a",
    run_id="run",
    round=1,
    train_clips=5,
    test_clips=1,
    confusion_received=[1, 0, 0, 0],
    confusion_trained=[1, 0, 0, 0],
    loss_total=1.0,
    loss_emotion=1.0,
    loss_au=0.0,
    loss_au_aux=0.0,
    loss_proximal=0.0,
    fisher_trace=0.0,
    theta=0.0,
    train_seconds=1.0,
)


def unreadable() -> str:
    with pytest.raises(MalformedMessageError) as error:
        unpack_tensors(b"junk")
    return str(error.value)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("the site reported a failure (code 51)", "site-failure"),
        ("malformed: it has no round", "malformed"),
        (unreadable(), "malformed"),
        (model_fault({}, SENT), "tensors"),
        (model_fault({"w": np.full(2, np.nan, dtype=np.float32)}, SENT), "not-finite"),
        (model_fault({"w": np.zeros(3, dtype=np.float32)}, SENT), "shape"),
        (model_fault({"w": np.zeros(2, dtype=np.float16)}, SENT), "shape"),
        (norm_faults({"a": 1.0, "b": 1.0, "c": 99.0}, 10)["c"], "norm"),
        (report_fault(REPORT, "a", "run", 1, 4, 2), "clips"),
        (report_fault(REPORT, "a", "run", 1, 5, 3), "confusion"),
        (report_fault(REPORT, "a", "run", 2, 5, 2), "wrong-round"),
        (report_fault(REPORT, "a", "other", 1, 5, 2), "wrong-round"),
        ("something that nobody has thought of", "other"),
    ],
)
def test_every_fault_has_its_kind(fault: str | None, kind: str) -> None:
    assert fault is not None
    assert fault_kind(fault) == kind
    assert kind in {*KINDS, "other"}
