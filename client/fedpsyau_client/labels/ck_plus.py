"""CK+: posed expressions from neutral to their peak, coded for action units at the peak.

An image sequence (593 of 123 subjects) begins neutral and ends at the peak, so its first image is
the onset and the coded image, the last one, is the apex.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fedpsyau_client.labels.au_notation import ActionUnitLabel
from fedpsyau_client.labels.clip_record import ClipRecord, LabelTable, Oddity
from fedpsyau_model.errors import LabelTableError
from fedpsyau_model.input_files import read_input_text

__all__ = ["read_ck_plus_labels"]

_FILE = re.compile(r"(S\d+)_(\d+)_(\d{1,9})_facs\.txt", re.A)
_IMAGE = re.compile(r".*_(\d{1,9})\.(?:png|jpe?g|tiff?|bmp)", re.A | re.I)

#: FACS letters of the intensities; 0 says that none is given.
_LETTERS: Final = ("", "A", "B", "C", "D", "E")


def read_ck_plus_labels(root: Path) -> LabelTable:
    """Read ``FACS/S005/001/S005_001_00000011_facs.txt`` and so on below `root`.

    Frames are numbered as the images are, from 1. A clip's file name is its image folder's path
    below `root`, ``cohn-kanade-images/S005/001``. Missing and damaged files become oddities.

    Raises LabelTableError where `root` does not look like CK+ or no file can be read.
    """
    files = [(file, match) for file in _files(root) if (match := _FILE.fullmatch(file.name))]
    if not files:
        raise LabelTableError(
            f"There are no files FACS/S005/001/S005_001_00000011_facs.txt and the like in {root}. "
            "Give the folder into which CK+'s FACS labels and images were unpacked."
        )
    clips: list[ClipRecord] = []
    oddities: list[Oddity] = []
    for file, match in files:
        place = file.relative_to(root).as_posix()
        try:
            aus = tuple(_read_file(file))
        except (OSError, ValueError) as error:
            trouble = getattr(error, "strerror", None) or str(error)
            oddities.append(Oddity("label-file-unreadable", None, f"{place}: {trouble}"))
            continue
        clips.append(_clip(root, match, aus, len(clips) + 1, oddities))
    if not clips:
        raise LabelTableError(
            f"None of the {len(files)} FACS files in {root} can be read. The first trouble: "
            f"{oddities[0].message}."
        )
    return LabelTable("ckplus", tuple(clips), tuple(oddities), None)


def _files(root: Path) -> list[Path]:
    """Files two folders below FACS, the only depth at which CK+ has them, in order."""
    try:
        return sorted((root / "FACS").glob("*/*/*_facs.txt"))
    except OSError:
        return []


def _read_file(file: Path) -> Iterator[ActionUnitLabel]:
    """Lines of two numbers, the unit and its intensity. Raises ValueError, OSError.

    An empty file is a peak without any unit.
    """
    for number, line in enumerate(read_input_text(file, "ascii").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            au, intensity = map(_whole, line.split())
        except (ValueError, OverflowError):
            raise ValueError(f"line {number} is not `unit intensity`") from None
        if not (1 <= au <= 99 and 0 <= intensity < len(_LETTERS)):
            raise ValueError(
                f"line {number} has no unit from 1 to 99 with an intensity from 0 to 5"
            )
        yield ActionUnitLabel(au, intensity=_LETTERS[intensity])


def _whole(text: str) -> int:
    """Read 9.0000000e+00 as 9. Raises ValueError, OverflowError."""
    number = int(float(text))
    if number != float(text):
        raise ValueError(text)
    return number


def _clip(
    root: Path,
    match: re.Match[str],
    aus: tuple[ActionUnitLabel, ...],
    row: int,
    oddities: list[Oddity],
) -> ClipRecord:
    subject, sequence, coded = match[1], match[2], int(match[3])
    filename = f"cohn-kanade-images/{subject}/{sequence}"
    images = _image_numbers(root / filename)
    if not images:
        oddities.append(Oddity("video-missing", row, f"no images in {filename}"))
    elif max(images) != coded:
        message = f"{filename}: image {coded} is coded, the last one is {max(images)}"
        oddities.append(Oddity("apex-differs", row, message))
    return ClipRecord(
        row=row,
        subject=subject,
        filename=filename,
        onset=min(images, default=1),
        apex=coded,
        offset=None,
        emotion="",
        emotion_label="",
        aus=aus,
        dataset="ckplus",
    )


def _image_numbers(folder: Path) -> list[int]:
    try:
        matches = [_IMAGE.fullmatch(each.name) for each in folder.iterdir()]
    except OSError:
        return []
    return [int(match[1]) for match in matches if match]
