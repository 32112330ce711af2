"""Settings of an experiment: those of a federation, and how often and by what protocol."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from fedpsyau_model.bootstrap import RESAMPLES
from fedpsyau_model.settings import FederationSettings, Settings

__all__ = ["ExperimentSection", "ExperimentSettings"]

Seed = Annotated[int, Field(ge=0, lt=2**31)]


class ExperimentSection(Settings):
    """Section ``[experiment]``: the course of an experiment."""

    seeds: tuple[Seed, ...] = Field(
        (0, 1, 2, 3, 4),
        min_length=1,
        description="One repetition of every setting for each: initial weights, order, dropout, "
        "and the division of the subjects.",
    )
    epochs: int = Field(20, ge=1, le=1000, description="Epochs of a fold; not of a federation.")
    folds: int = Field(10, ge=2, description="Folds by subject; not of a federation.")
    loso: tuple[str, ...] = Field(
        ("casme3", "synthetic-casme3"),
        description="Data sets that are tested leaving one subject out, instead of in folds.",
    )
    seven_classes: tuple[str, ...] = Field(
        ("dfme", "synthetic-dfme"),
        description="Data sets that count in seven classes where each is tested alone.",
    )
    pretraining_epochs: int = Field(20, ge=1, le=1000, description="Epochs of pre-training.")
    resamples: int = Field(
        RESAMPLES, ge=100, le=1_000_000, description="Resamples of the bootstrap over subjects."
    )

    @field_validator("seeds", "loso", "seven_classes", mode="before")
    @classmethod
    def _split(cls, values: object) -> object:
        """Let flags and the environment give values separated by commas."""
        if isinstance(values, str):
            return [each.strip() for each in values.split(",") if each.strip()]
        return values

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed that is there twice would count twice")
        return seeds


class ExperimentSettings(FederationSettings):
    """What ``--config`` of an experiment may hold; `seed` is not used, but `experiment.seeds`."""

    experiment: ExperimentSection = ExperimentSection()
