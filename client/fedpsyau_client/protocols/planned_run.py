"""The folder of work that goes on where it was interrupted: a plan, and a file for every piece.

    plan.json   everything that the results depend on; written once
    lock        who works on it

A plan that has changed is refused with what differs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel, ValidationError

from fedpsyau_model.atomic_files import PARTIAL, new_folder, write_atomically
from fedpsyau_model.errors import OutputExistsError, RunFolderError, RunsDifferError

__all__ = ["PlannedRun", "cannot_read", "cannot_write"]

_PLAN = "plan.json"

_SHOWN_DIFFERENCES = 6


class _Plan(Protocol):
    """What a plan must be able to do."""

    def differences(self, other: Any) -> list[str]:
        """List ``key: here X, there Y`` for every value in which two plans differ."""

    def model_dump_json(self, *, indent: int) -> str:
        """JSON of the plan."""


P = TypeVar("P", bound=_Plan)

#: Gives the plan of a run at a folder, which may still have its temporary name.
MakePlan = Callable[[Path], P]


class PlannedRun(Generic[P]):
    """A run on disk. Use `create`, `resume` or `open`."""

    plan_type: ClassVar[type[BaseModel]]
    #: The command that writes such a run, for messages.
    command: ClassVar[str]
    #: Folders within it that pieces are written to.
    folders: ClassVar[tuple[str, ...]]

    def __init__(self, path: Path, plan: P) -> None:
        self.path = path
        self.plan = plan

    @classmethod
    def make(cls, path: Path, make_plan: MakePlan[P]) -> Self:
        """Make a new run; OutputExistsError if `path` is there already."""
        if os.path.lexists(path):
            raise OutputExistsError(
                f"{path} is already there and was left as it is. Give another --out, or go on with "
                "that run with --resume."
            )
        try:
            with new_folder(path) as partial:
                plan = make_plan(partial)
                (partial / cls.folders[0]).mkdir()
                write_atomically(partial / _PLAN, plan.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise cannot_write(path, error) from None
        return cls(path, plan)

    @classmethod
    def go_on(cls, path: Path, make_plan: MakePlan[P]) -> Self:
        """Open a run to go on with, or make it if there is nothing at `path`.

        Raises RunsDifferError, naming what differs, if it was started with another plan.
        """
        if not os.path.lexists(path):
            return cls.make(path, make_plan)
        run = cls.open(path)
        differences = make_plan(path).differences(run.plan)
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
            plan: Any = cls.plan_type.model_validate_json(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunFolderError(
                f"{path} is not the folder of a run of `{cls.command}`: there is no {file.name}. "
                f"Give one that `{cls.command} --out` wrote."
            ) from None
        except (OSError, ValidationError, ValueError) as error:
            raise cannot_read(file, error) from None
        return cls(path, plan)

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
            for folder in self.folders:  # what a killed run was writing
                for litter in (self.path / folder).glob(f".*{PARTIAL}"):
                    litter.unlink(missing_ok=True)
            yield


def cannot_read(path: Path, error: object) -> RunFolderError:
    """Make the error for a file of a run that is not what was written."""
    return RunFolderError(
        f"{path} cannot be read: {error}. It was edited, or another version of fedpsyau wrote it. "
        "Restore it from a copy; a piece's file may be deleted and made again with --resume."
    )


def cannot_write(path: Path, error: OSError) -> RunFolderError:
    """Make the error for a run that cannot be written."""
    return RunFolderError(
        f"The run {path} cannot be written: {error.strerror or error}. Check free space and "
        "permissions, and go on with --resume; pieces that are done are intact."
    )
