"""The simulation and the federation over gRPC give the same models, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import SITES
from test_federation import ROUNDS, equal, models_of, whole_run

from fedpsyau_experiments.simulation import simulate
from fedpsyau_model.settings import FederationSettings, load_settings

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("strategy", ["p-fedprox", "fedprox", "fedavg", "local"])
def test_simulation_equals_grpc(strategy: str, tmp_path: Path, twin: Path) -> None:
    federation = whole_run(tmp_path, twin, "--strategy", strategy)
    settings = load_settings(
        FederationSettings,
        tmp_path / "federation.toml",
        {"strategy.name": strategy},
        environment={},
    )
    simulated = simulate(settings, twin, tmp_path / "simulated", threads=1)

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
        assert (
            kept.read_bytes()
            == (simulated.path / "sites" / site / "personal.safetensors").read_bytes()
        )
