"""Reading the ways in which coders write action units: ``4+L10``, ``R12``, ``15A+17``, ``ref(7B)``.

A label lists units joined by ``+``. Before the number a unit may carry its side (``L`` left, ``R``
right, ``A`` both, but unequally) or a part of the face (``T`` top, ``B`` bottom), after it an
intensity from ``A`` (trace) to ``E`` (maximum). What is uncertain (``ref(7B)``, ``(R6 or R12)``)
counts as seen and is marked so. Nothing is guessed: a piece that fits none of this is handed back
unread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["ActionUnitLabel", "parse_action_units"]

Side = Literal["both", "left", "right", "asymmetric", "top", "bottom"]

_SIDES: dict[str, Side] = {
    "": "both",
    "L": "left",
    "R": "right",
    "A": "asymmetric",
    "T": "top",
    "B": "bottom",
}

_UNIT = re.compile(r"(?:AU)?([LRATB]?)(\d{1,2})([A-E]?)", re.IGNORECASE)
_REFERRED = re.compile(r"ref\((.*)\)", re.IGNORECASE)

#: Highest AU number of the FACS manual's head, eye and gross behaviour codes.
_LAST_AU = 99


@dataclass(frozen=True, slots=True)
class ActionUnitLabel:
    """One action unit as a coder wrote it; intensity "A" to "E", or "" where none is given."""

    au: int
    side: Side = "both"
    intensity: str = ""
    certain: bool = True


def parse_action_units(text: str) -> tuple[tuple[ActionUnitLabel, ...], tuple[str, ...]]:
    """Read an AU label. Returns the units in the order written, and the pieces left unread.

    Empty labels and labels such as ``0`` or ``none`` hold no unit.
    """
    units: list[ActionUnitLabel] = []
    unread: list[str] = []
    for piece in re.split(r"[+,;]", text):
        piece = piece.strip()
        if piece.lower() in ("", "0", "none", "nan", "?", "/"):
            continue
        read = _parse_piece(piece)
        if read:
            units += read
        else:
            unread.append(piece)
    return tuple(units), tuple(unread)


def _parse_piece(piece: str) -> list[ActionUnitLabel]:
    """Read one or, joined by "or", several alternatives; nothing if any of them is unreadable."""
    referred = _REFERRED.fullmatch(piece)
    inner = referred.group(1) if referred else piece.removeprefix("(").removesuffix(")")
    alternatives = re.split(r"\s+or\s+|\s*\|\s*", inner.strip(), flags=re.IGNORECASE)
    certain = len(alternatives) == 1 and not referred
    matches = [_UNIT.fullmatch(alternative.strip()) for alternative in alternatives]
    if not all(match and 0 < int(match.group(2)) <= _LAST_AU for match in matches):
        return []
    return [
        ActionUnitLabel(
            au=int(match.group(2)),
            side=_SIDES[match.group(1).upper()],
            intensity=match.group(3).upper(),
            certain=certain,
        )
        for match in matches
        if match
    ]
