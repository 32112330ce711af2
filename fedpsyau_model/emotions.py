"""Emotion names and the two ways of counting them as classes (design section 5)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

#: Emotions as a feature store keeps them.
EMOTIONS: tuple[str, ...] = (
    "happiness",
    "surprise",
    "disgust",
    "sadness",
    "anger",
    "fear",
    "contempt",
)

ClassScheme = Literal["three", "seven"]

#: Class names of each scheme, in the order of the network's outputs.
CLASS_NAMES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {"three": ("negative", "positive", "surprise"), "seven": EMOTIONS}
)
