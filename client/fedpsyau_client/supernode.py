"""Flower's SuperNode, supervised: the process that holds the connection to the server."""

from __future__ import annotations

import logging
import secrets
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from fedpsyau_client.site_kit import SiteKit
from fedpsyau_client.supernode_tasks import TaskSource
from fedpsyau_model.child_process import ChildProcess, flower_environment, free_port, script

log = logging.getLogger(__name__)

#: Seconds before the first, second, ... restart in a row; the last one from then on.
BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0)

#: A SuperNode that has lived this long starts the back-off anew.
_STEADY_SECONDS = 60.0

#: What the SuperNode writes when the server knows its key and yet does not let it in.
_TURNED_AWAY = b"[code: 2004]"


class SuperNode:
    """A SuperNode that is started again, with back-off, whenever it ends.

    Its task interface listens on loopback and is guarded by a secret of this process. With a kit
    it speaks TLS and shows the site's key; without one, plaintext, which callers allow on loopback
    only, unless the user insists.
    """

    def __init__(
        self, partition: str, superlink: str, log_file: Path, kit: SiteKit | None = None
    ) -> None:
        self._partition = partition
        self._superlink = superlink
        self._log_file = log_file
        self._kit = kit
        self._folder = tempfile.TemporaryDirectory(prefix="fedpsyau-client-")
        self._secret = secrets.token_bytes(32)
        self._secret_file = Path(self._folder.name) / "task-secret"
        self._secret_file.touch(mode=0o600)
        self._secret_file.write_bytes(self._secret)
        self._restarts = 0
        self._refused_since: float | None = None
        self._start()

    def _start(self) -> None:
        port = free_port()
        home = Path(self._folder.name)
        self._process = ChildProcess(
            [
                script("flower-supernode"),
                *_transport_flags(self._kit),
                *("--superlink", self._superlink),
                *("--isolation", "process", "--host", "127.0.0.1", "--port", str(port)),
                *("--node-config", f'partition="{self._partition}"'),
                *("--superexec-auth-secret-file", str(self._secret_file)),
            ],
            self._log_file,
            flower_environment(home),
        )
        self.tasks = TaskSource(f"127.0.0.1:{port}", self._secret)
        self._started = time.monotonic()
        self._log_start = self._log_file.stat().st_size

    @property
    def refused_seconds(self) -> float:
        """For how long the server has turned every start away; 0 if it did not at the last."""
        return time.monotonic() - self._refused_since if self._refused_since else 0.0

    def keep_alive(self) -> bool:
        """Start the SuperNode again if it has ended; True if that was needed.

        Waits for the back-off first.
        """
        code = self._process.return_code
        if code is None:
            return False
        if time.monotonic() - self._started > _STEADY_SECONDS:
            self._restarts = 0
        if self._was_turned_away():
            self._refused_since = self._refused_since or self._started
        else:
            self._refused_since = None
        pause = BACK_OFF[min(self._restarts, len(BACK_OFF) - 1)]
        self._restarts += 1
        log.warning("the connection process ended (code %d); next start in %.0f s", code, pause)
        self._stop_process()
        time.sleep(pause)
        self._start()
        return True

    def _was_turned_away(self) -> bool:
        with self._log_file.open("rb") as log_of_start:
            log_of_start.seek(self._log_start)
            return _TURNED_AWAY in log_of_start.read()

    def _stop_process(self) -> None:
        self.tasks.close()
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_process()
        self._folder.cleanup()


def _transport_flags(kit: SiteKit | None) -> list[str]:
    """Flags of the connection's protection."""
    if kit is None:
        return ["--insecure"]
    return [
        *("--root-certificates", str(kit.authority.resolve())),
        *("--auth-supernode-private-key", str(kit.key.resolve())),
    ]
