"""Counts by hand, and the shipped counts rebuilt from a table that has them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import fedpsyau_priors as priors
from fedpsyau_model.action_units import AUS

PRINTED = Path(__file__).with_name("published_attention.csv")


def test_counts_by_hand() -> None:
    aus = [[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert priors.count_cooccurrence(aus).tolist() == [[3, 2, 1], [2, 2, 1], [1, 1, 1]]


@given(
    st.tuples(st.integers(0, 20), st.integers(0, 12)).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
    )
)
def test_counts_are_those_of_a_loop_over_clips(aus: np.ndarray) -> None:
    size = aus.shape[1]
    expected = [
        [sum(int(clip[i]) and int(clip[j]) for clip in aus) for j in range(size)]
        for i in range(size)
    ]
    assert priors.count_cooccurrence(aus).tolist() == expected


@pytest.mark.parametrize(
    ("aus", "message"), [([0, 1], "must be a matrix"), ([[2]], "must be 0 or 1")]
)
def test_what_is_no_label_matrix_is_refused(aus: list[object], message: str) -> None:
    with pytest.raises(priors.PriorError, match=message):
        priors.count_cooccurrence(aus)


def test_smoothing_is_added_to_every_cell() -> None:
    assert priors.smoothed_counts([[2, 0], [0, 1]], 0.5).tolist() == [[2.5, 0.5], [0.5, 1.5]]
    # Row AU1: (2 + 0.5) / (2 + 0 + 2 * 0.5).
    shares = priors.normalise_rows(priors.smoothed_counts([[2, 0], [0, 1]], 0.5))
    np.testing.assert_allclose(shares, [[2.5 / 3, 0.5 / 3], [0.25, 0.75]])


@pytest.mark.parametrize("smoothing", [-0.1, float("nan"), float("inf")])
def test_impossible_smoothing_is_refused(smoothing: float) -> None:
    with pytest.raises(priors.PriorError, match="at least 0"):
        priors.smoothed_counts([[1]], smoothing)


def test_shipped_counts_give_every_value_that_was_published() -> None:
    """216 values with four decimals each: the whole face (Fig. 4) and its two halves."""
    with PRINTED.open(encoding="utf-8") as lines:
        printed = list(csv.DictReader(lines))
    assert len(printed) == 12 * 12 + 2 * 6 * 6
    regions = {"whole": AUS, "upper": AUS[:6], "lower": AUS[6:]}
    for cell in printed:
        aus = regions[cell["region"]]
        shares = priors.attention(cell["region"])
        found = shares[aus.index(int(cell["row"])), aus.index(int(cell["column"]))]
        assert abs(found - float(cell["value"])) <= 5e-5, cell


def test_the_best_known_published_values() -> None:
    shares = priors.attention()
    assert shares[0, 0] == pytest.approx(0.3997, abs=5e-5)
    assert shares[AUS.index(6), AUS.index(12)] == pytest.approx(0.3303, abs=5e-5)


def test_counts_that_clips_cannot_give_are_refused() -> None:
    counts = priors.cooccurrence_counts()
    assert (priors.check_counts(counts) == counts).all()
    commoner, lopsided = counts.copy(), counts.copy()
    commoner[0, 1] = commoner[1, 0] = 1400  # AU2 occurs in 1327 clips
    lopsided[0, 1] = 3
    for wrong, message in (
        (commoner, "AU1-AU2 is commoner than one of its AUs"),
        (lopsided, "AU1-AU2 differs from its mirror image"),
        (-counts, "not negative"),
        (counts * np.nan, "finite"),
        (counts * 1e300, "finite"),
        (counts[:6], r"shape \(6, 12\)"),
    ):
        with pytest.raises(priors.PriorError, match=message):
            priors.check_counts(wrong)
