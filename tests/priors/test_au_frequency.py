"""The choice of AUs by frequency: the rule by hand, and what it says of real tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from typer.testing import CliRunner

from fedpsyau_client.own_priors.au_sources import frequencies, read_au_sources
from fedpsyau_client.priors_commands import app
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import SettingsError
from fedpsyau_priors import AuFrequency, PriorError, select_aus


def frequency(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["au-frequency", *(str(argument) for argument in arguments)])


def test_the_rule_by_hand() -> None:
    large = AuFrequency("large", 1000, {4: 500, 1: 300, 2: 300, 20: 200, 6: 100, 9: 50})
    small = AuFrequency("small", 100, {4: 50, 1: 1, 2: 2, 6: 3, 9: 9, 43: 1})
    limited = AuFrequency("limited", 10, {4: 5, 1: 5, 2: 5, 6: 5}, coded=frozenset({1, 2, 4, 6}))
    found = select_aus([small, large, limited], count=3, min_share=0.02)
    assert found.reference == "large"
    assert found.kept == (2, 4, 6)
    assert [(each.au, each.rank, each.verdict) for each in found.verdicts] == [
        (4, 1, "kept"),
        (1, 2, "rare"),  # 1 of 100 in small; before 2, as the lower number
        (2, 3, "kept"),  # exactly 2 % is enough
        (20, 4, "rare"),  # in none of small
        (6, 5, "kept"),
        (9, 6, "surplus"),  # limited does not tell of it, and has no say
        (43, 7, "absent"),
    ]
    reasons = {each.au: each.reason for each in found.verdicts}
    assert reasons[1] == "in only 1.00% of small, less than 2.00%"
    assert found.verdicts[5].shares == {"small": 0.09, "large": 0.05, "limited": None}


def test_another_reference_can_be_named() -> None:
    first, second = AuFrequency("a", 9, {1: 9, 2: 8}), AuFrequency("b", 5, {1: 1, 2: 5})
    assert select_aus([first, second], 1).kept == (1,)
    assert select_aus([first, second], 1, reference="b").kept == (2,)
    with pytest.raises(PriorError, match="no data set 'c', only a, b"):
        select_aus([first, second], 1, reference="c")
    with pytest.raises(PriorError, match="No data set has a clip"):
        select_aus([AuFrequency("a", 0, {})])


tables_of_clips = st.builds(
    AuFrequency,
    dataset=st.sampled_from("abc"),
    clips=st.integers(1, 50),
    counts=st.dictionaries(st.integers(1, 46), st.integers(0, 50), max_size=8),
)


@given(st.lists(tables_of_clips, min_size=1, max_size=3, unique_by=lambda each: each.dataset))
def test_every_au_has_one_verdict_whatever_the_tables(tables: list[AuFrequency]) -> None:
    found = select_aus(tables, count=4)
    shown = {au for table in tables for au, clips in table.counts.items() if clips}
    assert {each.au for each in found.verdicts} == shown
    assert len(found.verdicts) == len(shown)
    assert found.kept == tuple(sorted(v.au for v in found.verdicts if v.verdict == "kept"))
    assert len(found.kept) <= 4
    assert all(v.reason for v in found.verdicts)


def write_table(file: Path, labels: list[str]) -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["subject", "filename", "au"], *(["s", f"c{i}", au] for i, au in enumerate(labels))]
        )
    return file


def test_tables_of_one_data_set_are_added_up(tmp_path: Path) -> None:
    first = write_table(tmp_path / "1.csv", ["4+L10", "4", "4+7"])
    second = write_table(tmp_path / "2.csv", ["4", "7"])
    other = write_table(tmp_path / "3.csv", ["4", "10"])
    out = tmp_path / "out"
    sources = (f"csv:ours={first}", f"csv:ours={second}", f"csv:theirs={other}")
    arguments = [part for source in sources for part in ("--from", source)]
    result = frequency(*arguments, "--out", out, "--count", 2)
    assert result.exit_code == 0, result.output
    document = json.loads((out / "au-frequency.json").read_text())
    assert document["clips"] == {"ours": 5, "theirs": 2}
    assert document["kept"] == [4, 10]
    assert [(each["au"], each["clips"]["ours"], each["verdict"]) for each in document["aus"]] == [
        (4, 4, "kept"),
        (7, 2, "rare"),
        (10, 1, "kept"),
    ]
    with (out / "au-frequency.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["share of ours"] == "0.800000"
    assert imread(out / "au-frequency.png").std() > 0.05
    assert "Kept here and not there: none" in " ".join(result.stdout.split())


def test_a_reference_that_is_not_there_is_explained(tmp_path: Path) -> None:
    table = write_table(tmp_path / "1.csv", ["4"])
    result = frequency("--from", f"csv={table}", "--out", tmp_path / "o", "--reference", "dfme")
    assert isinstance(result.exception, SettingsError)
    assert "no data set 'dfme', only csv" in str(result.exception)


def test_what_the_rule_says_of_the_real_tables(shared_data: Path) -> None:
    """CAS(ME)3 and CASME II, without DFME: AU24 and AU38 are not rare in CAS(ME)3."""
    annotations = shared_data / "annotations"
    sources = read_au_sources(
        [
            f"casme3={annotations / 'casme3_part_A_labels.xlsx'}",
            f"casme2={annotations / 'casme2_labels.xlsx'}",
        ]
    )
    counted = frequencies(sources)
    assert [(each.dataset, each.clips) for each in counted] == [("casme3", 860), ("casme2", 250)]
    assert [counted[0].counts[au] for au in (24, 38, 9, 15)] == [59, 30, 50, 6]
    found = select_aus(counted)
    verdicts = {each.au: each.verdict for each in found.verdicts}
    assert (found.reference, verdicts[20], verdicts[23]) == ("casme3", "rare", "rare")
    # Every one of the twelve is commonly observed in both, by the default threshold.
    assert all(verdicts[au] != "rare" for au in AUS)
    assert set(found.kept) - set(AUS) == {24, 38}
    assert set(AUS) - set(found.kept) == {6, 15}
    assert set(select_aus(counted, min_share=0.01).kept) == set(AUS) - {5}
