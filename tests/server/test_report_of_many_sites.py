"""The report of a federation with a thousand sites: pictures of few of them, tables of all."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_reading import Element, check_form, read_page
from in_process_sites import InProcessSites, PlainSite, new_run
from PIL import Image

from fedpsyau_server.report.files import ReportFiles, write_report
from fedpsyau_server.report.html_page import html_page
from fedpsyau_server.report.many_sites import MOST_DRAWN, WORST_DRAWN
from fedpsyau_server.report.plots import plot_losses
from fedpsyau_server.report.tables import read_tables
from fedpsyau_server.rounds import RoundLoop
from fedpsyau_server.run_folder import RunFolder

SITES = tuple(f"site{k:04d}" for k in range(1000))
ROUNDS = 3
STAGES = ("received", "trained")

#: A site that holds out nothing, and one that is silent in the last round.
UNSCORED, SILENT = SITES[7], SITES[8]


@dataclass(frozen=True)
class Report:
    folder: RunFolder
    files: ReportFiles
    page: Element
    document: Mapping[str, Any]
    rounds: list[dict[str, Any]]


def run_of(path: Path, names: tuple[str, ...]) -> RunFolder:
    """A run's folder with its records and without its models, which no report needs."""
    generator = np.random.default_rng(3)
    small = new_run(path.with_name("small"), ("a",), rounds={"rounds": ROUNDS, "min-sites": 1})
    RoundLoop(small, InProcessSites({"a": PlainSite(9, 1.0)})).run()
    new_run(path, names, rounds={"rounds": ROUNDS})
    lines = []
    for line in small.rounds():
        replies = {
            name: line["sites"]["a"]
            | {"loss_total": float(generator.uniform(0.2, 2.0))}
            | {stage: {"confusion": generator.poisson(5, (3, 3)).tolist()} for stage in STAGES}
            for name in names
        }
        if UNSCORED in replies:
            empty = {stage: {"confusion": np.zeros((3, 3), int).tolist()} for stage in STAGES}
            replies[UNSCORED] |= {"test_clips": 0} | empty
        if line["round"] == ROUNDS:
            replies.pop(SILENT, None)
        lines.append(line | {"sites": replies, "answered": sorted(replies)})
    (path / "rounds.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (path / "state.json").write_text(json.dumps({"status": "completed", "round": ROUNDS}))
    return RunFolder.open(path)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = run_of(tmp_path_factory.mktemp("runs") / "run", SITES)
    files = write_report(folder)
    return Report(
        folder,
        files,
        read_page(files.page.read_bytes()),
        json.loads(files.sites_json.read_text()),
        json.loads(files.rounds_json.read_text()),
    )


def panels(page: Element) -> list[Element]:
    return [each for each in page.all("figure") if each.attributes["class"] == "panel"]


def body(page: Element, caption: str) -> list[str]:
    """Names in front of a table's rows."""
    (found,) = [
        each for each in page.all("table") if each.all("caption")[0].text.startswith(caption)
    ]
    return [row.all("th")[0].text for row in found.all("tr") if row.all("td") and row.all("th")]


def worst(report: Report) -> list[str]:
    """Sites of the lowest trained UF1 in the last round, from the JSON."""
    scored = [
        (each["uf1_trained"], each["uar_trained"], each["site"])
        for each in report.document["sites"]
        if each["round"] == ROUNDS and each["uf1_trained"] is not None
    ]
    return [site for _, _, site in sorted(scored)][:WORST_DRAWN]


def test_the_page_is_small(report: Report) -> None:
    assert report.files.page.stat().st_size < 4_000_000


def test_the_page_is_well_formed(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", SITES[: MOST_DRAWN + 1])
    check_form(read_page(html_page(read_tables(folder))))


def test_every_site_is_in_every_table(report: Report) -> None:
    assert body(report.page, "Each site’s last valid reply")[: len(SITES)] == list(SITES)
    assert body(report.page, "What every site did") == list(SITES)
    assert body(report.page, "As each site enrolled") == list(SITES)
    assert [each["site"] for each in report.document["sites"]] == list(SITES)
    with report.files.sites_csv.open(newline="", encoding="utf-8") as stream:
        assert [each["site"] for each in csv.DictReader(stream)][: len(SITES)] == list(SITES)
    assert len(report.rounds) == ROUNDS * (len(SITES) + 2)
    assert all(f"| {site} |" in report.files.markdown.read_text() for site in SITES)


def test_quartiles_and_the_worst_stand_for_all_in_the_curves(report: Report) -> None:
    quartiles = [
        "lower quartile of all sites",
        "median of all sites",
        "upper quartile of all sites",
    ]
    named = [*quartiles, *worst(report)]
    scores = [*named, "mean over sites", "pooled counts"]
    titles = [each.all("figcaption")[0].text for each in panels(report.page)]
    assert titles[: 2 * len(scores) + len(named)] == [*scores, *scores, *named]
    assert UNSCORED not in titles
    assert SILENT not in titles
    assert "1000 sites" in report.page.text


@pytest.mark.parametrize(("first", "measure"), [(0, "uf1"), (WORST_DRAWN + 5, "uar")])
def test_quartiles_are_those_of_the_json(report: Report, first: int, measure: str) -> None:
    for panel, share in zip(panels(report.page)[first : first + 3], (25, 50, 75), strict=True):
        told = panel.all("svg")[0].attributes["aria-label"]
        for stage in STAGES:
            of_round = [
                np.percentile(
                    [
                        row[f"{measure}_{stage}"]
                        for row in report.rounds
                        if row["round"] == number
                        and row["site"] in SITES
                        and row[f"{measure}_{stage}"] is not None
                    ],
                    share,
                )
                for number in (1, ROUNDS)
            ]
            assert f"{stage} from {of_round[0]:.2f} to {of_round[1]:.2f}" in told


def test_confusion_is_that_of_the_pool_and_of_the_worst(report: Report) -> None:
    captions = [each.all("caption")[0].text for each in report.page.all("table")]
    first = captions.index("Pooled, trained")
    assert captions[first : first + 2 + WORST_DRAWN] == [
        *("Pooled, trained", "Pooled, received"),
        *worst(report),
    ]
    assert len(report.document["confusion"]) == len(SITES)


def test_pictures_have_a_size_that_can_be_looked_at(report: Report) -> None:
    for path in (report.files.curves, report.files.confusion, report.files.losses):
        with Image.open(path) as picture:
            assert max(picture.size) < 3000, path


@pytest.mark.parametrize("count", [MOST_DRAWN, MOST_DRAWN + 1])
def test_few_sites_are_drawn_one_by_one(tmp_path: Path, count: int) -> None:
    tables = read_tables(run_of(tmp_path / "run", SITES[:count]))
    (total, _) = plot_losses(tables).axes
    names = [line.get_label() for line in total.lines]
    assert len(names) == (count if count <= MOST_DRAWN else 1 + WORST_DRAWN)
    assert ("median" in names) == (count > MOST_DRAWN)
