"""What the data sets' label tables look like, as data: columns, words for emotions, cameras."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from fedpsyau_model.emotions import EMOTIONS

__all__ = ["CLIP_FIELDS", "DATASETS", "Dataset", "DatasetName", "Field", "column_key"]

DatasetName = Literal["casme3", "casme2", "samm", "smic", "dfme", "mmew", "csv", "disfa", "ckplus"]

#: What a column can mean.
Field = Literal[
    "subject", "filename", "onset", "apex", "offset", "au", "emotion", "site", "flow_image"
]

#: Further spellings of every column, in any data set, once case, spaces and signs are left out.
#: The first that a table has is taken.
_SPELLINGS: Final[Mapping[Field, tuple[str, ...]]] = MappingProxyType(
    {
        "subject": ("subject", "sub", "subjectid", "participant", "person", "personid"),
        "filename": ("filename", "file", "clip", "clipname", "video", "videoname", "seq", "name"),
        "onset": ("onset", "onsetframe", "onsetf", "onsetindex", "start", "startframe"),
        "apex": ("apex", "apexframe", "apexf", "apexindex", "peak", "peakframe"),
        "offset": ("offset", "offsetframe", "offsetf", "offsetindex", "end", "endframe"),
        "au": ("actionunits", "actionunit", "aus", "au", "facs", "facscodes"),
        "emotion": ("estimatedemotion", "emotion", "emotionlabel", "expression", "label"),
        "site": ("site",),
        "flow_image": ("flowimage",),
    }
)

#: Words of the data sets for the seven emotions.
_EMOTION_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {emotion: emotion for emotion in EMOTIONS}
    | {
        "happy": "happiness",
        "surprised": "surprise",
        "disgusted": "disgust",
        "sad": "sadness",
        "angry": "anger",
        "fearful": "fear",
    }
)

#: What every table of clips would say if it were complete.
CLIP_FIELDS: Final[tuple[Field, ...]] = (
    "subject",
    "filename",
    "onset",
    "apex",
    "offset",
    "au",
    "emotion",
)

_REQUIRED: Final[tuple[Field, ...]] = tuple(each for each in CLIP_FIELDS if each != "au")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set's label table.

    frame_rate: frames per second, None where it differs or is unknown.
    columns: the header as published, by meaning; `spellings` has further ones that are accepted.
    required: columns without which a file is not this table.
    other_emotions: words for what is none of the seven emotions.
    more_intervals: columns of a second, third, ... onset and offset in the same row.
    coded_when_blank: whether an empty AU cell says that no unit shows (else: was not coded).
    subject_digits: subjects that are numbers get leading zeros up to so many digits, which
        spreadsheets like to remove.
    """

    title: str
    frame_rate: float | None
    columns: Mapping[Field, str] = field(default_factory=dict)
    required: tuple[Field, ...] = _REQUIRED
    other_emotions: frozenset[str] = frozenset()
    more_intervals: tuple[tuple[str, str], ...] = ()
    coded_when_blank: bool = True
    subject_digits: int = 0

    @property
    def meanings(self) -> tuple[Field, ...]:
        """All that is looked for: what is published, and what others may have added to it."""
        return tuple(dict.fromkeys((*self.columns, *CLIP_FIELDS)))

    def spellings(self, meaning: Field) -> tuple[str, ...]:
        """Keys of the columns that can have a meaning, the preferred one first."""
        published = self.columns.get(meaning)
        first = (column_key(published),) if published else ()
        return first + _SPELLINGS[meaning]

    def emotion(self, word: str) -> str | None:
        """Emotion of a word in lower case, "" for none of the seven, None for an unknown word."""
        return "" if word in self.other_emotions else _EMOTION_WORDS.get(word)


def column_key(header: str) -> str:
    """What is left of a column's name once case, spaces and signs are gone."""
    return re.sub(r"[\W_]+", "", header).casefold()


#: Every data set that can be read, by the name that commands use. Frame rates and columns are
#: those of the data sets' papers and published tables (docs/label-tables.md).
DATASETS: Final[Mapping[DatasetName, Dataset]] = MappingProxyType(
    {
        "casme3": Dataset(
            "CAS(ME)3 part A",
            30,
            {
                "subject": "Subject",
                "filename": "Filename",
                "onset": "Onset",
                "apex": "Apex",
                "offset": "Offset",
                "au": "AU",
                "emotion": "emotion",
            },
            other_emotions=frozenset({"others"}),
        ),
        "casme2": Dataset(
            "CASME II",
            200,
            {
                "subject": "Subject",
                "filename": "Filename",
                "onset": "OnsetFrame",
                "apex": "ApexFrame",
                "offset": "OffsetFrame",
                "au": "Action Units",
                "emotion": "Estimated Emotion",
            },
            other_emotions=frozenset({"others", "repression"}),
            subject_digits=2,
        ),
        "samm": Dataset(
            "SAMM",
            200,
            {
                "subject": "Subject",
                "filename": "Filename",
                "onset": "Onset Frame",
                "apex": "Apex Frame",
                "offset": "Offset Frame",
                "au": "Action Units",
                "emotion": "Estimated Emotion",
            },
            other_emotions=frozenset({"other", "others"}),
            subject_digits=3,
        ),
        "smic": Dataset(
            "SMIC (HS)",
            100,
            {
                "subject": "Subject",
                "filename": "Filename",
                "onset": "OnsetF",
                "offset": "OffsetF",
                "emotion": "Emotion",
            },
            required=("subject", "filename", "onset", "offset", "emotion"),
            other_emotions=frozenset({"negative", "positive"}),
            more_intervals=(("Onset2F", "Offset2F"), ("Onset3F", "Offset3F")),
        ),
        "dfme": Dataset(
            "DFME",
            None,
            {
                "subject": "Subject",
                "filename": "Filename",
                "onset": "OnsetFrame",
                "apex": "ApexFrame",
                "offset": "OffsetFrame",
                "au": "AU",
                "emotion": "Emotion",
            },
            other_emotions=frozenset({"other", "others"}),
        ),
        "mmew": Dataset(
            "MMEW",
            90,
            {
                "subject": "Subject",
                "filename": "Filename",
                "onset": "OnsetFrame",
                "apex": "ApexFrame",
                "offset": "OffsetFrame",
                "au": "Action Units",
                "emotion": "Estimated Emotion",
            },
            other_emotions=frozenset({"others", "repression"}),
        ),
        "csv": Dataset(
            "a plain table of your own clips",
            None,
            {
                "subject": "subject",
                "filename": "filename",
                "onset": "onset",
                "apex": "apex",
                "offset": "offset",
                "au": "au",
                "emotion": "emotion",
                "site": "site",
                "flow_image": "flow_image",
            },
            required=("subject", "filename"),
            other_emotions=frozenset(
                {"negative", "positive", "other", "others", "repression", "tense"}
            ),
            coded_when_blank=False,
        ),
        "disfa": Dataset("DISFA", 20),
        "ckplus": Dataset("CK+", None),
    }
)
