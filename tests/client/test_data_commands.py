"""``fedpsyau data`` as a real process: its output, its exit codes, and what interrupts it."""

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedpsyau_client.data_commands.data_folder import default_data_folder
from fedpsyau_client.store.feature_store import list_partitions, open_feature_store
from fedpsyau_model.errors import LabelTableError, OutputExistsError, SettingsError

COMMAND = (
    "from fedpsyau_client.data_commands import app;"
    "from fedpsyau_model.command_line import run_command;"
    "run_command(app)"
)


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(*arguments, **options):
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    out = tmp_path_factory.mktemp("twin") / "data"
    code, text, err = run("synth", "--out", out, "--scale", 0.001)
    assert code == 0, err
    return out, text


def test_synth_prints_what_it_made(twin):
    out, text = twin
    assert len(list_partitions(out)) == 7
    row = next(line for line in text.splitlines() if line.startswith("casme3_c2"))
    assert row.split()[1:3] == ["40", "8"]
    assert "synthetic-casme3" in row


def test_show_names_the_classes_of_one_partition_and_of_a_folder(twin):
    out, _ = twin
    code, text, _ = run("show", out / "dfme_c1")
    assert code == 0
    assert "synthetic-dfme" in text
    assert "dfme_c2" not in text
    code, text, _ = run("show", out)
    assert code == 0
    assert all(name in text for name in list_partitions(out))


def test_a_second_run_refuses_and_says_what_to_do(twin):
    code, _, err = run("synth", "--out", twin[0])
    assert code == OutputExistsError.exit_code
    assert "--overwrite" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (("--scale", "0"), SettingsError, "--scale"),
        (("--labels", "samm=x.xlsx"), SettingsError, "casme3=FILE"),
        (("--labels", "casme3=nowhere.xlsx"), LabelTableError, "nowhere.xlsx"),
        (("--sites", "dfme_c1"), SettingsError, "--frames"),
        (("--frames-per-clip", "3"), SettingsError, "--frames"),
        (("--frames", "--sites", "dfme_c1,mine"), SettingsError, "mine"),
    ],
)
def test_mistakes_have_their_own_exit_codes(tmp_path, options, error, says):
    code, _, err = run("synth", "--out", tmp_path / "data", *options)
    assert code == error.exit_code
    assert says in err
    assert list(tmp_path.iterdir()) == []


def test_rendered_faces_come_with_the_command_that_prepares_them(tmp_path):
    options = ("--frames", "--sites", "casme3_c2", "--frames-per-clip", 2, "--scale", 0.001)
    code, text, err = run("synth", "--out", tmp_path, *options)
    assert code == 0, err
    assert "casme3_c2  40 clips of 8 subjects" in text
    command = next(line for line in text.splitlines() if "fedpsyau data prepare" in line)
    words = shlex.split(command)
    assert Path(words[words.index("--labels") + 1]).is_file()
    assert Path(words[words.index("--clips") + 1]).is_dir()


def wait_until_it_writes(process, folder):
    """Return once a whole partition lies in the temporary folder, with others to come."""
    deadline = time.monotonic() + 60
    while not any(folder.glob(".data.*/stores/*/manifest.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_nothing_behind(tmp_path, how):
    process = start("synth", "--out", tmp_path / "data", "--scale", 0.2)
    wait_until_it_writes(process, tmp_path)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_leftover_of_a_killed_run_goes_with_the_next_one(tmp_path):
    process = start("synth", "--out", tmp_path / "data", "--scale", 0.2)
    wait_until_it_writes(process, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "data").exists()
    assert len(list(tmp_path.iterdir())) == 1
    code, _, err = run("synth", "--out", tmp_path / "data", "--scale", 0.001)
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert len(open_feature_store(tmp_path / "data" / "dfme_c1")) == 40


def test_a_running_one_is_not_taken_for_a_leftover(tmp_path):
    process = start("synth", "--out", tmp_path / "data", "--scale", 0.2)
    try:
        wait_until_it_writes(process, tmp_path)
        process.send_signal(signal.SIGSTOP)
        run("synth", "--out", tmp_path / "data", "--scale", 0.001)
        assert any(tmp_path.glob(".data.*/stores/*/manifest.json"))
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_the_data_folder_can_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("FEDPSYAU_DATA", "mine")
    assert default_data_folder() == Path("mine")
    monkeypatch.delenv("FEDPSYAU_DATA")
    assert default_data_folder() == Path("data")
