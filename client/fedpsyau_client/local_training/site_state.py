"""What a site keeps for itself on its own disk: its identity and its model.

STATE/PARTITION/instance               random token by which the server knows this site
STATE/PARTITION/personal.safetensors   this site's model, whole, after its last training
STATE/PARTITION/personal.json          where that model comes from
STATE/PARTITION/carried/RUN/0007.safetensors
                                       what the strategy carries over to the next round
STATE/PARTITION/audit/                 the log of every message in and out
STATE/PARTITION/proposed.json          what the server proposed when it last greeted this site
STATE/PARTITION/client.log, lock       Flower's log; who is using this folder
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import DataDamagedError, NameTakenError
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
    """The state folder of one site, locked while it is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (folder / "lock").open("a+")
        self._acquire_lock()
        self.instance = self._read_instance()

    @property
    def personal_model(self) -> Path:
        """Where this site's model is after its last training."""
        return self._folder / "personal.safetensors"

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
        write_atomically(proposal_file(self._folder), json.dumps(dict(proposal), indent=2))

    def save_personal(self, model: Tensors, provenance: Mapping[str, Any]) -> None:
        """Keep the whole trained model with where it comes from."""
        write_atomically(self.personal_model, pack_tensors(model))
        write_atomically(self._folder / "personal.json", json.dumps(dict(provenance), indent=2))

    def carry(self, run_id: str, round_number: int, tensors: Tensors) -> None:
        """Keep what the run's next round goes on from.

        The state before this round stays, too: a server that dies in a round asks for it again.
        What an abandoned continuation of the run has left goes.
        """
        folder = self._carried_folder(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{round_number:04d}.safetensors", pack_tensors(tensors))
        rounds = _rounds_in(folder)
        kept = {round_number, *[number for number in rounds if number < round_number][-1:]}
        for number, path in rounds.items():
            if number not in kept:
                path.unlink()

    def carried(self, run_id: str, before_round: int) -> Tensors | None:
        """What the last round before this one kept, or None if this site has nothing of the run.

        Raises DataDamagedError if the file is no longer what was written.
        """
        rounds = _rounds_in(self._carried_folder(run_id))
        earlier = [path for number, path in rounds.items() if number < before_round]
        if not earlier:
            return None
        try:
            return unpack_tensors(earlier[-1].read_bytes())
        except (OSError, MalformedMessageError) as error:
            raise DataDamagedError(
                f"The site's own state {earlier[-1]} cannot be read: {error} Restore it from a "
                "copy, or delete it to go on from the model that the server sends."
            ) from None

    def _carried_folder(self, run_id: str) -> Path:
        # The server chose the run's name: it must not become a path.
        return self._folder / "carried" / hashlib.sha256(run_id.encode()).hexdigest()[:16]

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


def _rounds_in(folder: Path) -> dict[int, Path]:
    """Files of a folder by the round that they are named for, in ascending order."""
    return {int(path.stem): path for path in sorted(folder.glob("[0-9]*.safetensors"), key=_round)}


def _round(path: Path) -> int:
    return int(path.stem)
