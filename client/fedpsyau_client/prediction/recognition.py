"""From a video and a model to an answer: spotting, preparation, network, calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch

from fedpsyau_client.prediction.answer_notes import notes_on
from fedpsyau_client.prediction.frame_stream import FrameStream, open_frame_stream
from fedpsyau_client.prediction.point_attention import predict_with_attention
from fedpsyau_client.prediction.prediction_file import (
    AppliedModel,
    EmotionAnswer,
    FoundMovement,
    Outcome,
    Prediction,
    VideoFacts,
)
from fedpsyau_client.prediction.recogniser_file import Recogniser
from fedpsyau_client.prediction.spotting import LONGEST_SECONDS
from fedpsyau_client.prediction.windows import MovementCurve, Spotting, position_of, spot
from fedpsyau_client.preparation.clip_features import PreparedPair, pair_features, prepare_pair
from fedpsyau_client.preparation.clip_job import FaceFinder
from fedpsyau_client.preparation.face_points import FacePoints
from fedpsyau_client.preparation.frames import read_frames
from fedpsyau_client.preparation.optical_flow import FLOW_METHODS, FlowMethod
from fedpsyau_model.action_units import AUS
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.errors import OnsetApexError, PreprocessingMismatchError, SettingsError
from fedpsyau_model.temperature import class_probabilities

__all__ = ["CONFIDENCE", "Question", "Recognition", "flow_of", "recognise", "unsure_below"]

#: Probability below which an answer is "unsure": with it, a class is likelier than all others.
CONFIDENCE: Final = 0.5

#: Decimal places of probabilities and weights on disk; classes are told before rounding.
_DECIMALS: Final = 6

_FLOW_MEANS: Final = "It must be the flow that the model's clips were prepared with"


@dataclass(frozen=True)
class Question:
    """What a person asks of a video.

    onset, apex: frame numbers, None to have them spotted. fps: None to believe the video.
    flow: None for the model's own.
    """

    video: Path
    onset: int | None = None
    apex: int | None = None
    fps: float | None = None
    first_frame: int = 1
    flow: FlowMethod | None = None
    confidence: float = CONFIDENCE
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Recognition:
    """An answer with what a report draws of it.

    pair, face: of onset and apex; None where nothing was found. curve: of movement, None where
    nothing was spotted because all was given.
    """

    prediction: Prediction
    stream: FrameStream
    fps: float | None
    curve: MovementCurve | None
    pair: PreparedPair | None
    face: FacePoints | None


def recognise(
    question: Question,
    recogniser: Recogniser,
    finder: FaceFinder,
    progress: Callable[[int], None] = lambda frames: None,
) -> Recognition:
    """Answer a question. The same one gives the same bits on the same machine, with one thread.

    progress: called with the number of frames that were looked at.

    Raises SettingsError, PreprocessingMismatchError, OnsetApexError, VideoTooShortError, and what
    reading frames and finding faces raises.
    """
    flow = flow_of(recogniser, question.flow)
    stream = open_frame_stream(question.video, question.first_frame)
    fps = question.fps or stream.fps
    spotting: Spotting | None = None
    found: FoundMovement | None
    if question.onset is not None and question.apex is not None:
        found = _given(stream, question.onset, question.apex)
    else:
        spotting = spot(
            stream, finder, _needed(fps, question), question.onset, question.apex, progress
        )
        found = _spotted(spotting, question)
    numbers = stream.numbers[:1] if found is None else (found.onset, found.apex)
    frames = read_frames(stream.clip, numbers)
    pair = face = None
    classified = _Classified(None, None, None)
    if found is not None:
        face = finder.find(frames[0])
        pair = prepare_pair(frames[0], frames[1], face, flow)
        classified = _classify(question, recogniser, pair)
    curve = None
    if spotting is not None:
        curve = spotting.found.curve if spotting.found else spotting.most_movement
    prediction = Prediction(
        outcome=_outcome(classified.emotion),
        video=_video_facts(stream, frames[0].shape, fps),
        windows=spotting.windows if spotting else 0,
        windows_without_face=spotting.without_face if spotting else 0,
        found=found,
        emotion=classified.emotion,
        action_units=classified.action_units,
        point_attention=classified.attention,
        model=_applied(recogniser, flow),
        notes=notes_on(recogniser.facts, question.flow, spotting, found, fps),
    )
    return Recognition(prediction, stream, fps, curve, pair, face)


def flow_of(recogniser: Recogniser, asked: FlowMethod | None) -> FlowMethod:
    """Flow method to prepare onset and apex with.

    Raises PreprocessingMismatchError if `asked` is another than the model was trained with, or if
    nobody says which.
    """
    known = {
        str(source.preprocessing.get("flow", "")) for source in recogniser.facts.trained_on
    } - {""}
    told = [method for method in FLOW_METHODS if known == {method}]
    if told and asked not in (None, told[0]):
        raise PreprocessingMismatchError(
            f"--flow {asked}, but the model has learnt from clips that were prepared with "
            f"--flow {told[0]}. Vectors of another method are of other lengths. Leave --flow out."
        )
    if told:
        return told[0]
    if asked is None:
        methods = ", ".join(sorted(known)) or "none of fedpsyau's"
        raise PreprocessingMismatchError(
            "The model does not say with which one flow method its clips were prepared (it names "
            f"{methods}): they were imported, made up as motion, or mixed. Say with --flow "
            f"{' | '.join(FLOW_METHODS)} which one comes closest. {_FLOW_MEANS}, else the answer "
            "means little."
        )
    return asked


def unsure_below(
    probabilities: np.ndarray, names: tuple[str, ...], confidence: float
) -> str | None:
    """Name of the most probable class, the first of equals; None if it is below `confidence`."""
    best = int(np.argmax(probabilities))
    return names[best] if probabilities[best] >= confidence else None


def _given(stream: FrameStream, onset: int, apex: int) -> FoundMovement:
    if position_of(stream, onset, "--onset") >= position_of(stream, apex, "--apex"):
        raise OnsetApexError(
            f"--onset {onset} is not before --apex {apex}. A movement begins at its onset and is "
            "strongest at its apex."
        )
    return FoundMovement(
        onset=onset,
        apex=apex,
        onset_by="given",
        apex_by="given",
        movement=None,
        threshold=None,
    )


def _spotted(spotting: Spotting, question: Question) -> FoundMovement | None:
    if spotting.found is None:
        return None
    return FoundMovement(
        onset=spotting.found.onset if question.onset is None else question.onset,
        apex=spotting.found.apex,
        onset_by="spotted" if question.onset is None else "given",
        apex_by="spotted" if question.apex is None else "given",
        movement=round(spotting.found.height, _DECIMALS),
        threshold=round(spotting.found.threshold, _DECIMALS),
    )


def _needed(fps: float | None, question: Question) -> float:
    if fps is None:
        raise SettingsError(
            f"{question.video} does not say how many frames a second were recorded, and a "
            f"micro-expression is known by lasting {LONGEST_SECONDS:g} s at most. Give --fps N, or "
            "--onset N and --apex N."
        )
    return fps


def _video_facts(stream: FrameStream, shape: tuple[int, ...], fps: float | None) -> VideoFacts:
    return VideoFacts(
        frames=len(stream.numbers),
        first_frame=stream.numbers[0],
        last_frame=stream.numbers[-1],
        width=shape[1],
        height=shape[0],
        fps=fps,
    )


class _Classified(NamedTuple):
    emotion: EmotionAnswer | None
    action_units: dict[str, float] | None
    attention: tuple[float, ...] | None


def _classify(question: Question, recogniser: Recogniser, pair: PreparedPair) -> _Classified:
    flow, rois = pair_features(pair)
    clip = ClipTensors(
        flow=torch.from_numpy(flow[np.newaxis]),
        rois=torch.from_numpy(rois[np.newaxis]),
        emotion=torch.zeros(1, dtype=torch.int64),
        au=torch.zeros(1, len(AUS)),
        au_known=torch.zeros(1, len(AUS), dtype=torch.bool),
    )
    facts = recogniser.facts
    network = recogniser.network.to(question.device)
    logits, weights = predict_with_attention(network, clip, facts.prior_weight)
    temperature = facts.calibration.temperature if facts.calibration else 1.0
    probabilities = class_probabilities(logits.emotion.numpy(), temperature)[0]
    emotion = EmotionAnswer(
        answer=unsure_below(probabilities, facts.classes, question.confidence),
        probabilities=dict(zip(facts.classes, _rounded(probabilities), strict=True)),
        confidence=question.confidence,
        calibrated=facts.calibration is not None,
        temperature=temperature,
    )
    action_units = None
    if logits.au is not None:
        active = _rounded(logits.au[0].double().sigmoid().numpy())
        action_units = {f"AU{au}": each for au, each in zip(AUS, active, strict=True)}
    attention = None if weights is None else tuple(_rounded(weights.numpy()))
    return _Classified(emotion, action_units, attention)


def _outcome(emotion: EmotionAnswer | None) -> Outcome:
    if emotion is None:
        return "nothing-found"
    return "unsure" if emotion.answer is None else "recognised"


def _applied(recogniser: Recogniser, flow: FlowMethod) -> AppliedModel:
    facts = recogniser.facts
    return AppliedModel(
        sha256=recogniser.sha256,
        made_by=facts.made_by,
        fedpsyau_version=facts.fedpsyau_version,
        config_hash=facts.config_hash,
        data_hashes=tuple(source.data_hash for source in facts.trained_on),
        synthetic=facts.synthetic,
        flow=flow,
        prior_weight=facts.prior_weight,
        calibrated_on_clips=facts.calibration.clips if facts.calibration else 0,
        calibrated_on_subjects=facts.calibration.subjects if facts.calibration else 0,
    )


def _rounded(values: np.ndarray) -> list[float]:
    rounded: list[float] = np.asarray(values, dtype=np.float64).round(_DECIMALS).tolist()
    return rounded
