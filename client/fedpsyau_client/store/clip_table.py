"""The clip table of a feature store: who, which emotion, which AUs; ``clips.csv`` on disk."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import CLASS_NAMES, EMOTIONS
from fedpsyau_model.errors import DataDamagedError

COLUMNS: tuple[str, ...] = (
    *("clip", "subject", "emotion", "class3", "class7", "au_known"),
    *(f"AU{au}" for au in AUS),
)

#: Pseudonymous ids: no slash and no space, so that neither a path nor a name slips in whole.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Texts = npt.NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class ClipTable:
    """N clips, one row each, in the order of the feature arrays.

    clip, subject: (N,) pseudonymous ids; clip ids are unique.
    emotion: (N,) one of `fedpsyau_model.emotions.EMOTIONS`, or "" where it is none of them.
    class3, class7: (N,) class name under the scheme, or "" where the scheme drops the clip.
    au_known: (N,) bool, whether the clip has AU labels.
    aus: (N, 12) uint8, 1 where the AU was annotated, in the order of `AUS`; 0 where not known.
    """

    clip: Texts
    subject: Texts
    emotion: Texts
    class3: Texts
    class7: Texts
    au_known: npt.NDArray[np.bool_]
    aus: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clip)


def check_clip_table(clips: ClipTable, source: str) -> None:
    """Refuse a table that breaks its own rules, naming the first clip at fault.

    source: what the message calls the table. Raises DataDamagedError.
    """
    _check_lengths(clips, source)
    _check_ids(clips, source)
    for column, values, allowed in (
        ("emotion", clips.emotion, EMOTIONS),
        ("class3", clips.class3, CLASS_NAMES["three"]),
        ("class7", clips.class7, CLASS_NAMES["seven"]),
    ):
        wrong = ~np.isin(values, ["", *allowed])
        if wrong.any():
            first = int(np.argmax(wrong))
            raise DataDamagedError(
                f"{source}: clip {clips.clip[first]} has the {column} {str(values[first])!r}, "
                f"which is unknown. Allowed are {', '.join(allowed)}, or nothing."
            )
    if not np.isin(clips.aus, (0, 1)).all():
        raise DataDamagedError(f"{source}: an AU must be 0 or 1.")
    unfounded = ~clips.au_known & clips.aus.any(axis=1)
    if unfounded.any():
        raise DataDamagedError(
            f"{source}: clip {clips.clip[int(np.argmax(unfounded))]} has AUs set although its "
            "au_known is 0. Set au_known to 1 where a clip was annotated, or leave its AUs at 0."
        )


def _check_lengths(clips: ClipTable, source: str) -> None:
    count = len(clips.clip)
    if count == 0:
        raise DataDamagedError(f"{source} holds no clips, and nothing can be learned from none.")
    for column in ("subject", "emotion", "class3", "class7", "au_known"):
        if getattr(clips, column).shape != (count,):
            raise DataDamagedError(
                f"{source}: {column} has the shape {getattr(clips, column).shape}, but there are "
                f"{count} clips."
            )
    if clips.aus.shape != (count, len(AUS)):
        raise DataDamagedError(
            f"{source}: aus has the shape {clips.aus.shape}; it must be ({count}, {len(AUS)})."
        )


def _check_ids(clips: ClipTable, source: str) -> None:
    for column, values in (("clip", clips.clip), ("subject", clips.subject)):
        for value in np.unique(values):
            if not _ID.fullmatch(str(value)):
                raise DataDamagedError(
                    f"{source}: {str(value)!r} cannot be a {column} id. Ids are pseudonymous: 1 to "
                    "64 letters, digits, dots, dashes and underscores, no path and no name."
                )
    ids, counts = np.unique(clips.clip, return_counts=True)
    if (counts > 1).any():
        raise DataDamagedError(
            f"{source}: the clip id {ids[counts > 1][0]} stands on {counts[counts > 1][0]} rows. "
            "Every clip needs an id of its own."
        )


def format_clip_table(clips: ClipTable) -> str:
    """Write a table as the text of ``clips.csv``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in range(len(clips)):
        writer.writerow(
            [
                *(clips.clip[row], clips.subject[row]),
                *(clips.emotion[row], clips.class3[row], clips.class7[row]),
                int(clips.au_known[row]),
                *(int(au) for au in clips.aus[row]),
            ]
        )
    return text.getvalue()


def parse_clip_table(text: str, source: str) -> ClipTable:
    """Read the text of ``clips.csv``.

    source: what messages call the file. Raises DataDamagedError naming row and column at fault.
    """
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise DataDamagedError(f"{source} is not a CSV file: {error}.") from None
    if not rows or tuple(rows[0]) != COLUMNS:
        raise DataDamagedError(
            f"{source} has the columns {', '.join(rows[0]) if rows else '(none)'}; they must be "
            f"{', '.join(COLUMNS)}, in this order."
        )
    body = rows[1:]
    for number, row in enumerate(body, start=2):
        if len(row) != len(COLUMNS):
            raise DataDamagedError(
                f"{source}, line {number}: {len(row)} cells instead of {len(COLUMNS)}."
            )
        for column, cell in zip(COLUMNS[5:], row[5:], strict=True):
            if cell not in ("0", "1"):
                raise DataDamagedError(
                    f"{source}, line {number}: {column} is {cell!r}; it must be 0 or 1."
                )
    clip, subject, emotion, class3, class7 = (
        np.array([row[column] for row in body], dtype=np.str_) for column in range(5)
    )
    flags = np.array([row[5:] for row in body], dtype=np.uint8).reshape(len(body), 1 + len(AUS))
    au_known, aus = flags[:, 0].astype(np.bool_), flags[:, 1:]
    clips = ClipTable(clip, subject, emotion, class3, class7, au_known, aus)
    check_clip_table(clips, source)
    return clips
