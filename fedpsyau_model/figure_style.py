"""Colours and markers that the project's figures have in common."""

from __future__ import annotations

__all__ = ["GRID", "INK", "LOOKS"]

#: Text and axes; lines of the grid.
INK = "#26323b"
GRID = "#e3e7ea"

#: Paul Tol's "muted" colours without the pale ones, then some of his "bright"; each with a marker
#: of its own: what the colour-blind cannot tell by colour they can by shape.
LOOKS = (
    ("#332288", "o"),
    ("#cc6677", "s"),
    ("#117733", "^"),
    ("#aa4499", "D"),
    ("#44aa99", "v"),
    ("#999933", "P"),
    ("#882255", "X"),
    ("#4477aa", "<"),
    ("#ee6677", ">"),
    ("#66a61e", "h"),
    ("#767676", "*"),
)
