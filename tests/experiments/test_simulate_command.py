"""``fedpsyau simulate`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedpsyau_client.synthetic.twin import write_twin
from fedpsyau_experiments.simulate_command import app
from fedpsyau_model.errors import DataNotFoundError, RunFolderError, SettingsError

CONFIG = """
[network]
au-branch = false
[training]
epochs = 1
[rounds]
rounds = 1
"""


def simulate(*arguments: object) -> tuple[BaseException | None, str]:
    """What ended the command, and what it printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exception, result.output


def test_a_run_ends_with_its_scores_and_is_complete(tmp_path: Path) -> None:
    write_twin(tmp_path / "data", scale=0.01, seed=3)
    (tmp_path / "federation.toml").write_text(CONFIG)
    places = ("--data", tmp_path / "data", "--out", tmp_path / "run")
    error, output = simulate(
        *places,
        *("--config", tmp_path / "federation.toml", "--sites", "dfme_c1,casme3_c1"),
        *("--strategy", "fedrep", "--seed", 4),
    )
    assert error is None, output
    for part in ("fedrep", "dfme_c1", "casme3_c1", "pooled counts", "fedpsyau report"):
        assert part in output
    error, _ = simulate(*places, "--resume")
    assert isinstance(error, RunFolderError)
    assert "complete after 1 rounds" in str(error)
    error, _ = simulate(*places, "--resume", "--rounds", 5)
    assert isinstance(error, SettingsError)
    assert "rounds.rounds" in str(error)


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        (("--strategy", "fedmax"), SettingsError, "'fedrep'"),
        (("--data", "nowhere"), DataNotFoundError, "nowhere"),
        (("--device", "gpu"), SettingsError, "cuda:N"),
        (("--resume",), RunFolderError, "not a run folder"),
    ],
)
def test_what_is_wrong_is_told(
    arguments: tuple[str, ...], kind: type[Exception], told: str, tmp_path: Path
) -> None:
    error, _ = simulate("--out", tmp_path / "run", *arguments)
    assert isinstance(error, kind)
    assert told in str(error)
    assert not (tmp_path / "run").exists()
