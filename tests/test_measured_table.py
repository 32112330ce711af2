"""The table of measured figures in docs/performance.md, and what keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._figures import FIGURES
from benchmarks._measured_table import END, NONE, START, Measurement, printed_figures, update

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

MACHINE = "A processor, 2 cores; Python 3.11.1, torch 2.13.0."


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.md"
    file.write_text(f"Before.\n\n{START}\n{END}\n\nAfter.\n", encoding="utf-8")
    return file


def row(page: Path, name: str) -> list[str]:
    lines = [each for each in page.read_text("utf-8").splitlines() if f"`{name}`" in each]
    assert len(lines) == 1
    return [cell.strip() for cell in lines[0].split("|")[1:-1]]


def test_only_lines_of_a_figure_are_figures() -> None:
    output = (
        "epoch of 200 clips: 1.35 s, of which 1.33 s in its steps\n"
        "tvl1 bare flow, ms: 20.12\nno_number: -\n  indented: 1\n"
        "help_seconds: 0.250\nexchange_uf1_change: -0.002\ntiny: 1.5e-05\n"
    )
    assert printed_figures(output) == {
        "help_seconds": "0.250",
        "exchange_uf1_change": "-0.002",
        "tiny": "1.5e-05",
    }


def test_figures_stand_beside_their_limits(page: Path) -> None:
    measured = {
        "help_seconds": Measurement("0.250", "then, load 0.1"),
        "infer_ratio": Measurement("2.9", "then, load 0.2"),
        "round_overhead_seconds": Measurement("5.1", "then, load 0.3"),
        "of_no_interest": Measurement("1", "then, load 0.4"),
    }
    update(page, measured, MACHINE)
    text = page.read_text("utf-8")
    assert text.startswith("Before.\n\n")
    assert text.endswith("\n\nAfter.\n")
    assert MACHINE in text
    assert "of_no_interest" not in text
    assert row(page, "help_seconds")[1:4] == ["0.250", "≤ 0.3", "yes"]
    assert row(page, "infer_ratio")[1:4] == ["2.9", "≥ 3.5", "**no**"]
    assert row(page, "round_overhead_seconds")[1:4] == ["5.1", "none", ""]
    assert row(page, "train_step_ratio")[1:4] == [NONE, "≥ 3.0", NONE]


def test_rows_of_what_did_not_run_stay(page: Path) -> None:
    update(page, {"help_seconds": Measurement("0.250", "on Monday")}, MACHINE)
    update(page, {"infer_ratio": Measurement("3.5", "on Tuesday")}, MACHINE)
    assert row(page, "help_seconds")[1::4] == ["0.250", "on Monday"]
    assert row(page, "infer_ratio")[3] == "yes"
    update(page, {"help_seconds": Measurement("0.31", "on Friday")}, MACHINE)
    assert row(page, "help_seconds")[1::4] == ["0.31", "on Friday"]


def test_rows_of_another_machine_go(page: Path) -> None:
    update(page, {"help_seconds": Measurement("0.250", "on Monday")}, MACHINE)
    update(page, {"infer_ratio": Measurement("3.5", "on Tuesday")}, "Another processor.")
    assert row(page, "help_seconds")[1] == NONE
    assert MACHINE not in page.read_text("utf-8")


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{START}\nwithout an end", encoding="utf-8")
    with pytest.raises(ValueError, match="marks"):
        update(page, {}, MACHINE)
    assert page.read_text("utf-8") == f"{START}\nwithout an end"


def test_our_page_has_a_row_for_every_limit() -> None:
    for figure in FIGURES:
        assert row_of_ours(figure.name)[2] == figure.limit


def row_of_ours(name: str) -> list[str]:
    text = PAGE.read_text("utf-8")
    table = text.partition(START)[2].partition(END)[0]
    rows = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1
    return [cell.strip() for cell in rows[0].split("|")[1:-1]]
