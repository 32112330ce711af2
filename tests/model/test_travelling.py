from __future__ import annotations

import pytest

from fedpsyau_model.model_state import shared_names
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import NetworkSettings, StrategySettings
from fedpsyau_model.travelling import body_names, head_names, travelling_names

HEAD = ("inception.classifier.1.weight", "inception.classifier.1.bias")


@pytest.fixture(scope="module")
def network():
    return build_network(NetworkSettings.model_validate({"au-branch": False}), 0)


def test_head_and_body_are_all_parameters(network):
    assert head_names(network) == HEAD
    names = {name for name, _ in network.named_parameters()}
    assert set(body_names(network)) == names - set(HEAD)


@pytest.mark.parametrize("batch_norm", ["local", "shared"])
@pytest.mark.parametrize("name", ["fedrep", "fedas", "ditto", "p-fedprox"])
def test_the_head_travels_unless_it_is_the_sites_own(network, name, batch_norm):
    strategy = StrategySettings.model_validate({"name": name, "batch-norm": batch_norm})
    stays = set(HEAD) if name in ("fedrep", "fedas") else set()
    everything = shared_names(network, batch_norm)
    assert set(travelling_names(network, strategy)) == set(everything) - stays
    assert list(travelling_names(network, strategy)) == [n for n in everything if n not in stays]
