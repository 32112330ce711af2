"""DISFA: onset-apex pairs from intensities of action units that were coded frame by frame.

DISFA (27 subjects, 20 frames a second) says for every frame how strongly each of twelve units
shows, 0 to 5. A pair is a rise from rest to a peak:

1. At rest every unit has its lowest intensity of the whole video. A run of other frames between two
   frames at rest is an episode. Its onset is the last frame at rest before it.
2. Its apex is the frame, at most `PairRule.max_distance` after the onset, in which one unit has
   risen the most; among equals that in which all units together have; among those the first.
3. The pair shows the units that have risen by at least `PairRule.min_rise`. Without one there is
   no pair.

Its offset is the first frame at rest after the episode. Episodes do not overlap, so neither do
pairs. Nothing is drawn at random.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.labels.au_notation import ActionUnitLabel
from fedpsyau_client.labels.clip_record import ClipRecord, LabelTable, Oddity
from fedpsyau_model.errors import LabelTableError
from fedpsyau_model.input_files import read_input_text

__all__ = ["DISFA_AUS", "Pair", "PairRule", "choose_pairs", "read_disfa_labels"]

#: The units that DISFA codes, in the order of the intensities' columns.
DISFA_AUS: Final = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)

_FRAME_RATE: Final = 20
_HIGHEST: Final = 5
_LINE = re.compile(r"\s*(\d{1,9})\s*,\s*([0-5])\s*", re.A)

#: FACS letters of the intensities 1 to 5.
_LETTERS: Final = ("", "A", "B", "C", "D", "E")


@dataclass(frozen=True, slots=True)
class PairRule:
    """min_rise: steps of intensity, 1 to 5. max_distance: frames from onset to apex."""

    min_rise: int = 2
    max_distance: int = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """Rows of the intensities, from 0; offset None where the video ends before rest."""

    onset: int
    apex: int
    offset: int | None


def choose_pairs(intensities: NDArray[np.int64], rule: PairRule) -> tuple[Pair, ...]:
    """Choose onset-apex pairs by the module's rule.

    intensities: (F, K), frames without gaps by units, 0 to 5. Returns pairs in their order.
    """
    if not intensities.size:
        return ()
    rest = (intensities == intensities.min(axis=0)).all(axis=1)
    ends = np.flatnonzero(rest[:-1] & ~rest[1:])
    pairs = []
    for onset in ends.tolist():
        back = np.flatnonzero(rest[onset + 1 :])
        offset = onset + 1 + int(back[0]) if len(back) else None
        last = min(offset or len(rest), onset + 1 + rule.max_distance)
        rises = intensities[onset + 1 : last] - intensities[onset]
        most = rises.max(axis=1)
        apex = onset + 1 + int(np.lexsort((-rises.sum(axis=1), -most))[0])
        if most.max() >= rule.min_rise:
            pairs.append(Pair(onset, apex, offset))
    return tuple(pairs)


def read_disfa_labels(root: Path, rule: PairRule | None = None, camera: str = "left") -> LabelTable:
    """Read ``ActionUnit_Labels/SN001/SN001_au1.txt`` and so on below `root`.

    Frames are numbered as in the label files, from 1. A clip's file name is its video's path below
    `root`. Missing and damaged files become oddities; a subject is read from the files it has.

    Raises LabelTableError where `root` does not look like DISFA or no file can be read.
    """
    folder = root / "ActionUnit_Labels"
    subjects = sorted(each for each in _folders(folder) if re.fullmatch(r"SN\d+", each.name))
    if not subjects:
        raise LabelTableError(
            f"There is no folder ActionUnit_Labels with folders SN001, SN002, ... in {root}. Give "
            "the folder into which DISFA was unpacked."
        )
    clips: list[ClipRecord] = []
    oddities: list[Oddity] = []
    read = 0
    for subject in subjects:
        coded = _read_subject(subject, oddities)
        read += coded is not None
        if coded is not None:
            video = _video(root, subject.name, camera, oddities)
            clips += _clips(subject.name, video, coded, rule or PairRule(), len(clips) + 1)
    if not read:
        raise LabelTableError(
            f"None of the label files in {folder} can be read. The first trouble: "
            f"{oddities[0].message}."
        )
    if not clips:
        raise LabelTableError(
            f"No rise of {(rule or PairRule()).min_rise} steps of intensity from rest was found in "
            f"{folder}. Ask for a smaller rise."
        )
    return LabelTable("disfa", tuple(clips), tuple(oddities), _FRAME_RATE, DISFA_AUS)


@dataclass(frozen=True, slots=True, eq=False)
class _Coded:
    """Frame number of the first row, the units that were read, and (F, len(aus)) intensities."""

    first_frame: int
    aus: tuple[int, ...]
    intensities: NDArray[np.int64]


def _read_subject(folder: Path, oddities: list[Oddity]) -> _Coded | None:
    columns: dict[int, NDArray[np.int64]] = {}
    for au in DISFA_AUS:
        file = folder / f"{folder.name}_au{au}.txt"
        place = f"{folder.name}/{file.name}"
        try:
            columns[au] = _read_file(file)
        except (OSError, ValueError) as error:
            trouble = getattr(error, "strerror", None) or str(error)
            oddities.append(Oddity("label-file-unreadable", None, f"{place}: {trouble}"))
    if not columns:
        return None
    first = max(int(column[0, 0]) for column in columns.values())
    last = min(int(column[-1, 0]) for column in columns.values())
    longest = max(len(column) for column in columns.values())
    if last - first + 1 < longest:
        message = f"{folder.name}: not all files have all frames; {first} to {last} were used"
        oddities.append(Oddity("label-file-unreadable", None, message))
    if last < first:
        return None
    stack = [
        column[first - int(column[0, 0]) : last - int(column[0, 0]) + 1, 1]
        for column in columns.values()
    ]
    return _Coded(first, tuple(columns), np.stack(stack, axis=1))


def _read_file(file: Path) -> NDArray[np.int64]:
    """(F, 2) frame numbers without gaps, and intensities. Raises ValueError, OSError."""
    rows = []
    for number, line in enumerate(read_input_text(file, "ascii").splitlines(), start=1):
        if line.strip():
            match = _LINE.fullmatch(line)
            if not match:
                raise ValueError(f"line {number} is not `frame,intensity` with 0 to {_HIGHEST}")
            rows.append((int(match[1]), int(match[2])))
    table = np.array(rows, dtype=np.int64).reshape(-1, 2)
    if not len(table):
        raise ValueError("the file is empty")
    if (np.diff(table[:, 0]) != 1).any():
        raise ValueError("frame numbers have gaps or go back")
    return table


def _clips(
    subject: str, video: str, coded: _Coded, rule: PairRule, first_row: int
) -> Iterator[ClipRecord]:
    for row, pair in enumerate(choose_pairs(coded.intensities, rule), start=first_row):
        rises = coded.intensities[pair.apex] - coded.intensities[pair.onset]
        yield ClipRecord(
            row=row,
            subject=subject,
            filename=video,
            onset=coded.first_frame + pair.onset,
            apex=coded.first_frame + pair.apex,
            offset=None if pair.offset is None else coded.first_frame + pair.offset,
            emotion="",
            emotion_label="",
            aus=tuple(
                ActionUnitLabel(au, intensity=_LETTERS[int(coded.intensities[pair.apex, index])])
                for index, au in enumerate(coded.aus)
                if rises[index] >= rule.min_rise
            ),
            dataset="disfa",
        )


def _video(root: Path, subject: str, camera: str, oddities: list[Oddity]) -> str:
    """Path of the subject's video below `root`; the published name where none is there."""
    side = camera.capitalize()
    names = [
        f"{folder}_{side}Camera/{side}Video{subject}_{ending}.avi"
        for folder in ("Videos", "Video")
        for ending in ("comp", "Comp")
    ]
    there = [name for name in names if _is_file(root / name)]
    if not there:
        oddities.append(Oddity("video-missing", None, f"{subject}: no {names[0]}"))
    return (there or names)[0]


def _is_file(path: Path) -> bool:
    """Whether a file is there and may be looked at."""
    try:
        return path.is_file()
    except OSError:
        return False


def _folders(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if each.is_dir()]
    except OSError:
        return []
