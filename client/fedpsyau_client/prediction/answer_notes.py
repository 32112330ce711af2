"""What whoever reads an answer must know of how it came about."""

from __future__ import annotations

from fedpsyau_client.prediction.prediction_file import FoundMovement
from fedpsyau_client.prediction.recogniser_file import RecogniserFacts
from fedpsyau_client.prediction.spotting import LONGEST_SECONDS
from fedpsyau_client.prediction.windows import Spotting
from fedpsyau_client.preparation.optical_flow import FlowMethod

__all__ = ["notes_on"]


def notes_on(
    facts: RecogniserFacts,
    asked_flow: FlowMethod | None,
    spotting: Spotting | None,
    found: FoundMovement | None,
    fps: float | None,
) -> tuple[str, ...]:
    """Sentences for a person, the weightiest first.

    asked_flow: method given with ``--flow``. spotting: None where onset and apex were given.
    """
    notes = []
    if facts.synthetic:
        notes.append(
            "The model was trained on synthetic data. What it says of a real face means nothing."
        )
    if facts.calibration is None:
        notes.append(
            "The probabilities are uncalibrated: the model's file holds no temperature. Most often "
            "they are surer than they should be."
        )
    if asked_flow is not None:
        notes.append(f"Motion was measured with {asked_flow} because --flow asked for it.")
    if found is not None and fps and found.apex - found.onset > LONGEST_SECONDS * fps:
        seconds = (found.apex - found.onset) / fps
        notes.append(
            f"From onset to apex are {seconds:.2f} s. A micro-expression is over within "
            f"{LONGEST_SECONDS:g} s, and the model has learnt from such."
        )
    if spotting is not None and spotting.without_face:
        notes.append(
            f"In {spotting.without_face} of {spotting.windows} places no single, usable face was "
            "found. They were left out."
        )
    return tuple(notes)
