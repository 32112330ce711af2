"""The page about one video: self-contained HTML, readable on paper. It shows a face."""

from __future__ import annotations

import base64
import importlib.resources
from typing import Final

import jinja2

from fedpsyau_client.prediction.prediction_file import Prediction
from fedpsyau_client.prediction.recognition import Recognition
from fedpsyau_client.prediction.report_pictures import draw_faces, draw_movement
from fedpsyau_model.file_content import png_bytes

__all__ = ["explanation", "headline", "report_page"]

_TEMPLATE: Final = "report.html.j2"
_DPI: Final = 110


def report_page(recognition: Recognition) -> str:
    """HTML of the whole page; the same recognition gives the same text."""
    prediction = recognition.prediction
    pictures: dict[str, str] = {}
    if recognition.pair is not None:
        pictures["faces"] = _data_uri(
            png_bytes(draw_faces(recognition.pair, prediction.point_attention), _DPI)
        )
    if recognition.curve is not None:
        pictures["movement"] = _data_uri(
            png_bytes(draw_movement(recognition.curve, prediction.found), _DPI)
        )
    folder = importlib.resources.files("fedpsyau_client.prediction")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((folder / _TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        p=prediction,
        headline=headline(prediction),
        explanation=explanation(prediction),
        pictures={"faces": "", "movement": ""} | pictures,
        facts=_facts(prediction),
    )


def headline(prediction: Prediction) -> str:
    """The answer in a few words."""
    emotion = prediction.emotion
    if emotion is None:
        return "No micro-expression found"
    made_up = " (synthetic model)" if prediction.model.synthetic else ""
    if emotion.answer is None:
        return f"Unsure{made_up}"
    return f"{emotion.answer.capitalize()}, {emotion.probabilities[emotion.answer]:.2f}{made_up}"


def explanation(prediction: Prediction) -> str:
    """The answer in a sentence or two."""
    found, emotion = prediction.found, prediction.emotion
    if found is None or emotion is None:
        return (
            "Nothing that rises and falls within half a second stands out of the noise of the "
            "face's movement. So there is nothing to classify, and no class is named."
        )
    where = f"onset in frame {found.onset} ({found.onset_by}), apex in frame {found.apex} "
    where += f"({found.apex_by})"
    if emotion.answer is None:
        name, most = max(emotion.probabilities.items(), key=lambda each: each[1])
        return (
            f"A movement was looked at, {where}. The likeliest class, {name}, has a probability of "
            f"{most:.2f}, less than the {emotion.confidence:.2f} asked for."
        )
    return f"The likeliest class of the movement, {where}."


def _facts(prediction: Prediction) -> list[tuple[str, str]]:
    video, model = prediction.video, prediction.model
    speed = f", {video.fps:g} frames a second" if video.fps else ""
    return [
        (
            "video",
            f"{video.frames} frames, numbers {video.first_frame} to {video.last_frame}, "
            f"{video.width} x {video.height} pixels{speed}",
        ),
        (
            "spotting",
            f"windows: {prediction.windows}, without a face: {prediction.windows_without_face}"
            if prediction.windows
            else "none: onset and apex were given",
        ),
        ("optical flow", model.flow),
        ("model, SHA-256", model.sha256),
        ("made by", f"{model.made_by}, fedpsyau {model.fedpsyau_version}"),
        ("settings, SHA-256", model.config_hash),
        ("training data, SHA-256", ", ".join(model.data_hashes)),
        ("synthetic training data", "yes" if model.synthetic else "no"),
    ]


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
