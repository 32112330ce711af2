"""Small stores to experiment on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedpsyau_client.synthetic.twin import write_twin


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven synthetic partitions of 40 clips and 8 subjects each."""
    folder = tmp_path_factory.mktemp("experiments") / "data"
    write_twin(folder, scale=0.001)
    return folder
