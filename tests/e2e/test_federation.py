"""Seven sites and a server as processes over gRPC: what the whole project is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from processes import SITES, Federation
from safetensors.numpy import load_file

pytestmark = pytest.mark.e2e

ROUNDS = 3
CONFIG = f"""
seed = 5
[training]
epochs = 1
batch-size = 16
[rounds]
rounds = {ROUNDS}
keep-rounds = 0
"""

Models = dict[str, dict[str, np.ndarray]]


def models_of(run_folder: Path, round_number: int, kind: str) -> Models:
    folder = run_folder / "rounds" / f"{round_number:04d}" / kind
    return {path.stem: load_file(path) for path in sorted(folder.iterdir())}


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, twin: Path) -> Federation:
    """One run of P-FedProx with all seven sites, to its end."""
    return whole_run(tmp_path_factory.mktemp("p-fedprox"), twin)


def whole_run(folder: Path, twin: Path, *arguments: object) -> Federation:
    from fedpsyau_model.child_process import free_port

    with Federation(folder, twin, free_port()) as federation:
        federation.start_server(CONFIG, *arguments)
        federation.start_sites()
        codes = federation.wait_for_all()
        assert set(codes.values()) == {0}, {name: federation.log(name) for name in codes}
    return federation


def test_every_site_takes_part_in_every_round(finished: Federation) -> None:
    assert [line["round"] for line in finished.rounds()] == [1, 2, 3]
    for line in finished.rounds():
        assert line["answered"] == sorted(SITES)
        assert line["quarantined"] == {}
    state = json.loads((finished.run_folder / "state.json").read_text())
    assert (state["status"], state["round"]) == ("completed", ROUNDS)


def test_from_round_two_on_every_site_receives_a_different_model(finished: Federation) -> None:
    for number in range(1, ROUNDS + 1):
        models = models_of(finished.run_folder, number, "models")
        assert sorted(models) == sorted(SITES)
        for index, site in enumerate(SITES):
            for other in SITES[index + 1 :]:
                assert not equal(models[site], models[other]), (number, site, other)


def test_each_model_equals_an_independent_computation_from_the_replies(
    finished: Federation,
) -> None:
    """Design section 6 in plain NumPy, a sum over j != k for every k."""
    for number in range(1, ROUNDS + 1):
        replies = models_of(finished.run_folder, number, "replies")
        models = models_of(finished.run_folder, number, "models")
        clips = {
            site: finished.rounds()[number - 1]["sites"][site]["train_clips"] for site in SITES
        }
        for site in SITES:
            others = [other for other in SITES if other != site]
            for name, trained in replies[site].items():
                mean = sum(clips[o] * replies[o][name].astype(np.float64) for o in others)
                mean = mean / sum(clips[o] for o in others)
                expected = 0.9 * trained.astype(np.float64) + 0.1 * mean
                assert np.abs(models[site][name] - expected).max() <= 1e-6, (number, site, name)


def test_training_changed_what_was_received(finished: Federation) -> None:
    initial = load_file(finished.run_folder / "initial.safetensors")
    for reply in models_of(finished.run_folder, 1, "replies").values():
        assert reply.keys() == initial.keys()
        assert not equal(reply, initial)


def test_batch_norm_statistics_and_integers_stay_at_the_site(finished: Federation) -> None:
    travelled = load_file(finished.run_folder / "initial.safetensors")
    personal = load_file(finished.folder / "state" / "dfme_c1" / "personal.safetensors")
    stayed = personal.keys() - travelled.keys()
    assert stayed
    assert all(
        name.rpartition(".")[2] in {"running_mean", "running_var", "num_batches_tracked"}
        for name in stayed
    )
    assert travelled.keys() < personal.keys()


def test_every_site_keeps_its_own_trained_model_with_provenance(finished: Federation) -> None:
    config = json.loads((finished.run_folder / "config.json").read_text())
    replies = models_of(finished.run_folder, ROUNDS, "replies")
    for site in SITES:
        folder = finished.folder / "state" / site
        personal = load_file(folder / "personal.safetensors")
        for name, tensor in replies[site].items():
            assert np.array_equal(personal[name], tensor)
        provenance = json.loads((folder / "personal.json").read_text())
        manifest = json.loads((finished.data / site / "manifest.json").read_text())
        assert provenance["round"] == ROUNDS
        assert provenance["run"] == config["run_id"]
        assert provenance["agreement_hash"] == config["agreement_hash"]
        assert provenance["data_sha256"] == manifest["files"]["features"]["sha256"]
        assert provenance["synthetic"] is True


@pytest.mark.slow
def test_same_seed_same_numbers(finished: Federation, tmp_path: Path, twin: Path) -> None:
    again = whole_run(tmp_path, twin)
    for one, other in zip(finished.rounds(), again.rounds(), strict=True):
        for site in SITES:
            for key, value in one["sites"][site].items():
                if key != "train_seconds":
                    assert other["sites"][site][key] == value, (one["round"], site, key)
    for number in range(1, ROUNDS + 1):
        for kind in ("models", "replies"):
            first = models_of(finished.run_folder, number, kind)
            second = models_of(again.run_folder, number, kind)
            assert all(equal(first[site], second[site]) for site in SITES)


@pytest.mark.slow
def test_fedavg_gives_every_site_the_same_model(tmp_path: Path, twin: Path) -> None:
    federation = whole_run(tmp_path, twin, "--strategy", "fedavg", "--rounds", 1)
    models = models_of(federation.run_folder, 1, "models")
    replies = models_of(federation.run_folder, 1, "replies")
    clips = {site: federation.rounds()[0]["sites"][site]["train_clips"] for site in SITES}
    assert all(equal(models[site], models["dfme_c1"]) for site in SITES)
    for name, tensor in models["dfme_c1"].items():
        mean = sum(clips[s] * replies[s][name].astype(np.float64) for s in SITES)
        assert np.abs(tensor - mean / sum(clips.values())).max() <= 1e-6
    assert {line["sites"]["dfme_c1"]["loss_proximal"] for line in federation.rounds()} == {0.0}


@pytest.mark.slow
def test_a_server_that_is_killed_goes_on_and_ends_as_the_unbroken_run(
    new_federation: Callable[..., Federation], finished: Federation
) -> None:
    federation = new_federation()
    server = federation.start_server(CONFIG)
    federation.start_sites()
    federation.wait_for_event("reply", round=2)
    server.kill()
    server.wait()
    federation.resume_server()
    assert set(federation.wait_for_all().values()) == {0}, federation.log("server")
    unbroken = models_of(finished.run_folder, ROUNDS, "models")
    resumed = models_of(federation.run_folder, ROUNDS, "models")
    assert all(equal(unbroken[site], resumed[site]) for site in SITES)
