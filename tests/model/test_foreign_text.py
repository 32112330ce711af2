"""Text from elsewhere in logs and on terminals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpsyau_model.foreign_text import printable


@pytest.mark.parametrize("text", ["", "plain words, 3 of 4", "München 漢字 é", "a" * 400])
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\n12:00:00 ERROR two", "one\\n12:00:00 ERROR two"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("\x00\r\t\x85", "\\x00\\r\\t\\x85"),
    ],
)
def test_what_steers_a_terminal_or_forges_a_line_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    assert printable("x" * 10_000_000) == "x" * 400 + "... (10000000 characters)"
    assert printable("\n" * 300) == "\\n" * 200 + "... (300 characters)"
    assert printable("abcdef", 3) == "abc... (6 characters)"


@given(st.text())
def test_it_is_one_bounded_line_whatever_it_was(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= 440
    assert shown.isprintable()
    assert shown.encode().decode() == shown
