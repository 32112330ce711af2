"""From the emotion that a table gives to the class that the network learns.

Papers differ in what they call negative. A rule is a table from words to the three classes; a word
that is not in it drops the clip. The seven classes are the seven emotions under every rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from fedpsyau_client.labels.clip_record import ClipRecord
    from fedpsyau_model.emotions import ClassScheme

__all__ = ["CLASS_RULES", "ClassRule", "class_of", "three_class"]

ClassRule = Literal["authors", "megc2019"]

#: The rules by name, with what they do.
CLASS_RULES: Final[Mapping[ClassRule, str]] = MappingProxyType(
    {
        "authors": "all but happiness, surprise and others is negative",
        "megc2019": "CASME II: only disgust and repression are negative; elsewhere as authors",
    }
)

#: FED-PsyAU's authors: 457/55/187 on CAS(ME)3 part A, 99/32/25 on CASME II. SMIC and plain tables
#: may name the class itself; "tense" is CASME's word.
_AUTHORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "happiness": "positive",
        "positive": "positive",
        "surprise": "surprise",
        **dict.fromkeys(
            (
                "disgust",
                "sadness",
                "anger",
                "fear",
                "contempt",
                "repression",
                "tense",
                "negative",
            ),
            "negative",
        ),
    }
)

#: The composite database of the Micro-Expression Grand Challenge 2019: 88/32/25 on CASME II. On
#: SAMM (92/26/15) and SMIC (70/51/43) it does what the authors' rule does.
_MEGC2019_CASME2: Final[Mapping[str, str]] = MappingProxyType(
    {
        "happiness": "positive",
        "surprise": "surprise",
        "disgust": "negative",
        "repression": "negative",
    }
)

#: Disgust and repression are 90 clips of CASME II. The challenge's own list of clips
#: (combined_3class_gt.csv, published by its organisers) has 88: it leaves out these two, by
#: subject and file name, and says no reason.
_NOT_IN_MEGC2019: Final = frozenset({("04", "EP12_01f"), ("05", "EP09_05f")})


def class_of(record: ClipRecord, rule: ClassRule, scheme: ClassScheme) -> str:
    """Class of a clip: a name in ``CLASS_NAMES[scheme]``, or "" where the scheme drops the clip."""
    if scheme == "seven":
        return record.emotion
    word = record.emotion or record.emotion_label
    if rule == "megc2019" and record.dataset == "casme2":
        left_out = (record.subject, record.filename) in _NOT_IN_MEGC2019
        return "" if left_out else _MEGC2019_CASME2.get(word, "")
    return _AUTHORS.get(word, "")


def three_class(emotion: str) -> str:
    """Class of one of the seven emotions by the authors' rule: "" for none of them."""
    return _AUTHORS.get(emotion, "")
