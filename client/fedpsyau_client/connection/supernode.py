"""Flower's SuperNode, supervised: the process that holds the connection to the server."""

from __future__ import annotations

import logging
import math
import random
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fedpsyau_client.connection.site_kit import SiteKit
from fedpsyau_model.child_process import ChildProcess, flower_environment, free_port
from fedpsyau_model.private_folder import PrivateFolder

if TYPE_CHECKING:
    from fedpsyau_client.connection.supernode_tasks import TaskSource

log = logging.getLogger(__name__)

#: What starts the SuperNode.
COMMAND = (sys.executable, "-P", "-m", "fedpsyau_client.connection.prompt_supernode")

#: Seconds before the first, second, ... restart in a row; the last one from then on.
BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0)

#: A SuperNode that has lived this long starts the back-off anew.
_STEADY_SECONDS = 60.0

#: How long a SuperNode may not answer this process, above what its start takes on a busy machine.
#: It may hang at its end, when a server that was killed comes back and knows it no longer.
HANG_SECONDS = 45.0

#: What the SuperNode writes when the server knows its key and yet does not let it in.
_TURNED_AWAY = b"[code: 2004]"

#: What it writes when it has dropped a message, or an answer to one, and goes on as if nothing had
#: been. Nobody would ever hear of that message again; a new connection makes the server ask anew.
_DROPPED = (b"Failed to receive message", b"Failed to send message")

#: Bytes of the log beyond which it is put aside at the next start, replacing the one before.
_LONG_LOG = 5 << 20

#: Bytes that are looked at twice, in case one of the above was only half written.
_OVERLAP = 64

#: How long the server keeps the place of a client that broke off (Flower: 72 s), and a little more.
LEASE_SECONDS = 80.0

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

    _tasks: TaskSource | None

    def __init__(
        self, partition: str, superlink: str, log_file: Path, kit: SiteKit | None = None
    ) -> None:
        self._partition = partition
        self._superlink = superlink
        self._log_file = log_file
        self._kit = kit
        self._folder = PrivateFolder("fedpsyau-client-")
        self._secret = secrets.token_bytes(32)
        self._secret_file = self._folder.path / "task-secret"
        self._secret_file.touch(mode=0o600)
        self._secret_file.write_bytes(self._secret)
        self._restarts = 0
        self._first_refused = math.inf
        self._start()

    def _start(self) -> None:
        if self._log_file.exists() and self._log_file.stat().st_size > _LONG_LOG:
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        port = free_port()
        self._process = ChildProcess(
            [
                *COMMAND,
                *_transport_flags(self._kit),
                *("--superlink", self._superlink),
                *("--isolation", "process", "--host", "127.0.0.1", "--port", str(port)),
                *("--node-config", f'partition="{self._partition}"'),
                *("--superexec-auth-secret-file", str(self._secret_file)),
            ],
            self._log_file,
            flower_environment(self._folder.path),
        )
        self._tasks = None
        self._task_address = f"127.0.0.1:{port}"
        self._started = time.monotonic()
        self._log_read = self._log_file.stat().st_size
        self._log_end = b""
        self._told: set[bytes] = set()

    @property
    def tasks(self) -> TaskSource:
        """Where the server's messages are taken from.

        The first call loads Flower, which takes a second or two; the SuperNode does so meanwhile.
        """
        if self._tasks is None:
            from fedpsyau_client.connection.supernode_tasks import TaskSource

            self._tasks = TaskSource(self._task_address, self._secret)
        return self._tasks

    def has_worked(self) -> None:
        """Let the next back-off start anew: a message came through this SuperNode."""
        self._restarts = 0

    def keep_alive(self) -> bool:
        """Start the SuperNode again if it ended, hangs or lost a message; True if that was needed.

        Waits for the back-off first, shortened by chance, so that the sites of a federation do not
        all knock at the same moment.
        """
        code = self._process.return_code
        self._read_log()
        hangs = self.tasks.silent_for() > HANG_SECONDS
        loses = self.tasks.lost_one or not self._told.isdisjoint(_DROPPED)
        if code is None and not hangs and not loses:
            return False
        if time.monotonic() - self._started > _STEADY_SECONDS:
            self._restarts = 0
        pause = BACK_OFF[min(self._restarts, len(BACK_OFF) - 1)]
        if _TURNED_AWAY in self._told:
            pause = min(pause, _LONGEST_PAUSE_AT_THE_DOOR)
            self._note_refusal()
        else:
            self._first_refused, self.refused_seconds = math.inf, 0.0
            what = (
                "lost a message" if loses else "hangs" if code is None else f"ended (code {code})"
            )
            log.warning("the connection process %s; next start in %.0f s", what, pause)
        self._restarts += 1
        self._stop_process()
        time.sleep(pause * random.uniform(0.5, 1.0))
        self._start()
        return True

    def _note_refusal(self) -> None:
        if math.isinf(self._first_refused):
            self._first_refused = self._started
            log.info(
                "the server still keeps the place of this site's last connection, which broke off; "
                "it gives it free within %.0f s, and this site tries again until then",
                LEASE_SECONDS,
            )
        self.refused_seconds = self._started - self._first_refused

    def _read_log(self) -> None:
        """Note what the SuperNode has told since the last call."""
        if self._log_file.stat().st_size <= self._log_read:
            return
        with self._log_file.open("rb") as stream:
            stream.seek(self._log_read)
            new = stream.read()
        self._log_read += len(new)
        text = self._log_end + new
        self._log_end = text[-_OVERLAP:]
        self._told.update(each for each in (_TURNED_AWAY, *_DROPPED) if each in text)

    def _stop_process(self) -> None:
        if self._tasks is not None:
            self._tasks.close()
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_process()
        self._folder.remove()


def _transport_flags(kit: SiteKit | None) -> list[str]:
    """Flags of the connection's protection."""
    if kit is None:
        return ["--insecure"]
    # Not resolved: where a file in memory leads to has no name that could be opened.
    return [
        *("--root-certificates", str(kit.authority.absolute())),
        *("--auth-supernode-private-key", str(kit.key.absolute())),
    ]
