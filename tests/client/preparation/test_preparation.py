"""From clips to a feature store with real worker processes: what comes out, and what goes wrong."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from fedpsyau_client.labels.disfa import DISFA_AUS
from fedpsyau_client.preparation.clip_features import pair_features, prepare_pair
from fedpsyau_client.preparation.clip_job import ClipJob
from fedpsyau_client.preparation.clip_labels import SYNTHETIC_MARK, is_synthetic
from fedpsyau_client.preparation.landmark_file import CSV_COLUMNS
from fedpsyau_client.preparation.preparation import Preparation, prepare
from fedpsyau_client.preparation.worker_pool import prepared
from fedpsyau_client.splits import leave_one_subject_out
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_model.errors import (
    ClipError,
    OutputExistsError,
    OutputWriteError,
    PreparationStoppedError,
    SettingsError,
    UnknownPartitionError,
    WorkerDiedError,
)
from fedpsyau_model.process_tree import alive, descendants

COMMAND = (
    "from fedpsyau_client.data_commands import app;"
    "from fedpsyau_model.command_line import run_command;"
    "run_command(app)"
)

HEADER = "subject,filename,onset,apex,offset,emotion,au"


@pytest.fixture(scope="module")
def face_frames(astronaut):
    """Onset and apex of a face that moves by (0.8, -0.5) pixels; small, so that all is fast."""
    onset = np.ascontiguousarray(astronaut[20:220, 125:325])
    move = np.array([[1, 0, 0.8], [0, 1, -0.5]])
    apex = cv2.warpAffine(onset, move, (200, 200), flags=cv2.INTER_CUBIC, borderMode=1)
    return onset, apex


@pytest.fixture(scope="module")
def face_clips(tmp_path_factory, face_frames, write_png):
    """Three subjects with two clips each, of which one is a video; frames 5 and 9 count."""
    root = tmp_path_factory.mktemp("Dr. Müller's clips")
    onset, apex = face_frames
    rows = [HEADER]
    for number, subject in enumerate(("Anna", "Boris", "Chiara")):
        for clip, (emotion, aus) in enumerate((("happiness", "6+12"), ("surprise", "1+R2"))):
            folder = root / subject / f"secret{clip}"
            brighter = [np.clip(frame.astype(int) + number, 0, 255) for frame in (onset, apex)]
            frames = [frame.astype(np.uint8) for frame in brighter]
            if (number, clip) == (2, 1):
                write_video(folder.with_suffix(".avi"), [frames[0]] * 8 + [frames[1]] * 3)
            else:
                for name, frame in zip((5, 9, 12), (*frames, frames[0]), strict=True):
                    write_png(folder / f"img{name}.png", frame)
            rows.append(f"{subject},secret{clip},5,9,12,{emotion},{aus}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def write_video(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 30, size)
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()


def plan(clips, out, labels=None, **options):
    labels = labels or clips / "labels.csv"
    options = {"dataset": "csv", "partition": "lab", "flow": "dis"} | options
    return Preparation(labels=labels, clips=clips, out=out, **options)


def add_rows(clips, path, *rows):
    """A label table with more rows than that of `clips`."""
    path.write_text((clips / "labels.csv").read_text() + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ready(face_clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("ready")
    seen = []
    report = prepare(
        plan(face_clips, out),
        begin=lambda *counts: seen.append(counts),
        progress=lambda well: seen.append(well),
    )
    return out, report, seen


def test_a_store_with_the_labels_of_the_table_and_the_features_of_the_frames(
    ready, face_frames, detector
):
    out, report, seen = ready
    assert seen == [(6, 0, 0), *[True] * 6]
    assert (report.total, report.resumed, report.failures) == (6, 0, ())
    store = open_feature_store(out / "lab")
    assert list(store.clips.clip) == [f"c{number:05d}" for number in range(1, 7)]
    assert list(store.clips.subject) == ["s001", "s001", "s002", "s002", "s003", "s003"]
    assert list(store.clips.class3) == ["positive", "surprise"] * 3
    assert store.clips.aus[0].nonzero()[0].tolist() == [4, 8]  # AU6 and AU12
    assert store.clips.aus[1].nonzero()[0].tolist() == [0, 1]
    flow, rois = pair_features(prepare_pair(*face_frames, detector.find(face_frames[0]), "dis"))
    assert np.array_equal(store.flow[0], flow)
    assert np.array_equal(store.rois[0], rois)
    scale = 44 / 42  # of the grid of 128, to the picture's eye distance
    u, v = store.rois[0, :, :2].mean(axis=(0, 2, 3))
    assert u == pytest.approx(0.8 * scale, rel=0.2)
    assert v == pytest.approx(-0.5 * scale, rel=0.2)
    assert len(list(leave_one_subject_out(store.clips.subject))) == 3


def test_the_manifest_says_how(ready):
    manifest = open_feature_store(ready[0] / "lab").manifest
    assert not manifest.synthetic
    said = manifest.preprocessing
    assert (said["flow"], said["crop_size"], said["class_rule"]) == ("dis", 224, "authors")
    assert said["landmark_model_sha256"].startswith("64184e22")
    assert said["failed"] == {}


def test_nothing_in_the_store_names_anybody(ready, face_clips):
    names = [b"Anna", b"Boris", b"Chiara", b"secret", b"img", b"M\xc3\xbcller"]
    names += [str(face_clips).encode(), str(ready[0]).encode()]
    for file in (ready[0] / "lab").iterdir():
        content = file.read_bytes()
        assert [name for name in names if name in content] == [], file.name
    work = ready[1].work
    assert work.stat().st_mode & 0o077 == 0
    assert not any("Anna" in path.name or "secret" in path.name for path in work.rglob("*"))
    assert "Anna,secret0" in (work / "ids.csv").read_text()


def test_a_video_gives_what_its_frames_give(ready):
    store = open_feature_store(ready[0] / "lab")
    brightness_only = np.abs(store.flow[5] - store.flow[0]).max()
    assert brightness_only < 0.05


def test_the_number_of_workers_changes_no_bit(face_clips, ready, tmp_path):
    report = prepare(plan(face_clips, tmp_path, workers=3))
    assert report.manifest.data_hash == ready[1].manifest.data_hash


def test_done_clips_are_not_done_again_and_damaged_results_are(face_clips, ready, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(ready[0], out)
    results = sorted((out / ".lab.work" / "clips").iterdir())
    assert len(results) == 6
    results[0].write_bytes(results[0].read_bytes()[:-20])
    results[1].unlink()
    content = bytearray(results[2].read_bytes())
    content[len(content) // 2] ^= 1
    results[2].write_bytes(content)
    times = [file.stat().st_mtime_ns for file in results[3:]]
    report = prepare(plan(face_clips, out, overwrite=True))
    assert report.resumed == 3
    assert report.manifest.data_hash == ready[1].manifest.data_hash
    assert [file.stat().st_mtime_ns for file in results[3:]] == times


def test_another_setting_or_a_touched_frame_is_done_again(face_clips, ready, tmp_path):
    clips, out = tmp_path / "clips", tmp_path / "out"
    shutil.copytree(face_clips, clips)
    shutil.copytree(ready[0], out)
    os.utime(clips / "Anna" / "secret0" / "img9.png", (1, 1))
    os.utime(clips / "Anna" / "secret1" / "img12.png", (1, 1))  # not a frame that is read
    assert prepare(plan(clips, out, overwrite=True)).resumed == 5
    assert prepare(plan(clips, out, overwrite=True, flow="farneback")).resumed == 0
    assert prepare(plan(clips, out, overwrite=True)).resumed == 6


def test_failures_are_listed_and_the_rest_goes_on(face_clips, tmp_path, write_png):
    clips = tmp_path / "clips"
    shutil.copytree(face_clips, clips)
    (clips / "Boris" / "secret0" / "img5.png").write_bytes(b"no image")
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    write_png(clips / "Chiara" / "noise" / "1.png", noise)
    write_png(clips / "Chiara" / "noise" / "2.png", noise)
    rows = ["Anna,gone,1,2,3,fear,", "Anna,secret0,5,,,fear,", "Chiara,noise,1,2,3,fear,"]
    labels = add_rows(clips, tmp_path / "labels.csv", *rows)
    counts = []
    report = prepare(
        plan(clips, tmp_path / "out", labels, max_failures=0.5),
        begin=lambda *seen: counts.append(seen),
    )
    assert counts == [(9, 0, 2)]
    expected = {"clip-not-found": 1, "frame-unknown": 1, "frame-unreadable": 1, "no-face": 1}
    store = open_feature_store(tmp_path / "out" / "lab")
    assert store.manifest.preprocessing["failed"] == expected
    assert list(store.clips.clip) == ["c00001", "c00002", "c00004", "c00005", "c00006"]
    listed = json.loads((report.work / "failures.json").read_text())
    assert [(row["row"], row["reason"]) for row in listed] == [
        (4, "frame-unreadable"),
        (8, "clip-not-found"),
        (9, "frame-unknown"),
        (10, "no-face"),
    ]
    with (report.work / "failures.csv").open(encoding="utf-8") as stream:
        assert [row["clip"] for row in csv.DictReader(stream)] == [
            "c00003",
            "c00007",
            "c00008",
            "c00009",
        ]


def test_too_many_failures_stop_it_and_what_is_done_is_kept(face_clips, tmp_path):
    rows = [f"Anna,gone{number},1,2,3,fear," for number in range(4)]
    labels = add_rows(face_clips, tmp_path / "labels.csv", *rows)
    with pytest.raises(
        PreparationStoppedError, match=r"4 of 10 clips .*4 clip-not-found.*at most 30%"
    ):
        prepare(plan(face_clips, tmp_path / "out", labels, max_failures=0.3))
    assert not (tmp_path / "out" / "lab").exists()
    assert len(json.loads((tmp_path / "out" / ".lab.work" / "failures.json").read_text())) == 4
    report = prepare(plan(face_clips, tmp_path / "out", labels, max_failures=0.4))
    assert len(report.failures) == 4
    assert report.resumed == 6


def test_not_one_good_clip_is_an_error_however_few(face_clips, tmp_path):
    (tmp_path / "labels.csv").write_text(f"{HEADER}\nAnna,gone,1,2,3,fear,\n")
    with pytest.raises(PreparationStoppedError, match="1 of 1 clips"):
        prepare(plan(face_clips, tmp_path / "out", tmp_path / "labels.csv", max_failures=1))


def test_a_missing_apex_can_be_guessed(face_clips, tmp_path):
    (tmp_path / "labels.csv").write_text(
        "subject,filename,onset,offset,emotion\nAnna,secret0,5,13,negative\n"
    )
    with pytest.raises(PreparationStoppedError, match="--missing-apex middle"):
        prepare(plan(face_clips, tmp_path / "out", tmp_path / "labels.csv"))
    report = prepare(
        plan(face_clips, tmp_path / "out", tmp_path / "labels.csv", missing_apex="middle")
    )
    store = open_feature_store(tmp_path / "out" / "lab")
    assert report.manifest.preprocessing["missing_apex"] == "middle"
    assert (store.clips.emotion[0], store.clips.class3[0]) == ("", "negative")
    assert not store.clips.au_known[0]
    assert store.flow[0, 0].mean() > 0


def test_precomputed_landmarks_give_the_same_without_any_model(
    face_clips, ready, tmp_path, detector, monkeypatch
):
    monkeypatch.setenv("FEDPSYAU_MODELS", str(tmp_path / "none"))
    rows = [CSV_COLUMNS]
    for subject in ("Anna", "Boris"):
        for clip in ("secret0", "secret1"):
            frame = cv2.imread(str(face_clips / subject / clip / "img5.png"))[..., ::-1]
            face = detector.find(np.ascontiguousarray(frame))
            numbers = [*face.eyes.ravel(), *face.points[:, 0], *face.points[:, 1]]
            rows.append([subject, clip, 5, *(repr(float(number)) for number in numbers)])
    with (tmp_path / "points.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    report = prepare(
        plan(face_clips, tmp_path / "out", landmarks=tmp_path / "points.csv", max_failures=0.4)
    )
    assert report.manifest.preprocessing["failed"] == {"landmarks-missing": 2}
    assert report.manifest.preprocessing["landmark_model_sha256"] == ""
    found = open_feature_store(ready[0] / "lab")
    assert np.array_equal(open_feature_store(tmp_path / "out" / "lab").flow, found.flow[:4])


def test_frames_of_the_twin_stay_synthetic(face_clips, tmp_path):
    labels = add_rows(face_clips, tmp_path / "labels.csv")
    assert not is_synthetic(labels, tmp_path / "clips", "csv")
    assert is_synthetic(labels, tmp_path / "clips", "synthetic-frames")
    (tmp_path / SYNTHETIC_MARK).write_text("{}")
    assert prepare(plan(face_clips, tmp_path / "out", labels)).manifest.synthetic


def test_ck_plus_as_it_is_unpacked(tmp_path, face_frames, write_png):
    onset, apex = face_frames
    images = tmp_path / "cohn-kanade-images" / "S005" / "001"
    for number, frame in enumerate((onset, onset, apex), start=1):
        write_png(images / f"S005_001_{number:08d}.png", frame)
    label = tmp_path / "FACS" / "S005" / "001" / "S005_001_00000003_facs.txt"
    label.parent.mkdir(parents=True)
    label.write_text("   1.2000000e+01   3.0000000e+00\n   6.0000000e+00   0.0000000e+00\n")
    prepare(plan(tmp_path, tmp_path / "out", tmp_path, dataset="ckplus"))
    store = open_feature_store(tmp_path / "out" / "lab")
    assert store.clips.aus[0].nonzero()[0].tolist() == [4, 8]
    assert (store.clips.emotion[0], store.clips.class3[0]) == ("", "")
    assert store.flow[0, 0].mean() > 0


def test_disfa_as_it_is_unpacked(tmp_path, face_frames):
    """Two pairs of one video; AU12 and AU1 rise. AU7, AU10 and AU14 were not coded."""
    onset, apex = face_frames
    (tmp_path / "Videos_LeftCamera").mkdir()
    frames = [onset] * 3 + [apex] * 2 + [onset] * 3 + [apex] * 2
    write_video(tmp_path / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi", frames)
    folder = tmp_path / "ActionUnit_Labels" / "SN001"
    folder.mkdir(parents=True)
    shown = {12: {4: 3, 5: 3}, 1: {9: 2, 10: 2}}
    for au in DISFA_AUS:
        lines = [f"{frame},{shown.get(au, {}).get(frame, 0)}\n" for frame in range(1, 11)]
        (folder / f"SN001_au{au}.txt").write_text("".join(lines))
    report = prepare(plan(tmp_path, tmp_path / "out", tmp_path, dataset="disfa"))
    store = open_feature_store(tmp_path / "out" / "lab")
    assert [row.nonzero()[0].tolist() for row in store.clips.aus] == [[8], [0]]
    assert report.manifest.coded_aus == [1, 2, 4, 5, 6, 9, 12, 15, 17]
    assert (store.flow[:, 0].mean(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dataset": "casme4"}, SettingsError),
        ({"partition": "a b"}, UnknownPartitionError),
        ({"partition": "../up"}, UnknownPartitionError),
    ],
)
def test_wrong_options_write_nothing(face_clips, tmp_path, options, error):
    with pytest.raises(error):
        prepare(plan(face_clips, tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_replaced_unasked(face_clips, ready):
    before = (ready[0] / "lab" / "manifest.json").read_bytes()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        prepare(plan(face_clips, ready[0]))
    assert (ready[0] / "lab" / "manifest.json").read_bytes() == before


def test_a_folder_that_cannot_be_written(face_clips, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputWriteError):
        prepare(plan(face_clips, tmp_path / "file" / "out"))


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "prepare", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def arguments(clips, out, *more):
    return [
        "--dataset",
        "csv",
        "--labels",
        clips / "labels.csv",
        "--clips",
        clips,
        "--out",
        out,
        *more,
    ]


@pytest.fixture(scope="module")
def many_clips(face_clips, tmp_path_factory):
    """24 clips: enough to be in the middle of them, with the fast flow."""
    root = tmp_path_factory.mktemp("many")
    rows = [HEADER]
    for number in range(24):
        shutil.copytree(face_clips / "Anna" / "secret0", root / "Anna" / f"clip{number}")
        rows.append(f"Anna,clip{number},5,9,12,happiness,12")
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.e2e), signal.SIGTERM, signal.SIGKILL]
)
def test_stopped_in_the_middle_it_leaves_no_process_and_goes_on_later(many_clips, tmp_path, how):
    more = ["--workers", "2", "--partition", "lab", "--flow", "dis"]
    process = start(*arguments(many_clips, tmp_path, *more), start_new_session=True)
    results = tmp_path / ".lab.work" / "clips"
    until = time.monotonic() + 60
    while not (results.is_dir() and list(results.glob("*.npz"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    offspring = descendants(process.pid)
    assert len(offspring) >= 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert "Traceback" not in err
    until = time.monotonic() + 5
    while alive(offspring) and time.monotonic() < until:
        time.sleep(0.05)
    assert alive(offspring) == set()
    assert not (tmp_path / "lab").exists()
    report = prepare(plan(many_clips, tmp_path))
    assert 1 <= report.resumed < 24
    assert report.manifest.counts.clips == 24


def test_a_worker_is_deaf_to_ctrl_c_from_the_start(face_clips, tmp_path, landmark_model):
    todo = jobs(face_clips, tmp_path, "Anna/secret0", "Anna/secret1")
    answers = prepared(todo, workers=1, model=landmark_model, log=tmp_path / "workers.log")
    before = descendants(os.getpid())
    timer = threading.Timer(0.05, lambda: interrupt_all(before))
    timer.start()
    assert dict(answers) == {0: None, 1: None}
    assert "KeyboardInterrupt" not in (tmp_path / "workers.log").read_text()


def interrupt_all(old):
    """Send SIGINT to the new children for a while, from their birth on."""
    for _ in range(100):
        for pid in alive(descendants(os.getpid()) - old):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        time.sleep(0.01)


def test_two_at_once_are_kept_apart(face_clips, tmp_path):
    def second(*_):
        with pytest.raises(OutputExistsError, match="Another"):
            prepare(plan(face_clips, tmp_path))

    assert prepare(plan(face_clips, tmp_path), begin=second).manifest.counts.clips == 6


def test_the_command_prints_what_was_made_and_what_failed(face_clips, tmp_path):
    labels = add_rows(face_clips, tmp_path / "labels.csv", "Anna,gone,1,2,3,fear,")
    more = ["--flow", "dis", "--partition", "lab"]
    line = arguments(face_clips, tmp_path / "out", *more)
    line[3] = labels
    process = start(*line)
    text, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "lab" in text
    assert "clip-not-found" in text
    assert "1 of 7 clips failed" in text
    process = start(*line, "--overwrite", "--json")
    summary = json.loads(process.communicate(timeout=60)[0])
    assert summary["done-before"] == 6
    assert summary["failed"] == {"clip-not-found": 1}
    assert "gone" not in json.dumps(summary)


class TrapPath(type(Path())):
    """Does something to the worker that is given it."""

    def __reduce__(self):
        return _spring, (str(self),)


def _spring(what):
    if what == "die":
        os.kill(os.getpid(), signal.SIGSEGV)  # as a fault in a decoder does
    time.sleep(120)


def jobs(face_clips, results, *names):
    return [
        ClipJob(face_clips / name, 5, 9, 1, "dis", None, results / f"{number}.npz")
        for number, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("trap", "seconds", "says"),
    [
        ("die", 60, "SIGSEGV"),
        pytest.param("sleep", 20, "not ready after 20 seconds", marks=pytest.mark.e2e),
    ],
)
def test_a_clip_whose_worker_dies_or_hangs_fails_alone(
    face_clips, tmp_path, landmark_model, trap, seconds, says
):
    todo = jobs(face_clips, tmp_path, "Anna/secret0", "Anna/secret1", "Boris/secret0")
    object.__setattr__(todo[1], "path", TrapPath(trap))
    log = tmp_path / "workers.log"
    answers = dict(prepared(todo, workers=1, model=landmark_model, log=log, clip_seconds=seconds))
    assert (answers[0], answers[2]) == (None, None)
    assert isinstance(answers[1], WorkerDiedError)
    assert says in str(answers[1])


def test_a_fault_of_ours_fails_one_clip_and_is_logged(face_clips, tmp_path, landmark_model):
    todo = jobs(face_clips, tmp_path, "Anna/secret0", "Anna/secret1")
    object.__setattr__(todo[0], "flow", "no such method")
    log = tmp_path / "workers.log"
    answers = dict(prepared(todo, workers=1, model=landmark_model, log=log))
    assert type(answers[0]) is ClipError
    assert "KeyError" in str(answers[0])
    assert answers[1] is None
    assert "Traceback" in log.read_text()


def test_results_that_cannot_be_written_end_it(face_clips, tmp_path, landmark_model):
    todo = jobs(face_clips, tmp_path / "none", "Anna/secret0", "Anna/secret1")
    with pytest.raises(OutputWriteError, match="goes on where it was"):
        list(prepared(todo, workers=1, model=landmark_model, log=tmp_path / "workers.log"))


def test_stopping_early_leaves_no_process(face_clips, tmp_path, landmark_model):
    before = descendants(os.getpid())
    todo = jobs(face_clips, tmp_path, *["Anna/secret0"] * 8)
    answers = prepared(todo, workers=2, model=landmark_model, log=tmp_path / "workers.log")
    next(answers)
    assert len(alive(descendants(os.getpid()) - before)) >= 2
    answers.close()
    left = {
        pid
        for pid in alive(descendants(os.getpid()) - before)
        if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    }
    assert left == set()
