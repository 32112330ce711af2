"""``fedpsyau priors build`` from label tables and feature stores."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from matplotlib.image import imread
from scipy.optimize import LinearConstraint, milp
from typer.testing import CliRunner

import fedpsyau_priors as priors
from fedpsyau_client.own_priors.au_sources import AuSource, au_matrix
from fedpsyau_client.own_priors.priors_file import PriorsFile, read_priors_file
from fedpsyau_client.priors_commands import app
from fedpsyau_client.store.feature_store import ClipTable, write_feature_store
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import (
    LabelTableError,
    NoPriorError,
    OutputExistsError,
    PriorsFileError,
    SettingsError,
)
from fedpsyau_model.settings import FederationSettings, load_settings

FILES = {
    "priors.json",
    "priors.toml",
    "cooccurrence.csv",
    "attention-upper.csv",
    "attention-lower.csv",
    "attention-whole.csv",
    "attention.png",
}


def build(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["build", *(str(argument) for argument in arguments)])


def write_table(file: Path, au_sets: Sequence[Sequence[int]]) -> Path:
    """A plain CSV table with these AU sets, one a clip."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["subject", "filename", "onset", "apex", "offset", "au", "emotion"])
        for number, aus in enumerate(au_sets):
            text = "+".join(str(au) for au in aus)
            writer.writerow([f"s{number % 9}", f"clip{number}", 1, 5, 9, text, "surprise"])
    return file


def sets_with_counts(counts: np.ndarray) -> list[tuple[int, ...]]:
    """AU sets of the fewest clips whose co-occurrences are `counts`.

    An integer programme: how often every set of one to three AUs occurs, so that every AU and
    every pair is found exactly as often as counted.
    """
    sets = (np.arange(1, 2 ** len(AUS))[:, None] >> np.arange(len(AUS))) % 2
    sets = sets[sets.sum(axis=1) <= 3]
    rows, columns = np.triu_indices(len(AUS))
    together = (sets[:, rows] * sets[:, columns]).T
    wanted = counts[rows, columns]
    solution = milp(
        np.ones(len(sets)),
        constraints=LinearConstraint(together, wanted, wanted),
        integrality=np.ones(len(sets)),
    )
    times = solution.x.round().astype(int)
    named = [tuple(au for au, shown in zip(AUS, row, strict=True) if shown) for row in sets]
    return [aus for aus, count in zip(named, times, strict=True) for _ in range(count)]


def test_the_shipped_matrix_is_rebuilt_from_a_table_with_its_cooccurrences(tmp_path: Path) -> None:
    table = write_table(tmp_path / "clips.csv", sets_with_counts(priors.cooccurrence_counts()))
    out = tmp_path / "out"
    result = build("--from", f"csv:dfme={table}", "--out", out)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == FILES
    shipped = Path(priors.__file__).with_name("data") / "dfme_cooccurrence_counts.csv"
    assert (out / "cooccurrence.csv").read_text() == shipped.read_text()
    document = json.loads((out / "priors.json").read_text())
    assert document["sources"] == [
        {
            "dataset": "dfme",
            "kind": "label table",
            "clips": 7974,
            "clips-with-aus": 7974,
            "synthetic": False,
        }
    ]
    for region in ("upper", "lower", "whole"):
        np.testing.assert_allclose(
            document["attention"][region], priors.attention(region), atol=5e-7
        )
    rebuilt = read_priors_file(out / "priors.json").priors()
    assert rebuilt.fingerprint() == priors.published_priors().fingerprint()
    assert imread(out / "attention.png").std() > 0.1


def test_counts_of_a_small_table_by_hand(tmp_path: Path) -> None:
    # Uncoded clips (an empty cell of a plain table) count nowhere; AUs beyond the twelve neither.
    every = [(au,) for au in AUS]
    table = write_table(tmp_path / "clips.csv", [*every, (1, 2), (1, 2, 25), (6, 12), (), (43,)])
    result = build("--from", f"csv={table}", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    counts = np.array(document["cooccurrence"])
    assert [counts[AUS.index(au), AUS.index(au)] for au in (1, 2, 6, 12, 17)] == [3, 3, 2, 2, 1]
    assert counts[0, 1] == counts[1, 0] == 2
    assert counts.sum() == 12 + 4 + 2 + 2 * 3
    assert document["sources"][0]["clips"] == 17
    assert document["sources"][0]["clips-with-aus"] == 16
    assert document["attention"]["upper"][0] == [0.6, 0.4, 0, 0, 0, 0]


def test_smoothing_lets_an_au_that_never_occurs_have_a_prior(tmp_path: Path) -> None:
    table = write_table(tmp_path / "clips.csv", [(au,) for au in AUS[:-1]])
    refused = build("--from", f"csv={table}", "--out", tmp_path / "out")
    assert isinstance(refused.exception, NoPriorError)
    assert "No clip shows AU17" in str(refused.exception)
    assert not (tmp_path / "out").exists()
    result = build("--from", f"csv={table}", "--out", tmp_path / "out", "--smoothing", 0.5)
    assert result.exit_code == 0
    made = read_priors_file(tmp_path / "out" / "priors.json")
    assert made.cooccurrence[-1][-1] == 0
    assert made.attention["whole"][0][:2] == pytest.approx((1.5 / 7, 0.5 / 7), abs=1e-6)
    assert made.attention["whole"][-1] == pytest.approx((1 / 12,) * 12, abs=1e-6)


def write_store(folder: Path, aus: np.ndarray, au_known: np.ndarray) -> Path:
    count = len(aus)
    write_feature_store(
        folder,
        partition=folder.name,
        dataset="clinic",
        synthetic=False,
        clips=ClipTable(
            clip=np.array([f"c{i}" for i in range(count)]),
            subject=np.array(["s1"] * count),
            emotion=np.array([""] * count),
            class3=np.array([""] * count),
            class7=np.array([""] * count),
            au_known=au_known,
            aus=aus,
        ),
        flow=np.zeros((count, 3, 28, 28)),
        rois=np.zeros((count, 65, 3, 5, 5)),
        preprocessing={},
    )
    return folder


def test_a_site_counts_its_own_store_and_adds_a_table(tmp_path: Path) -> None:
    aus = np.vstack([np.eye(12, dtype=np.uint8), np.zeros((1, 12), dtype=np.uint8)])
    store = write_store(tmp_path / "clinic_1", aus, np.array([True] * 12 + [False]))
    table = write_table(tmp_path / "clips.csv", [(1, 2)])
    out = tmp_path / "out"
    result = build("--from", store, "--from", f"csv:open={table}", "--out", out)
    assert result.exit_code == 0, result.output
    assert "own clips" in result.stderr
    made = read_priors_file(out / "priors.json")
    assert np.array(made.cooccurrence)[:2, :2].tolist() == [[2, 1], [1, 2]]
    assert [source.clips_with_aus for source in made.sources] == [12, 1]
    assert made.name == "clinic_1 + open"
    assert str(tmp_path) not in "".join(
        path.read_text() for path in out.iterdir() if path.suffix != ".png"
    )


def test_the_section_for_the_federation_is_read_as_it_was_built(tmp_path: Path) -> None:
    table = write_table(tmp_path / "clips.csv", [(au,) for au in AUS] + [(1, 2)])
    matrix = tmp_path / "intrinsic.csv"
    names = [f"AU{au}" for au in AUS]
    rows = [[name, *(int(name == other) for other in names)] for name in names]
    matrix.write_text("\n".join(",".join(map(str, row)) for row in [["AU", *names], *rows]))
    arguments = ("--smoothing", 0.1, "--intrinsic", matrix, "--name", 'Große "Studie"')
    result = build("--from", f"csv={table}", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 0, result.output
    made = read_priors_file(tmp_path / "out" / "priors.json").priors()
    config = tmp_path / "federation.toml"
    fragment = (tmp_path / "out" / "priors.toml").read_text()
    config.write_text(f'[network]\npriors = "file"\n\n{fragment}', encoding="utf-8")
    settings = load_settings(FederationSettings, config, environment={})
    shared = settings.shared_priors()
    assert shared.fingerprint() == made.fingerprint()
    assert shared.name == 'Große "Studie"'
    assert (shared.edges == np.eye(12, dtype=bool)).all()
    assert tomllib.loads(fragment)["priors"]["smoothing"] == 0.1


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere", SettingsError, "Write DATASET=FILE"),
        ("casme9=x.xlsx", SettingsError, "DATASET is one of casme3"),
        ("casme3=", SettingsError, "Write DATASET=FILE"),
        ("csv:two\nlines=x.csv", SettingsError, "Write DATASET=FILE"),
        ("casme3=nowhere.xlsx", LabelTableError, "nowhere.xlsx"),
    ],
)
def test_wrong_sources_are_explained(
    tmp_path: Path, source: str, error: type[Exception], message: str
) -> None:
    result = build("--from", source, "--out", tmp_path / "out")
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_the_same_source_twice_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "clips.csv", [(1,)])
    result = build("--from", f"csv={table}", "--from", f"csv={table}", "--out", tmp_path / "out")
    assert isinstance(result.exception, SettingsError)


def test_a_table_without_action_units_gives_no_prior(tmp_path: Path) -> None:
    table = write_table(tmp_path / "clips.csv", [(), ()])
    result = build("--from", f"csv={table}", "--out", tmp_path / "out")
    assert isinstance(result.exception, NoPriorError)


def test_a_data_set_that_was_not_coded_for_all_twelve_is_refused() -> None:
    shown = (frozenset({1, 4}), frozenset({26}))
    assert au_matrix([AuSource("all", "", 2, shown)]).tolist() == [[1, 0, 1] + [0] * 9, [0] * 12]
    limited = AuSource("disfa", "", 2, shown, coded=frozenset(AUS) - {7, 10} | {26})
    with pytest.raises(NoPriorError, match="disfa was never coded for AU7, AU10"):
        au_matrix([limited])


def test_only_an_earlier_result_is_replaced(tmp_path: Path) -> None:
    table = write_table(tmp_path / "clips.csv", [(au,) for au in AUS])
    arguments = ("--from", f"csv={table}", "--out", tmp_path / "out")
    assert build(*arguments).exit_code == 0
    assert isinstance(build(*arguments).exception, OutputExistsError)
    assert build(*arguments, "--replace").exit_code == 0
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert isinstance(build(*arguments, "--replace").exception, OutputExistsError)
    assert (tmp_path / "out" / "thesis.txt").exists()


# The file -------------------------------------------------------------------------------------


def change(file: Path, **values: Any) -> Path:
    document = json.loads(file.read_text())
    document.update({key.replace("_", "-"): value for key, value in values.items()})
    file.write_text(json.dumps(document))
    return file


@pytest.fixture
def priors_json(tmp_path: Path) -> Path:
    file = tmp_path / "priors.json"
    counts = tuple(tuple(row) for row in np.eye(12, dtype=int).tolist())
    file.write_text(PriorsFile(name="alone", cooccurrence=counts).to_json())
    assert read_priors_file(file).cooccurrence == counts
    return file


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema_version": 2}, "schema-version 2"),
        ({"aus": [1, 2]}, "the AUs are"),
        ({"cooccurrence": [[1, 2], [2, 1]]}, r"shape \(2, 2\)"),
        ({"cooccurrence": [[1] * 12] * 11 + [[1]]}, "rows differ in length"),
        ({"cooccurrence": [[0] * 12] * 12}, "No clip shows AU1, AU2"),
        ({"intrinsic": [[2] * 12] * 12}, "nothing but 0 and 1"),
        ({"smoothing": -1}, "greater than or equal to 0"),
        ({"smoothing": 1e300}, "less than or equal to"),
        ({"smoothing": float("nan")}, "finite"),
        ({"cooccurrence": [[10**400] * 12] * 12}, "cooccurrence"),
        ({"cooccurrence": [[10**15] * 12] * 12}, "below"),
        ({"cooccurrence": [[0.5] * 12] * 12}, "cooccurrence"),
        ({"clips": ["a"]}, "clips: Extra inputs"),
        ({"name": "two\nlines"}, "one line"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(
    priors_json: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(PriorsFileError, match=message):
        read_priors_file(change(priors_json, **values))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_priors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "priors.json"
    file.write_bytes(content)
    with pytest.raises(PriorsFileError, match=r"priors\.json"):
        read_priors_file(file)
    with pytest.raises(PriorsFileError):
        read_priors_file(tmp_path)
