"""How learning rate and prior weight run over a training: by rounds together, by epochs alone.

Rounds and epochs are counted from 1, as in messages and reports.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fedpsyau_model.settings import TrainingSettings


class Epoch(NamedTuple):
    """What one epoch of local training is run with."""

    learning_rate: float
    """AdamW's rate, > 0."""
    prior_weight: float
    """rho in [0, 1]."""


def learning_rate_at(round_number: int, rounds: int, settings: TrainingSettings) -> float:
    """Learning rate in a round, > 0 in every one.

    ``cosine`` starts at the full rate and would reach 0 only in the round after the last one.
    Raises ValueError unless 1 <= round_number <= rounds.
    """
    _require_round(round_number, rounds)
    if settings.learning_rate_schedule == "constant":
        return settings.learning_rate
    done = (round_number - 1) / rounds
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2


def prior_weight_at(round_number: int, rounds: int, settings: TrainingSettings) -> float:
    """Weight rho of the extrinsic prior in a round, in [0, 1].

    ``linear`` falls from 1 in the first round to 0 in the last; a single round has 1.
    Raises ValueError unless 1 <= round_number <= rounds.
    """
    _require_round(round_number, rounds)
    if settings.prior_schedule == "constant" or rounds == 1:
        return 1.0
    return (rounds - round_number) / (rounds - 1)


def epochs_of_round(
    round_number: int, rounds: int, settings: TrainingSettings
) -> tuple[Epoch, ...]:
    """Plan the local epochs of one round of a federation, all alike."""
    epoch = Epoch(
        learning_rate_at(round_number, rounds, settings),
        prior_weight_at(round_number, rounds, settings),
    )
    return (epoch,) * settings.epochs


def epochs_alone(count: int, settings: TrainingSettings) -> tuple[Epoch, ...]:
    """Plan `count` epochs outside a federation, the schedules running over the epochs."""
    return tuple(
        Epoch(learning_rate_at(each, count, settings), prior_weight_at(each, count, settings))
        for each in range(1, count + 1)
    )


def _require_round(round_number: int, rounds: int) -> None:
    if not 1 <= round_number <= rounds:
        raise ValueError(f"round {round_number} is not one of 1 to {rounds}")
