"""The simulation and the federation over gRPC give the same models, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from processes import SITES, Federation
from test_federation import equal, models_of

from fedpsyau_experiments.simulation import simulate
from fedpsyau_model.child_process import free_port
from fedpsyau_model.settings import FederationSettings, StrategyName, load_settings

pytestmark = pytest.mark.e2e

ROUNDS = 3

#: P-FedProx has the whole network; the others leave out the AU branch, to be quick.
CONFIG = """
seed = 5
[network]
au-branch = {au_branch}
[training]
epochs = 1
batch-size = 16
[strategy]
name = "{name}"
theta = {theta}
[rounds]
rounds = 3
keep-rounds = 0
"""


def assert_simulation_equals_grpc(
    folder: Path, twin: Path, name: str, theta: str = "0.9", au_branch: str = "false"
) -> None:
    """Run the same settings both ways: every model, every count and every loss are the same."""
    with Federation(folder, twin, free_port()) as federation:
        federation.start_server(CONFIG.format(name=name, theta=theta, au_branch=au_branch))
        federation.start_sites()
        codes = federation.wait_for_all()
        assert set(codes.values()) == {0}, {who: federation.log(who) for who in codes}
    settings = load_settings(FederationSettings, folder / "federation.toml", environment={})
    simulated = simulate(settings, twin, folder / "simulated", threads=1)

    assert simulated.state.round == len(federation.rounds()) == ROUNDS
    for one, other in zip(federation.rounds(), simulated.rounds(), strict=True):
        assert one["sites"].keys() == other["sites"].keys() == set(SITES)
        for site in SITES:
            for key, value in one["sites"][site].items():
                if key != "train_seconds":
                    assert other["sites"][site][key] == value, (one["round"], site, key)
    for number in range(1, ROUNDS + 1):
        for kind in ("models", "replies"):
            real = models_of(federation.run_folder, number, kind)
            replayed = models_of(simulated.path, number, kind)
            assert all(equal(real[site], replayed[site]) for site in SITES), (number, kind)
    for site in SITES:
        kept = federation.folder / "state" / site / "personal.safetensors"
        again = simulated.path / "sites" / site / "personal.safetensors"
        assert kept.read_bytes() == again.read_bytes(), site


@pytest.mark.parametrize("name", sorted(set(get_args(StrategyName)) - {"p-fedprox", "pooled"}))
def test_simulation_equals_grpc(name: str, tmp_path: Path, twin: Path) -> None:
    assert_simulation_equals_grpc(tmp_path, twin, name)


def test_simulation_equals_grpc_p_fedprox_whole_network(tmp_path: Path, twin: Path) -> None:
    assert_simulation_equals_grpc(tmp_path, twin, "p-fedprox", au_branch="true")


def test_simulation_equals_grpc_theta_auto(tmp_path: Path, twin: Path) -> None:
    assert_simulation_equals_grpc(tmp_path, twin, "p-fedprox", theta='"auto"')
