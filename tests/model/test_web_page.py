"""Line charts as geometry, by hand, and what a page does with numbers and text."""

from __future__ import annotations

import itertools
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from fedpsyau_model.web_page.line_charts import (
    MOST_POINTS,
    Curve,
    DrawnPanel,
    Panel,
    draw_panels,
    shown_steps,
)
from fedpsyau_model.web_page.page import HEAT_STEPS, heat_step, score_cell

ROOT = Path(__file__).parents[2]


def drawn(*values: float | None, top: float | None = 1.0, first: int = 1) -> DrawnPanel:
    steps = range(first, first + len(values))
    (panel,) = draw_panels(
        [Panel("here", [Curve("trained", "trained", values)])], steps, "rounds", top
    )
    return panel


def points(line: str) -> list[tuple[float, ...]]:
    return [tuple(map(float, point.split(","))) for point in line.split()]


def test_points_lie_where_their_values_are() -> None:
    panel = drawn(0.0, 0.5, 1.0)
    (curve,) = panel.curves
    (line,) = curve.lines
    # The plotting area is 30..222 across, 6 off each edge, and 142 up to 10.
    assert points(line) == [(36, 142), (126, 76), (216, 10)]
    assert curve.dots == ((36, 142), (126, 76), (216, 10))
    assert panel.x_ticks == ((36, "1"), (126, "2"), (216, "3"))
    assert panel.y_ticks == ((142, "0"), (109, "0.25"), (76, "0.5"), (43, "0.75"), (10, "1"))
    assert panel.description == "here, rounds 1 to 3: trained from 0.00 to 1.00."


def test_a_missing_value_is_a_gap() -> None:
    (curve,) = drawn(0.0, 0.0, None, 1.0, None, 1.0, 1.0).curves
    assert [len(points(line)) for line in curve.lines] == [2, 2]
    assert len(curve.dots) == 5
    nothing = drawn(None, None)
    assert nothing.curves[0].lines == nothing.curves[0].dots == nothing.labels == ()
    assert nothing.description == "here, rounds 1 to 2: trained no value."


def test_a_single_round_is_a_dot_in_the_middle() -> None:
    panel = drawn(0.5, first=7)
    assert panel.curves[0].lines == ()
    assert panel.curves[0].dots == ((126, 76),)
    assert panel.x_ticks == ((126, "7"),)


def test_a_long_curve_has_no_dots_but_where_a_point_stands_alone() -> None:
    values: list[float | None] = [0.5] * 40
    assert drawn(*values).curves[0].dots == ()
    values[20] = values[22] = None
    assert len(drawn(*values).curves[0].dots) == 1


@pytest.mark.parametrize("count", [1, 5, MOST_POINTS, MOST_POINTS + 1, 1999, 100_000])
def test_shown_steps_are_spread_with_both_ends(count: int) -> None:
    shown = shown_steps(range(count))
    assert len(shown) == min(count, MOST_POINTS)
    assert (shown[0], shown[-1]) == (0, count - 1)
    distances = {after - before for before, after in itertools.pairwise(shown)}
    assert not distances or max(distances) - min(distances) <= 1


@pytest.mark.parametrize(
    ("most", "top"), [(0.7, "0.8"), (1.2, "2"), (3.0, "4"), (0.03, "0.04"), (9.0, "10"), (0.0, "1")]
)
def test_an_open_axis_ends_at_a_round_number(most: float, top: str) -> None:
    assert drawn(0.0, most, top=None).y_ticks[-1][1] == top


def test_numbers_at_the_ends_do_not_overlap_and_stay_on_the_panel() -> None:
    curves = [Curve(str(value), "trained", [value]) for value in (0.0, 0.01, 0.5, 0.505)]
    (panel,) = draw_panels([Panel("here", curves)], [1], "rounds", 1.0)
    heights = [label.y for label in panel.labels]
    assert all(lower - upper >= 12 for upper, lower in itertools.pairwise(heights))
    assert max(heights) <= panel.bottom
    assert [label.text for label in panel.labels] == ["0.51", "0.50", "0.01", "0.00"]


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [
        (0.12345, False, "0.123"),
        (0.12345, True, "+0.123"),
        (-0.5, True, "\N{MINUS SIGN}0.500"),
        (-0.0001, True, "0.000"),
        (0.0, True, "0.000"),
        (1, False, "1.000"),
    ],
)
def test_a_number_is_shown_rounded_and_kept_whole(value: float, sign: bool, text: str) -> None:
    assert score_cell(value, sign) == f'<data value="{float(value)!r}">{text}</data>'


@pytest.mark.parametrize("value", [None, float("nan")])
def test_nothing_is_a_dash(value: float | None) -> None:
    assert ">–<" in score_cell(value)


@pytest.mark.parametrize(
    ("share", "step"), [(0, 0), (1e-6, 1), (0.05, 1), (0.051, 2), (0.15, 3), (0.999, 20), (1, 20)]
)
def test_shades_rise_and_only_nothing_has_none(share: float, step: int) -> None:
    assert heat_step(share) == step


def test_the_style_has_every_shade() -> None:
    css = resources.files("fedpsyau_model.web_page").joinpath("frame.css").read_text()
    assert all(f"\n.h{step} {{" in css for step in range(1, HEAT_STEPS + 1))
    assert css.count("{") == css.count("}")


def test_templates_lie_within_what_is_packed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packed = [
        ROOT / each for each in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    ]
    templates = [*ROOT.glob("*/**/page.html"), ROOT / "fedpsyau_model/web_page/frame.html"]
    assert len(templates) >= 2
    for template in templates:
        assert any(template.is_relative_to(package) for package in packed), template
