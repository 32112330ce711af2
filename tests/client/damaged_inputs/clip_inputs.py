"""Clips in one data folder, each damaged in its own way, that go through one preparation."""

from __future__ import annotations

import csv
import importlib.resources
import io
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from damaged_inputs.cases import CASE_SECONDS, Tally, attempt, generator
from damaged_inputs.file_damage import FILE_DAMAGE, ODD_NAMES
from fedpsyau_client.preparation.landmark_file import CSV_COLUMNS
from fedpsyau_client.preparation.preparation import Preparation, PreparationReport, prepare
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_model.errors import ClipError, WorkerDiedError

NAME = "clips in one preparation"

_KINDS = (
    *(f"the apex: {name}" for name in FILE_DAMAGE),
    *(f"the video: {name}" for name in FILE_DAMAGE),
    *(f"the folder's name: {name}" for name in ODD_NAMES),
)


def run_clips(numbers: Sequence[int], folder: Path) -> Tally:
    """Damage one clip for each number and prepare all at once; landmarks are given."""
    kinds = [_KINDS[number % len(_KINDS)] for number in numbers]
    labels, landmarks = [["subject", "filename", "onset", "apex", "offset", "au", "emotion"]], []
    for number, kind in zip(numbers, kinds, strict=True):
        name = _write_clip(folder / "clips" / "s1", number, kind)
        labels.append(["s1", name, "1", "3", "4", "4", "fear"])
        landmarks.append(["s1", name, "1", *_face_numbers()])
    plan = Preparation(
        dataset="csv",
        labels=_write(folder / "labels.csv", labels),
        clips=folder / "clips",
        out=folder / "out",
        partition="damaged",
        flow="dis",
        landmarks=_write(folder / "landmarks.csv", [list(CSV_COLUMNS), *landmarks]),
        max_failures=1.0,
        workers=2,
    )
    reports: list[PreparationReport] = []
    limit = CASE_SECONDS + 2.0 * len(numbers)
    tally = Tally()
    outcome = attempt(lambda: reports.append(prepare(plan)), plan.out, limit)
    if outcome != "works":
        tally.faults.append(f"{NAME}: {outcome}")
        return tally
    failures = {int(failure.clip[1:]) - 1: failure.error for failure in reports[0].failures}
    for place, kind in enumerate(kinds):
        error = failures.get(place)
        if type(error) is ClipError or isinstance(error, WorkerDiedError):
            tally.faults.append(f"{NAME}, case {numbers[place]}, {kind}: {error}")
        tally.count(kind, type(error).__name__ if error else "works")
    if len(open_feature_store(plan.store)) != tally.outcomes["works"]:
        tally.faults.append(f"{NAME}: the store has other clips than those that worked")
    return tally


def _write_clip(subject: Path, number: int, kind: str) -> str:
    """Write a whole clip and damage it. Returns the name that the label table gives it."""
    rng = generator(NAME, number)
    what, _, damage = kind.partition(": ")
    name = f"clip{number}"
    if what == "the folder's name":
        # A table is text, and says what it can of a name that is none.
        name = ODD_NAMES[damage].format(number)
        _write_frames(subject / name)
        return name.encode(errors="replace").decode()
    if what == "the video":
        FILE_DAMAGE[damage](_write_video(subject / f"{name}.avi", rng), rng)
        return f"{name}.avi"
    _write_frames(subject / name)
    FILE_DAMAGE[damage](subject / name / "img3.png", rng)
    return name


def _write_frames(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(_frames(), start=1):
        (folder / f"img{number}.png").write_bytes(cv2.imencode(".png", frame)[1].tobytes())


def _write_video(file: Path, rng: np.random.Generator) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    frames = _frames()
    code = cv2.VideoWriter.fourcc(*str(rng.choice(["MJPG", "FFV1"])))
    writer = cv2.VideoWriter(str(file), code, 30, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    return file


def _frames() -> list[np.ndarray]:
    """Three frames of the package's public-domain face, the third moved by a pixel."""
    data = importlib.resources.files("fedpsyau_client.synthetic") / "data" / "base_face.png"
    face = cv2.imdecode(np.frombuffer(data.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return [face, face, np.roll(face, 1, axis=1)]


def _face_numbers() -> list[str]:
    data = importlib.resources.files("fedpsyau_client.synthetic") / "data" / "base_face.json"
    facts = json.loads(data.read_text(encoding="utf-8"))
    values = np.concatenate([np.ravel(facts["eyes"]), np.array(facts["points"]).T.ravel()])
    return [str(value) for value in values]


def _write(file: Path, rows: list[list[str]]) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    file.write_text(text.getvalue(), encoding="utf-8", newline="")
    return file
