"""Models in fewer bytes: hand-worked roundings, and that nothing is lost over the rounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpsyau_model.exchange import Tensors
from fedpsyau_model.precision import (
    LARGEST_HALF,
    as_half,
    as_quantised_difference,
    as_received,
    as_sent,
    as_trained,
    as_trained_sent,
    form_of,
    form_sent,
    form_trained_sent,
    scale_name,
    with_difference,
)
from fedpsyau_model.settings import Precision


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


# Half ---------------------------------------------------------------------------------------------


def test_half_rounds_to_ten_bits_and_keeps_the_rest() -> None:
    # Between 1 and 2 float16 has steps of 2**-10; a tie goes to the even one.
    step = 2.0**-10
    sent, left = as_half({"w": floats(1 + 0.25 * step, 1 + 0.5 * step, 1 + 1.5 * step)}, {})
    assert sent["w"].dtype == np.float16
    assert sent["w"].tolist() == [1, 1, 1 + 2 * step]
    assert left["w"].tolist() == [0.25 * step, 0.5 * step, -0.5 * step]


def test_what_rounding_took_is_sent_as_soon_as_it_makes_a_step() -> None:
    # A quarter of a step above 1: it is sent as a whole step in every fourth round or so.
    step = 2.0**-10
    left: Tensors = {}
    steps = []
    for _ in range(8):
        sent, left = as_half({"w": floats(1 + 0.25 * step)}, left)
        steps.append((float(sent["w"][0]) - 1) / step)
    # Kept: 1/4, 1/2 (a tie, to even), then 3/4 is nearer to 1, and -1/4 is left; then 0.
    assert steps == [0, 0, 1, 0, 0, 0, 1, 0]


def test_half_clips_to_its_range_and_keeps_nothing_of_that() -> None:
    sent, left = as_half({"w": floats(1e6, -1e6, 65504, 3)}, {})
    assert sent["w"].tolist() == [LARGEST_HALF, -LARGEST_HALF, LARGEST_HALF, 3]
    assert left["w"].tolist() == [0, 0, 0, 0]


def test_half_leaves_what_is_not_finite_so_and_keeps_nothing_of_it() -> None:
    values = floats(np.nan, np.inf, -np.inf, 1 + 2.0**-12)
    sent, left = as_half({"w": values}, {"w": floats(1, 1, 1, 0)})
    assert np.array_equal(sent["w"], np.array([np.nan, np.inf, -np.inf, 1], "f2"), equal_nan=True)
    assert left["w"].tolist() == [0, 0, 0, 2.0**-12]


# Delta --------------------------------------------------------------------------------------------


def test_a_difference_is_sent_in_127ths_of_its_rows_largest() -> None:
    base = np.array([[1, 1, 1], [0, 0, 0]], dtype=np.float32)
    trained = base + np.array([[127, 2.25, -63.5], [-0.5, 0.25, 0]], dtype=np.float32)
    sent, left = as_quantised_difference({"w": trained}, {"w": base}, {})
    assert sent["w"].dtype == np.int8
    # First row: scale 1, and a tie goes to even. Second: scale 0.5 / 127.
    assert sent["w"].tolist() == [[127, 2, -64], [-127, 64, 0]]
    assert sent[scale_name("w")].tolist() == [1, np.float32(0.5) / np.float32(127)]
    assert left["w"][0].tolist() == [0, 0.25, 0.5]
    # 0.25 is 63.5 scales, of which 64 were sent: half a scale too much.
    assert left["w"][1, 1] == pytest.approx(-0.25 / 127, rel=1e-5)
    decoded = with_difference(sent, {"w": base})["w"]
    assert decoded[0].tolist() == [128, 3, -63]
    assert decoded[1, 1] == pytest.approx(64 * 0.5 / 127)


def test_what_a_difference_left_is_added_to_the_next() -> None:
    sent, left = as_quantised_difference(
        {"b": floats(127, 0.25)}, {"b": floats(0, 0)}, {"b": floats(0, 0.5)}
    )
    assert sent["b"].tolist() == [127, 1]
    assert sent[scale_name("b")].shape == ()
    assert left["b"].tolist() == [0, -0.25]


def test_a_model_that_did_not_change_has_no_difference() -> None:
    base = {"w": floats(3, 4)}
    sent, left = as_quantised_difference(base, base, {})
    assert sent["w"].tolist() == [0, 0]
    assert sent[scale_name("w")] == 0
    assert left["w"].tolist() == [0, 0]
    assert with_difference(sent, base)["w"].tolist() == [3, 4]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_cannot_pass_for_one_that_is(bad: float) -> None:
    base = {"w": np.zeros((2, 2), np.float32)}
    sent, left = as_quantised_difference({"w": np.array([[bad, 1], [1, 1]], "f4")}, base, {})
    assert np.isnan(sent[scale_name("w")]).tolist() == [True, False]
    assert np.isfinite(left["w"]).all()
    decoded = with_difference(sent, base)["w"]
    assert np.isfinite(decoded).all(axis=1).tolist() == [False, True]


def test_tiny_differences_do_not_divide_by_zero() -> None:
    tiny = np.float32(1e-45)
    sent, left = as_quantised_difference({"w": np.array([tiny])}, {"w": floats(0)}, {})
    assert np.isfinite(with_difference(sent, {"w": floats(0)})["w"]).all()
    assert np.isfinite(left["w"]).all()


# Both ---------------------------------------------------------------------------------------------


def model(**changes: np.ndarray) -> Tensors:
    return {
        "b": np.arange(3, dtype=np.float32),
        "n": np.array(5),
        "w": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4),
    } | changes


PRECISIONS: list[Precision] = ["full", "half", "delta"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_travels_has_the_form_that_was_agreed_on(precision: Precision) -> None:
    first = model()
    down = as_sent(first, precision, {})
    assert form_of(down.tensors) == form_sent(first, precision)
    received = as_received(down.tensors, first)
    assert form_of(received) == form_of(first)
    up = as_trained_sent(model(b=floats(1, 2, 3)), precision, received, {})
    assert form_of(up.tensors) == form_trained_sent(first, precision)
    trained = as_trained(up.tensors, precision, received)
    assert form_of(trained) == form_of(first)
    assert trained["n"] == 5
    assert trained["b"] == pytest.approx(floats(1, 2, 3), abs=0.01)
    assert set(up.residual) == (set() if precision == "full" else {"b", "w"})


def test_bytes_are_a_half_and_a_quarter() -> None:
    large = {"w": np.zeros((100, 1000), np.float32)}
    bytes_of = {
        precision: [
            sum(np.prod(form.shape, dtype=int) * form.dtype.itemsize for form in forms.values())
            for forms in (form_sent(large, precision), form_trained_sent(large, precision))
        ]
        for precision in PRECISIONS
    }
    assert bytes_of == {
        "full": [400_000, 400_000],
        "half": [200_000, 200_000],
        "delta": [200_000, 100_400],
    }


SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
SEEDS = st.integers(0, 2**32 - 1)


def weights(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Weights of many magnitudes, zeros among them."""
    magnitudes = 10.0 ** generator.uniform(-9, 3, shape) * generator.integers(0, 2, shape)
    return np.asarray(generator.normal(size=shape) * magnitudes, dtype=np.float32)


@settings(deadline=None)  # a busy machine is no error
@given(SHAPES, SEEDS)
def test_half_is_off_by_half_a_step_and_keeps_it(shape: tuple[int, ...], seed: int) -> None:
    generator = np.random.default_rng(seed)
    tensor, before = weights(shape, generator), weights(shape, generator) / np.float32(1024)
    sent, left = as_half({"w": tensor}, {"w": before})
    intended = tensor + before
    off = np.abs(sent["w"].astype(np.float64) - intended)
    assert (off <= np.maximum(2.0**-11 * np.abs(intended), 2.0**-25)).all()
    assert np.array_equal(sent["w"].astype(np.float32) + left["w"], intended)
    assert as_received(sent, {"w": tensor})["w"].dtype == np.float32


@settings(deadline=None)  # a busy machine is no error
@given(SHAPES, SEEDS)
def test_a_difference_is_off_by_half_a_scale_and_keeps_it(
    shape: tuple[int, ...], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    trained, base, before = (weights(shape, generator) for _ in range(3))
    sent, left = as_quantised_difference({"w": trained}, {"w": base}, {"w": before})
    scale = sent[scale_name("w")]
    wide = scale.reshape(scale.shape + (1,) * (trained.ndim - scale.ndim)).astype(np.float64)
    largest = float(wide.max(initial=0))
    arrived = sent["w"].astype(np.float64) * wide
    assert (np.abs(left["w"]) <= 0.5001 * wide + 1e-44).all()
    assert (np.abs(sent["w"].astype(int)) <= 127).all()
    # To float32's rounding: 24 bits of at most 127 scales.
    intended = (trained - base) + before
    assert arrived + left["w"] == pytest.approx(intended, rel=1e-6, abs=1e-5 * largest)
    decoded = with_difference(sent, {"w": base})["w"]
    assert decoded == pytest.approx(base + arrived, rel=1e-6, abs=1e-5 * largest)


@pytest.mark.parametrize("precision", ["half", "delta"])
def test_over_many_rounds_the_mean_that_arrives_is_the_mean_that_was_meant(
    precision: Precision,
) -> None:
    generator = np.random.default_rng(5)
    base = {"w": np.zeros((4, 50), np.float32)}
    meant = generator.normal(0, 0.02, (4, 50)).astype(np.float32)
    left: Tensors = {}
    arrived = np.zeros((4, 50))
    off = {}
    for number in range(1, 401):
        sent, left = as_trained_sent({"w": meant}, precision, base, left)
        arrived += as_trained(sent, precision, base)["w"]
        off[number] = np.abs(arrived / number - meant).max()
    # The error of n rounds together is that of one, so the mean's is an n-th of it.
    assert off[400] < off[1] / 100
    # Without what was left, the same is lost in every round.
    alone, _ = as_trained_sent({"w": meant}, precision, base, {})
    assert np.abs(as_trained(alone, precision, base)["w"] - meant).max() == pytest.approx(off[1])
