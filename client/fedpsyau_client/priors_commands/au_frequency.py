from __future__ import annotations


def au_frequency() -> None:
    """."""
