from __future__ import annotations


def study() -> None:
    """."""
