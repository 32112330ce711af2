"""The report's HTML page: its form, its numbers against the JSON, and odd runs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_reading import Element, check_form, read_page
from in_process_sites import InProcessSites, PlainSite, altered_report, new_run
from typer.testing import CliRunner

from fedpsyau_model.errors import RunFolderError, RunsDifferError, SiteCardError
from fedpsyau_model.site_card import SiteCardDocument
from fedpsyau_priors import graph_priors, published_priors
from fedpsyau_server.report.against import compare_runs
from fedpsyau_server.report.command import app
from fedpsyau_server.report.files import write_report
from fedpsyau_server.report.html_page import html_page
from fedpsyau_server.report.tables import read_tables
from fedpsyau_server.rounds import RoundLoop
from fedpsyau_server.run_folder import RunFolder

NAMES = ("small", "big", "never")

#: Something that must come out as text wherever it stands.
EVIL = "<script>alert('\"&x')</script>"


def confusion(seed: int, classes: int = 3, clips: int = 40) -> list[int]:
    """Counts of as many clips of each class in every round, guessed more rightly in later ones."""
    generator = np.random.default_rng(seed)
    rights = min(0.9, 0.3 + 0.02 * seed)
    shares = np.full((classes, classes), (1 - rights) / (classes - 1))
    np.fill_diagonal(shares, rights)
    return [int(n) for row in shares for n in generator.multinomial(clips, row / row.sum())]


def site(clips: int, held_out: int, seed: int = 0, classes: int = 3, **options: Any) -> PlainSite:
    return PlainSite(
        clips,
        1.0,
        test_clips=held_out * classes,
        confusions=lambda number: (
            confusion(seed + number, classes, held_out),
            confusion(seed + number + 5, classes, held_out),
        ),
        **options,
    )


def sites() -> dict[str, PlainSite]:
    """`small` is quarantined in round 2 and away in round 4, `never` never comes."""
    small = site(14, 3, seed=3, alters={2: altered_report(train_clips=999)}, absent=(4,))
    never = PlainSite(5, 1.0, absent=tuple(range(100)))
    return {"big": site(200, 40), "small": small, "never": never}


def finished_run(
    path: Path, count: int = 4, running: dict[str, PlainSite] | None = None, **sections: Any
) -> RunFolder:
    running = sites() if running is None else running
    rounds = {"rounds": count, "min-sites": 1}
    names = NAMES if set(running) == set(NAMES) else tuple(running)
    folder = new_run(path, names, **{"rounds": rounds} | sections)
    RoundLoop(folder, InProcessSites(running)).run()
    return RunFolder.open(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def page(run: RunFolder) -> Element:
    return read_page(html_page(read_tables(run)))


def table(root: Element, caption: str) -> Element:
    (found,) = [
        each for each in root.all("table") if each.all("caption")[0].text.startswith(caption)
    ]
    return found


def body(found: Element) -> dict[str, list[Element]]:
    """Cells of a table's rows by the name in front of them."""
    rows = [row for row in found.all("tr") if row.all("td")]
    return {row.all("th")[0].text: row.all("td") for row in rows if row.all("th")}


# Form ---------------------------------------------------------------------------------------------


def test_it_is_well_formed_and_refers_to_nothing_outside(page: Element) -> None:
    check_form(page)


def test_its_policy_lets_in_its_own_style_and_nothing_else(page: Element) -> None:
    (policy,) = [
        each.attributes["content"]
        for each in page.all("meta")
        if each.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = page.all("style")
    css = "".join(str(child) for child in style.children)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert "url(" not in css
    assert "@import" not in css


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("</section>", "", 1),
        lambda text: text.replace("<tbody>", "<div>", 1),
        lambda text: text.replace('id="rounds"', 'id="sites"'),
        lambda text: text.replace('href="#rounds"', 'href="https://example.org/"'),
        lambda text: text.replace("</main>", "<script></script></main>"),
        lambda text: text.replace("<main ", '<main style="color: red" '),
        lambda text: re.sub("<caption>.*?</caption>", "", text, count=1),
        lambda text: re.sub('role="img" aria-label="[^"]*"', "", text, count=1),
        lambda text: text.replace("<h2 ", "<h4 ").replace("</h2>", "</h4>"),
    ],
)
def test_the_check_of_the_form_can_fail(run: RunFolder, damage: Callable[[str], str]) -> None:
    whole = html_page(read_tables(run)).decode()
    assert damage(whole) != whole
    with pytest.raises((AssertionError, KeyError)):
        check_form(read_page(damage(whole).encode()))


def test_the_same_run_gives_the_same_bytes(run: RunFolder) -> None:
    first = html_page(read_tables(run))
    assert first == html_page(read_tables(RunFolder.open(run.path)))
    assert b'"nan"' not in first


def test_fifty_rounds_of_seven_sites_stay_small(tmp_path: Path) -> None:
    seven = {f"site{k}": site(100 + k, 30, seed=k, classes=7) for k in range(7)}
    folder = finished_run(tmp_path / "run", 50, seven, network={"classes": "seven"})
    folder.log_event("joined", site="site1", clips=101, synthetic=True)
    whole = html_page(read_tables(folder))
    assert len(whole) < 2_000_000
    check_form(read_page(whole))


def test_many_rounds_and_sites_are_drawn_in_part(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run", 3)
    lines = folder.rounds()
    many = [lines[n % 3] | {"round": n + 1} for n in range(1500)]
    (folder.path / "rounds.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in many))
    state = json.loads((folder.path / "state.json").read_text()) | {"round": 1500}
    (folder.path / "state.json").write_text(json.dumps(state))
    root = read_page(whole := html_page(read_tables(RunFolder.open(folder.path))))
    assert len(whole) < 2_000_000
    check_form(root)
    rounds = body(table(root, "UF1 by round"))
    assert len(rounds) == 200
    assert next(iter(rounds)) == "1"
    assert list(rounds)[-1] == "1500"
    assert "rounds.csv" in root.text
    counts = body(table(root, "What every site did"))["small"]
    assert [cell.text for cell in counts[1:]] == ["1000", "0", "0", "500"]
    assert "And 301 more" in root.text  # 500 times small, and never's one long absence


# Numbers ------------------------------------------------------------------------------------------


def test_every_number_is_that_of_the_json(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run")
    files = write_report(folder)
    root = read_page(files.page.read_bytes())
    document = json.loads(files.sites_json.read_text())
    rows = body(table(root, "Each site’s last valid reply"))
    for name, expected in {each["site"]: each for each in document["sites"]}.items():
        shown = [number for cell in rows[name] for number in cell.numbers()]
        counts = [expected["train_clips"], expected["test_clips"]]
        scores = [expected[f"{measure}_{stage}"] for measure in ("uf1", "uar") for stage in STAGES]
        if expected["round"] is None:
            assert shown == []
            continue
        uf1, uar = scores[1] - scores[0], scores[3] - scores[2]
        assert shown == [*counts, *scores[:2], uf1, *scores[2:], uar]
        assert [cell.text for cell in rows[name]][3:5] == [f"{each:.3f}" for each in scores[:2]]
    last = document["last_round"]
    for name, expected in (
        ("mean over 1 site", last["mean_over_sites"]),
        ("pooled counts", last["pooled"]),
    ):
        received, trained = expected["received"], expected["trained"]
        assert [number for cell in rows[name] for number in cell.numbers()][2:] == [
            *(received["uf1"], trained["uf1"], trained["uf1"] - received["uf1"]),
            *(received["uar"], trained["uar"], trained["uar"] - received["uar"]),
        ]
    assert f"worst site: {last['worst_site']}" in rows
    for stage in STAGES:
        assert cells(table(root, f"Pooled, {stage}")) == last[f"pooled_confusion_{stage}"]
    for name, expected in document["confusion"].items():
        assert cells(table(root, name)) == expected["trained"]
    check_rounds(root, json.loads(files.rounds_json.read_text()))
    tiles = [each.numbers() for each in root.all("dl")[0].all("dd")]
    assert tiles[1:] == [
        [sum(each["train_clips"] for each in document["sites"] if each["round"] == 4), 120],
        *(
            [last["pooled"][stage][measure] for stage in ("trained", "received")]
            for measure in ("uf1", "uar")
        ),
        [last["mean_over_sites"][stage]["uf1"] for stage in ("trained", "received")],
        [document["sites"][1]["uf1_trained"]],
    ]


STAGES = ("received", "trained")


def cells(found: Element) -> list[list[int]]:
    """Counts of a confusion matrix."""
    return [[int(n) for n in row.numbers()] for row in found.all("tr") if row.all("td")]


def check_rounds(root: Element, rows: list[dict[str, Any]]) -> None:
    for measure in ("uf1", "uar"):
        shown = body(table(root, f"{measure.upper()} by round"))
        for number in range(1, 5):
            expected = [row for row in rows if row["round"] == number]
            assert [cell.numbers() for cell in shown[str(number)]] == [
                [row[f"{measure}_{stage}"] for stage in STAGES if row[f"{measure}_{stage}"]]
                for row in expected
            ]


def test_the_curves_end_with_the_last_scores(run: RunFolder, page: Element) -> None:
    panels = [each for each in page.all("figure") if each.attributes["class"] == "panel"]
    (big, *_) = [each for each in panels if each.text.startswith("big")]
    reply = read_tables(run).last.replies["big"]
    shown = [each.text for each in big.all("text") if each.attributes["class"].startswith("end")]
    assert sorted(shown) == sorted(f"{reply.scores(stage).uf1:.2f}" for stage in STAGES)
    first = read_tables(run).rounds[0].replies["big"].scores("trained").uf1
    told = big.all("svg")[0].attributes["aria-label"]
    assert told.startswith("big, rounds 1 to 4: received from ")
    assert f"trained from {first:.2f} to {reply.scores('trained').uf1:.2f}." in told
    # A gap where small was quarantined: the line is broken, and nothing is drawn through it.
    (small, *_) = [each for each in panels if each.text.startswith("small")]
    (trained,) = [each for each in small.all("g") if each.attributes["class"] == "curve trained"]
    assert len(trained.all("circle")) == 2
    assert trained.all("polyline") == []


def test_who_took_part_and_why_not(page: Element) -> None:
    counts = body(table(page, "What every site did"))
    assert {name: [cell.text for cell in row[1:]] for name, row in counts.items()} == {
        "small": ["2", "0", "1", "1"],
        "big": ["4", "0", "0", "0"],
        "never": ["0", "0", "4", "0"],
    }
    assert [each.text for each in counts["small"][0].all("title")] == [
        *("round 1: answered", "round 2: quarantined", "round 3: answered", "round 4: absent"),
    ]
    rows = [[cell.text for cell in row.elements()] for row in table(page, "By round").all("tr")]
    assert rows[1] == ["1 to 4", "never", "absent", "–"]
    assert rows[2][:3] == ["2", "small", "quarantined"]
    assert "999 training clips" in rows[2][3]
    assert rows[3] == ["4", "small", "absent", "–"]


def test_priors_are_those_of_the_graph(page: Element) -> None:
    shown = body(table(page, "Weight that an AU"))
    graph = graph_priors(published_priors()).whole
    for row, weights, edges in zip(shown.values(), graph.prior, graph.edges, strict=True):
        assert [number for cell in row for number in cell.numbers()] == [
            float(weight) for weight, edge in zip(weights, edges, strict=True) if edge
        ]
        assert [cell.text == "·" for cell in row] == [not edge for edge in edges]
    facts = body(table(page, "The priors that sites share"))
    assert facts["name"][0].text == "published"
    assert facts["SHA-256"][0].text == published_priors().fingerprint()
    assert facts["edges"][0].text.startswith(f"{(graph.edges.sum() - 12) // 2} pairs")


def test_settings_say_what_differs(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run", 2, loss={"alpha4": 0.01})
    root = read_page(html_page(read_tables(folder)))
    changed = body(table(root, "What differs"))
    assert set(changed) == {
        *("loss.alpha4", "rounds.rounds", "rounds.min-sites", "server.sites", "server.runs")
    }
    assert [cell.text for cell in changed["loss.alpha4"]] == ["0.01", "0.001"]
    everything = table(root, "Shaded")
    assert len(body(everything)) > 40
    marked = [row.all("th")[0].text for row in everything.all("tr") if "class" in row.attributes]
    assert set(marked) == set(changed)
    # A path says where on the coordinator's machine things lie, and the page may be handed out.
    assert changed["server.runs"][0].text == f'"…/{tmp_path.name}"'
    assert str(tmp_path) not in root.text


def test_provenance_holds_hashes_of_the_files(run: RunFolder, page: Element) -> None:
    files = body(table(page, "Models")) | body(table(page, "Records"))
    assert set(files) == {
        *("initial.safetensors", "models/big.safetensors", "models/small.safetensors"),
        *("config.json", "rounds.jsonl", "events.jsonl"),
    }
    for name, (size, digest) in files.items():
        content = (run.path / name).read_bytes()
        assert digest.text == hashlib.sha256(content).hexdigest()
        assert int(size.text) == len(content)
    facts = body(table(page, "What made this run"))
    assert facts["what all sites agreed to"][0].text == run.config.agreement_hash
    assert facts["run"][0].text == run.config.run_id
    assert facts["started from"][0].text == "weights drawn from the seed"


def test_a_copy_of_a_run_without_its_models_has_a_page(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run", 2)
    (folder.path / "models" / "big.safetensors").unlink()
    root = read_page(html_page(read_tables(folder)))
    assert body(table(root, "Models"))["models/big.safetensors"][1].text == "not in the folder"


# What others wrote --------------------------------------------------------------------------------


def test_nothing_that_a_run_holds_is_taken_for_html(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "a<b>run", 3, priors={"name": EVIL})
    for name in ("config.json", "rounds.jsonl", "state.json"):
        path = folder.path / name
        # As a damaged or hostile folder might have it: names of sites are checked at the start.
        evil = json.dumps(EVIL)[1:-1]
        text = path.read_text().replace("999 training clips", evil + "\\ud800")
        path.write_text(text.replace('"big"', f'"{evil}"'))
    settings = json.loads((folder.path / "config.json").read_text())
    settings["settings"]["server"]["sites"] = ["big"]
    (folder.path / "config.json").write_text(json.dumps(settings))
    folder = RunFolder.open(folder.path)
    folder.log_event("joined", site=EVIL, clips=1, synthetic=True)
    (folder.path / "cards").mkdir()
    (folder.path / "cards" / "x-card.json").write_text(
        card(EVIL, dataset=EVIL, classes={EVIL: EVIL[:40]}, preprocessing={EVIL: [EVIL]})
    )
    root = read_page(html_page(read_tables(folder)))
    check_form(root)
    assert root.all("script") == []
    assert EVIL in body(table(root, "Each site’s last valid reply"))
    assert EVIL in body(table(root, "What every site did"))
    assert body(table(root, "The priors that sites share"))["name"][0].text == EVIL
    assert EVIL in table(root, "By round").text
    assert EVIL in root.all("article")[0].text
    assert "a<b>run" in root.all("h1")[0].text


@pytest.mark.parametrize(
    ("joined", "told"), [((True, False), True), ((False, False), False), ((), None)]
)
def test_synthetic_data_are_said_so(tmp_path: Path, joined: Any, told: bool | None) -> None:
    folder = finished_run(tmp_path / "run", 1)
    for name, synthetic in zip(("big", "small"), joined, strict=False):
        folder.log_event("joined", site=name, clips=77, synthetic=synthetic)
    root = read_page(html_page(read_tables(folder)))
    assert ("SYNTHETIC DATA" in root.text) is bool(told)
    assert ("synthetic" in root.all("title")[0].text) is bool(told)
    assert ("is not recorded" in root.text) is (told is None)
    enrolled = body(table(root, "As each site enrolled"))
    expected = "not recorded" if told is None else "yes" if told else "no"
    assert enrolled["big"][2].text == expected
    assert enrolled["big"][0].text == ("77" if joined else "–")


def card(partition: str, **changes: Any) -> str:
    values: dict[str, Any] = {
        "partition": partition,
        "dataset": "ours",
        "synthetic": False,
        "clips": "100 to 109",
        "subjects": 12,
        "class-scheme": "three",
        "classes": {"negative": 60, "positive": "<5", "surprise": "withheld"},
        "au-annotated": "all",
        "aus": {"AU1": 31, "AU2": "<5"},
        "mask-below": 5,
        "preprocessing": {"optical_flow": "tvl1", "size": [128, 28]},
        "data-hash": "ab" * 32,
        "fedpsyau-version": "0.1.0",
    }
    return json.dumps(values | changes)


def put_cards(folder: RunFolder, *texts: str) -> None:
    (folder.path / "cards").mkdir()
    for number, text in enumerate(texts):
        (folder.path / "cards" / f"{number}-card.json").write_text(text)


def test_site_cards_in_the_folder_are_on_the_page(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run", 1)
    put_cards(folder, card("big"))
    (folder.path / "cards" / "big-card.md").write_text("not read")
    root = read_page(html_page(read_tables(folder)))
    check_form(root)
    (shown,) = root.all("article")
    assert "Data set ours: 100 to 109 clips of 12 subjects." in shown.text
    assert {name: row[0].text for name, row in body(table(root, "Clips by class")).items()} == {
        **{"negative": "60", "positive": "<5", "surprise": "withheld"},
        **{"AU1": "31", "AU2": "<5"},
    }
    assert body(table(root, "Steps"))["size"][0].text == "[128, 28]"
    assert body(table(root, "As each site enrolled"))["big"][-1].text == "below"


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["{"], "0-card.json cannot be read as a site card"),
        ([card("big", clips=-1)], "clips"),
        ([card("big", mask="x")], "mask"),
        ([card("big", aus={"AU1": 0.5})], "AU1"),
        ([card("elsewhere")], "'elsewhere', which is no site of this run"),
        ([card("big"), card("big")], "second card of 'big'"),
        ([" " * 2**21], "MB"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_and_nothing_is_written(
    tmp_path: Path, texts: list[str], told: str
) -> None:
    folder = finished_run(tmp_path / "run", 1)
    put_cards(folder, *texts)
    with pytest.raises(SiteCardError, match=told):
        write_report(folder)
    assert not (folder.path / "report").exists()


def test_a_pipe_in_the_place_of_a_card_is_not_waited_for(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run", 1)
    put_cards(folder)
    os.mkfifo(folder.path / "cards" / "big-card.json")
    with pytest.raises(SiteCardError, match="pipe"):
        html_page(read_tables(folder))


def test_a_card_is_read_back_as_it_was_written() -> None:
    document = SiteCardDocument.model_validate_json(card("big"))
    assert json.loads(document.text()) == json.loads(card("big"))
    assert list(json.loads(document.text())) == list(json.loads(card("big")))


# Beside another run -------------------------------------------------------------------------------


def test_two_runs_side_by_side(run: RunFolder, tmp_path: Path) -> None:
    other = finished_run(
        tmp_path / "alone", 2, sites() | {"big": site(200, 40, seed=9)}, strategy={"name": "local"}
    )
    tables, others = read_tables(run), read_tables(other)
    against = compare_runs(tables, others)
    here, there = (each.last.replies["big"].scores("trained") for each in (tables, others))
    expected = {
        **{"uf1_this": here.uf1, "uf1_other": there.uf1},
        **{"uar_this": here.uar, "uar_other": there.uar},
    }
    # small was not there in the last round here, so big is all that can be compared.
    assert against.sites == [{"site": "big"} | expected]
    assert [each | {"site": ""} for each in against.summaries] == [{"site": ""} | expected] * 2
    assert (against.better, against.worse) == (here.uf1 > there.uf1, here.uf1 < there.uf1)
    root = read_page(html_page(tables, against))
    check_form(root)
    rows = body(table(root, "Sites that answered in the last rounds"))
    assert [number for cell in rows["big"] for number in cell.numbers()] == [
        *(here.uf1, there.uf1, here.uf1 - there.uf1),
        *(here.uar, there.uar, here.uar - there.uar),
    ]
    assert "Beside the run alone (local)" in root.text
    assert "The runs have come to different rounds" in root.text


@pytest.mark.parametrize(
    ("running", "sections", "told"),
    [
        ({"big": site(200, 40, classes=7)}, {"network": {"classes": "seven"}}, "7"),
        ({"big": site(200, 41)}, {}, r"big holds out \[40, 40, 40\] .* \[41, 41, 41\]"),
        ({"else": site(200, 40)}, {}, "no site"),
    ],
)
def test_runs_that_cannot_be_compared_are_told(
    run: RunFolder, tmp_path: Path, running: Any, sections: Any, told: str
) -> None:
    other = finished_run(tmp_path / "other", 1, running, **sections)
    with pytest.raises(RunsDifferError, match=told):
        compare_runs(read_tables(run), read_tables(other))


def test_the_command_names_the_page_first_and_takes_another_run(
    run: RunFolder, tmp_path: Path
) -> None:
    other = finished_run(tmp_path / "other", 4, strategy={"name": "local"})
    result = CliRunner().invoke(app, [str(other.path), "--against", str(run.path)])
    assert result.exit_code == 0, result.output
    page = other.path / "report" / "index.html"
    assert str(page) in result.output.splitlines()
    assert "Beside the run run (p-fedprox)" in read_page(page.read_bytes()).text
    document = json.loads((other.path / "report" / "sites.json").read_text())
    assert document["against"]["name"] == "run"
    assert (
        document["against"]["sites"][0]["uf1_this"] == document["against"]["sites"][0]["uf1_other"]
    )


def test_the_report_of_a_training_run_is_where_that_run_put_it(tmp_path: Path) -> None:
    (tmp_path / "summary.html").touch()
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(result.exception, RunFolderError)
    assert str(tmp_path / "summary.html") in str(result.exception)
