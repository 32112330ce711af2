"""The folder of a protocol's run, whole after every fold.

    plan.json             everything that the results depend on; written once
    folds/0003.json       what fold 3 came to, with every prediction; written when it is done
    models/0003.safetensors   its model, if models are kept
    summary.json, ...     written when all folds are done (see `outputs`)

A run that was interrupted goes on at the next fold that has no file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from fedpsyau_client.prediction.recogniser_file import RECOGNISER
from fedpsyau_client.protocols.fold_result import FoldResult
from fedpsyau_client.protocols.fold_training import TrainedFold
from fedpsyau_client.protocols.folds import Fold
from fedpsyau_client.protocols.plan import Plan
from fedpsyau_model.atomic_files import PARTIAL, new_folder, write_atomically
from fedpsyau_model.checkpoints import write_checkpoint
from fedpsyau_model.errors import OutputExistsError, RunFolderError, RunsDifferError

_PLAN = "plan.json"

#: Written when all folds are done.
SUMMARY = "summary.json"

_SHOWN_DIFFERENCES = 6


class TrainRun:
    """A run on disk. Use `create`, `resume` or `open`."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan

    @classmethod
    def create(cls, path: Path, plan: Plan) -> Self:
        """Make a new run; OutputExistsError if `path` is there already."""
        if os.path.lexists(path):
            raise OutputExistsError(
                f"{path} is already there and was left as it is. Give another --out, or go on with "
                "that run with --resume."
            )
        try:
            with new_folder(path) as partial:
                (partial / "folds").mkdir()
                write_atomically(partial / _PLAN, plan.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise _cannot_write(path, error) from None
        return cls(path, plan)

    @classmethod
    def resume(cls, path: Path, plan: Plan) -> Self:
        """Open a run to go on with, or make it if there is nothing at `path`.

        Raises RunsDifferError, naming what differs, if it was started with another plan.
        """
        if not os.path.lexists(path):
            return cls.create(path, plan)
        run = cls.open(path)
        differences = plan.differences(run.plan)
        if differences:
            more = len(differences) - _SHOWN_DIFFERENCES
            raise RunsDifferError(
                f"The run {path} cannot go on, because it was started otherwise (here is this "
                f"command, there the run): {'; '.join(differences[:_SHOWN_DIFFERENCES])}"
                f"{f'; and {more} more' if more > 0 else ''}. Repeat the options, settings and "
                "data that it was started with, or give another --out."
            )
        return run

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run to read; RunFolderError if it is none or is damaged."""
        file = path / _PLAN
        try:
            return cls(path, Plan.model_validate_json(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise RunFolderError(
                f"{path} is not the folder of a protocol's run: there is no {file.name}. Give one "
                "that `fedpsyau train --out` wrote."
            ) from None
        except (OSError, ValidationError, ValueError) as error:
            raise _cannot_read(file, error) from None

    def require_finished(self) -> None:
        """Raise RunFolderError unless all folds are done."""
        if not (self.path / SUMMARY).exists():
            raise RunFolderError(
                f"The run {self.path} is not finished: there is no {SUMMARY}. Finish it by "
                "repeating its `fedpsyau train` command with --resume."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working on the run; RunFolderError if one does."""
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"Another process works on the run {self.path}. Wait for it, or give another "
                    "--out."
                ) from None
            for folder in ("folds", "models"):  # what a killed run was writing
                for litter in (self.path / folder).glob(f".*{PARTIAL}"):
                    litter.unlink(missing_ok=True)
            yield

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
            raise _cannot_write(self.path, error) from None

    def _read_fold(self, file: Path) -> FoldResult:
        try:
            result = FoldResult.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValidationError, ValueError) as error:
            raise _cannot_read(file, error) from None
        if result.plan_hash != self.plan.plan_hash():
            raise _cannot_read(file, "it belongs to a run with another plan")
        return result

    def _fold_file(self, number: int) -> Path:
        return self.path / "folds" / f"{number:04d}.json"


def _cannot_read(path: Path, error: object) -> RunFolderError:
    return RunFolderError(
        f"{path} cannot be read: {error}. It was edited, or another version of fedpsyau wrote it. "
        "Restore it from a copy; a fold's file may be deleted and trained again with --resume."
    )


def _cannot_write(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"The run {path} cannot be written: {error.strerror or error}. Check free space and "
        "permissions, and go on with --resume; folds that are done are intact."
    )
