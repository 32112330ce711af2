"""Small line charts as geometry: panels of curves over rounds or epochs, ready to be drawn as SVG.

``charts.html`` beside this file draws them. Points are in the units of the panel's view box, whose
y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["MOST_POINTS", "Curve", "Panel", "draw_panels", "shown_steps"]

#: Steps that a curve shows; of a longer one, as many at equal distances.
MOST_POINTS = 200

#: Steps up to which each has a dot.
_MOST_DOTS = 25

#: Size of a panel and the edges of its plotting area.
WIDTH, HEIGHT = 260, 165
_LEFT, _RIGHT, _TOP, _BOTTOM = 30.0, 222.0, 10.0, 142.0

#: Least vertical distance between two labels at the ends of curves.
_LABEL_DISTANCE = 12.0

Values = Sequence[float | None]


@dataclass(frozen=True)
class Curve:
    """A curve: what people call it, its look (a class of the style sheet), a value for each step.

    None is a gap.
    """

    name: str
    look: str
    values: Values


@dataclass(frozen=True)
class Panel:
    """What one panel shows. behind: a curve for orientation, behind the others, if any."""

    title: str
    curves: Sequence[Curve]
    behind: Values = ()


@dataclass(frozen=True)
class Label:
    """A number at the end of a curve."""

    x: float
    y: float
    text: str
    look: str


@dataclass(frozen=True)
class DrawnCurve:
    """lines: points of unbroken pieces, as SVG wants them. dots: (x, y)."""

    look: str
    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class DrawnPanel:
    """A panel to be drawn. description: what a picture's alternative text says."""

    title: str
    description: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    behind: tuple[str, ...]
    curves: tuple[DrawnCurve, ...]
    labels: tuple[Label, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: float = _LEFT
    right: float = _RIGHT
    bottom: float = _BOTTOM


def shown_steps(steps: Sequence[int]) -> list[int]:
    """Positions of the steps that a chart shows: all, or `MOST_POINTS`, first and last included."""
    if len(steps) <= MOST_POINTS:
        return list(range(len(steps)))
    distance = (len(steps) - 1) / (MOST_POINTS - 1)
    return [round(i * distance) for i in range(MOST_POINTS)]


def draw_panels(
    panels: Sequence[Panel], steps: Sequence[int], step_name: str, top: float | None = None
) -> list[DrawnPanel]:
    """Lay out panels over the same steps, and the same values from 0 to `top`.

    steps: numbers of the rounds or epochs, rising. step_name: what they are called.
    top: largest value of the axis; None for a round number above all values.
    """
    highest = _round_number_above(panels) if top is None else top
    axes = _Axes(steps, step_name, highest)
    return [axes.draw(panel) for panel in panels]


class _Axes:
    """The scale that panels share."""

    def __init__(self, steps: Sequence[int], step_name: str, top: float) -> None:
        self._steps = steps
        self._step_name = step_name
        self._top = top
        self._shown = shown_steps(steps)

    def draw(self, panel: Panel) -> DrawnPanel:
        return DrawnPanel(
            panel.title,
            self._description(panel),
            tuple((self._x(step), str(step)) for step in self._x_ticks()),
            tuple(
                (self._y(self._top * part / 4), _tick(self._top * part / 4)) for part in range(5)
            ),
            tuple(self._lines(panel.behind)),
            tuple(self._draw_curve(curve) for curve in panel.curves),
            self._labels(panel.curves),
        )

    def _draw_curve(self, curve: Curve) -> DrawnCurve:
        points = [point for piece in self._pieces(curve.values) for point in piece]
        all_have_dots = len(self._shown) <= _MOST_DOTS
        alone = [piece[0] for piece in self._pieces(curve.values) if len(piece) == 1]
        dots = points if all_have_dots else alone
        return DrawnCurve(curve.look, tuple(self._lines(curve.values)), tuple(dots))

    def _lines(self, values: Values) -> Iterator[str]:
        for piece in self._pieces(values):
            if len(piece) > 1:
                yield " ".join(f"{x:g},{y:g}" for x, y in piece)

    def _pieces(self, values: Values) -> list[list[tuple[float, float]]]:
        """Points of a curve, broken where a value is missing."""
        pieces: list[list[tuple[float, float]]] = [[]]
        for index in self._shown if len(values) else ():
            value = values[index]
            if value is not None:
                pieces[-1].append((self._x(self._steps[index]), self._y(value)))
            elif pieces[-1]:
                pieces.append([])
        return [piece for piece in pieces if piece]

    def _labels(self, curves: Sequence[Curve]) -> tuple[Label, ...]:
        """Last values beside the ends of the curves, moved apart where they would overlap."""
        ends = [
            (self._y(value), f"{value:.2f}", curve.look)
            for curve in curves
            if (value := _last(curve.values)) is not None
        ]
        labels: list[Label] = []
        for y, text, look in sorted(ends):
            low = labels[-1].y + _LABEL_DISTANCE if labels else -math.inf
            labels.append(Label(_RIGHT + 6, max(y, low), text, look))
        excess = max(0.0, labels[-1].y - _BOTTOM) if labels else 0.0
        return tuple(
            Label(label.x, round(label.y - excess, 1), label.text, label.look) for label in labels
        )

    def _description(self, panel: Panel) -> str:
        parts = []
        for curve in panel.curves:
            known = [value for value in curve.values if value is not None]
            course = f"from {known[0]:.2f} to {known[-1]:.2f}" if known else "no value"
            parts.append(f"{curve.name} {course}")
        first, last = self._steps[0], self._steps[-1]
        return f"{panel.title}, {self._step_name} {first} to {last}: {'; '.join(parts)}."

    def _x_ticks(self) -> list[int]:
        first, last = self._steps[0], self._steps[-1]
        if last - first < 2:
            return sorted({first, last})
        return [first, round((first + last) / 2), last]

    def _x(self, step: int) -> float:
        first, last = self._steps[0], self._steps[-1]
        share = 0.5 if first == last else (step - first) / (last - first)
        return round(_LEFT + 6 + share * (_RIGHT - _LEFT - 12), 1)

    def _y(self, value: float) -> float:
        return round(_BOTTOM - value / self._top * (_BOTTOM - _TOP), 1)


def _last(values: Values) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _round_number_above(panels: Sequence[Panel]) -> float:
    values = [
        value
        for panel in panels
        for curve in panel.curves
        for value in curve.values
        if value is not None
    ]
    most = max(values, default=0.0)
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(power * step for step in (1, 2, 4, 8, 10) if most <= power * step)


def _tick(value: float) -> str:
    return f"{value:.3g}"
