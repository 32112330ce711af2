"""The choice of theta, with numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fedpsyau_client.local_training.theta_choice import best_theta, mixture, theta_candidates


def test_the_weight_of_fedavg_joins_the_grid() -> None:
    assert theta_candidates((1.0, 0.5), 10, 40) == (0.25, 0.5, 1.0)
    assert theta_candidates((1.0, 0.5), 20, 40) == (0.5, 1.0)
    assert theta_candidates((1.0, 0.5), 10, 0) == (0.5, 1.0)


def test_a_mixture_by_hand() -> None:
    own = {"w": np.array([1.0, 2.0], np.float32), "steps": np.array(7)}
    mixed = mixture(own, {"w": np.array([5.0, 0.0], np.float32)}, 0.75)
    assert mixed["w"].tolist() == [0.75 * 1 + 0.25 * 5, 0.75 * 2]
    assert mixed["w"].dtype == np.float32
    assert mixed["steps"] == 7


def test_theta_1_is_the_own_model_bit_for_bit() -> None:
    own = np.random.default_rng(0).normal(size=100).astype(np.float32)
    mixed = mixture({"w": own}, {"w": own * 1e10}, 1.0)
    assert mixed["w"].tobytes() == own.tobytes()


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({0.5: 1.0, 0.9: 0.5, 1.0: 2.0}, 0.9),
        ({0.5: 1.0, 0.9: 1.0, 1.0: 1.0}, 1.0),
        ({0.5: float("nan"), 0.9: 3.0, 1.0: float("nan")}, 0.9),
        ({0.5: float("nan"), 0.9: float("inf"), 1.0: float("nan")}, 0.9),
    ],
)
def test_the_lowest_cost_and_of_equals_the_most_personal(
    costs: dict[float, float], best: float
) -> None:
    assert best_theta(tuple(costs), costs.__getitem__) == best
