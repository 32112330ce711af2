"""The report: numbers by hand and against scikit-learn, files, and what is told of odd runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process_sites import InProcessSites, PlainSite, altered_report, new_run
from rich.console import Console
from sklearn.metrics import f1_score, recall_score
from typer.testing import CliRunner

from fedpsyau_model.errors import RunFolderError
from fedpsyau_priors import Priors, own_priors, published_priors
from fedpsyau_server.report.command import app
from fedpsyau_server.report.files import write_report
from fedpsyau_server.report.rows import site_rows, summary_rows
from fedpsyau_server.report.tables import read_tables
from fedpsyau_server.report.terminal import print_rounds_table, print_sites_table
from fedpsyau_server.rounds import RoundLoop
from fedpsyau_server.run_folder import RunFolder

#: Trained models of the last round, by site: (C, C), rows the true class.
TRAINED = {
    "big": [[40, 5, 5], [4, 12, 4], [2, 2, 26]],
    "small": [[1, 2, 0], [1, 1, 0], [0, 1, 0]],
}
RECEIVED = {
    "big": [[30, 10, 10], [8, 6, 6], [9, 6, 15]],
    "small": [[2, 1, 0], [0, 2, 0], [0, 0, 1]],
}


def site(name: str, clips: int, **options: Any) -> PlainSite:
    received, trained = np.array(RECEIVED[name]), np.array(TRAINED[name])
    return PlainSite(
        clips,
        1.0,
        test_clips=int(trained.sum()),
        confusions=lambda _: (received.ravel().tolist(), trained.ravel().tolist()),
        **options,
    )


def sites() -> dict[str, PlainSite]:
    """`small` is not connected in round 3, `never` in none."""
    return {
        "big": site("big", 200),
        "small": site("small", 14, absent=(3,)),
        "never": PlainSite(5, 1.0, absent=(1, 2, 3)),
    }


def finished_run(path: Path, count: int = 2, **options: Any) -> RunFolder:
    folder = new_run(path, ("small", "big", "never"), rounds={"rounds": count, "min-sites": 1})
    RoundLoop(folder, InProcessSites(options.get("sites", sites()))).run()
    return RunFolder.open(path)


KEPT_BACK = dict.fromkeys(
    (
        *("confusion_received", "confusion_trained"),
        *("loss_total", "loss_emotion", "loss_au", "loss_au_aux", "loss_proximal"),
        "train_seconds",
    )
)


def test_what_a_site_keeps_back_is_told_and_counts_nowhere(tmp_path: Path) -> None:
    silent = altered_report(**KEPT_BACK)
    taking_part = sites() | {"big": site("big", 200, alters={1: silent, 2: silent})}
    folder = finished_run(tmp_path / "run", sites=taking_part)
    tables = read_tables(folder)
    big, small = tables.last.replies["big"], tables.last.replies["small"]
    assert (big.kept_back, small.kept_back) == (("confusion", "losses", "seconds"), ())
    assert tables.last.worst() == small
    assert tables.last.pooled("trained") == small.scores("trained")
    assert tables.last.mean("trained") == small.scores("trained")
    page = write_report(folder).markdown.read_text()
    assert "| big | 2 | 200 | 100 | not shared | not shared | not shared | not shared |" in page
    assert "own policies: big (confusion, losses, seconds)" in page


def test_a_run_in_which_nobody_shares_anything(tmp_path: Path) -> None:
    silent = altered_report(**KEPT_BACK)
    taking_part = {name: site(name, 20, alters={1: silent, 2: silent}) for name in ("big", "small")}
    folder = finished_run(tmp_path / "run", sites=taking_part)
    tables = read_tables(folder)
    assert tables.last.worst() is None
    assert tables.last.pooled("trained").uf1 is None
    assert write_report(folder).losses.exists()


def by_scikit(*confusions: Any) -> tuple[float, float]:
    """UF1 and UAR of the clips behind one or more confusion matrices."""
    truth, predicted = [], []
    for confusion in confusions:
        for (row, column), clips in np.ndenumerate(np.array(confusion)):
            truth += [row] * clips
            predicted += [column] * clips
    return (
        f1_score(truth, predicted, average="macro"),
        recall_score(truth, predicted, average="macro"),
    )


def scores(row: dict[str, Any]) -> tuple[float, float]:
    return row["uf1_trained"], row["uar_trained"]


# Numbers ------------------------------------------------------------------------------------------


def test_a_sites_scores_are_those_of_its_confusion_counts(tmp_path: Path) -> None:
    tables = read_tables(finished_run(tmp_path / "run"))
    small, big, never = site_rows(tables)
    assert scores(big) == pytest.approx(by_scikit(TRAINED["big"]))
    assert scores(small) == pytest.approx(by_scikit(TRAINED["small"]))
    assert (small["uf1_received"], small["uar_received"]) == pytest.approx(
        by_scikit(RECEIVED["small"])
    )
    # By hand: F1 of small is 2/5, 2/6, 0.
    assert small["uf1_trained"] == pytest.approx((2 / 5 + 2 / 6 + 0) / 3)
    assert (big["train_clips"], big["test_clips"]) == (200, 100)
    assert never["uf1_trained"] is never["round"] is None


def test_mean_and_pooled_are_two_things(tmp_path: Path) -> None:
    tables = read_tables(finished_run(tmp_path / "run"))
    mean, pooled, worst = summary_rows(tables)
    each = [by_scikit(TRAINED[name]) for name in ("big", "small")]
    assert mean["site"] == "mean over 2 sites"
    assert scores(mean) == pytest.approx(tuple(np.mean(each, axis=0)))
    assert pooled["site"] == "pooled counts"
    assert scores(pooled) == pytest.approx(by_scikit(*TRAINED.values()))
    assert abs(mean["uf1_trained"] - pooled["uf1_trained"]) > 0.1
    assert worst["site"] == "worst site: small"
    assert scores(worst) == pytest.approx(by_scikit(TRAINED["small"]))
    assert pooled["test_clips"] == 106


def test_a_site_that_is_late_shows_its_last_reply_and_is_in_no_summary(tmp_path: Path) -> None:
    tables = read_tables(finished_run(tmp_path / "run", count=3))
    small, big, _ = site_rows(tables)
    assert (small["round"], small["part"]) == (2, "absent")
    assert (big["round"], big["part"]) == (3, "answered")
    mean, pooled, worst = summary_rows(tables)
    assert mean["site"] == "mean over 1 site"
    assert scores(mean) == scores(pooled) == scores(worst) == scores(big)


def test_the_last_round_is_reported_and_not_the_best(tmp_path: Path) -> None:
    good, bad = [3, 0, 0, 0, 3, 0, 0, 0, 3], [0, 3, 0, 0, 0, 3, 3, 0, 0]
    falling = PlainSite(
        9, 1.0, test_clips=9, confusions=lambda number: (good, good if number == 1 else bad)
    )
    folder = new_run(tmp_path / "run", ("a",), rounds={"rounds": 2})
    RoundLoop(folder, InProcessSites({"a": falling})).run()
    (row,) = site_rows(read_tables(folder))
    assert (row["round"], row["uf1_trained"]) == (2, 0.0)


def test_a_site_without_held_out_clips_has_no_score_and_no_weight(tmp_path: Path) -> None:
    empty = PlainSite(5, 1.0, test_clips=0, confusions=lambda _: ([0] * 9, [0] * 9))
    folder = finished_run(tmp_path / "run", sites={**sites(), "never": empty})
    tables = read_tables(folder)
    assert site_rows(tables)[2]["uf1_trained"] is None
    mean, _, worst = summary_rows(tables)
    each = [by_scikit(TRAINED[name]) for name in ("big", "small")]
    assert scores(mean) == pytest.approx(tuple(np.mean(each, axis=0)))
    assert worst["site"] == "worst site: small"
    assert (
        json.loads(write_report(folder).sites_json.read_text())["sites"][2]["uf1_trained"] is None
    )


# Files --------------------------------------------------------------------------------------------


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_file_is_written_and_the_run_is_not_touched(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    files = write_report(folder)
    assert {path.name for path in (folder.path / "report").iterdir()} == {
        *("index.html", "index.md", "sites.csv", "sites.json", "rounds.csv", "rounds.json"),
        *("curves.png", "confusion.png", "loss.png"),
    }
    assert all(path.parent == folder.path / "report" for path in files.paths())
    for picture in (files.curves, files.confusion, files.losses):
        assert picture.read_bytes().startswith(b"\x89PNG\r\n")
        assert picture.stat().st_size > 10_000
    assert all(path.read_bytes() == content for path, content in before.items())


def test_csv_json_and_page_say_the_same(tmp_path: Path) -> None:
    files = write_report(finished_run(tmp_path / "run"))
    rows = read_csv(files.sites_csv)
    document = json.loads(files.sites_json.read_text())
    page = files.markdown.read_text()
    expected = by_scikit(TRAINED["big"])
    assert [row["site"] for row in rows[:3]] == ["small", "big", "never"]
    assert [row["row"] for row in rows] == ["site"] * 3 + ["summary"] * 3
    assert float(rows[1]["uf1_trained"]) == pytest.approx(expected[0])
    assert rows[2]["uf1_trained"] == ""
    assert document["sites"][1]["uar_trained"] == pytest.approx(expected[1])
    assert document["last_round"]["pooled"]["trained"]["uf1"] == pytest.approx(
        by_scikit(*TRAINED.values())[0]
    )
    assert document["last_round"]["worst_site"] == "small"
    summed = np.array(TRAINED["big"]) + np.array(TRAINED["small"])
    assert document["last_round"]["pooled_confusion_trained"] == summed.tolist()
    assert f"| big | 2 | 200 | 100 | {by_scikit(RECEIVED['big'])[0]:.3f} |" in page
    for picture in (files.curves, files.confusion, files.losses):
        assert f"]({picture.name})" in page


#: Twelve AUs that occur alone.
ALONE = [[int(i == j) for j in range(12)] for i in range(12)]


@pytest.mark.parametrize(
    ("sections", "expected", "sentence"),
    [
        ({}, published_priors(), "Priors: published (sha256 {}"),
        (
            {"network": {"priors": "file"}, "priors": {"name": "ours", "cooccurrence": ALONE}},
            own_priors("ours", cooccurrence=ALONE),
            "Priors: ours (sha256 {}",
        ),
        (
            {"network": {"priors": "site"}},
            published_priors(),
            "each site's own where it has a file of them, else published (sha256 {}",
        ),
    ],
)
def test_the_report_says_whose_priors_are_in_force(
    tmp_path: Path, sections: dict[str, Any], expected: Priors, sentence: str
) -> None:
    names = ("small", "big")
    folder = new_run(tmp_path / "run", names, rounds={"rounds": 1}, **sections)
    RoundLoop(folder, InProcessSites({name: sites()[name] for name in names})).run()
    files = write_report(RunFolder.open(tmp_path / "run"))
    assert sentence.format(expected.fingerprint()[:12]) in files.markdown.read_text()
    assert json.loads(files.sites_json.read_text())["priors"] == {
        "whose": sections.get("network", {}).get("priors", "published"),
        "shared": {"name": expected.name, "sha256": expected.fingerprint()},
    }


def test_every_round_and_site_has_a_row(tmp_path: Path) -> None:
    alters = {2: altered_report(train_clips=999)}
    folder = finished_run(
        tmp_path / "run", count=3, sites={**sites(), "small": site("small", 14, alters=alters)}
    )
    files = write_report(folder)
    rows = read_csv(files.rounds_csv)
    assert [int(row["round"]) for row in rows] == [1] * 5 + [2] * 5 + [3] * 5
    of_small = [row for row in rows if row["site"] == "small"]
    assert [row["part"] for row in of_small] == ["answered", "quarantined", "answered"]
    assert "999 training clips" in of_small[1]["reason"]
    assert of_small[1]["uf1_trained"] == ""
    assert float(of_small[2]["loss_emotion"]) == pytest.approx(0.8 / 3)
    as_json = json.loads(files.rounds_json.read_text())
    assert [row["site"] for row in as_json] == [row["site"] for row in rows]


def test_seven_classes_and_many_sites_fit_on_the_pictures(tmp_path: Path) -> None:
    names = tuple(f"site{k}" for k in range(11))
    confusion = np.eye(7, dtype=int).ravel().tolist()
    many = {
        name: PlainSite(9, 1.0, test_clips=7, confusions=lambda _: (confusion, confusion))
        for name in names
    }
    folder = new_run(tmp_path / "run", names, rounds={"rounds": 1}, network={"classes": "seven"})
    RoundLoop(folder, InProcessSites(many)).run()
    files = write_report(folder)
    for picture in (files.curves, files.confusion):
        assert picture.read_bytes().startswith(b"\x89PNG\r\n")


# What is told -------------------------------------------------------------------------------------


def printed(folder: RunFolder, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        print_sites_table(folder, console)
    return capture.get()


def test_the_sites_table_fits_a_terminal(tmp_path: Path) -> None:
    text = printed(finished_run(tmp_path / "run"))
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    expected = by_scikit(TRAINED["big"])
    (line,) = [line for line in text.splitlines() if line.startswith("big")]
    assert line.split() == [
        *("big", "2", "200", "100"),
        *(f"{by_scikit(RECEIVED['big'])[0]:.3f}", f"{expected[0]:.3f}"),
        *(f"{by_scikit(RECEIVED['big'])[1]:.3f}", f"{expected[1]:.3f}"),
    ]
    assert "The run is complete: 2 of 2 rounds." in text
    assert "never (absent)" in " ".join(text.split())
    assert "synthetic" not in text.lower()


def test_the_rounds_table_has_every_round(tmp_path: Path) -> None:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        print_rounds_table(finished_run(tmp_path / "run", count=3), console)
    lines = [line.split() for line in capture.get().splitlines()]
    assert [line[2] for line in lines if line[1:2] == ["small"]] == ["answered"] * 2 + ["absent"]


@pytest.mark.parametrize(
    ("synthetic", "told"), [((True, True), True), ((False, True), True), ((False, False), False)]
)
def test_synthetic_data_are_said_so_everywhere(
    tmp_path: Path, synthetic: tuple[bool, ...], told: bool
) -> None:
    folder = finished_run(tmp_path / "run")
    for each in synthetic:
        folder.log_event("joined", site="big", clips=200, synthetic=each)
    with (folder.path / "events.jsonl").open("a") as stream:
        stream.write('{"event": "joi')  # a line that is being written at this moment
    assert ("SYNTHETIC" in printed(folder)) is told
    files = write_report(folder)
    assert ("SYNTHETIC" in files.markdown.read_text()) is told
    assert json.loads(files.sites_json.read_text())["synthetic"] is told


@pytest.mark.parametrize(
    ("status", "told"),
    [("running", "is not at its end"), ("failed", "failed"), ("stopped", "was stopped")],
)
def test_a_run_that_is_not_complete_says_so(tmp_path: Path, status: Any, told: str) -> None:
    folder = new_run(tmp_path / "run", ("big",), rounds={"rounds": 20})
    link = InProcessSites({"big": site("big", 200, absent=(2,))})
    with pytest.raises(Exception, match="min-sites"):
        RoundLoop(folder, link).run()
    folder.finish(status)
    text = printed(RunFolder.open(tmp_path / "run"))
    assert told in text
    assert "1 of 20 rounds" in text
    assert "1 of 20 rounds" in write_report(folder).markdown.read_text()


def test_without_a_whole_round_there_is_nothing_to_report(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", ("a",))
    with pytest.raises(RunFolderError, match=r"no whole round yet \(status: running\)"):
        write_report(folder)
    assert not (tmp_path / "run" / "report").exists()


@pytest.mark.parametrize("damage", [{"sites": {"big": {}}}, {"sites": []}])
def test_a_line_that_does_not_fit_is_told(tmp_path: Path, damage: dict[str, Any]) -> None:
    folder = finished_run(tmp_path / "run")
    lines = [json.loads(line) for line in (folder.path / "rounds.jsonl").read_text().splitlines()]
    lines[1] |= damage
    (folder.path / "rounds.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(RunFolderError, match=r"rounds\.jsonl is not one of fedpsyau"):
        read_tables(folder)


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run")
    (folder.path / "report").write_text("in the way")
    with pytest.raises(RunFolderError, match=r"report cannot be written"):
        write_report(folder)


def test_the_command_prints_the_table_and_where_the_files_are(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run")
    result = CliRunner().invoke(app, [str(folder.path)])
    assert result.exit_code == 0, result.output
    assert "mean over 2 sites" in result.output
    assert "Round by round" not in result.output
    assert result.output.splitlines()[-1].endswith("loss.png")
    with_rounds = CliRunner().invoke(app, [str(folder.path), "--rounds"])
    assert "Round by round" in with_rounds.output
