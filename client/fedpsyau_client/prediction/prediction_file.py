"""What came of one video: content of ``prediction.json``. Holds no path, no name and no face."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from fedpsyau_model import __version__
from fedpsyau_model.file_part import FilePart

__all__ = [
    "NOT_FOR",
    "AppliedModel",
    "EmotionAnswer",
    "FoundMovement",
    "Outcome",
    "Prediction",
    "VideoFacts",
]

SCHEMA_VERSION: Final = 1

#: ``recognised``: a class. ``unsure``: none is probable enough. ``nothing-found``: no movement
#: stands out of the noise, so that there is nothing to classify.
Outcome = Literal["recognised", "unsure", "nothing-found"]

#: What stands in every answer, for whoever reads it.
NOT_FOR: Final = (
    "This is a research result. It is no lie detector: a micro-expression is not evidence of "
    "deceit, and a face without one is not evidence of honesty. It must not be used for any "
    "decision about a person, such as hiring, policing, border control, insurance, schooling or "
    "diagnosis."
)


class VideoFacts(FilePart):
    """The clip that was looked at; fps is None where it is not known and was not needed."""

    frames: int
    first_frame: int
    last_frame: int
    width: int
    height: int
    fps: float | None


class FoundMovement(FilePart):
    """Where the micro-expression is, by frame numbers.

    onset_by, apex_by: who says so. movement: how far the face moves at the apex, in pixels of the
    128 crop; threshold: what it had to reach. Both None where onset and apex were given.
    """

    onset: int
    apex: int
    onset_by: Literal["given", "spotted"]
    apex_by: Literal["given", "spotted"]
    movement: float | None
    threshold: float | None


class EmotionAnswer(FilePart):
    """The class, or None where none reaches `confidence`; probabilities sum to 1."""

    answer: str | None
    probabilities: dict[str, float]
    confidence: float
    calibrated: bool
    temperature: float


class AppliedModel(FilePart):
    """Which model answered."""

    sha256: str
    made_by: str
    fedpsyau_version: str
    config_hash: str
    data_hashes: tuple[str, ...]
    synthetic: bool
    flow: str
    prior_weight: float
    calibrated_on_clips: int
    calibrated_on_subjects: int


class Prediction(FilePart):
    """Content of ``prediction.json``.

    action_units: probability of each, not calibrated; None for a model without the AU branch.
    point_attention: weights of the 65 facial points (see `point_attention`), None without a graph.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    fedpsyau_version: str = __version__
    outcome: Outcome
    video: VideoFacts
    windows: int
    windows_without_face: int
    found: FoundMovement | None
    emotion: EmotionAnswer | None
    action_units: dict[str, float] | None
    point_attention: tuple[float, ...] | None
    model: AppliedModel
    notes: tuple[str, ...] = ()
    not_for: str = Field(default=NOT_FOR)
