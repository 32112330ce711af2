"""Labels of the clips that are prepared: read from a table, written as a feature store has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, cast, get_args

import numpy as np

from fedpsyau_client.labels.class_rules import ClassRule, class_of
from fedpsyau_client.labels.clip_record import ClipRecord, LabelTable
from fedpsyau_client.labels.datasets import DatasetName
from fedpsyau_client.labels.readers import read_label_table
from fedpsyau_client.store.clip_table import ClipTable
from fedpsyau_client.store.pseudonyms import Pseudonyms
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import FrameUnknownError, SettingsError

__all__ = [
    "PREPARED_DATASETS",
    "SYNTHETIC_FRAMES",
    "SYNTHETIC_MARK",
    "MissingApex",
    "is_synthetic",
    "onset_and_apex",
    "read_labels",
    "store_labels",
]

#: Frames of the synthetic twin: a plain table, and everything made from it says "synthetic".
SYNTHETIC_FRAMES: Final = "synthetic-frames"

#: A file beside a label table that says the same whatever the data set is called.
SYNTHETIC_MARK: Final = "synthetic.json"

PREPARED_DATASETS: Final[tuple[str, ...]] = (*get_args(DatasetName), SYNTHETIC_FRAMES)

MissingApex = Literal["skip", "middle"]


def read_labels(file: Path, dataset: str) -> LabelTable:
    """Read a label table. Raises SettingsError (unknown data set), LabelTableError."""
    if dataset not in PREPARED_DATASETS:
        raise SettingsError(
            f"--dataset {dataset} is unknown. Known are {', '.join(PREPARED_DATASETS)}; `csv` is a "
            "plain table of your own clips."
        )
    name = "csv" if dataset == SYNTHETIC_FRAMES else dataset
    return read_label_table(file, cast(DatasetName, name))


def is_synthetic(labels: Path, clips: Path, dataset: str) -> bool:
    """Whether the clips were made by the synthetic twin.

    Its mark stands beside the label table and the folder of clips; either tells, so that clips that
    are prepared with another table still say so.
    """
    marked = (labels.parent, clips, clips.absolute().parent)
    return dataset == SYNTHETIC_FRAMES or any((each / SYNTHETIC_MARK).is_file() for each in marked)


def onset_and_apex(record: ClipRecord, missing_apex: MissingApex = "skip") -> tuple[int, int]:
    """Frame numbers between which the motion is taken.

    missing_apex: where the table has no apex, "middle" takes the frame half way from onset to
        offset, a rough guess. Raises FrameUnknownError where no usable frames are known.
    """
    onset, apex, offset = record.onset, record.apex, record.offset
    if onset is None:
        raise FrameUnknownError(f"Row {record.row} has no onset. Add it, or leave the clip out.")
    if apex is None and missing_apex == "middle" and offset is not None:
        apex = (onset + offset) // 2
    if apex is None:
        raise FrameUnknownError(
            f"Row {record.row} has no apex. Add it, or take the frame half way to the offset with "
            "--missing-apex middle, a rough guess."
        )
    if apex <= onset:
        raise FrameUnknownError(
            f"Row {record.row}: the apex, frame {apex}, does not come after the onset, frame "
            f"{onset}, so there is no motion to see. Correct the table, or leave the clip out."
        )
    return onset, apex


def store_labels(
    records: Sequence[ClipRecord], ids: Pseudonyms, rows: Sequence[int], rule: ClassRule
) -> ClipTable:
    """Clip table of those `rows` (positions in `records`) that were prepared."""
    chosen = [records[row] for row in rows]
    shown = [{unit.au for unit in record.aus or ()} for record in chosen]
    return ClipTable(
        clip=ids.clip[list(rows)],
        subject=ids.subject[list(rows)],
        emotion=np.array([record.emotion for record in chosen], dtype=np.str_),
        class3=np.array([class_of(record, rule, "three") for record in chosen], dtype=np.str_),
        class7=np.array([class_of(record, rule, "seven") for record in chosen], dtype=np.str_),
        au_known=np.array([record.aus is not None for record in chosen], dtype=np.bool_),
        aus=np.array([[au in units for au in AUS] for units in shown], dtype=np.uint8),
    )
