from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from processes import Federation, run

from fedpsyau_model.child_process import free_port


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seven partitions of the synthetic twin at a very small scale."""
    folder = tmp_path_factory.mktemp("twin") / "data"
    finished = run("fedpsyau", "data", "synth", "--out", folder, "--scale", 0.02, "--seed", 1)
    assert finished.returncode == 0, finished.stderr
    return folder


@pytest.fixture
def new_federation(tmp_path: Path, twin: Path) -> Iterator[Callable[..., Federation]]:
    """Makes federations on free ports; whatever still runs at the end of the test is stopped."""
    with ExitStack() as stack:

        def make(name: str = "federation", data: Path = twin) -> Federation:
            folder = tmp_path / name
            folder.mkdir()
            return stack.enter_context(Federation(folder, data, free_port()))

        yield make
