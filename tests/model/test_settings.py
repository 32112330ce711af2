"""How settings are read, what a wrong one is told, and what sites agree to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpsyau_client.settings import ClientSettings
from fedpsyau_experiments.paper.settings import ExperimentSettings
from fedpsyau_model.errors import SettingsError
from fedpsyau_model.settings import (
    CLIENT_KEYS,
    DEFAULT_SITES,
    EXPERIMENT_KEYS,
    OTHER_VARIABLES,
    FederationSettings,
    agreement_differences,
    agreement_hash,
    changed_settings,
    dotted_keys,
    environment_name,
    kebab_case,
    load_settings,
)
from fedpsyau_priors import published_priors


def load(
    text: str = "",
    tmp_path: Path | None = None,
    environment: dict[str, str] | None = None,
    **flags: Any,
) -> FederationSettings:
    file = None
    if tmp_path is not None:
        file = tmp_path / "federation.toml"
        file.write_text(text, encoding="utf-8")
    dotted = {key.replace("__", ".").replace("_", "-"): value for key, value in flags.items()}
    return load_settings(FederationSettings, file, dotted, environment or {})


ROOT = Path(__file__).parents[2]

PRIORS_IN_USE: dict[str, Any] = {"network": {"priors": "site"}}


def changed(key: str, value: Any) -> FederationSettings:
    section, _, name = key.rpartition(".")
    values = {section: {name: value}} if section else {key: value}
    if section == "priors":  # they are only allowed where they are used
        values = PRIORS_IN_USE | values
    return FederationSettings.model_validate(values)


# Reading ------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_paper() -> None:
    settings = load()
    assert (settings.loss.alpha1, settings.loss.alpha2, settings.loss.alpha3) == (0.8, 0.2, 0.2)
    assert settings.loss.alpha4 == 0.001
    assert (settings.strategy.name, settings.strategy.theta) == ("p-fedprox", 0.9)
    assert settings.network.beta == 0.3
    assert settings.rounds.max_staleness == 3
    assert settings.server.sites == DEFAULT_SITES
    assert len(DEFAULT_SITES) == 7


def test_later_sources_win(tmp_path: Path) -> None:
    text = '[loss]\nalpha1 = 0.1\nalpha2 = 0.2\nalpha3 = 0.3\n[strategy]\nname = "fedavg"\n'
    environment = {"FEDPSYAU_LOSS__ALPHA2": "0.22", "FEDPSYAU_LOSS__ALPHA3": "0.33"}
    settings = load(text, tmp_path, environment, loss__alpha3=0.333)
    assert (settings.loss.alpha1, settings.loss.alpha2, settings.loss.alpha3) == (0.1, 0.22, 0.333)
    assert settings.strategy.name == "fedavg"
    assert settings.loss.alpha4 == 0.001


def test_a_flag_that_was_not_given_changes_nothing(tmp_path: Path) -> None:
    assert load("[rounds]\nrounds = 7\n", tmp_path, rounds__rounds=None).rounds.rounds == 7


def test_keys_are_kebab_case(tmp_path: Path) -> None:
    assert load("[training]\nbatch-size = 8\n", tmp_path).training.batch_size == 8
    with pytest.raises(SettingsError, match=r"training\.batch_size = 8: there is no setting"):
        load("[training]\nbatch_size = 8\n", tmp_path)


def test_every_key_can_be_set_by_its_environment_variable() -> None:
    keys = dotted_keys(FederationSettings)
    assert {"seed", "strategy.batch-norm", "rounds.max-update-ratio", "server.sites"} <= set(keys)
    names = [environment_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert environment_name("strategy.batch-norm") == "FEDPSYAU_STRATEGY__BATCH_NORM"
    settings = load(
        environment={"FEDPSYAU_NETWORK__GRAPH": "false", "FEDPSYAU_SERVER__SITES": "a, b,c"}
    )
    assert settings.network.graph is False
    assert settings.server.sites == ("a", "b", "c")


def test_variables_of_others_are_left_alone() -> None:
    assert load(environment={"LOSS__ALPHA1": "5", "FEDPSYAU_DEBUG": "1"}) == load()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FEDPSYAU_LOSS_ALPHA4", "FEDPSYAU_LOSS__ALPHA4"),
        ("FEDPSYAU_ROUNDS__ROUND", "FEDPSYAU_ROUNDS__ROUNDS"),
        ("FEDPSYAU_SUPERLNK", "FEDPSYAU_SUPERLINK"),
        ("FEDPSYAU_LOG_FROMAT", "FEDPSYAU_LOG_FORMAT"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name} = '7' .*Did you mean {meant}\b"):
        load(environment={name: "7"})


def test_variables_of_the_other_role_and_those_that_are_no_settings_are_known() -> None:
    assert {kebab_case(name) for name in ClientSettings.model_fields} == set(CLIENT_KEYS)
    assert set(dotted_keys(ExperimentSettings)) - set(dotted_keys(FederationSettings)) == set(
        EXPERIMENT_KEYS
    )
    in_code = {
        found
        for package in ("fedpsyau_model", "priors", "client", "server", "experiments")
        for file in (ROOT / package).rglob("*.py")
        for found in re.findall(r'"(FEDPSYAU_[A-Z_]+[A-Z])"', file.read_text())
    }
    settings = {environment_name(key) for key in (*dotted_keys(FederationSettings), *CLIENT_KEYS)}
    assert in_code - settings <= OTHER_VARIABLES
    for name in OTHER_VARIABLES:
        load(environment={name: "1"})


# Changing what may be changed ---------------------------------------------------------------------


def test_what_may_be_changed_is_taken_from_the_environment_and_then_from_flags() -> None:
    settings = FederationSettings()
    environment = {
        "FEDPSYAU_ROUNDS__MIN_SITES": "5",
        "FEDPSYAU_SERVER__LISTEN": "127.0.0.1:1",
        "FEDPSYAU_ROUNDS__ROUNDS": "99",
    }
    keys = ("rounds.min-sites", "server.listen", "server.kit")
    flags = {"server.listen": "127.0.0.1:2", "server.kit": None, "rounds.rounds": None}
    changed = changed_settings(settings, keys, flags, environment)
    assert (changed.rounds.min_sites, changed.rounds.rounds) == (5, 20)
    assert (changed.server.listen, changed.server.kit) == ("127.0.0.1:2", None)
    assert changed.agreement_hash() == settings.agreement_hash()


def test_a_flag_for_what_is_fixed_is_refused_and_so_is_a_wrong_value() -> None:
    settings = FederationSettings()
    with pytest.raises(SettingsError, match=r"rounds\.rounds = '7' cannot be given here"):
        changed_settings(settings, ("server.listen",), {"rounds.rounds": 7}, {})
    with pytest.raises(SettingsError, match=r"server\.listen = 'x'"):
        changed_settings(settings, ("server.listen",), {"server.listen": "x"}, {})


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPSYAU_SEED", "41")
    assert load_settings(FederationSettings).seed == 41


# Wrong settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[strategy]\ntheta = 1.5", ["strategy.theta = 1.5", "less than or equal to 1"]),
        ("[strategy]\ntheta = nan", ["strategy.theta = nan", "finite number"]),
        ('[strategy]\ntheta = "own"', ["strategy.theta = 'own'", "valid number", "or 'auto'"]),
        ("[strategy]\ntheta-grid = []", ["strategy.theta-grid", "at least 1 item"]),
        ('[strategy]\nname = "fedmax"', ["strategy.name = 'fedmax'", "'p-fedprox', 'fedprox'"]),
        ('[network]\nclasses = "five"', ["network.classes = 'five'", "'three' or 'seven'"]),
        ("[training]\nbatch-size = 1", ["training.batch-size = 1", "greater than or equal to 2"]),
        ('[training]\nepochs = "many"', ["training.epochs = 'many'", "valid integer"]),
        ("[training]\ntest-share = 1.0", ["training.test-share = 1.0", "less than 1"]),
        ("[rounds]\nround-seconds = 0", ["rounds.round-seconds = 0", "greater than 0"]),
        ("seed = -1", ["seed = -1", "greater than or equal to 0"]),
        ('[server]\nlisten = "9092"', ["server.listen = '9092'", "HOST:PORT"]),
        ('[server]\nsites = ["a b"]', ["server.sites", "'a b'", "letters, digits, - and _"]),
        ('[server]\nsites = ["../up"]', ["server.sites", "'../up'", "letters, digits, - and _"]),
        ('[server]\nsites = ["a", "a"]', ["server.sites", "['a', 'a']", "each name once"]),
        ("[server]\nsites = []", ["server.sites", "[]", "at least one"]),
        (
            "[network]\nau-branch = false\nglobal-stream = false",
            ["network", "au-branch and global-stream are both off"],
        ),
        ("[rounds]\nround = 3", ["rounds.round = 3", "no setting", "did you mean rounds.rounds"]),
        ("thetta = 0.9", ["thetta = 0.9", "no setting"]),
    ],
)
def test_a_wrong_value_is_told_with_key_value_and_what_is_allowed(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    with pytest.raises(SettingsError) as error:
        load(text, tmp_path)
    for part in [*told, "federation.toml", "`fedpsyau settings`"]:
        assert part in str(error.value)


def test_all_wrong_values_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        load("seed = -1\n[strategy]\ntheta = 2.0\n[los]\nalpha1 = 1\n", tmp_path)
    for key in ("seed = -1", "strategy.theta = 2.0", "los = "):
        assert key in str(error.value)


def test_a_wrong_value_from_the_environment_is_told() -> None:
    with pytest.raises(SettingsError, match=r"rounds\.rounds = 'ten'.*valid integer"):
        load(environment={"FEDPSYAU_ROUNDS__ROUNDS": "ten"})


def test_a_section_must_be_a_section(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\[loss\] must be a section of settings, not 3"):
        load("loss = 3\n", tmp_path, {"FEDPSYAU_LOSS__ALPHA1": "1"})


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no settings file .*gone\.toml"):
        load_settings(FederationSettings, tmp_path / "gone.toml", environment={})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(FederationSettings, tmp_path, environment={})


@pytest.mark.parametrize("content", [b"theta: 0.9\n", b"[strategy\n", b"name = p-fedprox\n"])
def test_what_is_not_toml_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "federation.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"not valid TOML.*line 1"):
        load_settings(FederationSettings, file, environment={})


def test_what_is_not_text_is_told(tmp_path: Path) -> None:
    file = tmp_path / "federation.toml"
    file.write_bytes(b"seed = 1 # \xff\n")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(FederationSettings, file, environment={})


# The agreement ------------------------------------------------------------------------------------

#: A value other than the default for every key.
OTHER_VALUES: dict[str, Any] = {
    "seed": 1,
    "network.classes": "seven",
    "network.au-branch": False,
    "network.global-stream": False,
    "network.graph": False,
    "network.extrinsic-prior": False,
    "network.priors": "site",
    "network.intrinsic-edges": "complete",
    "network.beta": 0.2,
    "network.dropout": 0.4,
    "priors.name": "the others",
    "priors.cooccurrence": [[1.0] * 12] * 12,
    "priors.smoothing": 0.5,
    "priors.intrinsic": [[1.0] * 12] * 12,
    "loss.alpha1": 0.7,
    "loss.alpha2": 0.3,
    "loss.alpha3": 0.3,
    "loss.alpha4": 0.01,
    "loss.class-weights": False,
    "training.epochs": 3,
    "training.batch-size": 16,
    "training.learning-rate": 0.002,
    "training.weight-decay": 0.0,
    "training.learning-rate-schedule": "constant",
    "training.prior-schedule": "constant",
    "training.test-share": 0.2,
    "strategy.name": "fedavg",
    "strategy.theta": 0.8,
    "strategy.theta-grid": [0.0, 1.0],
    "strategy.theta-share": 0.3,
    "strategy.pull": 1.0,
    "strategy.head-epochs": 3,
    "strategy.align-epochs": 0,
    "strategy.finetune-epochs": 1,
    "strategy.batch-norm": "shared",
    "exchange.precision": "half",
    "rounds.rounds": 5,
    "rounds.min-sites": 3,
    "rounds.join-seconds": 5.0,
    "rounds.round-seconds": 5.0,
    "rounds.max-staleness": 0,
    "rounds.max-update-ratio": 3.0,
    "rounds.max-site-clips": 10,
    "rounds.keep-rounds": 0,
    "rounds.quorum-seconds": 1.0,
    "server.sites": ["a", "b"],
    "server.listen": "127.0.0.1:9999",
    "server.runs": "elsewhere",
    "server.start": "aus.safetensors",
    "server.kit": "federation",
    "server.insecure": True,
    "server.metrics-address": "127.0.0.1:1",
    "server.restarts": 0,
}


def test_other_values_are_known_for_every_key() -> None:
    assert set(OTHER_VALUES) == set(dotted_keys(FederationSettings))


@pytest.mark.parametrize("key", OTHER_VALUES)
def test_the_hash_changes_with_what_is_agreed_and_with_nothing_else(key: str) -> None:
    settings = changed(key, OTHER_VALUES[key])
    before = FederationSettings.model_validate(PRIORS_IN_USE if key.startswith("priors") else {})
    assert settings != before
    agreed = key.split(".")[0] not in ("rounds", "server")
    assert (settings.agreement_hash() != before.agreement_hash()) == agreed
    assert bool(agreement_differences(settings.agreement(), before.agreement())) == agreed


def test_the_hash_is_of_values_not_of_spelling(tmp_path: Path) -> None:
    written = load("[strategy]\ntheta = 1\n", tmp_path)
    assert written.agreement_hash() == changed("strategy.theta", 1.0).agreement_hash()
    assert len(written.agreement_hash()) == 64


def test_settings_come_back_from_their_plain_values() -> None:
    settings = changed("loss.alpha4", 0.01)
    assert FederationSettings.model_validate(settings.as_dict()) == settings


def test_differences_name_the_key_and_both_values() -> None:
    ours = changed("strategy.theta", 0.8).agreement()
    assert agreement_differences(ours, FederationSettings().agreement()) == [
        "strategy.theta: here 0.8, there 0.9"
    ]
    del ours["seed"]
    assert "seed: here (absent), there 0" in agreement_differences(
        ours, FederationSettings().agreement()
    )


@pytest.mark.parametrize(
    ("name", "proximal"),
    [("p-fedprox", True), ("fedprox", True), ("fedavg", False), ("local", False)],
)
def test_which_strategies_have_a_proximal_term(name: str, proximal: bool) -> None:
    assert changed("strategy.name", name).strategy.proximal is proximal


# Priors -------------------------------------------------------------------------------------------

#: Twelve AUs that occur once, alone.
ALONE = [[float(i == j) for j in range(12)] for i in range(12)]


def with_priors(whose: str, **priors: Any) -> FederationSettings:
    return FederationSettings.model_validate({"network": {"priors": whose}, "priors": priors})


def test_priors_of_a_file_are_used_and_what_it_leaves_out_is_published() -> None:
    shared = with_priors("file", name="ours", cooccurrence=ALONE, smoothing=0.5).shared_priors()
    assert shared.name == "ours"
    assert shared.counts[0, :2].tolist() == [1.5, 0.5]
    assert (shared.edges == published_priors().edges).all()
    shared = with_priors("file", intrinsic=ALONE).shared_priors()
    assert (shared.counts == published_priors().counts).all()
    assert (shared.edges == np.eye(12, dtype=bool)).all()


def test_what_is_done_to_the_edges_is_done_to_those_of_a_file_too() -> None:
    for whose, count in (("published", 12), ("extended", 14), ("complete", 144)):
        settings = FederationSettings.model_validate(
            {
                "network": {"priors": "file", "intrinsic-edges": whose},
                "priors": {"intrinsic": ALONE},
            }
        )
        assert settings.shared_priors().edges.sum() == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[network]\npriors = "file"', 'network.priors is "file", but section'),
        (f"[priors]\ncooccurrence = {ALONE}", 'set it to "file"'),
        ("[priors]\ncooccurrence = [[1, 2], [2]]", "rows differ in length"),
        ("[priors]\ncooccurrence = [[1, 2], [2, 1]]", r"shape \(2, 2\)"),
        (f"[priors]\nintrinsic = {[[0.5] * 12] * 12}", "nothing but 0 and 1"),
        (f"[priors]\ncooccurrence = {[[0] * 12] * 12}", "No clip shows AU1"),
        (f"[priors]\ncooccurrence = {[[-1] * 12] * 12}", "not negative"),
        ("[priors]\nsmoothing = -1", "greater than or equal to 0"),
    ],
)
def test_priors_that_cannot_be_used_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message) as refusal:
        load(text, tmp_path)
    assert len(str(refusal.value)) < 1500  # no matrix is printed in full


def test_sites_with_other_matrices_do_not_agree() -> None:
    ours, theirs = (
        with_priors("file", cooccurrence=(np.array(ALONE) * factor).tolist()).agreement()
        for factor in (1, 2)
    )
    (difference,) = agreement_differences(ours, theirs)
    assert re.fullmatch(
        r"priors\.cooccurrence: here .*sha256 \w{12}\), there .*sha256 \w{12}\)", difference
    )
    assert agreement_hash(ours) != agreement_hash(theirs)
