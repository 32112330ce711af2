"""A site's policy: what its file may say, what is written for an operator, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedpsyau_client.command import app
from fedpsyau_client.oversight.policy import (
    ALL_METRICS,
    Policy,
    join_differences,
    order_differences,
    read_policy,
    refusal,
    short_refusal,
)
from fedpsyau_client.oversight.policy_file import CLOSED, agreed_policy, policy_text
from fedpsyau_model.errors import OutputExistsError, SettingsError
from fedpsyau_model.exchange import hello
from fedpsyau_model.settings import FederationSettings

#: Settings of every kind: a matrix, numbers that JSON and TOML could spell differently, texts.
SETTINGS = FederationSettings.model_validate(
    {
        "network": {"priors": "file", "classes": "seven"},
        "priors": {"name": 'a "name" of ours', "intrinsic": [[1.0] * 12] * 12, "smoothing": 1e-5},
        "training": {"learning-rate": 1e-7, "epochs": 3},
        "strategy": {"theta": 1},
        "rounds": {"rounds": 30, "min-sites": 4},
    }
)


def test_a_policy_that_says_nothing_allows_everything() -> None:
    policy = Policy()
    assert join_differences(policy, SETTINGS.agreement(), 100_000, 1) == []
    assert order_differences(policy, 100_000, 1) == []
    assert policy.held_back == ()


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    policy = agreed_policy(SETTINGS.agreement(), 30, 4, ["losses"])
    file = tmp_path / "policy.toml"
    file.write_text(policy_text(policy))
    assert read_policy(file) == policy
    assert policy.agreement_hash == SETTINGS.agreement_hash()
    assert policy.held_back == ("confusion", "seconds")
    file.write_text(policy_text(CLOSED))
    assert read_policy(file) == CLOSED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max-round = 3", "max-rounds"),
        ("min_sites = 3", "min-sites"),
        ("min-sites = 0", "min-sites = 0"),
        ("max-rounds = 0", "max-rounds = 0"),
        ("max-message-mib = 0", "max-message-mib"),
        ('metrics = ["subjects"]', "metrics"),
        ('metrics = "all"', "metrics"),
        ('agreement-hash = "abc"', "64 hexadecimal digits"),
        ("[agreement]\nseed = 1", "agreement-hash is not that of section"),
        ("[agreement]\nserver = {}", "no part of an agreement: server"),
        ("[agreement.strategy]\nname = 'magic'", "strategy.name"),
        ("seed = ", "not valid TOML"),
    ],
)
def test_a_policy_that_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        read_policy(file)
    assert words in str(error.value)
    assert str(file) in str(error.value)


def test_an_edited_agreement_no_longer_fits_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    text = policy_text(agreed_policy(SETTINGS.agreement(), 30, 4, ALL_METRICS))
    assert "epochs = 3" in text
    file.write_text(text.replace("epochs = 3", "epochs = 4"))
    with pytest.raises(SettingsError, match="one of them was edited"):
        read_policy(file)


@pytest.mark.parametrize(
    ("changes", "rounds", "min_sites", "told"),
    [
        ({}, 30, 4, {}),
        ({}, 29, 5, {}),
        ({}, 31, 4, {"max-rounds": ["31", "30"]}),
        ({}, 30, 3, {"min-sites": ["3 sites", "at least 4"]}),
        ({}, 30, 1, {"min-sites": ["1 site,", "at least 4"]}),
        (
            {"training": {"learning-rate": 1e-7, "epochs": 30}},
            30,
            4,
            {"agreement-hash": ["training.epochs: here 3, there 30"]},
        ),
        ({"seed": 5}, 99, 1, {"agreement-hash": ["seed"], "max-rounds": [], "min-sites": []}),
    ],
)
def test_differences(
    changes: dict[str, Any], rounds: int, min_sites: int, told: dict[str, list[str]]
) -> None:
    policy = agreed_policy(SETTINGS.agreement(), 30, 4, ["losses"])
    proposed = FederationSettings.model_validate(SETTINGS.as_dict() | changes)
    found = join_differences(policy, proposed.agreement(), rounds, min_sites)
    assert {each.key for each in found} == set(told)
    for each in found:
        for words in told[each.key]:
            assert words in each.text
            assert words in str(refusal(found))
    short = short_refusal(found)
    assert short == (f"what this site's policy allows ({', '.join(sorted(told))})" if told else "")


def test_a_hash_alone_pins_the_settings_too() -> None:
    policy = Policy.model_validate({"agreement-hash": SETTINGS.agreement_hash()})
    assert join_differences(policy, SETTINGS.agreement(), 1, 1) == []
    other = SETTINGS.model_copy(update={"seed": 1})
    (found,) = join_differences(policy, other.agreement(), 1, 1)
    assert other.agreement_hash() in found.text
    assert SETTINGS.agreement_hash() in found.text


# The commands ---------------------------------------------------------------------------------


def run(*arguments: object) -> str:
    finished = CliRunner().invoke(app, ["policy", *map(str, arguments)], catch_exceptions=False)
    assert finished.exit_code == 0
    return finished.output


def test_init_from_the_settings_file(tmp_path: Path) -> None:
    config, out = tmp_path / "federation.toml", tmp_path / "policy.toml"
    config.write_text('[rounds]\nrounds = 12\n[server]\nsites = ["a", "b", "c"]\n')
    run("init", "--config", config, "--out", out)
    expected = FederationSettings().agreement_hash()
    policy = read_policy(out)
    assert (policy.agreement_hash, policy.max_rounds, policy.min_sites) == (expected, 12, 2)
    assert policy.metrics == ALL_METRICS
    shown = run("show", out)
    assert expected in shown
    assert "confusion, losses" in shown
    with pytest.raises(OutputExistsError):
        run("init", "--config", config, "--out", out)


def test_init_with_less(tmp_path: Path) -> None:
    config, out = tmp_path / "federation.toml", tmp_path / "policy.toml"
    config.write_text("")
    more = ("--min-sites", 5, "--max-rounds", 7, "--metrics", "losses, theta")
    run("init", "--config", config, "--out", out, *more)
    policy = read_policy(out)
    assert (policy.max_rounds, policy.min_sites) == (7, 5)
    assert policy.metrics == ("losses", "theta")
    with pytest.raises(SettingsError, match="metrics"):
        run("init", "--config", config, "--out", tmp_path / "other", "--metrics", "clips")
    run("init", "--config", config, "--out", tmp_path / "none.toml", "--metrics", "none")
    assert read_policy(tmp_path / "none.toml").metrics == ()


def test_init_from_what_the_server_proposed(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "a"
    options = ("--proposed", "--partition", "a", "--state", tmp_path / "state")
    with pytest.raises(SettingsError, match="--greet"):
        run("init", *options, "--out", tmp_path / "policy.toml")
    folder.mkdir(parents=True)
    proposal = hello(SETTINGS, "run").model_dump() | {"agreement": SETTINGS.agreement()}
    (folder / "proposed.json").write_text(json.dumps(proposal))
    run("init", *options, "--out", tmp_path / "policy.toml")
    policy = read_policy(tmp_path / "policy.toml")
    assert policy.agreement == SETTINGS.agreement()
    assert (policy.max_rounds, policy.min_sites) == (30, 4)
    (folder / "proposed.json").write_text("{}")
    with pytest.raises(SettingsError, match="cannot be read"):
        run("init", *options, "--out", tmp_path / "other.toml")


def test_init_needs_to_know_what_to_allow(tmp_path: Path) -> None:
    for wrong in ((), ("--closed", "--proposed")):
        with pytest.raises(SettingsError, match="one of them"):
            run("init", *wrong, "--out", tmp_path / "policy.toml")
    run("init", "--closed", "--out", tmp_path / "policy.toml")
    assert read_policy(tmp_path / "policy.toml") == CLOSED
