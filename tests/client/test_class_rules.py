from typing import get_args

import pytest

from fedpsyau_client.labels.class_rules import CLASS_RULES, ClassRule, class_of, three_class
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_model.emotions import EMOTIONS


def clip(word, dataset="", subject="01", filename="EP01"):
    emotion = word if word in EMOTIONS else ""
    return ClipRecord(2, subject, filename, 1, 2, 3, emotion, word, None, dataset)


@pytest.mark.parametrize(
    ("word", "dataset", "authors", "megc2019", "seven"),
    [
        ("happiness", "casme2", "positive", "positive", "happiness"),
        ("surprise", "casme2", "surprise", "surprise", "surprise"),
        ("disgust", "casme2", "negative", "negative", "disgust"),
        ("repression", "casme2", "negative", "negative", ""),
        ("sadness", "casme2", "negative", "", "sadness"),
        ("fear", "casme2", "negative", "", "fear"),
        ("others", "casme2", "", "", ""),
        ("sadness", "casme3", "negative", "negative", "sadness"),
        ("fear", "samm", "negative", "negative", "fear"),
        ("contempt", "samm", "negative", "negative", "contempt"),
        ("other", "samm", "", "", ""),
        ("negative", "smic", "negative", "negative", ""),
        ("positive", "smic", "positive", "positive", ""),
        ("surprise", "smic", "surprise", "surprise", "surprise"),
        ("bored", "csv", "", "", ""),
        ("", "csv", "", "", ""),
    ],
)
def test_rules(word, dataset, authors, megc2019, seven):
    record = clip(word, dataset)
    assert class_of(record, "authors", "three") == authors
    assert class_of(record, "megc2019", "three") == megc2019
    assert class_of(record, "authors", "seven") == seven
    assert class_of(record, "megc2019", "seven") == seven


def test_two_clips_of_casme2_are_not_in_the_challenge():
    left_out = clip("disgust", "casme2", "04", "EP12_01f")
    assert class_of(left_out, "megc2019", "three") == ""
    assert class_of(left_out, "authors", "three") == "negative"
    assert class_of(clip("disgust", "samm", "04", "EP12_01f"), "megc2019", "three") == "negative"


def test_three_class_is_the_authors_rule_for_the_seven():
    assert {emotion: three_class(emotion) for emotion in (*EMOTIONS, "")} == {
        "happiness": "positive",
        "surprise": "surprise",
        "": "",
    } | dict.fromkeys(("disgust", "sadness", "anger", "fear", "contempt"), "negative")


def test_every_rule_is_described():
    assert tuple(CLASS_RULES) == get_args(ClassRule)
