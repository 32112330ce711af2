"""The demo as a newcomer runs it, and the score that it must reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import SITES, run

pytestmark = pytest.mark.e2e

#: Mean UF1 over sites of the trained models; always the commonest class would give about 0.25.
LOWEST_MEAN_UF1 = 0.60


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    finished = run("fedpsyau", "demo", "--out", folder, timeout=590)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder, finished.stdout


def check_ending(folder: Path, output: str) -> None:
    for site in SITES:
        assert site in output
    assert "mean over 7 sites" in output
    assert "SYNTHETIC" in output
    page = folder / "runs" / "demo" / "report" / "index.html"
    assert str(page) in output
    assert "SYNTHETIC" in page.read_text()
    for picture in ("curves.png", "confusion.png"):
        assert picture in page.with_name("index.md").read_text()
        assert (page.parent / picture).stat().st_size > 10_000


def test_a_small_one_ends_with_the_table_and_the_path_of_the_report(tmp_path: Path) -> None:
    small = ("--scale", "0.02", "--rounds", "1")
    finished = run("fedpsyau", "demo", "--out", tmp_path / "demo", *small, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    check_ending(tmp_path / "demo", finished.stdout)


@pytest.mark.slow
def test_it_ends_with_the_table_and_the_path_of_the_report(demo: tuple[Path, str]) -> None:
    check_ending(*demo)


@pytest.mark.slow
def test_the_network_learns(demo: tuple[Path, str]) -> None:
    rounds = (demo[0] / "runs" / "demo" / "rounds.jsonl").read_text().splitlines()
    scores = [json.loads(line)["sites"] for line in rounds]
    first, last = (
        sum(site["trained"]["uf1"] for site in line.values()) / len(SITES)
        for line in (scores[0], scores[-1])
    )
    assert last >= LOWEST_MEAN_UF1
    assert last > first + 0.1


@pytest.mark.slow
def test_always_the_commonest_class_would_be_far_below(demo: tuple[Path, str]) -> None:
    rounds = (demo[0] / "runs" / "demo" / "rounds.jsonl").read_text().splitlines()
    shares = []
    for site in json.loads(rounds[-1])["sites"].values():
        counts = [sum(row) for row in site["trained"]["confusion"]]
        share = max(counts) / sum(counts)
        shares.append(2 * share / (1 + share) / 3)
    assert sum(shares) / len(shares) < 0.30


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "precious.txt").write_text("do not delete")
    finished = run("fedpsyau", "demo", "--out", tmp_path / "letters")
    assert finished.returncode == 14
    assert (tmp_path / "letters" / "precious.txt").read_text() == "do not delete"


def test_as_it_is_pasted_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an option it means the folder `demo` here, and does not print its help."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "precious.txt").write_text("do not delete")
    finished = run("fedpsyau", "demo")
    assert finished.returncode == 14
    assert "Usage" not in finished.stdout + finished.stderr
