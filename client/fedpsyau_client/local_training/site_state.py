"""What a site keeps for itself on its own disk: its identity and its model.

STATE/PARTITION/instance               random token by which the server knows this site
STATE/PARTITION/personal.safetensors   this site's model, whole, after its last training
STATE/PARTITION/personal.json          where that model comes from, and its hash
STATE/PARTITION/carried/RUN/0007.safetensors
                                       what the strategy carries over to the next round
STATE/PARTITION/carried/RUN/residual/0007.safetensors
                                       what rounding took from the model that was sent then
STATE/PARTITION/audit/                 the log of every message in and out
STATE/PARTITION/proposed.json          what the server proposed when it last greeted this site
STATE/PARTITION/client.log, lock       Flower's log; who is using this folder
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from fedpsyau_model.atomic_files import PARTIAL, write_atomically, write_together
from fedpsyau_model.checkpoints import RECOGNISER, checkpoint_bytes
from fedpsyau_model.errors import DataDamagedError, NameTakenError, SiteStateError
from fedpsyau_model.exchange import (
    MalformedMessageError,
    Tensors,
    pack_tensors,
    unpack_tensors,
)


def audit_folder(state: Path) -> Path:
    """The audit log in the state folder of one site."""
    return state / "audit"


def proposal_file(state: Path) -> Path:
    """What the server last proposed, in the state folder of one site."""
    return state / "proposed.json"


class SiteState:
    """The state folder of one site, locked while it is open.

    carried_days: runs for which nothing was kept in so many days are taken for over.

    Whatever ends this process or fills its disk, the last whole state stays. Raises SiteStateError
    if the folder cannot be written, NameTakenError if another process has it.
    """

    def __init__(self, folder: Path, carried_days: float = math.inf) -> None:
        self._folder = folder
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (folder / "lock").open("a+")
            self._acquire_lock()
            self._tidy(carried_days)
            self.instance = self._read_instance()

    @property
    def personal_model(self) -> Path:
        """Where this site's model is after its last training."""
        return self._folder / "personal.safetensors"

    @property
    def _provenance(self) -> Path:
        return self._folder / "personal.json"

    @property
    def log_file(self) -> Path:
        """Where Flower's connection process writes what it has to say."""
        return self._folder / "client.log"

    @property
    def audit_folder(self) -> Path:
        """Where the log of every message in and out is."""
        return audit_folder(self._folder)

    def save_proposal(self, proposal: Mapping[str, Any]) -> None:
        """Keep what the server proposed, for `fedpsyau-client policy init --proposed`."""
        with self._writing():
            write_atomically(proposal_file(self._folder), json.dumps(dict(proposal), indent=2))

    def save_personal(
        self, model: Tensors, recogniser: Mapping[str, Any], provenance: Mapping[str, Any]
    ) -> None:
        """Keep the whole trained model with where it comes from and its SHA-256.

        recogniser: what `fedpsyau predict` needs to know, which goes into the model's own file.
        Neither file takes its place before both are on the disk, the model first; a kill between
        the two is made good when the folder is next opened.
        """
        packed = checkpoint_bytes(model, {RECOGNISER: recogniser})
        told = dict(provenance) | {"model_sha256": hashlib.sha256(packed).hexdigest()}
        with self._writing():
            write_together(
                {
                    self.personal_model: packed,
                    self._provenance: json.dumps(told, indent=2),
                }
            )

    def carry(self, run_id: str, round_number: int, tensors: Tensors) -> None:
        """Keep what the run's next round goes on from.

        The state before this round stays, too: a server that dies in a round asks for it again.
        What an abandoned continuation of the run has left goes.
        """
        self._keep_for_run(self._carried_folder(run_id), round_number, tensors)

    def carried(self, run_id: str, before_round: int) -> Tensors | None:
        """What the last round before this one kept, or None if this site has nothing of the run.

        Raises DataDamagedError if the file is no longer what was written.
        """
        rounds = _rounds_in(self._carried_folder(run_id))
        earlier = [path for number, path in rounds.items() if number < before_round]
        return _own_tensors(earlier[-1]) if earlier else None

    def keep_residual(self, run_id: str, round_number: int, tensors: Tensors) -> None:
        """Keep what rounding took from the model sent in a round, as `carry` does."""
        self._keep_for_run(self._residual_folder(run_id), round_number, tensors)

    def residual(self, run_id: str, round_number: int) -> Tensors:
        """What rounding took in the round before this one; nothing if the site was not in it.

        Raises DataDamagedError if the file is no longer what was written.
        """
        path = _rounds_in(self._residual_folder(run_id)).get(round_number - 1)
        return _own_tensors(path) if path else {}

    def _keep_for_run(self, folder: Path, round_number: int, tensors: Tensors) -> None:
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / f"{round_number:04d}.safetensors", pack_tensors(tensors))
        rounds = _rounds_in(folder)
        kept = {round_number, *[number for number in rounds if number < round_number][-1:]}
        for number, path in rounds.items():
            if number not in kept:
                path.unlink()

    def forget(self, run_id: str) -> None:
        """Delete what was carried from round to round of a run that is over."""
        shutil.rmtree(self._carried_folder(run_id), ignore_errors=True)

    def _tidy(self, carried_days: float) -> None:
        """Delete what killed processes were writing, and what runs long over had carried."""
        self._finish_saving()
        for litter in self._folder.rglob(f".*{PARTIAL}"):
            litter.unlink(missing_ok=True)
        oldest = time.time() - carried_days * 86_400
        for run in (self._folder / "carried").glob("*"):
            if max(each.stat().st_mtime for each in (run, *run.glob("*"))) < oldest:
                shutil.rmtree(run, ignore_errors=True)

    def _finish_saving(self) -> None:
        """Let a provenance follow its model, if a kill came between the two taking their places."""
        unfinished = [*self._folder.glob(f".{self._provenance.name}.*{PARTIAL}")]
        if not unfinished or not self.personal_model.exists():
            return
        digest = hashlib.sha256(self.personal_model.read_bytes()).hexdigest()
        for partial in unfinished:
            with suppress(ValueError, KeyError, TypeError):
                if json.loads(partial.read_bytes())["model_sha256"] == digest:
                    partial.replace(self._provenance)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make a SiteStateError of what keeps a file from being written."""
        try:
            yield
        except OSError as error:
            raise SiteStateError(
                f"This site cannot write its own state to {self._folder}: "
                f"{error.strerror or error}. Free some space, or correct the folder's owner; what "
                "was kept before is unchanged."
            ) from None

    def _carried_folder(self, run_id: str) -> Path:
        # The server chose the run's name: it must not become a path.
        return self._folder / "carried" / hashlib.sha256(run_id.encode()).hexdigest()[:16]

    def _residual_folder(self, run_id: str) -> Path:
        return self._carried_folder(run_id) / "residual"

    def _read_instance(self) -> str:
        path = self._folder / "instance"
        if not path.exists():
            write_atomically(path, secrets.token_hex(16))
        return path.read_text().strip()

    def _acquire_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            self._lock.close()
            raise NameTakenError(
                f"The state folder {self._folder} is in use by process {holder}, and this is "
                f"process {os.getpid()}: a client for this partition runs here already. Stop it "
                "first, or start this one with another --partition or --state."
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()


def _own_tensors(path: Path) -> Tensors:
    try:
        return unpack_tensors(path.read_bytes())
    except (OSError, MalformedMessageError) as error:
        raise DataDamagedError(
            f"The site's own state {path} cannot be read: {error} Restore it from a copy, or "
            "delete it to go on from the model that the server sends."
        ) from None


def _rounds_in(folder: Path) -> dict[int, Path]:
    """Files of a folder by the round that they are named for, in ascending order."""
    return {int(path.stem): path for path in sorted(folder.glob("[0-9]*.safetensors"), key=_round)}


def _round(path: Path) -> int:
    return int(path.stem)
