"""The simulation and the federation over gRPC give the same models, bit for bit.

Starting seven sites takes longer than training them here. So they are started once, and one server
after the other runs a federation with them, each with another strategy: the server is stopped once
the rounds that are compared are whole, and the sites go on looking for one, as they do in earnest.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from processes import SITES, Federation
from test_federation import equal, models_of

from fedpsyau_experiments.simulation import simulate
from fedpsyau_model.child_process import free_port
from fedpsyau_model.settings import FederationSettings, StrategyName, load_settings

pytestmark = [pytest.mark.e2e, pytest.mark.slow]  # twelve whole federations

COMPARED_ROUNDS = 3

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
[exchange]
precision = "{precision}"
[rounds]
rounds = 4
keep-rounds = 0
"""


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, twin: Path) -> Iterator[Federation]:
    """Seven sites that look for a server on a port where there is none yet."""
    with Federation(tmp_path_factory.mktemp("sites"), twin, free_port()) as federation:
        # On a busy machine there may be no server for longer than a site would wait by default.
        federation.start_sites(SITES, "--connect-seconds", 900)
        yield federation


def federate(sites: Federation, folder: Path, config: str) -> Federation:
    """Run a federation with the waiting sites until the last compared round is whole."""
    with Federation(folder, sites.data, sites.port) as federation:
        server = federation.start_server(config)
        federation.wait_for_event("round-done", seconds=300, round=COMPARED_ROUNDS)
        server.send_signal(signal.SIGTERM)
        federation.wait("server")
    running = {site for site, process in sites.processes.items() if process.poll() is None}
    assert running == set(SITES), {site: sites.log(site) for site in set(SITES) - running}
    return federation


@pytest.mark.parametrize(
    ("name", "theta", "au_branch", "precision"),
    [
        ("p-fedprox", "0.9", "true", "full"),
        ("p-fedprox", '"auto"', "false", "full"),
        ("p-fedprox", '"auto"', "false", "half"),
        ("p-fedprox", "0.9", "true", "delta"),
        *[
            (name, "0.9", "false", "full")
            for name in get_args(StrategyName)
            if name not in ("p-fedprox", "pooled")
        ],
    ],
)
def test_simulation_equals_grpc(
    name: str, theta: str, au_branch: str, precision: str, sites: Federation, tmp_path: Path
) -> None:
    config = CONFIG.format(name=name, theta=theta, au_branch=au_branch, precision=precision)
    federation = federate(sites, tmp_path, config)
    settings = load_settings(FederationSettings, tmp_path / "federation.toml", environment={})
    simulated = simulate(settings, sites.data, tmp_path / "simulated", threads=1)

    real = [line for line in federation.rounds() if line["round"] <= COMPARED_ROUNDS]
    assert [line["round"] for line in real] == list(range(1, COMPARED_ROUNDS + 1))
    for one, other in zip(real, simulated.rounds(), strict=False):
        assert one["sites"].keys() == other["sites"].keys() == set(SITES)
        for site in SITES:
            for key, value in one["sites"][site].items():
                if key != "train_seconds":
                    assert other["sites"][site][key] == value, (one["round"], site, key)
    for number in range(1, COMPARED_ROUNDS + 1):
        for kind in ("models", "replies"):
            sent = models_of(federation.run_folder, number, kind)
            replayed = models_of(simulated.path, number, kind)
            assert sent.keys() == replayed.keys() == set(SITES)
            assert all(equal(sent[site], replayed[site]) for site in SITES), (number, kind)
