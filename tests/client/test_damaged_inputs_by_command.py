"""Damaged inputs through real commands: a documented exit code, one paragraph, no traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from damaged_inputs.file_damage import FILE_DAMAGE, ODD_NAMES
from damaged_inputs.store_inputs import write_store

pytestmark = pytest.mark.e2e

EXIT_CODES = Path(__file__).resolve().parents[2] / "docs" / "exit-codes.md"
LABELS = "subject,filename,onset,apex,offset,au,emotion\ns1,a,1,3,4,4,fear\n"

#: As the entry points of the installed package call them.
PROGRAM = (
    "import sys; from fedpsyau_model.command_line import run_command; "
    "from fedpsyau_client.{group}_commands import app; run_command(app)"
)


def run(folder: Path, group: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", PROGRAM.format(group=group)]
    return subprocess.run(
        [*command, *map(os.fspath, map(_text, arguments))],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        timeout=120,
        env=os.environ | {"COLUMNS": "200", "TERM": "dumb", "FEDPSYAU_MODELS": str(folder)},
        check=False,
    )


def _text(argument: object) -> str | Path:
    return argument if isinstance(argument, Path) else str(argument)


def documented() -> set[int]:
    rows = re.findall(r"^\| (\d+) \|", EXIT_CODES.read_text(encoding="utf-8"), re.M)
    return {int(code) for code in rows} - {1}


def expect_refusal(finished: subprocess.CompletedProcess[bytes], code: int) -> str:
    """One paragraph on stderr that a terminal can show, and the exit code. Returns it."""
    assert b"Traceback" not in finished.stderr + finished.stdout, finished.stderr.decode()
    assert finished.returncode == code, finished.stderr
    assert code in documented()
    text = finished.stderr.decode("utf-8")
    assert text.count("error: ") == 1, text
    # A progress bar may stand before it.
    paragraph = text[text.index("error: ") :].removesuffix("\n")
    assert paragraph.replace("\t", "").replace("\n", "").isprintable(), paragraph
    return paragraph


def damaged(name: str, file: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    file.write_bytes(data)
    return FILE_DAMAGE[name](file, np.random.default_rng(7))


@pytest.mark.parametrize("damage", ["random bytes", "a named pipe"])
def test_label_table(tmp_path: Path, damage: str) -> None:
    file = damaged(damage, tmp_path / "labels.csv", LABELS)
    expect_refusal(run(tmp_path, "data", "check", file, "--dataset", "csv"), 13)


@pytest.mark.parametrize(
    "name", ["newline", "escape sequence", "right to left", "not UTF-8", "markup"]
)
def test_odd_names_do_not_steer_the_terminal(tmp_path: Path, name: str) -> None:
    file = tmp_path / (ODD_NAMES[name].format("labels") + ".csv")
    file.write_text("nothing of use")
    finished = run(tmp_path, "data", "check", file, "--dataset", "csv")
    paragraph = expect_refusal(finished, 13)
    # A line break in a name is the only one there is.
    assert paragraph.count("\n") == file.name.count("\n")


def test_an_odd_name_is_no_hindrance(tmp_path: Path) -> None:
    file = tmp_path / (ODD_NAMES["not UTF-8"].format("labels") + ".csv")
    file.write_text(LABELS)
    finished = run(tmp_path, "data", "check", file, "--dataset", "csv")
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, 62),
        ({"--clips": "nowhere"}, 10),
        ({"--labels": "nowhere.csv"}, 13),
        ({"--landmarks": "labels.csv"}, 61),
        ({"--landmarks": None}, 60),
        ({"--partition": "../x"}, 20),
        ({"--out": "labels.csv"}, 15),
        ({"--out": "labels.csv/below"}, 15),
    ],
)
def test_prepare(tmp_path: Path, options: dict[str, str | None], code: int) -> None:
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "clips" / "a").mkdir(parents=True)
    columns = "subject,filename,onset,right_eye_x,right_eye_y,left_eye_x,left_eye_y"
    points = ",".join(f"{axis}{number}" for axis in "xy" for number in range(65))
    numbers = ",".join(["100"] * 134)
    (tmp_path / "points.csv").write_text(f"{columns},{points}\ns1,a,1,{numbers}\n")
    given = {
        "--labels": "labels.csv",
        "--clips": "clips",
        "--landmarks": "points.csv",
        "--out": "out",
        **options,
    }
    words = [word for pair in given.items() if pair[1] is not None for word in pair]
    expect_refusal(run(tmp_path, "data", "prepare", "--dataset", "csv", *words), code)
    assert [file for file in tmp_path.glob("out/*") if not file.name.startswith(".")] == []


def test_flow_archive_of_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "flow.npz", flow=np.array([{"a": 1}], dtype=object))
    finished = run(tmp_path, "data", "import-flow", "flow.npz", "--out", "out")
    expect_refusal(finished, 18)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "damage", "code"),
    [
        ("manifest.json", "another type", 11),
        ("manifest.json", "a named pipe", 11),
        ("features.safetensors", "truncated", 11),
        ("clips.csv", "missing", 10),
    ],
)
def test_feature_store(tmp_path: Path, file: str, damage: str, code: int) -> None:
    store = write_store(tmp_path, np.random.default_rng(0))
    FILE_DAMAGE[damage](store / file, np.random.default_rng(7))
    finished = run(tmp_path, "data", "partition", store, "--sites", 2, "--out", "out")
    expect_refusal(finished, code)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["truncated", "huge"])
def test_model_file(tmp_path: Path, damage: str) -> None:
    file = damaged(damage, tmp_path / "given.task", b"no model" * 99)
    finished = run(tmp_path, "data", "fetch-models", "--from", file, "--to", tmp_path / "to")
    expect_refusal(finished, 60)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("study", "table.csv", "--out", "out"), 82),
        (("build", "--from", "csv=table.csv", "--out", "out"), 13),
        (("build", "--from", "nothing=table.csv", "--out", "out"), 3),
        (("au-frequency", "--from", "csv=table.csv", "--out", "out"), 13),
    ],
)
def test_priors(tmp_path: Path, command: tuple[str, ...], code: int) -> None:
    damaged("random bytes", tmp_path / "table.csv", "participant,first,second,judged,score\n")
    expect_refusal(run(tmp_path, "priors", *command), code)
    assert not (tmp_path / "out").exists()
