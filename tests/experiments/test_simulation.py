"""Simulations: what they leave behind, and that a broken one ends as an unbroken one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from fedpsyau_client.own_priors.priors_file import read_priors_file
from fedpsyau_client.priors_commands import app as build_app
from fedpsyau_client.synthetic.twin import write_twin
from fedpsyau_experiments.simulation import resume_simulation, simulate
from fedpsyau_model.errors import DataNotFoundError, RunFolderError, SettingsError
from fedpsyau_model.settings import FederationSettings
from fedpsyau_priors import published_priors
from fedpsyau_server.packed_model import unpacked
from fedpsyau_server.run_folder import RunFolder

SITES = ("casme3_c1", "dfme_c1")
ROUNDS = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twin") / "data"
    write_twin(folder, scale=0.01, seed=3)
    return folder


def settings(**sections: Any) -> FederationSettings:
    """Two rounds of two sites, without the AU branch, to be quick."""
    return FederationSettings.model_validate(
        {
            "network": {"au-branch": False},
            "training": {"epochs": 1, "batch-size": 16},
            "rounds": {"rounds": ROUNDS, "keep-rounds": 0},
            "server": {"sites": SITES},
        }
        | sections
    )


def models(folder: RunFolder, number: int, kind: str) -> dict[str, dict[str, np.ndarray]]:
    path = folder.path / "rounds" / f"{number:04d}" / kind
    return {file.stem: load_file(file) for file in path.iterdir()}


def scores(folder: RunFolder) -> list[dict[str, Any]]:
    """Lines of rounds.jsonl without their times."""
    lines = folder.rounds()
    for line in lines:
        del line["seconds"]
        for site in line["sites"].values():
            del site["train_seconds"]
    return lines


def assert_same_end(one: RunFolder, other: RunFolder) -> None:
    assert scores(one) == scores(other)
    for number in range(1, ROUNDS + 1):
        for kind in ("models", "replies"):
            first, second = models(one, number, kind), models(other, number, kind)
            assert first.keys() == second.keys() == set(SITES)
            for site, model in first.items():
                assert model.keys() == second[site].keys()
                assert all(np.array_equal(model[name], second[site][name]) for name in model)
    for residual in one.path.glob("rounding/*/*"):
        again = other.path / residual.relative_to(one.path)
        assert again.read_bytes() == residual.read_bytes()
    for site in SITES if (one.path / "sites").exists() else ():
        file = f"sites/{site}/personal.safetensors"
        assert (one.path / file).read_bytes() == (other.path / file).read_bytes()


class _Stop:
    """Interrupts a simulation after some trainings, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self._left = after

    def __call__(self, _round: int, _site: str) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("strategy", "precision"),
    [
        ({"theta": "auto"}, "half"),
        ({"name": "fedas"}, "full"),
        ({"name": "ditto"}, "delta"),
        ({"name": "pooled"}, "full"),
    ],
    ids=lambda given: given if isinstance(given, str) else "-".join(given.values()),
)
def test_a_simulation_that_was_stopped_ends_as_an_unbroken_one(
    strategy: dict[str, str], precision: str, data: Path, tmp_path: Path
) -> None:
    chosen = settings(strategy=strategy, exchange={"precision": precision})
    unbroken = simulate(chosen, data, tmp_path / "unbroken")
    assert unbroken.state.status == "completed"
    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):  # in the last round, one site having trained
        simulate(chosen, data, broken, progress=_Stop(len(SITES) + 1))
    assert RunFolder.open(broken).state.status == "stopped"
    assert RunFolder.open(broken).state.round == 1
    assert_same_end(unbroken, resume_simulation(data, broken))


def test_pooling_gives_all_sites_one_model_and_their_own_scores(data: Path, tmp_path: Path) -> None:
    folder = simulate(settings(strategy={"name": "pooled"}), data, tmp_path / "run")
    replies, kept = models(folder, ROUNDS, "replies"), models(folder, ROUNDS, "models")
    one, other = SITES
    for name, tensor in replies[one].items():
        assert np.array_equal(tensor, replies[other][name])
        assert np.array_equal(tensor, kept[one][name])
    initial = unpacked(folder.initial())
    assert any(not np.array_equal(tensor, initial[name]) for name, tensor in replies[one].items())
    for line in folder.rounds():
        for site in SITES:
            record = line["sites"][site]
            assert sum(map(sum, record["trained"]["confusion"])) == record["test_clips"] > 0
    # The model that a round ends with is the one that the next begins with.
    first, second = folder.rounds()
    for site in SITES:
        assert second["sites"][site]["received"] == first["sites"][site]["trained"]
    assert not (folder.path / "sites").exists()


def test_the_run_folder_is_that_of_a_federation(data: Path, tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    folder = simulate(
        settings(), data, tmp_path / "run", progress=lambda *training: told.append(training)
    )
    assert told == [(number, site) for number in (1, 2) for site in SITES]
    events = [json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines()]
    assert [event["site"] for event in events if event["event"] == "joined"] == list(SITES)
    assert all(event["synthetic"] for event in events if event["event"] == "joined")
    for line in folder.rounds():
        assert line["answered"] == list(SITES)
        assert line["quarantined"] == {}


def test_without_data_no_run_folder_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError):
        simulate(settings(), tmp_path / "nowhere", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_exists_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note").touch()
    with pytest.raises(RunFolderError, match="exists already"):
        simulate(settings(), data, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["note"]


def own_priors(folder: Path, data: Path, site: str) -> str:
    """Build a site's priors as it would; returns their fingerprint."""
    arguments = ["--from", data / site, "--smoothing", 0.5, "--name", "own", "--out", folder / site]
    result = CliRunner().invoke(build_app, ["build", *map(str, arguments)])
    assert result.exit_code == 0, result.exception
    return read_priors_file(folder / site / "priors.json").priors().fingerprint()


def priors_used(folder: RunFolder) -> dict[str, str]:
    return {
        site: json.loads((folder.path / "sites" / site / "personal.json").read_text())["priors"][
            "sha256"
        ]
        for site in SITES
    }


def test_sites_simulate_with_priors_of_their_own_also_when_resumed(
    data: Path, tmp_path: Path
) -> None:
    chosen = settings(network={"priors": "site"}, training={"epochs": 1, "batch-size": 32})
    fingerprint = own_priors(tmp_path / "priors", data, "dfme_c1")
    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        simulate(
            chosen,
            data,
            broken,
            priors_folder=tmp_path / "priors",
            progress=_Stop(len(SITES) + 1),
        )
    (tmp_path / "priors").rename(tmp_path / "gone")
    own = resume_simulation(data, broken)
    assert priors_used(own) == {
        "dfme_c1": fingerprint,
        "casme3_c1": published_priors().fingerprint(),
    }
    shared = simulate(chosen, data, tmp_path / "shared")
    assert set(priors_used(shared).values()) == {published_priors().fingerprint()}
    for site, differs in (("dfme_c1", True), ("casme3_c1", False)):  # in the first round
        one, other = (models(folder, 1, "replies")[site] for folder in (own, shared))
        assert any(not np.array_equal(one[name], other[name]) for name in one) is differs


def test_priors_that_nobody_would_use_are_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "priors" / "dfme_c9").mkdir(parents=True)
    for chosen, kind, told in (
        (settings(), SettingsError, "network.priors"),
        (settings(network={"priors": "site"}), DataNotFoundError, "priors.json"),
    ):
        with pytest.raises(kind, match=told):
            simulate(chosen, data, tmp_path / "run", priors_folder=tmp_path / "priors")
    assert not (tmp_path / "run").exists()
