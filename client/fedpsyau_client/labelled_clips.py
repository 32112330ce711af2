"""From the records of a label table to the clip table of a feature store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedpsyau_client.clip_table import ClipTable
from fedpsyau_client.labels.class_rules import ClassRule, class_of
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.pseudonyms import Pseudonyms
from fedpsyau_model.action_units import AUS

__all__ = ["clip_table"]


def clip_table(
    records: Sequence[ClipRecord], pseudonyms: Pseudonyms, positions: Sequence[int], rule: ClassRule
) -> ClipTable:
    """Clip table of some of a label table's records, in the order of `positions`.

    pseudonyms: ids of all records. An AU counts as annotated on whichever side and however surely
    it was seen.
    """
    rows = np.asarray(positions, dtype=np.int64)
    chosen = [records[position] for position in positions]
    shown = [{unit.au for unit in record.aus or ()} for record in chosen]
    return ClipTable(
        clip=pseudonyms.clip[rows],
        subject=pseudonyms.subject[rows],
        emotion=np.array([record.emotion for record in chosen], dtype=np.str_),
        class3=np.array([class_of(record, rule, "three") for record in chosen], dtype=np.str_),
        class7=np.array([class_of(record, rule, "seven") for record in chosen], dtype=np.str_),
        au_known=np.array([record.aus is not None for record in chosen], dtype=np.bool_),
        aus=np.array([[au in units for au in AUS] for units in shown], dtype=np.uint8).reshape(
            len(chosen), len(AUS)
        ),
    )
