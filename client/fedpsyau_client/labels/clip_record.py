"""What a label table says: one typed record per clip, and an oddity for all that looks wrong."""

from __future__ import annotations

from dataclasses import dataclass

from fedpsyau_client.labels.au_notation import ActionUnitLabel
from fedpsyau_client.labels.oddity_kinds import ODDITY_KINDS, Severity

__all__ = ["ClipRecord", "LabelTable", "Oddity"]


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One annotated clip. Its key is (subject, filename, onset): file names repeat.

    row: the row of the table, counted as a spreadsheet does from 1; where labels are no table
        (DISFA, CK+), the number of the clip.
    onset, apex, offset: frame numbers in the video, None where the table has none.
    emotion: one of `fedpsyau_model.emotions.EMOTIONS`, or "" for what is none of them.
    emotion_label: the table's own word, in lower case; class rules look at it where data sets
        name emotions that are none of the seven (repression, others, tense).
    aus: None where the clip was never coded for action units; empty where it was and shows none.
    dataset: name of the data set, for rules that differ between them; "" where none applies.
    site: the site that a plain CSV gives the clip to, else "".
    flow_image: the flow image that a plain CSV names, relative to its folder, else "".
    """

    row: int
    subject: str
    filename: str
    onset: int | None
    apex: int | None
    offset: int | None
    emotion: str
    emotion_label: str
    aus: tuple[ActionUnitLabel, ...] | None
    dataset: str = ""
    site: str = ""
    flow_image: str = ""

    @property
    def key(self) -> tuple[str, str, int | None]:
        """What tells this clip from all others of its table."""
        return self.subject, self.filename, self.onset


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something in a table that a person should look at; it never stops the reading.

    kind: a name in `ODDITY_KINDS`, such as ``offset-zero`` or ``au-unread``.
    row: the row of the table, or None where it concerns the table as a whole.
    """

    kind: str
    row: int | None
    message: str

    @property
    def severity(self) -> Severity:
        """How grave oddities of this kind are."""
        return ODDITY_KINDS[self.kind].severity


@dataclass(frozen=True, slots=True)
class LabelTable:
    """All clips of one table in its order, with everything odd about it.

    dataset: name of the reader that read it, such as ``casme3``.
    frame_rate: frames per second of the data set's camera, None where unknown.
    coded_aus: the units that coders looked for, None for all; of others nothing is known.
    """

    dataset: str
    clips: tuple[ClipRecord, ...]
    oddities: tuple[Oddity, ...]
    frame_rate: float | None
    coded_aus: tuple[int, ...] | None = None
