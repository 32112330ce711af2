"""Clips of each class, from counts of emotions."""

from __future__ import annotations

from collections.abc import Mapping

from fedpsyau_client.labels.class_rules import three_class
from fedpsyau_model.emotions import CLASS_NAMES


def three_class_counts(emotions: Mapping[str, int]) -> dict[str, int]:
    """Clips of negative, positive and surprise, by the authors' rule, in the classes' order."""
    counts = dict.fromkeys(CLASS_NAMES["three"], 0)
    for emotion, clips in emotions.items():
        counts[three_class(emotion)] += clips
    return counts
