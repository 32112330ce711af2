"""Watching other processes, with real ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from fedpsyau_model.process_tree import alive, descendants

#: Ends with the process whose number it is given; tells when it watches.
WATCHER = """
import sys, time
from fedpsyau_model.process_tree import end_with
end_with(int(sys.argv[1]), exit_code=7)
print("watching", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_ends_with_another_and_not_before() -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, str(other.pid)], stdout=subprocess.PIPE
    )
    try:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == b"watching\n"
        time.sleep(0.6)  # longer than it takes to look
        assert watcher.poll() is None
        other.kill()
        other.wait()
        assert watcher.wait(20) == 7
    finally:
        for process in (other, watcher):
            process.kill()
            process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_ended_is_nobodys_descendant_and_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        assert alive({child.pid}) == {child.pid}
        mine = descendants(os.getpid())
        assert child.pid in mine
    finally:
        child.kill()
    child.wait()
    assert alive({child.pid}) == set()
