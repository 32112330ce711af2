"""Every kind of oddity that reading labels can report, how grave it is, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

__all__ = ["ODDITY_KINDS", "OddityKind", "Severity"]

Severity = Literal["note", "warning"]


@dataclass(frozen=True, slots=True)
class OddityKind:
    """severity: `warning` where a clip or a part of its label is lost or wrong, else `note`."""

    severity: Severity
    meaning: str


def _warning(meaning: str) -> OddityKind:
    return OddityKind("warning", meaning)


def _note(meaning: str) -> OddityKind:
    return OddityKind("note", meaning)


#: By name, in the order of a report: what loses clips first.
ODDITY_KINDS: Final[Mapping[str, OddityKind]] = MappingProxyType(
    {
        "label-file-unreadable": _warning("a label file is missing or damaged and was left out"),
        "subject-missing": _warning("the clip has no subject, and cannot be split by subject"),
        "filename-missing": _warning("the clip has no file name, and cannot be found"),
        "duplicate-key": _warning("subject, file name and onset are those of an earlier row"),
        "emotion-missing": _warning("the clip has no emotion, and thus no class"),
        "emotion-unknown": _warning("the data set has no such emotion; the clip has no class"),
        "onset-missing": _warning("the onset is no frame number"),
        "apex-missing": _warning("the apex is no frame number"),
        "frame-negative": _warning("a negative frame number, taken as missing"),
        "apex-outside": _warning("the apex lies before the onset or after the offset"),
        "apex-equals-onset": _warning("apex and onset are one frame: there is no motion"),
        "offset-zero": _warning("the offset is 0, which stands for unknown"),
        "offset-before-onset": _warning("the offset lies before the onset"),
        "filename-case": _warning("the file name differs from others in upper and lower case only"),
        "au-unread": _warning("a piece of the AU label could not be read and is left out"),
        "clip-missing": _warning("no video or folder of images was found for the clip"),
        "clip-ambiguous": _warning("several videos or folders could be the clip"),
        "frame-missing": _warning("the clip's folder lacks the onset or the apex"),
        "apex-equals-offset": _note("apex and offset are one frame"),
        "offset-missing": _note("the offset is no frame number; it is not needed"),
        "clip-case": _note("the clip was found under a name in other case"),
        "clip-long": _note("onset to offset is longer than half a second"),
        "stray-whitespace": _note("spaces around a name, which were removed"),
        "formula-cell": _note("a cell holds a formula; its last stored value was taken"),
        "merged-cells": _note("merged cells; each of them was given their one value"),
        "repeated-filename": _note("clips of one video, told apart by their onset"),
        "column-absent": _note("the table has no such column"),
        "extra-sheets": _note("further sheets of the workbook were ignored"),
        "encoding-guessed": _note("the text is not UTF-8; its encoding was guessed"),
        "video-missing": _note("no video lies where the data set's layout has it"),
        "apex-differs": _note("the coded frame is not the last image of the sequence"),
    }
)
