"""The frame of the commands, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fedpsyau_model.child_process import script
from fedpsyau_model.command_line import _build_app
from fedpsyau_model.command_tree import CommandTree
from fedpsyau_model.errors import INTERRUPTED

#: Is interrupted while an object is finalised, where Python drops every exception.
INTERRUPTED_IN_A_FINALISER = """
import signal, sys, time
from fedpsyau_model.child_process import script
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


def test_numpy_multiplies_in_one_thread_in_a_command() -> None:
    code = """
from fedpsyau_model.command_line import run_command

def command():
    import numpy
    from threadpoolctl import threadpool_info
    print([each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"])

run_command(command)
"""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "[1]\n"


def test_the_list_of_commands_says_what_the_commands_say() -> None:
    tree = _build_app()
    assert isinstance(tree, CommandTree)
    with click.Context(tree, terminal_width=200, max_content_width=200) as context:
        listed = tree.get_help(context).split("Commands:\n")[1]
        for name in tree.list_commands(context):
            command = tree.get_command(context, name)
            assert command is not None
            first_line = command.get_short_help_str(limit=150)
            assert first_line
            assert re.search(rf"^  {name} +{re.escape(first_line)}$", listed, re.MULTILINE)
        assert tree.get_command(context, "no-such-command") is None


def test_commands_that_are_listed_are_not_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = _build_app()
    assert isinstance(tree, CommandTree)
    monkeypatch.setattr("typer.main.get_params_from_function", None)
    with click.Context(tree) as context:
        assert "predict" in tree.get_help(context)
        with pytest.raises(TypeError):
            tree.get_command(context, "predict")


@pytest.mark.parametrize(
    ("command", "variables", "exit_code", "said"),
    [
        ("fedpsyau settings", {}, 0, "rounds.min-sites"),
        # What they do next is not to the point: they come as far as what is wrong with it.
        ("fedpsyau-server", {"FEDPSYAU_SERVER__LISTEN": "0.0.0.0:0"}, 3, "server.listen"),
        ("fedpsyau-client", {}, 3, "partition = {}: Field required"),
        ("fedpsyau", {}, 2, "Usage: fedpsyau "),
    ],
)
def test_what_acts_alone_does_so_without_an_argument(
    command: str, variables: dict[str, str], exit_code: int, said: str, tmp_path: Path
) -> None:
    program, *arguments = command.split()
    finished = subprocess.run(
        [script(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | variables,
        timeout=120,
    )
    told = finished.stdout + finished.stderr
    assert finished.returncode == exit_code, told
    assert said in told
    assert ("Usage" in told) == (command == "fedpsyau")
