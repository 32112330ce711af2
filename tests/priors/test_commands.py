import json

import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

import fedpsyau_priors as priors
from fedpsyau_client.priors_commands import app
from fedpsyau_model.errors import OutputExistsError, OutputWriteError


def run(*arguments):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ("intrinsic", priors.published_intrinsic),
        ("cooccurrence", priors.cooccurrence_counts),
        ("attention", priors.attention),
    ],
)
def test_json_is_the_matrix_with_its_oddities(matrix, expected):
    result = run("show", "--matrix", matrix, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["matrix"] == matrix
    assert document["aus"] == list(priors.action_units())
    assert document["rows"] == expected().tolist()
    assert [oddity["pair"] for oddity in document["oddities"]] == [[2, 9], [4, 7]]


@pytest.mark.parametrize("matrix", ["intrinsic", "cooccurrence", "attention"])
def test_table_fits_a_terminal_of_80_columns(matrix):
    result = run("show", "--matrix", matrix)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    header = next(line for line in lines if "AU10" in line)
    assert header.split() == [f"AU{au}" for au in priors.action_units()]
    assert "asymmetric as published" in result.stdout


def test_odd_cells_are_marked():
    lines = run("show", "--matrix", "cooccurrence").stdout.splitlines()
    au4 = next(line for line in lines if line.startswith("AU4"))
    assert au4.split()[1:7] == ["62", "16", "3443", "145", "135", "1239*"]


def test_plot_is_written_whole_and_not_over_another(tmp_path):
    picture = tmp_path / "new" / "priors.png"
    assert run("plot", "--out", str(picture)).exit_code == 0
    pixels = imread(picture)
    assert pixels.shape[0] > 1000
    assert pixels.std() > 0.1
    before = picture.read_bytes()
    assert isinstance(run("plot", "--out", str(picture)).exception, OutputExistsError)
    assert picture.read_bytes() == before
    assert run("plot", "--out", str(picture), "--replace").exit_code == 0
    assert [file.name for file in picture.parent.iterdir()] == ["priors.png"]


def test_plot_refuses_a_type_that_it_cannot_write(tmp_path):
    result = run("plot", "--out", str(tmp_path / "priors.txt"))
    assert result.exit_code == 2
    assert ".png, .pdf, .svg" in result.output


def test_plot_under_a_file_instead_of_a_folder_is_explained(tmp_path):
    (tmp_path / "file").touch()
    error = run("plot", "--out", str(tmp_path / "file" / "priors.png")).exception
    assert isinstance(error, OutputWriteError)
    assert "cannot be written" in str(error)
