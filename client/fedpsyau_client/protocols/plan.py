"""What a run of a protocol is: everything that its results depend on, and a hash over it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from fedpsyau_model import __version__
from fedpsyau_model.settings import (
    LossSettings,
    NetworkSettings,
    PriorsSettings,
    Settings,
    TrainingSettings,
    agreement_differences,
)
from fedpsyau_priors import Priors

Protocol = Literal["loso", "kfold", "holdout", "leave-one-site-out"]

#: Which epoch's model is tested: the last one, or the best on subjects held out of training.
Selection = Literal["last", "validation"]

#: Share of the training subjects on whom the model is chosen.
VALIDATION_SHARE = 0.2


class PlanPart(Settings):
    """Settings that the code makes itself, and reads back from a file by the same names."""

    model_config = ConfigDict(validate_by_name=True)


class DataPart(PlanPart):
    """One feature store that clips come from."""

    partition: str
    dataset: str
    data_hash: str
    synthetic: bool


class Plan(PlanPart):
    """Content of ``plan.json``: two runs with equal plans have equal results, bit for bit.

    (On one machine: sums differ in their last bits between processors.)
    """

    protocol: Protocol
    folds: int = Field(0, ge=0, description="Folds of kfold; 0 for other protocols.")
    seed: int = Field(ge=0)
    epochs: int = Field(ge=1)
    select: Selection = "last"
    start_sha256: str = Field("", description="Checkpoint that training starts from.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Sums differ between them.")
    version: str = __version__
    data: tuple[DataPart, ...]
    network: NetworkSettings
    priors: PriorsSettings = PriorsSettings()
    loss: LossSettings
    training: TrainingSettings

    def shared_priors(self) -> Priors:
        """Priors that guide the graphs."""
        return self.priors.priors(self.network.intrinsic_edges)

    def plan_hash(self) -> str:
        """SHA-256 over the canonical JSON of the plan, 64 hex digits."""
        canonical = json.dumps(self._values(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def differences(self, other: Plan) -> list[str]:
        """List ``key: here X, there Y`` for every value in which two plans differ."""
        return agreement_differences(self._values(), other._values())

    def _values(self) -> dict[str, Any]:
        """Every value that matters: not the epochs of a federation's round, nor its pull."""
        values = self.as_dict()
        del values["training"]["epochs"], values["loss"]["alpha4"]
        values["data"] = {part["partition"]: part for part in values["data"]}
        return values


class Job(PlanPart):
    """A plan with where its parts are on this machine; what a worker process is given."""

    plan: Plan
    data: Path
    run: Path
    start: Path | None = None
    device: str = "cpu"
    keep_models: bool = False
