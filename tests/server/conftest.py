import os

import pytest


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing matters when the power fails, which these tests simulate in other ways."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
