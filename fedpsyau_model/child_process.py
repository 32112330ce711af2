"""A child process that ends with its parent, however the parent ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn, Self

from fedpsyau_model.process_tree import alive, descendants

#: prctl(2) option: the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1


class ChildProcess:
    """A process in a process group of its own, so that Ctrl-C reaches only the parent.

    `stop` ends it and whatever it started. If the parent is killed, the kernel terminates the
    child (Linux). Use as a context manager.
    """

    def __init__(
        self,
        command: Sequence[str],
        log_file: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self.log_file = log_file
        self._log: IO[bytes] = log_file.open("ab")
        self._process = subprocess.Popen(
            list(command),
            env=dict(environment) if environment is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def return_code(self) -> int | None:
        """Exit code, or None while it runs; negative if a signal ended it."""
        return self._process.poll()

    def last_lines(self, count: int = 5) -> str:
        """Tail of the log, for an error message."""
        lines = self.log_file.read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if line.strip()][-count:])

    def wait(self, seconds: float) -> int | None:
        """Wait for the end; None if it still runs after `seconds`."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, seconds: float = 10.0) -> None:
        """Ask the process to end (SIGTERM), then kill what is left of its group and offspring.

        Flower's helpers lead sessions of their own and can outlive the process that started them.
        """
        offspring = descendants(self.pid)
        if self.return_code is None:
            self._process.terminate()
            self.wait(seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in alive(offspring):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def run_and_leave(program: Callable[[], object]) -> NoReturn:
    """Run the main program of a child and end this process with its exit code, without finalising.

    Python stops its threads wherever they are before it takes the objects apart. gRPC's channels
    take a lock when they go, and where a stopped thread holds that lock the process never ends,
    and no signal reaches it.
    """
    try:
        program()
        code: object = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def script(name: str) -> str:
    """Path of a console script that is installed beside this interpreter."""
    return str(Path(sys.executable).parent / name)


def flower_environment(home: Path) -> dict[str, str]:
    """Environment of Flower's processes: a private home, no calls to the outside.

    The interpreter's scripts come first on PATH, because Flower starts its helpers by bare name.
    """
    scripts = str(Path(sys.executable).parent)
    return os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
    }


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
