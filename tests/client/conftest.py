from __future__ import annotations

import pytest
from flwr.supercore.task_identity import TaskIdentity


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages only within a task, as `pull_task_input` sets it up."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
