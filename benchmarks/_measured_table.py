"""The table of measured figures beside their limits, between two marks of docs/performance.md.

A row says when and at what load it was measured, so that rows of several runs can stand side by
side; the machine is that of all rows, and rows of another machine are dropped.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks._figures import FIGURES, Figure

__all__ = ["Measurement", "machine", "now", "printed_figures", "update"]

START, END = "<!-- measured -->", "<!-- /measured -->"

#: What stands for a figure that was not measured.
NONE = "–"

#: Whole versions of these say what was measured.
_PACKAGES = ("torch", "flwr", "numpy", "opencv-contrib-python", "mediapipe")

_LINE = re.compile(r"^([a-z][a-z0-9_]*): (-?[0-9.]+(?:e[-+]?[0-9]+)?)$", re.MULTILINE)


@dataclass(frozen=True)
class Measurement:
    """A figure as a benchmark printed it, and the circumstances."""

    value: str
    when: str


def printed_figures(output: str) -> dict[str, str]:
    """Figures of a benchmark's output, by its lines ``name: value``."""
    return dict(_LINE.findall(output))


def now() -> str:
    """Say when this is, and how busy the machine is."""
    return f"{datetime.datetime.now():%Y-%m-%d %H:%M}, load {os.getloadavg()[0]:.1f}"


def machine() -> str:
    """One sentence on processor, cores and versions."""
    versions = ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name)))
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores; Python {platform.python_version()}, {versions}."


def update(page: Path, measured: Mapping[str, Measurement], machine: str) -> None:
    """Write the table into a page; rows without a new measurement stay as they are.

    measured: by name. Names that have no limit are left out.

    Raises ValueError if the page has not the two marks.
    """
    text = page.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    between, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{page} has not the marks {START} and {END}")
    kept = _kept(between) if machine in between else {}
    table = _table({**kept, **measured}, machine)
    page.write_text(f"{before}{START}\n{table}{END}{after}", encoding="utf-8")


def _table(measured: Mapping[str, Measurement], machine: str) -> str:
    head = "| figure | measured | limit | kept | benchmark | when, load at its start |\n"
    rows = [_row(figure, measured.get(figure.name)) for figure in FIGURES]
    return f"{machine}\n\n{head}|---|---|---|---|---|---|\n{''.join(rows)}"


def _row(figure: Figure, measurement: Measurement | None) -> str:
    cells = [f"`{figure.name}`", NONE, figure.limit, NONE, f"`{figure.benchmark}`", NONE]
    if measurement is not None:
        met = figure.is_met(float(measurement.value))
        cells[1], cells[5] = measurement.value, measurement.when
        cells[3] = "" if met is None else "yes" if met else "**no**"
    return f"| {' | '.join(cells)} |\n"


def _kept(table: str) -> dict[str, Measurement]:
    """What an earlier table says."""
    kept = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if line.startswith("| `") and cells[1] != NONE:
            kept[cells[0].strip("`")] = Measurement(cells[1], cells[5])
    return kept


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    """The processor's name, its family and model number where the name says little (Linux)."""
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return platform.processor() or platform.machine()
    facts = dict(
        (part.strip() for part in line.split(":", 1))
        for line in file.read_text().splitlines()
        if ":" in line
    )
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"
