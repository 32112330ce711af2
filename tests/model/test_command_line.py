"""The frame of the commands, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from fedpsyau_model.errors import INTERRUPTED

#: Is interrupted while an object is finalised, where Python drops every exception.
INTERRUPTED_IN_A_FINALISER = """
import signal, sys, time
from fedpsyau_model.command_line import run_command

class Finalised:
    def __del__(self):
        signal.raise_signal(int(sys.argv[1]))
        for _ in range(1000):
            pass

def command():
    made = Finalised()
    del made
    time.sleep(20)

run_command(command)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_not_lost_in_a_finaliser(how: signal.Signals) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IN_A_FINALISER, str(int(how))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == INTERRUPTED, finished.stderr
    assert finished.stderr == "error: Stopped before it was done.\n"
