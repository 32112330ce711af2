"""Pages that repeat what the code says must say what the code says."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedpsyau_client.settings import ClientSettings
from fedpsyau_experiments.paper.catalogue import EXPERIMENTS
from fedpsyau_experiments.paper.settings import ExperimentSettings
from fedpsyau_model.errors import INTERRUPTED, FedPsyAUError
from fedpsyau_model.settings import (
    FederationSettings,
    Settings,
    StrategySettings,
    dotted_keys,
    load_settings,
)
from fedpsyau_model.settings_table import markdown_table
from fedpsyau_server.strategies import STRATEGIES

DOCS = Path(__file__).parents[1] / "docs"

PACKAGES = (
    "fedpsyau_model",
    "fedpsyau_priors",
    "fedpsyau_client",
    "fedpsyau_server",
    "fedpsyau_experiments",
)

#: Codes of the table without errors of ours.
PLAIN_CODES = {"0", "1", "2", str(INTERRUPTED)}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def table_rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without its head."""
    section = (
        (DOCS / page).read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    )
    return [cells(line) for line in section.splitlines() if line.startswith("|")][2:]


def subclasses(kind: type[FedPsyAUError]) -> Iterator[type[FedPsyAUError]]:
    for subclass in kind.__subclasses__():
        if subclass.__module__.split(".")[0] in PACKAGES:
            yield subclass
            yield from subclasses(subclass)


@pytest.fixture(scope="module")
def errors() -> set[type[FedPsyAUError]]:
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            importlib.import_module(module.name)
    return set(subclasses(FedPsyAUError))


def passes_code_on(error: type[FedPsyAUError]) -> bool:
    """Whether an error has no code of its own, but that of its cause."""
    return "exit_code" not in vars(error)


def test_every_error_is_on_the_page_with_its_code_and_what_happened(
    errors: set[type[FedPsyAUError]],
) -> None:
    documented = {tuple(row[:3]) for row in table_rows("exit-codes.md", "Errors with a code")}
    defined = {
        (str(error.exit_code), f"`{error.__name__}`", (error.__doc__ or "").strip())
        for error in errors
        if not passes_code_on(error)
    }
    assert documented == defined


def test_every_error_on_the_page_says_what_to_do() -> None:
    rows = table_rows("exit-codes.md", "Errors with a code")
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=int)
    assert all(len(row) == 4 and row[3].endswith(".") for row in rows)


def test_errors_without_a_code_of_their_own_are_on_the_page(
    errors: set[type[FedPsyAUError]],
) -> None:
    rows = table_rows("exit-codes.md", "Errors that pass a code on")
    assert {row[0] for row in rows} == {
        f"`{error.__name__}`" for error in errors if passes_code_on(error)
    }


def test_codes_of_errors_are_free(errors: set[type[FedPsyAUError]]) -> None:
    rows = table_rows("exit-codes.md", "Without an error of ours")
    assert {row[0] for row in rows} == PLAIN_CODES
    taken = {str(error.exit_code) for error in errors if not passes_code_on(error)}
    assert not taken & PLAIN_CODES


@pytest.mark.parametrize(
    ("mark", "model"), [("federation", FederationSettings), ("client", ClientSettings)]
)
def test_the_page_of_settings_has_the_table_of_the_code(mark: str, model: type[Settings]) -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    table = page.split(f"<!-- {mark} -->\n")[1].split("\n<!-- end -->")[0]
    assert table == markdown_table(model)


def test_the_page_of_experiments_has_their_settings() -> None:
    page = (DOCS / "experiments.md").read_text(encoding="utf-8")
    table = page.split("<!-- experiment -->\n")[1].split("\n<!-- end -->")[0].splitlines()
    lines = markdown_table(ExperimentSettings).splitlines()
    own = [line for line in lines if line.startswith("| `experiment.")]
    assert table == [*lines[:2], *own]
    assert own


def test_the_page_of_experiments_lists_all() -> None:
    page = (DOCS / "experiments.md").read_text(encoding="utf-8")
    first = page.split("\n\n| name |")[1].split("\n\n")[0]
    assert [cells(line)[0].strip("`") for line in first.splitlines()[2:]] == list(EXPERIMENTS)


def test_the_example_on_the_page_of_settings_can_be_read(tmp_path: Path) -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    file = tmp_path / "federation.toml"
    file.write_text(page.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    settings = load_settings(FederationSettings, file, environment={})
    assert (settings.seed, settings.rounds.rounds, settings.rounds.min_sites) == (7, 40, 5)


def test_every_strategy_has_its_row_with_its_proximal_term() -> None:
    page = (DOCS / "algorithms.md").read_text(encoding="utf-8")
    rows = [cells(line) for line in page.splitlines() if line.startswith("|")][2:]
    assert {row[0].strip("`"): row[2] for row in rows} == {
        name: "yes" if StrategySettings.model_validate({"name": name}).proximal else "no"
        for name in STRATEGIES
    }


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_to_other_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_example_configuration_holds_every_setting_with_its_default() -> None:
    example = Path(__file__).parents[1] / "deploy" / "federation.toml"
    written = tomllib.loads(example.read_text())
    assert load_settings(FederationSettings, example, environment={}) == FederationSettings()
    assert _keys(written) == set(dotted_keys(FederationSettings))


def _keys(values: dict[str, object], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in values.items():
        found |= _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found
