"""Reading the ways in which coders write action units: ``4+L10``, ``R12``, ``15A+17``, ``ref(7B)``.

A label lists units joined by ``+``, commas or semicolons. Before the number a unit may carry its
side (``L`` left, ``R`` right, ``A`` both, but unequally) or a part of the face (``T`` top, ``B``
bottom), after it an intensity from ``A`` (trace) to ``E`` (maximum). What is uncertain
(``ref(7B)``, ``(R6 or R12)``, ``4?``) counts as seen and is marked so. Nothing is guessed: a piece
that fits none of this is handed back unread; every piece of a label is a unit or is reported.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

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

#: Side, number (FACS ends at two digits), intensity, doubt. A spreadsheet's 12 may come as 12.0.
_UNIT = re.compile(r"(?:AU\s*)?([LRATB]?)\s*(\d{1,2})(?:\.0+)?\s*([A-E]?)\s*(\??)", re.I | re.A)
_REFERRED = re.compile(r"(?:ref\s*)?\(.*\)", re.I | re.S)

#: Separators at the top level: a list, and alternatives. Digits may stand right beside "or".
_LIST = re.compile(r"[+,;、]")
_ALTERNATIVES = re.compile(r"\s*(?:\bor\b|(?<=[\d\s)])or(?=[\s\d(LRATB])|\|)\s*", re.I)

#: Whole labels by which coders say that no unit shows.
_NO_UNIT: Final = frozenset({"", "0", "0.0", "none", "nan", "n/a", "na", "/", "-"})

#: No label of this length is a list of units; it is handed back instead of being taken apart.
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class ActionUnitLabel:
    """One action unit as a coder wrote it; intensity "A" to "E", or "" where none is given."""

    au: int
    side: Side = "both"
    intensity: str = ""
    certain: bool = True


def parse_action_units(text: str) -> tuple[tuple[ActionUnitLabel, ...], tuple[str, ...]]:
    """Read an AU label. Returns the units in the order written, and the pieces left unread.

    Empty labels and labels such as ``0`` or ``none`` hold no unit. Never raises.
    """
    label = unicodedata.normalize("NFKC", text).strip()
    if label.lower() in _NO_UNIT:
        return (), ()
    if len(label) > _LONGEST:
        return (), (label,)
    units: list[ActionUnitLabel] = []
    unread: list[str] = []
    for piece in _split(label, _LIST):
        if piece:
            read = _parse_piece(piece, certain=True)
            units += read
            unread += [] if read else [piece]
    if not units and not unread:  # nothing but separators
        unread.append(label)
    return tuple(units), tuple(unread)


def _parse_piece(piece: str, *, certain: bool) -> list[ActionUnitLabel]:
    """Read a unit, alternatives, or either in brackets; nothing if any part is unreadable."""
    alternatives = _split(piece, _ALTERNATIVES)
    if len(alternatives) > 1:
        return _parse_all(alternatives, certain=False)
    if _REFERRED.fullmatch(piece):
        inner = piece[piece.index("(") + 1 : -1].strip()
        referred = not piece.startswith("(")
        return _parse_all(_split(inner, _LIST), certain=certain and not referred)
    match = _UNIT.fullmatch(piece)
    if not match or int(match[2]) == 0:
        return []
    side, number, intensity, doubt = match.groups()
    unit = ActionUnitLabel(
        int(number), _SIDES[side.upper()], intensity.upper(), certain=certain and not doubt
    )
    return [unit]


def _parse_all(pieces: list[str], *, certain: bool) -> list[ActionUnitLabel]:
    read = [_parse_piece(piece, certain=certain) for piece in pieces]
    return [unit for units in read for unit in units] if all(read) else []


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Split where `separator` matches outside brackets; pieces are stripped."""
    pieces, start = [], 0
    for match in separator.finditer(text):
        if _depth(text[: match.start()]) == 0:
            pieces.append(text[start : match.start()].strip())
            start = match.end()
    return [*pieces, text[start:].strip()]


def _depth(text: str) -> int:
    """How many brackets are open at the end of `text`; one too many closed closes none."""
    depth = 0
    for character in text:
        depth = max(0, depth + {"(": 1, ")": -1}.get(character, 0))
    return depth
