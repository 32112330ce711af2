"""Temperature scaling against numbers worked out by hand, and against other people's fits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from fedpsyau_model.temperature import (
    TEMPERATURES,
    class_probabilities,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
)


def drawn(seed, clips=200, classes=3, sureness=3.0):
    """Logits whose sureness does not fit how often they are right."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(classes, size=clips)
    honest = generator.normal(size=(clips, classes)) + np.eye(classes)[truth]
    return sureness * honest, truth


def test_three_of_four_right_needs_the_temperature_at_which_three_quarters_are_promised():
    # p = 1 / (1 + exp(-1 / T)) = 3 / 4, so T = 1 / ln 3.
    logits = np.array([[1.0, 0.0]] * 4)
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(1 / math.log(3))


def test_probabilities_at_a_temperature_by_hand():
    found = class_probabilities(np.array([[2 * math.log(3), 0.0]]), 2.0)
    np.testing.assert_allclose(found, [[0.75, 0.25]])
    assert negative_log_likelihood(
        np.array([[2 * math.log(3), 0.0]]), np.array([1]), 2.0
    ) == pytest.approx(math.log(4))


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_equals_scipy_s_and_that_of_lbfgs(seed):
    logits, truth = drawn(seed)
    found = fit_temperature(logits, truth)

    def cost(temperature):
        return -log_softmax(logits / temperature, axis=1)[np.arange(len(truth)), truth].mean()

    by_scipy = minimize_scalar(cost, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-9})
    assert found == pytest.approx(by_scipy.x, rel=1e-5)
    temperature = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([temperature], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits) / temperature, torch.from_numpy(truth)
        )
        loss.backward()
        return loss

    optimiser.step(closure)
    assert found == pytest.approx(float(temperature.detach()), rel=1e-3)


@given(seed=st.integers(0, 10_000), sureness=st.floats(0.05, 30), classes=st.integers(2, 7))
@settings(max_examples=60, deadline=None)
def test_the_fit_never_makes_it_worse_and_never_changes_an_answer(seed, sureness, classes):
    logits, truth = drawn(seed, clips=40, classes=classes, sureness=sureness)
    found = fit_temperature(logits, truth)
    assert TEMPERATURES[0] <= found <= TEMPERATURES[1]
    if TEMPERATURES[0] < 1 < TEMPERATURES[1]:
        before = negative_log_likelihood(logits, truth, 1.0)
        assert negative_log_likelihood(logits, truth, found) <= before + 1e-12
    np.testing.assert_array_equal(
        class_probabilities(logits, found).argmax(axis=1), logits.argmax(axis=1)
    )


def test_a_network_that_never_errs_gets_the_lowest_temperature_and_a_wrong_one_the_highest():
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(logits, np.array([0, 1])) == TEMPERATURES[0]
    assert fit_temperature(logits, np.array([1, 0])) == TEMPERATURES[1]


@pytest.mark.parametrize("logits", [np.empty((0, 3)), np.array([[0.0, np.nan]])])
def test_nothing_can_be_fitted_to_nothing(logits):
    with pytest.raises(ValueError, match="finite logits of at least one clip"):
        fit_temperature(logits, np.zeros(len(logits), dtype=int))


def test_huge_logits_do_not_overflow():
    found = class_probabilities(np.array([[1e5, -1e5, 0.0]]), 0.25)
    np.testing.assert_array_equal(found, [[1.0, 0.0, 0.0]])


def test_expected_calibration_error_by_hand():
    # Two clips at .9, one right: a gap of .4. Two at .6, both right: a gap of .4 the other way.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 1])
    assert expected_calibration_error(probabilities, truth) == pytest.approx(0.4)


def test_perfect_calibration_has_no_error_and_certain_mistakes_the_largest():
    assert expected_calibration_error(np.array([[1.0, 0.0]] * 3), np.zeros(3, int)) == 0
    assert expected_calibration_error(np.array([[1.0, 0.0]] * 3), np.ones(3, int)) == 1


def test_calibration_mends_what_is_too_sure():
    logits, truth = drawn(9, clips=2000, sureness=4.0)
    found = fit_temperature(logits[:1000], truth[:1000])
    assert found > 2
    after, before = (
        expected_calibration_error(class_probabilities(logits[1000:], each), truth[1000:])
        for each in (found, 1.0)
    )
    assert after < before / 3
