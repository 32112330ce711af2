"""``train``, ``compare`` and ``pretrain`` as real processes: output, exit codes, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedpsyau_model.errors import INTERRUPTED, OutputExistsError, SettingsError
from fedpsyau_model.process_tree import alive, descendants

COMMAND = (
    "from fedpsyau_client.protocols.{}_command import app;"
    "from fedpsyau_model.command_line import run_command;"
    "run_command(app)"
)


def start(command: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(command), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "120"},
        start_new_session=True,
    )


def run(command: str, *arguments: object) -> tuple[int, str, str]:
    process = start(command, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def training(twin: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("--data", twin, "--partition", "dfme_c1", "--out", out, "--epochs", 1, *more)


def test_pretrain_train_and_compare(twin: Path, tmp_path: Path) -> None:
    aus = tmp_path / "aus.safetensors"
    asked = ("--data", twin, "--partition", "dfme_c2", "--epochs", 1, "--out", aus)
    code, out, err = run("pretrain", *asked)
    assert code == 0, err
    assert "always saying the AUs' shares costs" in out
    code, out, err = run("pretrain", *asked)
    assert code == OutputExistsError.exit_code
    assert "--overwrite" in err
    options = ("--protocol", "holdout", "--start", aus, "--json")
    code, out, err = run("train", *training(twin, tmp_path / "a", *options))
    assert code == 0, err
    assert json.loads(out) == json.loads((tmp_path / "a" / "summary.json").read_text())
    assert "1 of 1 folds" in err
    code, out, err = run("compare", tmp_path / "a", tmp_path / "a", "--json")
    assert code == 0, err
    differences = {each["score"]: each for each in json.loads(out)["differences"]}
    assert differences.keys() == {"UF1", "UAR", "accuracy", "F1, mean over AUs"}
    assert differences["UF1"]["p"] == 1


def test_mistakes_have_their_exit_codes(twin: Path, tmp_path: Path) -> None:
    asked = training(twin, tmp_path / "run", "--protocol", "loso", "--config", "nowhere.toml")
    code, _, err = run("train", *asked)
    assert code == SettingsError.exit_code
    assert "nowhere.toml" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.e2e
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_leaves_no_process_and_a_run_to_go_on_with(
    twin: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "run"
    process = start("train", *training(twin, out, "--protocol", "loso", "--workers", 2))
    deadline = time.monotonic() + 120
    while not list(out.glob("folds/*.json")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = descendants(process.pid)
    assert len(family) >= 2
    # Ctrl-C goes to all processes of a terminal, a service manager's SIGTERM to the first one.
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in err
    while alive(family):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not (out / "summary.json").exists()
    assert list(out.glob("folds/[0-9]*.json"))
