"""The run folder: everything that a run has produced, whole after every round (design section 7).

    config.json               settings, sites, versions; written once
    state.json                status, last whole round, who contributed when; the commit point
    rounds.jsonl              one line for each whole round: counts, losses, confusion matrices
    events.jsonl              what happened, as it happened; for progress and for the operator
    initial.safetensors       the model that every site started from
    models/SITE.safetensors   every site's personal model after the last whole round
    rounds/0007/models/       the same, for each of the last rounds
    rounds/0007/replies/      the trained models that the sites sent in that round
    rounding/0007/            what rounding took from the models sent then (`model_wire.py`)

A round's folder is written under a temporary name and renamed, then `state.json` is replaced. A
server that dies at any moment leaves the last whole round, and `RunFolder.open` goes on from it.
Only `models/` may then be one round ahead; the round that is run again puts it right.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fedpsyau_model.atomic_files import PARTIAL, link_atomically, new_folder, write_atomically
from fedpsyau_model.errors import RunFolderError, RunFolderInUseError
from fedpsyau_model.exchange import pack_tensors
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.folder_errors import cannot_read, cannot_write
from fedpsyau_server.fusion import Contribution, Model
from fedpsyau_server.packed_model import ModelFile, PackedModel
from fedpsyau_server.round_draft import RoundDraft, model_path
from fedpsyau_server.round_tail import RoundTail

#: Environment variable that names the run folder to the process that runs the rounds.
RUN_FOLDER_VARIABLE = "FEDPSYAU_RUN_FOLDER"

#: Environment variable that names the process of `fedpsyau-server`, with which that process ends.
LAUNCHER_VARIABLE = "FEDPSYAU_LAUNCHER"

#: Seconds between two tries to get a lock.
LOCK_POLL = 0.1

Status = Literal["running", "completed", "failed", "stopped"]


class ContributionMark(BaseModel):
    """Which reply of a site is its last valid one: its round, and what it counts with.

    clips, fisher_trace, theta: as in `Contribution`.
    """

    model_config = ConfigDict(frozen=True)

    round: int
    clips: int
    fisher_trace: float = 0.0
    theta: float = 0.0

    def contribution(self, model: PackedModel) -> Contribution:
        """The contribution that this mark and the model it belongs to make."""
        return Contribution(model, self.clips, self.fisher_trace, self.theta)


class RunState(BaseModel):
    """Content of ``state.json``."""

    model_config = ConfigDict(frozen=True)

    status: Status = "running"
    round: int = 0
    contributions: dict[str, ContributionMark] = {}
    personalised: tuple[str, ...] = ()


class RunConfig(BaseModel):
    """Content of ``config.json``."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    version: str
    schema_version: int
    agreement_hash: str
    started: str
    sites: tuple[str, ...]
    settings: dict[str, Any]
    start_sha256: str = ""
    """SHA-256 of the checkpoint that the initial model was taken from; empty if there was none."""

    def federation_settings(self) -> FederationSettings:
        """The settings of the run."""
        return FederationSettings.model_validate(self.settings)


class RunFolder:
    """A run on disk. Every write is atomic; reading needs no lock."""

    def __init__(self, path: Path, config: RunConfig, state: RunState) -> None:
        self.path = path
        self.config = config
        self.state = state
        self._lines = (0, 0)
        """How many lines of rounds.jsonl are known to be whole, and where they end."""

    @classmethod
    def create(cls, path: Path, config: RunConfig, initial: Model) -> Self:
        """Make a new run folder; RunFolderError if `path` exists already."""
        if path.exists():
            raise RunFolderError(f"The run folder {path} exists already. Give another --run name.")
        try:
            with new_folder(path) as partial:
                write_atomically(partial / "config.json", config.model_dump_json(indent=2))
                write_atomically(partial / "state.json", RunState().model_dump_json(indent=2))
                write_atomically(partial / "initial.safetensors", pack_tensors(initial))
                (partial / "models").mkdir()
                for name in ("rounds.jsonl", "events.jsonl"):
                    (partial / name).touch()
        except OSError as error:
            raise cannot_write(path, error) from None
        return cls(path, config, RunState())

    def change_settings(self, settings: FederationSettings) -> None:
        """Keep changed settings of the server; RunFolderError if they cannot be written."""
        config = self.config.model_copy(update={"settings": settings.as_dict()})
        try:
            write_atomically(self.path / "config.json", config.model_dump_json(indent=2))
        except OSError as error:
            raise cannot_write(self.path, error) from None
        self.config = config

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run folder; RunFolderError if it is none or is damaged."""
        config = _read_json(path / "config.json", RunConfig)
        state = _read_json(path / "state.json", RunState)
        try:
            config.federation_settings()
        except ValidationError as error:
            raise cannot_read(path / "config.json", error) from None
        return cls(path, config, state)

    def reread(self) -> None:
        """Take over what another process has written meanwhile."""
        self.state = _read_json(self.path / "state.json", RunState)

    # Models ---------------------------------------------------------------------------------

    def models(self, round_number: int | None = None) -> dict[str, ModelFile]:
        """Personal models after a round, the last whole one by default. Round 0 has none."""
        number = self.state.round if round_number is None else round_number
        folder = self._round_folder(number) / "models"
        if number == self.state.round:  # a file that is gone must not pass for a newcomer
            paths = [model_path(folder, site) for site in self.state.personalised]
        else:
            paths = sorted(folder.glob("*.safetensors"))
        return {path.stem: self._model(path) for path in paths}

    def replies(self, round_number: int) -> dict[str, ModelFile]:
        """Trained models that sites sent in a round, as far as they are still kept."""
        folder = self._round_folder(round_number) / "replies"
        return {path.stem: self._model(path) for path in sorted(folder.glob("*.safetensors"))}

    def initial(self) -> ModelFile:
        """The model that every site started from."""
        return self._model(self.path / "initial.safetensors")

    @property
    def model_bytes(self) -> int:
        """Size of a packed model of this run, which is the same for all sites and rounds."""
        return self.initial().layout.size

    def contributions(self) -> dict[str, Contribution]:
        """Last valid reply of every site that has sent one."""
        return {
            site: mark.contribution(self._model(self._reply_path(mark.round, site)))
            for site, mark in self.state.contributions.items()
        }

    def _model(self, path: Path) -> ModelFile:
        """Find a model without reading it; RunFolderError if it is not there or not whole."""
        try:
            return ModelFile.open(path)
        except (OSError, ValueError) as error:
            raise RunFolderError(f"The model {path} cannot be read: {error}") from None

    # Rounds ---------------------------------------------------------------------------------

    @contextmanager
    def new_round(self, number: int) -> Iterator[RoundDraft]:
        """Write the models of a round; they count once `finish_round` has been called.

        number: the one after the last, or it is a ValueError. The round's folder gets its name
        only if the block succeeds; if not, nothing is left of it. Raises RunFolderError if it
        cannot be written.
        """
        if number != self.state.round + 1:
            raise ValueError(f"round {number} does not follow round {self.state.round}")
        folder = self._round_folder(number)
        self._clear_litter()  # before it, and not after: it may be all of the space that there is
        with ExitStack() as stack:
            try:
                partial = stack.enter_context(new_folder(folder))
            except OSError as error:
                raise cannot_write(self.path, error) from None
            yield RoundDraft(partial, self.path)
            try:
                stack.close()
            except OSError as error:
                raise cannot_write(self.path, error) from None

    def finish_round(
        self,
        record: Mapping[str, Any],
        sites: Iterable[str],
        contributions: Mapping[str, ContributionMark],
    ) -> None:
        """Make the round that has been written the last. Until the end of this, the one before is.

        record: the line for rounds.jsonl, with its ``round``. sites: those with a personal model.
        contributions: whose reply of which round counts from now on.
        """
        number, sites = int(record["round"]), sorted(sites)
        try:
            self._append_line(json.dumps(record))
            self._show_latest_models(number, sites)
            self._write_state(
                RunState(
                    status="running",
                    round=number,
                    contributions=dict(contributions),
                    personalised=tuple(sites),
                )
            )
            self._prune(number)
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _append_line(self, line: str) -> None:
        """Add the line of the round after the last to rounds.jsonl.

        Lines of whole rounds are never touched. What a killed server left after them goes; readers
        do not look there.
        """
        with (self.path / "rounds.jsonl").open("rb+") as stream:
            rounds, end = self._lines if self._lines[0] <= self.state.round else (0, 0)
            stream.seek(end)
            for _ in range(self.state.round - rounds):
                stream.readline()
            stream.truncate()
            stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
            self._lines = (self.state.round + 1, stream.tell())

    def rounds(self) -> list[dict[str, Any]]:
        """Lines of rounds.jsonl up to the last whole round; RunFolderError if one is missing."""
        return RoundTail(self.path).new(self.state.round)

    def finish(self, status: Status) -> None:
        """Say how the run ended. Raises RunFolderError if that cannot be written."""
        try:
            self._write_state(self.state.model_copy(update={"status": status}))
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _write_state(self, state: RunState) -> None:
        write_atomically(self.path / "state.json", state.model_dump_json(indent=2))
        self.state = state

    def _show_latest_models(self, number: int, sites: Iterable[str]) -> None:
        """Let models/SITE.safetensors be the file of the last round, copied only if it must be."""
        for site in sites:
            link_atomically(
                model_path(self._round_folder(number) / "models", site),
                model_path(self.path / "models", site),
            )

    def _prune(self, number: int) -> None:
        """Delete rounds that neither the setting keeps nor a late site's contribution needs."""
        keep = self.config.federation_settings().rounds.keep_rounds
        if keep == 0:
            return
        needed = {mark.round for mark in self.state.contributions.values()}
        for folder in self._round_folder(0).parent.glob("[0-9]*"):
            if int(folder.name) <= number - keep and int(folder.name) not in needed:
                shutil.rmtree(folder, ignore_errors=True)

    def _clear_litter(self) -> None:
        """Delete what a killed server was writing: a run has one server."""
        for litter in self._litter():
            shutil.rmtree(litter, ignore_errors=True)
        for link in (self.path / "models").glob(f".*{PARTIAL}"):
            with suppress(OSError):
                link.unlink()

    def _litter(self) -> list[Path]:
        return list(self._round_folder(0).parent.glob(f".*{PARTIAL}"))

    def _round_folder(self, number: int) -> Path:
        return self.path / "rounds" / f"{number:04d}"

    def _reply_path(self, number: int, site: str) -> Path:
        return model_path(self._round_folder(number) / "replies", site)

    # Events ---------------------------------------------------------------------------------

    def log_event(self, event: str, **details: Any) -> None:
        """Append one line to events.jsonl, a whole one even if the last was torn.

        Raises RunFolderError if it cannot be written.
        """
        line = json.dumps({"time": round(time.time(), 3), "event": event, **details}) + "\n"
        try:
            with (self.path / "events.jsonl").open("ab+") as stream:
                size = stream.tell()
                stream.seek(max(size - 1, 0))
                torn = stream.read(1) not in (b"", b"\n")
                stream.write((b"\n" if torn else b"") + line.encode())
        except OSError as error:
            raise cannot_write(self.path, error) from None

    # Locks and space ------------------------------------------------------------------------

    @contextmanager
    def locked(self, role: str, patience: float) -> Iterator[None]:
        """Keep others of the same role out of this folder while the block runs.

        role: ``server`` for the process that supervises, ``rounds`` for the one that writes. The
        kernel gives the lock back when its process ends, however it ends.
        patience: seconds that an earlier process is given to end.

        Raises RunFolderInUseError if it does not, RunFolderError if there can be no lock.
        """
        try:
            lock = _lock_file(self.path, role).open("a+")
        except OSError as error:
            raise cannot_write(self.path, error) from None
        with lock:
            deadline = time.monotonic() + patience
            while not _try_lock(lock):
                if time.monotonic() >= deadline:
                    raise RunFolderInUseError(
                        f"Another fedpsyau-server works in the run folder {self.path}. Wait for "
                        "its end or stop it; two servers in one folder would spoil the run."
                    )
                time.sleep(LOCK_POLL)
            yield

    @staticmethod
    def is_locked(path: Path, role: str) -> bool:
        """Whether a process holds the lock of a role in the run folder `path`."""
        try:
            with _lock_file(path, role).open() as lock:
                return not _try_lock(lock, shared=True)
        except OSError:
            return False

    def require_space(self) -> None:
        """Raise RunFolderError unless the next round can be written here."""
        probe = self.path / f".probe{PARTIAL}"
        rounds_off = self.config.federation_settings().exchange.precision != "full"
        each = 3 if rounds_off else 2  # model, reply, and what rounding takes
        needed = (self.path / "initial.safetensors").stat().st_size * each * len(self.config.sites)
        try:
            write_atomically(probe, b"probe")
            probe.unlink()
        except OSError as error:
            raise cannot_write(self.path, error) from None
        free = shutil.disk_usage(self.path).free + sum(map(_size, self._litter()))
        if free < needed:
            raise RunFolderError(
                f"The disk of the run folder {self.path} has {_megabytes(free)} left, and a round "
                f"of this run takes {_megabytes(needed)}. Free some space and go on with "
                f"`fedpsyau-server --resume {self.path}`; the last whole round is intact."
            )


Content = TypeVar("Content", bound=BaseModel)


def _read_json(path: Path, model: type[Content]) -> Content:
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(
            f"{path.parent} is not a run folder: there is no {path.name}. "
            "Run folders stand below ./runs unless --runs said otherwise."
        ) from None
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from None


def _size(folder: Path) -> int:
    """Bytes that go with a folder when it is deleted, as far as it is not being deleted already."""
    size = 0
    for file in folder.rglob("*.safetensors"):
        with suppress(FileNotFoundError):
            found = file.stat()
            size += found.st_size if found.st_nlink == 1 else 0
    return size


def _lock_file(path: Path, role: str) -> Path:
    return path / f".{role}.lock"


def _try_lock(lock: IO[str], shared: bool = False) -> bool:
    """Take a lock without waiting; a shared one only shows that nobody has it for good."""
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
