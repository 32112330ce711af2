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

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fedpsyau_model.atomic_files import PARTIAL, new_folder, write_atomically
from fedpsyau_model.errors import FedPsyAUError, RunFolderError, RunFolderInUseError
from fedpsyau_model.exchange import pack_tensors, unpack_tensors
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.fusion import Contribution, Model

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

    def contribution(self, model: Model) -> Contribution:
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
            raise _cannot_write(path, error) from None
        return cls(path, config, RunState())

    def change_settings(self, settings: FederationSettings) -> None:
        """Keep changed settings of the server; RunFolderError if they cannot be written."""
        config = self.config.model_copy(update={"settings": settings.as_dict()})
        try:
            write_atomically(self.path / "config.json", config.model_dump_json(indent=2))
        except OSError as error:
            raise _cannot_write(self.path, error) from None
        self.config = config

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run folder; RunFolderError if it is none or is damaged."""
        config = _read_json(path / "config.json", RunConfig)
        state = _read_json(path / "state.json", RunState)
        try:
            config.federation_settings()
        except ValidationError as error:
            raise _cannot_read(path / "config.json", error) from None
        return cls(path, config, state)

    def reread(self) -> None:
        """Take over what another process has written meanwhile."""
        self.state = _read_json(self.path / "state.json", RunState)

    # Models ---------------------------------------------------------------------------------

    def models(self, round_number: int | None = None) -> dict[str, Model]:
        """Personal models after a round, the last whole one by default. Round 0 has none."""
        number = self.state.round if round_number is None else round_number
        folder = self._round_folder(number) / "models"
        if number == self.state.round:  # a file that is gone must not pass for a newcomer
            paths = [folder / f"{site}.safetensors" for site in self.state.personalised]
        else:
            paths = sorted(folder.glob("*.safetensors"))
        return {path.stem: self._read_model(path) for path in paths}

    def replies(self, round_number: int) -> dict[str, Model]:
        """Trained models that sites sent in a round, as far as they are still kept."""
        folder = self._round_folder(round_number) / "replies"
        return {path.stem: self._read_model(path) for path in sorted(folder.glob("*.safetensors"))}

    def initial(self) -> Model:
        """The model that every site started from."""
        return self._read_model(self.path / "initial.safetensors")

    @property
    def model_bytes(self) -> int:
        """Size of a packed model of this run, which is the same for all sites and rounds."""
        path = self.path / "initial.safetensors"
        try:
            return path.stat().st_size
        except OSError as error:
            raise _cannot_read(path, error) from None

    def contributions(self) -> dict[str, Contribution]:
        """Last valid reply of every site that has sent one, from disk."""
        return {
            site: mark.contribution(self._read_model(self._reply_path(mark.round, site)))
            for site, mark in self.state.contributions.items()
        }

    def _read_model(self, path: Path) -> Model:
        try:
            return unpack_tensors(path.read_bytes())
        except (OSError, FedPsyAUError) as error:
            raise RunFolderError(f"The model {path} cannot be read: {error}") from None

    # Rounds ---------------------------------------------------------------------------------

    def save_round(
        self,
        record: Mapping[str, Any],
        models: Mapping[str, Model],
        replies: Mapping[str, Model],
        contributions: Mapping[str, ContributionMark],
    ) -> None:
        """Write one whole round. Whatever happens before the end, the round before it stays.

        record: the line for rounds.jsonl; its ``round`` must be the one after the last, or it is a
        ValueError.
        models: g_k after the round. replies: valid w_k of this round. contributions: whose reply
        of which round counts from now on.
        """
        number = int(record["round"])
        if number != self.state.round + 1:
            raise ValueError(f"round {number} does not follow round {self.state.round}")
        try:
            with new_folder(self._round_folder(number)) as partial:
                for kind, tensors in (("models", models), ("replies", replies)):
                    (partial / kind).mkdir()
                    for site, model in tensors.items():
                        write_atomically(
                            partial / kind / f"{site}.safetensors", pack_tensors(model)
                        )
            lines = [json.dumps(line) for line in self.rounds()]
            lines.append(json.dumps(record))
            write_atomically(self.path / "rounds.jsonl", "".join(f"{line}\n" for line in lines))
            self._show_latest_models(number, models)
            self._write_state(
                RunState(
                    status="running",
                    round=number,
                    contributions=dict(contributions),
                    personalised=tuple(sorted(models)),
                )
            )
            self._prune(number)
        except OSError as error:
            raise _cannot_write(self.path, error) from None

    def rounds(self) -> list[dict[str, Any]]:
        """Lines of rounds.jsonl up to the last whole round; RunFolderError if one is missing."""
        path = self.path / "rounds.jsonl"
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            whole = [line for line in lines if line["round"] <= self.state.round]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _cannot_read(path, error) from None
        if [line["round"] for line in whole] != list(range(1, self.state.round + 1)):
            raise _cannot_read(path, f"its lines are not those of rounds 1 to {self.state.round}")
        return whole

    def finish(self, status: Status) -> None:
        """Say how the run ended. Raises RunFolderError if that cannot be written."""
        try:
            self._write_state(self.state.model_copy(update={"status": status}))
        except OSError as error:
            raise _cannot_write(self.path, error) from None

    def _write_state(self, state: RunState) -> None:
        write_atomically(self.path / "state.json", state.model_dump_json(indent=2))
        self.state = state

    def _show_latest_models(self, number: int, sites: Iterable[str]) -> None:
        """Let models/SITE.safetensors be the file of the last round, copied only if it must be."""
        for site in sites:
            newest = self._round_folder(number) / "models" / f"{site}.safetensors"
            link = self.path / "models" / f".{site}.safetensors{PARTIAL}"
            link.unlink(missing_ok=True)
            try:
                os.link(newest, link)
            except OSError:  # a file system without hard links
                shutil.copyfile(newest, link)
            link.replace(self.path / "models" / f"{site}.safetensors")

    def _prune(self, number: int) -> None:
        """Delete rounds that neither the setting keeps nor a late site's contribution needs.

        What a killed server was writing goes as well: a run has one server.
        """
        for litter in self._round_folder(0).parent.glob(f".*{PARTIAL}"):
            shutil.rmtree(litter, ignore_errors=True)
        keep = self.config.federation_settings().rounds.keep_rounds
        if keep == 0:
            return
        needed = {mark.round for mark in self.state.contributions.values()}
        for folder in self._round_folder(0).parent.glob("[0-9]*"):
            if int(folder.name) <= number - keep and int(folder.name) not in needed:
                shutil.rmtree(folder, ignore_errors=True)

    def _round_folder(self, number: int) -> Path:
        return self.path / "rounds" / f"{number:04d}"

    def _reply_path(self, number: int, site: str) -> Path:
        return self._round_folder(number) / "replies" / f"{site}.safetensors"

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
            raise _cannot_write(self.path, error) from None

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
            raise _cannot_write(self.path, error) from None
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
            raise _cannot_write(self.path, error) from None
        free = shutil.disk_usage(self.path).free
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
        raise _cannot_read(path, error) from None


def _cannot_read(path: Path, error: object) -> RunFolderError:
    return RunFolderError(
        f"{path} cannot be read: {error}. It is damaged, or another version of fedpsyau wrote it. "
        "Restore the run folder from a copy, or start a new run."
    )


def _cannot_write(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"The run folder {path} cannot be written: {error.strerror or error}. "
        f"{_CURES.get(error.errno or 0, 'Check the disk and the permissions of the folder.')} "
        f"The last whole round is intact; go on with `fedpsyau-server --resume {path}`."
    )


#: What to do about a folder that cannot be written, by the system's number of the error.
_CURES = {
    errno.ENOSPC: "The disk is full: free some space.",
    errno.EDQUOT: "The quota is used up: free some space.",
    errno.EFBIG: "Files may not grow this large here: raise the limit (`ulimit -f`).",
    errno.EROFS: "It is mounted read-only: mount it for writing.",
    errno.EACCES: "Give the user that runs the server the right to write there.",
    errno.EPERM: "Give the user that runs the server the right to write there.",
}


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
