"""Flower's SuperNode, supervised: the process that holds the connection to the server."""

from __future__ import annotations

import logging
import math
import secrets
import tempfile
import time
from pathlib import Path
from typing import Self

from fedpsyau_client.connection.site_kit import SiteKit
from fedpsyau_client.connection.supernode_tasks import TaskSource
from fedpsyau_model.child_process import ChildProcess, flower_environment, free_port, script

log = logging.getLogger(__name__)

#: Seconds before the first, second, ... restart in a row; the last one from then on.
BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0)

#: A SuperNode that has lived this long starts the back-off anew.
_STEADY_SECONDS = 60.0

#: How long a SuperNode may not answer this process, above what its start takes on a busy machine.
#: It may hang at its end, when a server that was killed comes back and knows it no longer.
HANG_SECONDS = 45.0

#: What the SuperNode writes when the server knows its key and yet does not let it in.
_TURNED_AWAY = b"[code: 2004]"

#: It lets this site in as soon as an earlier connection has lapsed, so that is tried often.
_LONGEST_PAUSE_AT_THE_DOOR = 10.0


class SuperNode:
    """A SuperNode that is started again, with back-off, whenever it ends.

    Its task interface listens on loopback and is guarded by a secret of this process. With a kit
    it speaks TLS and shows the site's key; without one, plaintext, which callers allow on loopback
    only, unless the user insists.

    refused_seconds: time from the first to the last start in a row that the server turned away.
    """

    refused_seconds = 0.0

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
        self._first_refused = math.inf
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

    def has_worked(self) -> None:
        """Let the next back-off start anew: a message came through this SuperNode."""
        self._restarts = 0

    def keep_alive(self) -> bool:
        """Start the SuperNode again if it has ended or hangs; True if that was needed.

        Waits for the back-off first.
        """
        code = self._process.return_code
        hangs = self.tasks.silent_for() > HANG_SECONDS
        if code is None and not hangs:
            return False
        if time.monotonic() - self._started > _STEADY_SECONDS:
            self._restarts = 0
        pause = BACK_OFF[min(self._restarts, len(BACK_OFF) - 1)]
        if self._was_turned_away():
            self._first_refused = min(self._first_refused, self._started)
            self.refused_seconds = self._started - self._first_refused
            pause = min(pause, _LONGEST_PAUSE_AT_THE_DOOR)
            log.info("the server says that this site is connected already; that may have to lapse")
        else:
            self._first_refused, self.refused_seconds = math.inf, 0.0
        self._restarts += 1
        what = "hangs" if code is None else f"ended (code {code})"
        log.warning("the connection process %s; next start in %.0f s", what, pause)
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

    def __exit__(self, *_: object) -> None:
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
