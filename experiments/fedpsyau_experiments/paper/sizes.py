"""How large an experiment is where nothing else is said; loaded to print help, so it is light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

__all__ = ["SIZES", "TWIN_SCALES", "Size"]

Size = Literal["small", "paper"]

#: What stands in for the defaults of `ExperimentSettings`, by dotted key.
SIZES: Mapping[Size, Mapping[str, Any]] = {
    "small": {
        "experiment.seeds": (0, 1, 2),
        "experiment.epochs": 8,
        "experiment.folds": 2,
        "experiment.loso": (),
        "experiment.pretraining-epochs": 8,
        "training.batch-size": 8,
        "rounds.rounds": 3,
    },
    "paper": {},
}

#: Scale of the twin where none is given.
TWIN_SCALES: Mapping[Size, float] = {"small": 0.01, "paper": 1.0}
