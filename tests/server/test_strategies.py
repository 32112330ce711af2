"""What every strategy makes of a round, with numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from fedpsyau_model.settings import StrategySettings
from fedpsyau_server.fusion import Contribution
from fedpsyau_server.packed_model import ModelInMemory, PackedModel, unpacked
from fedpsyau_server.strategies import STRATEGIES, newcomer_model, next_models, others_means


def settings(name: str, theta: float = 0.9) -> StrategySettings:
    return StrategySettings.model_validate({"name": name, "theta": theta})


def model(value: float) -> ModelInMemory:
    return ModelInMemory.of({"w": np.full(2, value, dtype=np.float32)})


CONTRIBUTIONS = {
    "a": Contribution(model(1.0), 10),
    "b": Contribution(model(2.0), 30),
    "c": Contribution(model(4.0), 60),
}

#: The same with what FedAS and theta = auto add to them.
WEIGHED = {
    "a": Contribution(model(1.0), 10, fisher_trace=6.0, theta=1.0),
    "b": Contribution(model(2.0), 30, fisher_trace=3.0, theta=0.5),
    "c": Contribution(model(4.0), 60, fisher_trace=1.0, theta=0.6),
}

CURRENT = {"a": model(100.0), "b": model(200.0), "c": model(300.0)}


def values(models: Mapping[str, PackedModel]) -> dict[str, float]:
    return {site: float(unpacked(each)["w"][0]) for site, each in models.items()}


def after(name: str, answered: set[str], theta: float = 0.9) -> dict[str, float]:
    return values(next_models(settings(name, theta), CURRENT, CONTRIBUTIONS, frozenset(answered)))


def test_the_strategies_are_those_that_settings_allow() -> None:
    allowed = StrategySettings.model_json_schema()["properties"]["name"]["enum"]
    assert set(STRATEGIES) == set(allowed)


@pytest.mark.parametrize(
    "name",
    ["fedavg", "fedprox", "fedavg-finetune", "fedrep", "mr-mtl", "ditto", "pooled"],
)
def test_the_mean_goes_to_every_site(name: str) -> None:
    # (10 * 1 + 30 * 2 + 60 * 4) / 100
    assert after(name, {"a", "b", "c"}) == pytest.approx({"a": 3.1, "b": 3.1, "c": 3.1})


def test_p_fedprox_gives_every_site_its_own() -> None:
    # theta w_k + (1 - theta) * mean of the others: a: (60 + 240)/90, b: (10 + 240)/70, c: 70/40
    assert after("p-fedprox", {"a", "b", "c"}, theta=0.5) == pytest.approx(
        {"a": 0.5 + 0.5 * 300 / 90, "b": 1.0 + 0.5 * 250 / 70, "c": 2.0 + 0.5 * 70 / 40}, rel=1e-6
    )


def test_local_leaves_every_site_alone() -> None:
    assert after("local", {"a", "b", "c"}) == {"a": 1.0, "b": 2.0, "c": 4.0}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_site_that_did_not_answer_keeps_its_model(name: str) -> None:
    everybody = after(name, {"a", "b", "c"})
    assert after(name, {"a", "c"}) == everybody | {"b": 200.0}


@pytest.mark.parametrize("name", STRATEGIES)
def test_without_an_answer_nothing_changes(name: str) -> None:
    assert after(name, set()) == {"a": 100.0, "b": 200.0, "c": 300.0}


def test_a_newcomer_starts_from_the_weighted_mean() -> None:
    start = newcomer_model(settings("p-fedprox"), CONTRIBUTIONS, model(9.0))
    assert unpacked(start)["w"] == pytest.approx(np.full(2, 3.1))


def test_a_newcomer_of_a_run_without_contributions_starts_from_the_initial_model() -> None:
    start = newcomer_model(settings("p-fedprox"), {}, model(9.0))
    assert unpacked(start)["w"].tolist() == [9.0, 9.0]


def test_a_newcomer_that_trains_alone_sees_nobodys_weights() -> None:
    start = newcomer_model(settings("local"), CONTRIBUTIONS, model(9.0))
    assert unpacked(start)["w"].tolist() == [9.0, 9.0]


def test_fedas_weighs_by_fisher_traces_and_not_by_clips() -> None:
    # (6 * 1 + 3 * 2 + 1 * 4) / 10
    after = next_models(settings("fedas"), CURRENT, WEIGHED, frozenset("abc"))
    assert values(after) == pytest.approx({"a": 1.6, "b": 1.6, "c": 1.6})


def test_without_any_fisher_information_fedas_weighs_by_clips() -> None:
    after = next_models(settings("fedas"), CURRENT, CONTRIBUTIONS, frozenset("abc"))
    assert values(after) == pytest.approx({"a": 3.1, "b": 3.1, "c": 3.1})


def test_huge_fisher_traces_do_not_overflow() -> None:
    huge = {"a": Contribution(model(1.0), 1, fisher_trace=1e307)}
    huge["b"] = Contribution(model(3.0), 1, fisher_trace=1e307)
    after = next_models(settings("fedas"), CURRENT, huge, frozenset("ab"))
    assert values(after)["a"] == pytest.approx(2.0)


def test_with_theta_auto_every_site_is_fused_with_its_own() -> None:
    auto = StrategySettings.model_validate({"theta": "auto"})
    after = values(next_models(auto, CURRENT, WEIGHED, frozenset("abc")))
    # a keeps 1. b: 0.5 * 2 + 0.5 * (10 * 1 + 60 * 4)/70. c: 0.6 * 4 + 0.4 * (10 * 1 + 30 * 2)/40.
    assert after == pytest.approx({"a": 1.0, "b": 1.0 + 0.5 * 250 / 70, "c": 2.4 + 0.4 * 1.75})


def test_the_others_mean_leaves_the_site_out() -> None:
    expected = {"a": (30 * 2 + 60 * 4) / 90, "b": (10 * 1 + 60 * 4) / 70, "c": (10 + 60) / 40}
    assert values(others_means(CONTRIBUTIONS)) == pytest.approx(expected)
    assert others_means({"a": CONTRIBUTIONS["a"]}) == {}
