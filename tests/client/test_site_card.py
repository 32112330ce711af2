import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpsyau_client.cards.site_card import card_json, card_markdown, make_card
from fedpsyau_client.cards.small_counts import Total, mask_counts, mask_separately
from fedpsyau_client.data_commands.card import card
from fedpsyau_client.store.clip_table import ClipTable
from fedpsyau_client.store.feature_store import open_feature_store, write_feature_store
from fedpsyau_model.errors import OutputWriteError


def test_large_counts_are_shown_with_their_total():
    masked = mask_counts({"a": 5, "b": 90}, 5)
    assert masked.cells == {"a": 5, "b": 90}
    assert masked.total == Total(95, 95)


def test_one_small_count_takes_another_with_it():
    # Alone, 343 - 300 - 40 = 3 would give it away.
    masked = mask_counts({"negative": 300, "positive": 3, "surprise": 40}, 5)
    assert masked.cells == {"negative": 300, "positive": "small", "surprise": "withheld"}
    assert masked.total.text == "343"


def test_what_is_too_close_takes_a_third():
    # b is at least 5 and a + b is 6, so a would be 0 or 1.
    masked = mask_counts({"a": 1, "b": 5, "c": 60, "d": 70}, 5)
    assert masked.cells == {"a": "small", "b": "withheld", "c": "withheld", "d": 70}


def test_where_all_are_small_the_total_becomes_a_range():
    # An exact total of 8 would say that both are 4; 0 to 9 says nothing.
    masked = mask_counts({"a": 4, "b": 4}, 5)
    assert masked.total.text == "0 to 9"
    # 16 clips in four small classes: 10 to 19 still leaves none of them below 10 - 3 x 4 = -2.
    assert mask_counts(dict.fromkeys("abcd", 4), 5).total.text == "10 to 19"


def test_things_that_occur_together_are_hidden_one_by_one():
    assert mask_separately({"AU1": 4, "AU2": 5, "AU4": 0}, 5) == {
        "AU1": "small",
        "AU2": 5,
        "AU4": "small",
    }


def consistent_tables(masked, threshold):
    """Every table that a reader could think of, by trying all of them."""
    top = int(masked.total.most) if masked.total.most < 100 else 25
    choices = [
        [cell]
        if isinstance(cell, int)
        else range(threshold)
        if cell == "small"
        else range(threshold, top + 1)
        for cell in masked.cells.values()
    ]
    return [
        table
        for table in itertools.product(*choices)
        if masked.total.least <= sum(table) <= masked.total.most
    ]


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    threshold=st.integers(1, 5),
)
def test_no_small_count_can_be_worked_out(counts, threshold):
    masked = mask_counts({str(name): count for name, count in enumerate(counts)}, threshold)
    tables = consistent_tables(masked, threshold)
    assert tuple(counts) in tables
    for position, (count, cell) in enumerate(zip(counts, masked.cells.values(), strict=True)):
        assert (cell == "small") == (count < threshold)
        if cell == "small":
            assert {table[position] for table in tables} == set(range(threshold))


@pytest.fixture
def store(tmp_path):
    """300 negative, 3 positive, 40 surprise, 2 without class; AU1 always, AU2 on four clips."""
    class3 = np.repeat(["negative", "positive", "surprise", ""], [300, 3, 40, 20])
    emotion = np.repeat(["fear", "happiness", "surprise", ""], [300, 3, 40, 20])
    count = len(class3)
    aus = np.zeros((count, 12), dtype=np.uint8)
    aus[:, 0], aus[:4, 1] = 1, 1
    clips = ClipTable(
        clip=np.array([f"c{row:05d}" for row in range(count)]),
        subject=np.array([f"secret{row % 12}" for row in range(count)]),
        emotion=emotion,
        class3=class3,
        class7=emotion,
        au_known=np.ones(count, dtype=np.bool_),
        aus=aus,
    )
    write_feature_store(
        tmp_path / "clinic",
        partition="clinic",
        dataset="lab",
        synthetic=True,
        clips=clips,
        flow=np.zeros((count, 3, 28, 28)),
        rois=np.zeros((count, 65, 3, 5, 5)),
        preprocessing={"flow": "tvl1", "partitioned": {"seed": 3}},
    )
    return open_feature_store(tmp_path / "clinic")


def test_a_card_counts_and_hides(store):
    made = make_card(store)
    assert made.classes.cells == {
        "negative": 300,
        "positive": "small",
        "surprise": 40,
        "no class": "withheld",
    }
    assert made.classes.total.text == "363"
    assert (made.subjects, made.annotated) == (12, "all")
    assert made.aus["AU1"] == 363
    assert made.aus["AU2"] == made.aus["AU17"] == "small"
    assert make_card(store, mask_below=13).subjects == "small"
    seven = make_card(store, "seven").classes.cells
    assert (seven["fear"], seven["happiness"], seven["anger"]) == (300, "small", "small")


def test_a_card_says_where_data_comes_from_but_not_from_whom(store):
    made = make_card(store)
    text = card_markdown(made, "picture.png")
    assert "SYNTHETIC" in text
    assert "| positive | <5 |" in text
    assert "| flow | tvl1 |" in text
    assert store.manifest.data_hash in text
    assert "secret" not in text + card_json(made)
    values = json.loads(card_json(made))
    assert values["classes"]["positive"] == "<5"
    assert values["clips"] == 363


def test_the_command_writes_three_files(store, tmp_path, capsys):
    card(store.folder, out=tmp_path / "cards")
    names = ["clinic-card.json", "clinic-card.md", "clinic-card.png"]
    assert sorted(file.name for file in (tmp_path / "cards").iterdir()) == names
    assert "clinic-card.png" in capsys.readouterr().out
    assert (tmp_path / "cards" / "clinic-card.png").read_bytes().startswith(b"\x89PNG")


def test_a_place_that_cannot_be_written_is_explained(store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputWriteError, match="card cannot be written"):
        card(store.folder, out=tmp_path / "file")
