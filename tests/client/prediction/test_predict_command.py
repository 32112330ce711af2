"""``fedpsyau predict`` from end to end, on rendered sequences, and what it refuses."""

import hashlib
import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from fedpsyau_client.prediction.annotated_video import annotated_frame, write_annotated_video
from fedpsyau_client.prediction.output_folder import PREDICTION, REPORT, VIDEO
from fedpsyau_client.prediction.predict_command import app
from fedpsyau_client.prediction.prediction_file import NOT_FOR, Prediction
from fedpsyau_client.prediction.recogniser_file import read_recogniser
from fedpsyau_client.prediction.recognition import Question, recognise
from fedpsyau_client.prediction.report import report_page
from fedpsyau_model.errors import (
    FedPsyAUError,
    FrameUnreadableError,
    NoFaceError,
    OnsetApexError,
    OutputExistsError,
    OutputWriteError,
    PreprocessingMismatchError,
    RecogniserError,
    SettingsError,
    VideoTooShortError,
    VideoWriteError,
)


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_video_becomes_an_answer_a_page_and_a_copy(video, moving, make_model, tmp_path):
    model, out = make_model(), tmp_path / "out"
    result = run(video, "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(each.name for each in out.iterdir()) == sorted([PREDICTION, REPORT, VIDEO])
    found = Prediction.model_validate_json((out / PREDICTION).read_text())
    assert abs(found.found.apex - moving.apex) <= 2
    assert found.video.frames == moving.frames
    assert found.video.fps == 30
    assert found.model.sha256 == digest(model)
    assert len(found.point_attention) == 65
    assert "no lie detector" in re.sub(r"\s+", " ", result.output)
    assert "contains a face" in result.output
    for text in ((out / PREDICTION).read_text(), (out / REPORT).read_text()):
        assert str(tmp_path) not in text
        assert video.name not in text
    check_page((out / REPORT).read_text())
    # The same once more: the same bits, the video's among them.
    again = tmp_path / "again"
    assert run(video, "--model", model, "--out", again).exit_code == 0
    for name in (PREDICTION, REPORT, VIDEO):
        assert digest(again / name) == digest(out / name), name
    # The copy has every frame, with the original above the strip.
    copy = cv2.VideoCapture(str(out / VIDEO))
    frames = [copy.read()[1] for _ in range(moving.frames)]
    assert all(each is not None for each in frames)
    assert not copy.read()[0]
    assert copy.get(cv2.CAP_PROP_FPS) == 30
    original = cv2.imread(str(moving.folder / "img001.png"))
    height, width = original.shape[:2]
    shown = frames[0][:height, :width].astype(float)
    assert np.abs(shown - original).mean() < 8


def check_page(page):
    """It loads nothing, and says what it is not for."""
    assert NOT_FOR in page
    assert "This page contains a face" in page
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert len(sources) == 2
    assert all(each.startswith("data:image/png;base64,") for each in sources)
    assert "<script" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert "@media print" in page


def test_json_is_printed_alone(moving, make_model):
    asked = ("--onset", moving.onset, "--apex", moving.apex, "--json")
    result = run(moving.folder, "--model", make_model(), *asked)
    assert result.exit_code == 0
    found = Prediction.model_validate(json.loads(result.stdout))
    assert found.found.onset_by == found.found.apex_by == "given"


def test_a_still_face_is_said_to_hold_nothing(still, make_model, tmp_path):
    asked = ("--fps", 30, "--out", tmp_path / "out")
    result = run(still.folder, "--model", make_model(), *asked)
    assert result.exit_code == 0
    assert "No micro-expression found" in result.output
    found = json.loads((tmp_path / "out" / PREDICTION).read_text())
    assert found["outcome"] == "nothing-found"
    assert found["emotion"] is None
    page = (tmp_path / "out" / REPORT).read_text()
    assert "no class is named" in page
    assert "Keep this page where the video is kept" in page


def test_the_copy_can_be_left_out(moving, make_model, tmp_path):
    asked = ("--onset", 6, "--apex", 12, "--out", tmp_path / "out", "--no-video")
    assert run(moving.folder, "--model", make_model(), *asked).exit_code == 0
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [PREDICTION, REPORT]


def recognised(moving, make_model, detector, **asked):
    question = Question(moving.folder, onset=moving.onset, apex=moving.apex, **asked)
    return recognise(question, read_recogniser(make_model()), detector)


def test_points_are_drawn_from_onset_to_apex_only(moving, make_model, detector):
    recognition = recognised(moving, make_model, detector)
    frame = np.full((101, 77, 3), 90, np.uint8)
    recognition.face.points[:] = [30, 40]
    for number, drawn in ((1, False), (moving.onset, True), (moving.apex, True), (23, False)):
        picture = annotated_frame(frame, number, recognition)
        assert (picture[40, 30] != 90).any() == drawn
        assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0


def test_an_unsure_answer_is_on_the_page(moving, make_model, detector):
    page = report_page(recognised(moving, make_model, detector, confidence=1.0))
    assert "<h1>Unsure</h1>" in page
    assert "less than the 1.00 asked for" in page


def test_a_copy_that_is_not_whole_is_refused(moving, make_model, detector, tmp_path, monkeypatch):
    """As on a disk that is full: the writer says nothing."""
    recognition = recognised(moving, make_model, detector)

    class Forgetful:
        def __init__(self, *arguments) -> None:
            self._left, self._writer = 5, plain(*arguments)

        def write(self, picture):
            self._left -= 1
            if self._left > 0:
                self._writer.write(picture)

        def __getattr__(self, name):
            return getattr(self._writer, name)

    plain = cv2.VideoWriter
    Forgetful.fourcc = plain.fourcc
    monkeypatch.setattr(cv2, "VideoWriter", Forgetful)
    with pytest.raises(VideoWriteError, match="4 frames instead of 23"):
        write_annotated_video(tmp_path / "copy.mp4", recognition)


# Refusals: each a type of its own, and nothing written


@pytest.fixture
def blank(tmp_path):
    """Frames without a face."""
    folder = tmp_path / "blank"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((200, 200, 3), 127, np.uint8))
    return folder


def test_what_cannot_be_answered_is_refused(moving, blank, make_model, tmp_path):
    model, folder = make_model(), moving.folder
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:5000])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "1.png").write_bytes((folder / "img001.png").read_bytes())
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    out = tmp_path / "out"
    cases = [
        (blank, model, ("--fps", 30), NoFaceError),
        (blank, model, ("--onset", 1, "--apex", 2), NoFaceError),
        (tmp_path / "text.mp4", model, (), FrameUnreadableError),
        (tmp_path / "nowhere", model, (), FrameUnreadableError),
        (tmp_path / "one", model, ("--fps", 30), VideoTooShortError),
        (folder, tmp_path / "cut.safetensors", ("--fps", 30), RecogniserError),
        (folder, tmp_path / "text.mp4", ("--fps", 30), RecogniserError),
        (folder, model, ("--onset", 9, "--apex", 4), OnsetApexError),
        (folder, model, (), SettingsError),
        (folder, model, ("--flow", "tvl1", "--fps", 30), PreprocessingMismatchError),
        (folder, model, ("--device", "cuda:7", "--fps", 30), SettingsError),
        (folder, model, ("--device", "abacus", "--fps", 30), SettingsError),
        (folder, model, ("--out", tmp_path / "there"), OutputExistsError),
        (
            folder,
            model,
            ("--onset", 6, "--apex", 12, "--out", tmp_path / "file" / "x"),
            OutputWriteError,
        ),
    ]
    for video, file, options, expected in cases:
        target = () if "--out" in options else ("--out", out)
        result = run(video, "--model", file, *options, *target)
        assert type(result.exception) is expected, (options, result.exception)
        assert not out.exists()
    assert not list((tmp_path / "there").iterdir())
    assert not list(tmp_path.glob(".*partial"))


def test_damaged_videos_are_answered_or_refused(video, moving, make_model, tmp_path):
    """Cut and with bytes flipped: an answer or an error of ours, never anything else."""
    model, content = make_model(), video.read_bytes()
    generator = np.random.default_rng(0)
    damaged = tmp_path / "damaged.avi"
    cuts = [content[: len(content) // part] for part in (2, 1000)]
    flips = []
    for _ in range(3):
        flipped = bytearray(content)
        for place in generator.integers(min(len(content), 20_000), size=8):
            flipped[place] ^= 1 << int(generator.integers(8))
        flips.append(bytes(flipped))
    for number, each in enumerate([*cuts, *flips, b""]):
        damaged.write_bytes(each)
        asked = ("--fps", 30, "--onset", 2, "--apex", 6, "--no-video")
        asked += ("--out", tmp_path / f"out{number}")
        result = run(damaged, "--model", model, *asked)
        assert result.exit_code == 0 or isinstance(result.exception, FedPsyAUError), (
            number,
            result.exception,
        )
        assert (tmp_path / f"out{number}").exists() == (result.exit_code == 0)


@pytest.mark.parametrize(
    "options", [("--confidence", 1.5), ("--confidence", "x"), ("--fps", 0), ("--first-frame", 2)]
)
def test_options_out_of_range_are_a_wrong_command_line(tmp_path, options):
    result = run(tmp_path, "--model", tmp_path / "m", *options)
    assert result.exit_code == 2


def test_help_says_what_it_is_not_for_and_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner\n"
        "from fedpsyau_client.prediction.predict_command import app\n"
        "print(CliRunner().invoke(app, ['--help']).output)\n"
        "heavy = {'torch', 'cv2', 'mediapipe', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no lie detector" in done.stdout
