"""The folder of a protocol's run, whole after every fold.

    plan.json             everything that the results depend on; written once
    folds/0003.json       what fold 3 came to, with every prediction; written when it is done
    models/0003.safetensors   its model, if models are kept
    summary.json, ...     written when all folds are done (see `outputs`)

A run that was interrupted goes on at the next fold that has no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from fedpsyau_client.prediction.recogniser_file import RECOGNISER
from fedpsyau_client.protocols.fold_result import FoldResult
from fedpsyau_client.protocols.fold_training import TrainedFold
from fedpsyau_client.protocols.folds import Fold
from fedpsyau_client.protocols.plan import Plan
from fedpsyau_client.protocols.planned_run import PlannedRun, cannot_read, cannot_write
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.checkpoints import write_checkpoint
from fedpsyau_model.errors import RunFolderError

#: Written when all folds are done.
SUMMARY = "summary.json"


class TrainRun(PlannedRun[Plan]):
    """A run on disk. Use `create`, `resume` or `open`."""

    plan_type = Plan
    command = "fedpsyau train"
    folders = ("folds", "models")

    @classmethod
    def create(cls, path: Path, plan: Plan) -> Self:
        """Make a new run; OutputExistsError if `path` is there already."""
        return cls.make(path, lambda _: plan)

    @classmethod
    def resume(cls, path: Path, plan: Plan) -> Self:
        """Open a run to go on with, or make it; see `PlannedRun.go_on`."""
        return cls.go_on(path, lambda _: plan)

    def require_finished(self) -> None:
        """Raise RunFolderError unless all folds are done."""
        if not (self.path / SUMMARY).exists():
            raise RunFolderError(
                f"The run {self.path} is not finished: there is no {SUMMARY}. Finish it by "
                "repeating its `fedpsyau train` command with --resume."
            )

    def pending(self, folds: Sequence[Fold]) -> list[Fold]:
        """Folds without a result, in their order."""
        return [fold for fold in folds if not self._fold_file(fold.number).exists()]

    def results(self) -> list[FoldResult]:
        """Results of all folds that are done, by number.

        Raises RunFolderError if there is none, or one is damaged or of another plan.
        """
        files = sorted((self.path / "folds").glob("[0-9]*.json"))
        if not files:
            raise RunFolderError(
                f"The run {self.path} has no fold that is done. Go on with it: `fedpsyau train "
                "... --resume`."
            )
        return [self._read_fold(file) for file in files]

    def write(self, fold: TrainedFold, keep_model: bool) -> None:
        """Write what a fold came to; its result last, which makes the fold count as done."""
        number = fold.result.number
        try:
            if keep_model:
                write_checkpoint(
                    self.path / "models" / f"{number:04d}.safetensors",
                    fold.model,
                    {
                        RECOGNISER: fold.recogniser,
                        "fold": fold.result.name,
                        "plan": self.plan.as_dict(),
                        "synthetic": any(part.synthetic for part in self.plan.data),
                    },
                )
            write_atomically(self._fold_file(number), fold.result.model_dump_json() + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _read_fold(self, file: Path) -> FoldResult:
        try:
            result = FoldResult.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValidationError, ValueError) as error:
            raise cannot_read(file, error) from None
        if result.plan_hash != self.plan.plan_hash():
            raise cannot_read(file, "it belongs to a run with another plan")
        return result

    def _fold_file(self, number: int) -> Path:
        return self.path / "folds" / f"{number:04d}.json"
