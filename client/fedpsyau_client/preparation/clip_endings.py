"""Endings by which videos and images are known."""

from __future__ import annotations

from typing import Final

__all__ = ["IMAGE_ENDINGS", "VIDEO_ENDINGS"]

IMAGE_ENDINGS: Final = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"))
VIDEO_ENDINGS: Final = frozenset((".mp4", ".avi", ".mov", ".mkv", ".mpg", ".mpeg", ".m4v", ".wmv"))
