import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpsyau_model.schedules import (
    Epoch,
    epochs_alone,
    epochs_of_round,
    learning_rate_at,
    prior_weight_at,
)
from fedpsyau_model.settings import TrainingSettings


def settings(**values):
    return TrainingSettings.model_validate({"learning-rate": 0.01, "epochs": 3} | values)


def test_cosine_by_hand():
    rates = [learning_rate_at(each, 4, settings()) for each in (1, 2, 3, 4)]
    # cos(0), cos(pi/4), cos(pi/2), cos(3 pi/4)
    assert rates == pytest.approx([0.01, 0.00853553, 0.005, 0.00146447], rel=1e-5)


def test_prior_weight_falls_from_one_to_zero():
    weights = [prior_weight_at(each, 5, settings()) for each in range(1, 6)]
    assert weights == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert prior_weight_at(1, 1, settings()) == 1.0


def test_constant_schedules():
    constant = settings(**{"learning-rate-schedule": "constant", "prior-schedule": "constant"})
    assert epochs_alone(3, constant) == (Epoch(0.01, 1.0),) * 3


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_the_learning_rate_is_positive_and_the_prior_weight_a_share_in_any_round(case):
    round_number, rounds = case
    assert 0 < learning_rate_at(round_number, rounds, settings()) <= 0.01
    assert 0 <= prior_weight_at(round_number, rounds, settings()) <= 1


def test_the_epochs_of_a_round_are_alike_and_those_alone_follow_the_schedule():
    one = Epoch(learning_rate_at(2, 4, settings()), prior_weight_at(2, 4, settings()))
    assert epochs_of_round(2, 4, settings()) == (one, one, one)
    assert epochs_alone(4, settings())[1] == one
    assert len(epochs_alone(4, settings())) == 4


@pytest.mark.parametrize("round_number", [0, 5, -1])
@pytest.mark.parametrize("schedule", [learning_rate_at, prior_weight_at])
def test_rounds_are_counted_from_one(schedule, round_number):
    with pytest.raises(ValueError, match="1 to 4"):
        schedule(round_number, 4, settings())
