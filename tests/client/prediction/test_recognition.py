"""Spotting in rendered sequences, and answers about them; no command line here."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fedpsyau_client.prediction import windows
from fedpsyau_client.prediction.frame_stream import open_frame_stream
from fedpsyau_client.prediction.point_attention import point_weights, predict_with_attention
from fedpsyau_client.prediction.recogniser_file import read_recogniser
from fedpsyau_client.prediction.recognition import Question, flow_of, recognise, unsure_below
from fedpsyau_client.prediction.windows import spot
from fedpsyau_client.preparation.clip_features import pair_features, prepare_pair
from fedpsyau_client.preparation.frames import read_frames
from fedpsyau_model.action_units import AU_GROUPS, AUS
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.errors import (
    FrameSizeError,
    FrameUnreadableError,
    NoFaceError,
    OnsetApexError,
    PreprocessingMismatchError,
    SettingsError,
    VideoTooShortError,
)
from fedpsyau_model.facial_points import group_point_indices
from fedpsyau_model.settings import NetworkSettings
from fedpsyau_model.temperature import class_probabilities
from fedpsyau_model.training import predict

FPS = 30


class Sheltered:
    """A detector that counts how often it is asked, and may find nothing in the first frames."""

    def __init__(self, detector, blind: int = 0) -> None:
        self.asked, self._detector, self._blind = 0, detector, blind

    def find(self, image):
        self.asked += 1
        if self.asked <= self._blind:
            raise NoFaceError("No face was found in the onset frame.")
        return self._detector.find(image)


# Spotting


def test_the_apex_of_a_rendered_sequence_is_spotted_within_two_frames(moving, detector):
    found = spot(open_frame_stream(moving.folder), detector, FPS).found
    assert abs(found.apex - moving.apex) <= 2
    assert moving.onset - 1 <= found.onset < moving.apex


def test_a_still_face_under_camera_noise_holds_nothing(still, detector):
    looked = spot(open_frame_stream(still.folder), detector, FPS)
    assert looked.found is None
    assert looked.most_movement.movement.max() < 0.1


def test_a_video_gives_the_frames_that_a_folder_gives(moving, video, detector):
    from_folder = spot(open_frame_stream(moving.folder), detector, FPS)
    stream = open_frame_stream(video)
    assert stream.fps == FPS
    np.testing.assert_array_equal(
        spot(stream, detector, FPS).found.curve.movement, from_folder.found.curve.movement
    )
    from_zero = spot(open_frame_stream(video, first_frame=0), detector, FPS).found
    assert from_zero.apex == from_folder.found.apex - 1


def test_an_onset_that_is_given_is_kept_and_its_apex_is_spotted(moving, detector):
    stream = open_frame_stream(moving.folder)
    found = spot(stream, detector, FPS, onset=moving.onset).found
    assert abs(found.apex - moving.apex) <= 2
    assert found.curve.frames[0] == moving.onset


def test_an_apex_that_is_given_is_kept_and_its_onset_is_spotted(moving, detector):
    found = spot(open_frame_stream(moving.folder), detector, FPS, apex=moving.apex).found
    assert found.apex == moving.apex
    assert found.curve.frames[-1] == moving.apex
    assert moving.onset - 2 <= found.onset < moving.apex


class Repeated:
    """A long recording out of two folders: rest, the expression once, and rest again."""

    def __init__(self, moving, still, before, after):
        rest, once = open_frame_stream(still.folder), open_frame_stream(moving.folder)
        self.clip = once.clip
        self._frames = [(rest, 1)] * before + [(once, n) for n in once.numbers]
        self._frames += [(once, once.numbers[-1])] * after
        self.numbers = tuple(range(1, len(self._frames) + 1))
        self.read_so_far = 0

    def read(self, numbers):
        for number in numbers:
            stream, own = self._frames[number - 1]
            self.read_so_far = number
            yield number, next(stream.read((own,)))[1]


def test_windows_find_the_expression_in_a_long_recording(moving, still, detector, monkeypatch):
    """Both sequences begin with the same resting face, so that nothing jumps between them.

    The first window's face is not found. On the way, no window keeps a frame, and three are open
    at most, so that memory does not grow.
    """
    long = Repeated(moving, still, before=18, after=10)
    most, looking = 0, windows._Looking.add

    def add(self, position, number, frame):
        nonlocal most
        looking(self, position, number, frame)
        most = max(most, len(self._open))
        for window in self._open:
            held = window.reference.nbytes + sum(each.nbytes for each in window.displacements)
            assert held < 80_000
        assert long.read_so_far == number

    monkeypatch.setattr(windows._Looking, "add", add)
    looked = spot(long, Sheltered(detector, blind=1), FPS)
    assert 2 <= most <= 3
    assert (looked.windows, looked.without_face) == (7, 1)
    assert abs(looked.found.apex - (moving.apex + 18)) <= 2
    assert looked.found.onset >= 18


def test_windows_cover_every_frame_and_begin_every_quarter_of_a_second():
    assert windows._windows(23, 15) == [(0, 23)]
    assert windows._windows(24, 15) == [(0, 24)]
    found = windows._windows(60, 15)
    assert [start for start, _ in found][:4] == [0, 8, 16, 24]
    assert all(end == min(start + 24, 60) for start, end in found)
    assert found[-1][1] == 60


def test_a_recording_without_any_face_is_refused(moving, still):
    long = Repeated(moving, still, before=18, after=10)
    with pytest.raises(NoFaceError, match="In none of 7 places"):
        spot(long, Sheltered(None, blind=999), FPS)


def test_spotting_refuses_frames_that_are_not_there(moving, detector):
    stream = open_frame_stream(moving.folder)
    last = moving.frames
    for asked, words in (
        ({"onset": 99}, "--onset 99"),
        ({"apex": 0}, "--apex 0"),
        ({"onset": last}, "no apex after it"),
        ({"apex": 1}, "no onset before it"),
    ):
        with pytest.raises(OnsetApexError, match=words):
            spot(stream, detector, FPS, **asked)


def test_frames_of_two_sizes_are_no_recording(moving, tmp_path, detector):
    for number, size in ((1, 256), (2, 250), (3, 256)):
        picture = cv2.imread(str(moving.folder / f"img{number:03d}.png"))
        cv2.imwrite(str(tmp_path / f"img{number:03d}.png"), picture[:size, :size])
    with pytest.raises(FrameSizeError, match=r"Frame 2 .* is 250 x 250"):
        spot(open_frame_stream(tmp_path), detector, FPS)


def test_one_frame_is_no_video(moving, tmp_path):
    (tmp_path / "img001.png").write_bytes((moving.folder / "img001.png").read_bytes())
    with pytest.raises(VideoTooShortError, match="1 frame that can be read"):
        open_frame_stream(tmp_path)


def test_text_is_no_video(tmp_path):
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(FrameUnreadableError):
        open_frame_stream(tmp_path / "clip.mp4")


# Answers


def answer(model: Path, detector, video: Path, **asked):
    return recognise(Question(video, fps=FPS, **asked), read_recogniser(model), detector)


def test_an_answer_is_that_of_the_network_on_what_preparation_makes(moving, make_model, detector):
    """Against the parts called one by one, as `data prepare` calls them."""
    recogniser = read_recogniser(make_model())
    asked = Question(moving.folder, onset=moving.onset, apex=moving.apex)
    found = recognise(asked, recogniser, detector).prediction
    stream = open_frame_stream(moving.folder)
    onset, apex = read_frames(stream.clip, (moving.onset, moving.apex))
    flow, rois = pair_features(prepare_pair(onset, apex, detector.find(onset), "dis"))
    clip = clip_of(flow, rois)
    logits = predict(recogniser.network, clip, 0.25)
    expected = class_probabilities(
        logits.emotion.numpy(), recogniser.facts.calibration.temperature
    )[0]
    np.testing.assert_allclose(list(found.emotion.probabilities.values()), expected, atol=1e-6)
    np.testing.assert_allclose(
        list(found.action_units.values()), logits.au[0].sigmoid().numpy(), atol=1e-6
    )
    assert list(found.action_units) == [f"AU{au}" for au in AUS]
    assert found.found.movement is None
    assert found.windows == 0


def clip_of(flow, rois) -> ClipTensors:
    return ClipTensors(
        torch.from_numpy(flow[None]),
        torch.from_numpy(rois[None]),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, 12),
        torch.zeros(1, 12, dtype=torch.bool),
    )


def test_the_same_video_gives_the_same_bits(moving, make_model, detector):
    model = make_model()
    one, other = (answer(model, detector, moving.folder).prediction for _ in range(2))
    assert one.model_dump_json() == other.model_dump_json()
    assert one.outcome in ("recognised", "unsure")


def test_a_still_face_gets_no_class(still, make_model, detector):
    found = answer(make_model(), detector, still.folder)
    assert found.prediction.outcome == "nothing-found"
    assert found.prediction.emotion is None
    assert found.prediction.action_units is None
    assert found.pair is None


@pytest.mark.parametrize(
    ("probabilities", "confidence", "expected"),
    [
        ([0.5, 0.3, 0.2], 0.5, "a"),
        ([0.499, 0.301, 0.2], 0.5, None),
        ([0.2, 0.4, 0.4], 0.4, "b"),
        ([0.2, 0.2, 0.6], 0.0, "c"),
        ([0.2, 0.2, 0.6], 1.0, None),
        ([0.0, 0.0, 1.0], 1.0, "c"),
    ],
)
def test_an_answer_below_the_confidence_is_unsure(probabilities, confidence, expected):
    assert unsure_below(np.array(probabilities), ("a", "b", "c"), confidence) == expected


def test_confidence_one_makes_everything_unsure(moving, make_model, detector):
    asked = {"onset": moving.onset, "apex": moving.apex}
    found = answer(make_model(), detector, moving.folder, confidence=1.0, **asked).prediction
    assert found.outcome == "unsure"
    assert found.emotion.answer is None
    assert sum(found.emotion.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_a_model_without_a_temperature_says_so(moving, make_model, detector):
    asked = {"onset": moving.onset, "apex": moving.apex}
    plain = answer(make_model(calibrated=False), detector, moving.folder, **asked).prediction
    assert not plain.emotion.calibrated
    assert plain.emotion.temperature == 1
    assert any("uncalibrated" in note for note in plain.notes)
    told = answer(make_model(), detector, moving.folder, **asked).prediction
    assert told.emotion.calibrated
    assert told.notes == ()


def test_a_synthetic_model_says_so_first(moving, make_model, detector):
    asked = {"onset": moving.onset, "apex": moving.apex}
    found = answer(make_model(synthetic=True), detector, moving.folder, **asked).prediction
    assert "synthetic" in found.notes[0]
    assert found.model.synthetic


@pytest.mark.parametrize("part", ["au-branch", "graph", "global-stream"])
def test_models_with_a_part_left_out(moving, make_model, detector, part):
    network = NetworkSettings.model_validate({part: False, "classes": "seven"})
    asked = {"onset": moving.onset, "apex": moving.apex}
    found = answer(make_model(network=network), detector, moving.folder, **asked).prediction
    assert len(found.emotion.probabilities) == 7
    assert (found.action_units is None) == (part == "au-branch")
    assert (found.point_attention is None) == (part != "global-stream")


def test_frames_that_are_too_far_apart_are_told(moving, make_model, detector):
    asked = Question(moving.folder, onset=1, apex=moving.frames, fps=FPS)
    found = recognise(asked, read_recogniser(make_model()), detector).prediction
    assert any("From onset to apex are 0.73 s" in note for note in found.notes)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"onset": 9, "apex": 9}, "is not before"),
        ({"onset": 9, "apex": 5}, "is not before"),
        ({"onset": 0, "apex": 5}, "--onset 0"),
        ({"onset": 5, "apex": 999}, "--apex 999"),
    ],
)
def test_an_onset_and_an_apex_that_cannot_be(moving, make_model, detector, asked, words):
    with pytest.raises(OnsetApexError, match=words):
        answer(make_model(), detector, moving.folder, **asked)


def test_a_folder_does_not_say_how_fast_it_was_recorded(moving, make_model, detector):
    with pytest.raises(SettingsError, match="--fps"):
        recognise(Question(moving.folder), read_recogniser(make_model()), detector)


def test_the_flow_is_the_model_s(make_model):
    assert flow_of(read_recogniser(make_model(flow="farneback")), None) == "farneback"
    assert flow_of(read_recogniser(make_model(flow="dis")), "dis") == "dis"
    with pytest.raises(PreprocessingMismatchError, match="--flow tvl1, but"):
        flow_of(read_recogniser(make_model(flow="dis")), "tvl1")


@pytest.mark.parametrize("flow", [None, "another"])
def test_a_model_that_does_not_know_its_flow_must_be_told(make_model, flow):
    recogniser = read_recogniser(make_model(flow=flow))
    with pytest.raises(PreprocessingMismatchError, match="Say with --flow"):
        flow_of(recogniser, None)
    assert flow_of(recogniser, "tvl1") == "tvl1"


# Attention


def test_point_weights_by_hand():
    """All attend to AU 9 alone, so that the third group counts and no other."""
    attention = torch.zeros(12, 12)
    attention[:, AUS.index(9)] = 1.0
    gates = [torch.full((len(points),), 0.5) for points in group_point_indices()]
    gates[2] = torch.linspace(0.1, 0.9, len(gates[2]))
    weights = point_weights(attention, gates)
    third = list(group_point_indices()[2])
    torch.testing.assert_close(weights[third], torch.linspace(0.1, 0.9, len(third)) / 0.9)
    others = [index for index in range(65) if index not in third]
    assert not weights[others].any()


def test_even_attention_counts_the_action_units_that_look_at_a_point():
    gates = [torch.ones(len(points)) for points in group_point_indices()]
    weights = point_weights(torch.full((12, 12), 1 / 12), gates)
    units = torch.tensor(
        [
            sum(
                len(aus)
                for aus, points in zip(AU_GROUPS, group_point_indices(), strict=True)
                if point in points
            )
            for point in range(65)
        ]
    )
    torch.testing.assert_close(weights, units / units.max())


def test_looking_at_attention_changes_no_answer(make_model):
    recogniser = read_recogniser(make_model())
    generator = np.random.default_rng(0)
    clip = clip_of(
        generator.normal(size=(3, 28, 28)).astype(np.float32),
        generator.normal(size=(65, 3, 5, 5)).astype(np.float32),
    )
    logits, weights = predict_with_attention(recogniser.network, clip, 0.25)
    assert torch.equal(logits.emotion, predict(recogniser.network, clip, 0.25).emotion)
    assert weights.shape == (65,)
    assert weights.max() == 1
    assert (weights > 0).all()
    hooks = [module._forward_hooks for module in recogniser.network.modules()]
    assert not any(hooks)


def test_recorded_attention_is_that_which_the_layer_applies(make_model):
    """Rows of the layer's attention sum to 1, and times what it attends to they give its output."""
    layer = read_recogniser(make_model()).network.au_branch.relations.whole
    nodes = torch.randn(2, 12, 25, generator=torch.Generator().manual_seed(0))
    known = (layer.edges, layer.prior, 0.1)
    attention = layer.hidden.attention_of(nodes, *known)
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 3, 12))
    assert not attention[:, :, ~layer.edges].any()
    by_head = layer.hidden.transform(nodes).view(2, 12, 3, -1).transpose(1, 2)
    attended = attention @ by_head
    torch.testing.assert_close(layer.hidden(nodes, *known), attended.transpose(1, 2).flatten(2))
