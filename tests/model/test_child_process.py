"""Child processes that leave nothing behind, with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedpsyau_model.child_process import (
    ChildProcess,
    flower_environment,
    free_port,
    script,
)

ROOT = Path(__file__).parents[2]

#: Starts a grandchild that ignores SIGTERM, writes its process id, and waits for ever.
WITH_GRANDCHILD = """
import subprocess, sys, time
ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
grandchild = subprocess.Popen([sys.executable, "-c", ignoring])
open(sys.argv[1], "w").write(str(grandchild.pid))
time.sleep(600)
"""

#: Starts a child, writes its process id, and waits for ever.
PARENT = """
import sys, time
from pathlib import Path
from fedpsyau_model.child_process import ChildProcess
child = ChildProcess([sys.executable, "-c", "import time; time.sleep(600)"], Path(sys.argv[1]))
Path(sys.argv[2]).write_text(str(child.pid))
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def read_pid(path: Path) -> int:
    assert eventually(lambda: path.exists() and path.read_text().strip() != "")
    return int(path.read_text())


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *(str(argument) for argument in arguments)]


def test_output_and_exit_code_are_kept(tmp_path: Path) -> None:
    code = "import sys; print('one'); print(); print('two', file=sys.stderr); sys.exit(7)"
    with ChildProcess(python(code), tmp_path / "log") as child:
        assert child.wait(10) == 7
        assert child.return_code == 7
        assert sorted(child.last_lines().splitlines()) == ["one", "two"]
        assert len(child.last_lines(1).splitlines()) == 1


def test_the_environment_is_the_one_given(tmp_path: Path) -> None:
    code = "import os; print(os.environ.get('GIVEN'), 'HOME' in os.environ)"
    with ChildProcess(python(code), tmp_path / "log", {"GIVEN": "yes"}) as child:
        assert child.wait(10) == 0
        assert child.last_lines() == "yes False"


def test_a_child_that_runs_has_no_exit_code(tmp_path: Path) -> None:
    with ChildProcess(python("import time; time.sleep(600)"), tmp_path / "log") as child:
        assert child.wait(0.05) is None
        assert child.return_code is None
        assert is_alive(child.pid)
    assert not is_alive(child.pid)
    assert child.return_code == -signal.SIGTERM


def test_stop_ends_grandchildren_that_ignore_sigterm(tmp_path: Path) -> None:
    child = ChildProcess(python(WITH_GRANDCHILD, tmp_path / "pid"), tmp_path / "log")
    grandchild = read_pid(tmp_path / "pid")
    assert is_alive(grandchild)
    child.stop()
    assert eventually(lambda: not is_alive(grandchild))
    assert not is_alive(child.pid)
    child.stop()  # a second time does no harm


def test_stop_kills_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "open(sys.argv[1], 'w').write('1'); time.sleep(600)"
    )
    child = ChildProcess(python(code, tmp_path / "ready"), tmp_path / "log")
    read_pid(tmp_path / "ready")
    child.stop(seconds=0.2)
    assert child.return_code == -signal.SIGKILL


def test_stop_ends_grandchildren_of_a_child_that_is_gone(tmp_path: Path) -> None:
    child = ChildProcess(python(WITH_GRANDCHILD, tmp_path / "pid"), tmp_path / "log")
    grandchild = read_pid(tmp_path / "pid")
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL
    assert is_alive(grandchild)
    child.stop()
    assert eventually(lambda: not is_alive(grandchild))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does this on Linux only")
def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        python(PARENT, tmp_path / "log", tmp_path / "pid"),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        child = read_pid(tmp_path / "pid")
        assert is_alive(child)
    finally:
        parent.kill()
        parent.wait()
    assert eventually(lambda: not is_alive(child))


#: A program that Python cannot finalise: an object waits, as it goes, for what nobody gives back.
STUCK_AT_ITS_END = """
import sys, threading
from fedpsyau_model.child_process import run_and_leave
held = threading.Lock()
held.acquire()
class Stuck:
    def __del__(self):
        held.acquire()
stuck = Stuck()
def program():
    print("said")
    {ending}
run_and_leave(program)
"""


@pytest.mark.parametrize(
    ("ending", "code", "told"),
    [
        ("return None", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no port')", 1, "no port"),
        ("raise RuntimeError('broken')", 1, "RuntimeError: broken"),
    ],
)
def test_a_program_ends_where_python_could_not_finalise(ending: str, code: int, told: str) -> None:
    finished = subprocess.run(
        python(STUCK_AT_ITS_END.format(ending=ending)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert finished.returncode == code
    assert finished.stdout == "said\n"
    assert told in finished.stderr if told else not finished.stderr


def test_flower_calls_nobody_and_finds_this_interpreters_scripts(tmp_path: Path) -> None:
    environment = flower_environment(tmp_path)
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert Path(script("python")).parent == Path(sys.executable).parent


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        listener.listen()
