"""What the pinned versions must give together (they have broken each other before)."""

from __future__ import annotations

import importlib.metadata

import cv2


def test_exactly_one_opencv() -> None:
    """With two OpenCV distributions the last one written wins, and TV-L1 may vanish."""
    found = {
        distribution.name
        for distribution in importlib.metadata.distributions()
        if distribution.name and distribution.name.lower().startswith("opencv")
    }
    assert found == {"opencv-contrib-python"}
    assert hasattr(cv2.optflow, "DualTVL1OpticalFlow_create")


def test_torch_is_the_pinned_one() -> None:
    assert importlib.metadata.version("torch").partition("+")[0] == "2.13.0"
