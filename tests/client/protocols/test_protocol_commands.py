"""``train``, ``compare`` and ``pretrain`` as commands: output, mistakes, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer
from click.testing import Result
from typer.testing import CliRunner

from fedpsyau_client.protocols.compare_command import app as compare_app
from fedpsyau_client.protocols.pretrain_command import app as pretrain_app
from fedpsyau_client.protocols.train_command import app as train_app
from fedpsyau_model.errors import INTERRUPTED, OutputExistsError, SettingsError
from fedpsyau_model.process_tree import alive, descendants

COMMAND = (
    "from fedpsyau_client.protocols.train_command import app;"
    "from fedpsyau_model.command_line import run_command;"
    "run_command(app)"
)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Commands set the number of torch's threads for their whole process, which is ours here."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(app: typer.Typer, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def done(app: typer.Typer, *arguments: object) -> Result:
    result = run(app, *arguments)
    assert result.exit_code == 0, result.exception
    return result


def training(twin: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("--data", twin, "--partition", "dfme_c1", "--out", out, "--epochs", 1, *more)


def test_pretrain_train_and_compare(twin: Path, tmp_path: Path) -> None:
    aus, out = tmp_path / "aus.safetensors", tmp_path / "a"
    pretraining = ("--data", twin, "--partition", "dfme_c2", "--epochs", 1, "--out", aus)
    assert "always saying the AUs' shares costs" in _words(done(pretrain_app, *pretraining))
    again = run(pretrain_app, *pretraining)
    assert isinstance(again.exception, OutputExistsError)
    assert "--overwrite" in str(again.exception)
    options = ("--protocol", "holdout", "--start", aus, "--json")
    trained = done(train_app, *training(twin, out, *options))
    assert json.loads(trained.stdout) == json.loads((out / "summary.json").read_text())
    assert "1 of 1 folds" in trained.stderr
    shown = _words(done(train_app, *training(twin, out, *options[:-1], "--resume")))
    assert "UF1" in shown
    assert "fewer than 20 the intervals are too short" in shown
    compared = json.loads(done(compare_app, out, out, "--json").stdout)
    differences = {each["score"]: each for each in compared["differences"]}
    assert differences.keys() == {"UF1", "UAR", "accuracy", "F1, mean over AUs"}
    assert differences["UF1"]["p"] == 1
    assert "Paired bootstrap" in done(compare_app, out, out).stdout


def _words(result: Result) -> str:
    """What was printed, on one line."""
    return " ".join(result.stdout.split())


def test_mistakes_are_errors_of_their_own(twin: Path, tmp_path: Path) -> None:
    asked = training(twin, tmp_path / "run", "--protocol", "loso", "--config", "nowhere.toml")
    error = run(train_app, *asked).exception
    assert isinstance(error, SettingsError)
    assert "nowhere.toml" in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("app", "arguments"), [(train_app, ("--protocol", "holdout")), (pretrain_app, ())]
)
@pytest.mark.parametrize(("device", "told"), [("gpu", "cuda:N"), ("cuda:99", "CUDA device")])
def test_a_device_that_is_not_there_is_refused(
    twin: Path, tmp_path: Path, app: typer.Typer, arguments: tuple[str, ...], device: str, told: str
) -> None:
    asked = training(twin, tmp_path / "out", *arguments, "--device", device)
    error = run(app, *asked).exception
    assert isinstance(error, SettingsError)
    assert told in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.e2e
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_leaves_no_process_and_a_run_to_go_on_with(
    twin: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "run"
    asked = training(twin, out, "--protocol", "loso", "--workers", 2)
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, asked)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
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
