"""Who is taken in, who is refused, and what the refused are told."""

from __future__ import annotations

from typing import Any

import pytest

from fedpsyau_model import __version__
from fedpsyau_model.errors import (
    JoinRefusedError,
    NameNotYoursError,
    NameTakenError,
    UnknownPartitionError,
)
from fedpsyau_model.exchange import SCHEMA_VERSION, Introduction, hello
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.roster import Roster

SETTINGS = FederationSettings()


@pytest.fixture
def roster() -> Roster:
    return Roster(hello(SETTINGS, "run"), ("a", "b"), max_clips=10_000)


def introduction(
    partition: str = "a", instance: str = "11111111xx", **changes: Any
) -> Introduction:
    values: dict[str, Any] = {
        "partition": partition,
        "instance": instance,
        "version": __version__,
        "schema_version": SCHEMA_VERSION,
        "agreement_hash": SETTINGS.agreement_hash(),
        "train_clips": 10,
        "test_clips": 3,
        "synthetic": True,
        "refusal": "",
    }
    return Introduction(**values | changes)


def test_sites_that_agree_are_taken_in(roster: Roster) -> None:
    assert roster.admit(1, introduction("b"), {1}) is None
    assert roster.admit(2, introduction("a", "22222222xx"), {1, 2}) is None
    assert roster.present({1, 2, 3}) == ["a", "b"]
    assert roster.present({2}) == ["a"]
    assert roster.present(set()) == []
    assert (roster.site_of(1), roster.site_of(2), roster.site_of(3)) == ("b", "a", None)
    assert roster.members["b"].introduction.train_clips == 10


def test_an_unknown_partition_is_told_the_known_ones(roster: Roster) -> None:
    dismissal = roster.admit(1, introduction("zeta"), {1})
    assert dismissal is not None
    assert dismissal.exit_code == UnknownPartitionError.exit_code
    assert "'zeta'" in dismissal.reason
    assert "a, b" in dismissal.reason
    assert roster.members == {}


@pytest.mark.parametrize(
    ("changes", "both_values"),
    [
        ({"version": "9.9.9"}, [__version__, "9.9.9"]),
        ({"schema_version": 99}, [f"server: {SCHEMA_VERSION}", "a: 99"]),
        ({"agreement_hash": "f" * 64}, [SETTINGS.agreement_hash()[:12], "f" * 12]),
    ],
)
def test_a_disagreement_is_told_with_both_sides_values(
    roster: Roster, changes: dict[str, Any], both_values: list[str]
) -> None:
    dismissal = roster.admit(1, introduction(**changes), {1})
    assert dismissal is not None
    assert dismissal.exit_code == JoinRefusedError.exit_code
    for value in both_values:
        assert value in dismissal.reason
    assert roster.members == {}


def test_a_site_that_refuses_is_refused_in_its_own_words(roster: Roster) -> None:
    refusal = "settings (strategy.theta: here 0.8, there 0.9)"
    dismissal = roster.admit(1, introduction(refusal=refusal, agreement_hash="f" * 64), {1})
    assert dismissal is not None
    assert refusal in dismissal.reason
    assert dismissal.exit_code == JoinRefusedError.exit_code


def test_a_second_client_under_a_connected_name_is_refused(roster: Roster) -> None:
    roster.admit(1, introduction(instance="11111111xx"), {1})
    dismissal = roster.admit(2, introduction(instance="22222222xx"), {1, 2})
    assert dismissal is not None
    assert dismissal.exit_code == NameTakenError.exit_code
    assert "11111111" in dismissal.reason
    assert "22222222" in dismissal.reason
    assert "xx" not in dismissal.reason  # the token is what the name is bound to; not for others
    assert roster.members["a"].node_id == 1


def test_a_name_is_free_when_its_holder_is_gone(roster: Roster) -> None:
    roster.admit(1, introduction(instance="11111111xx"), {1})
    assert roster.admit(2, introduction(instance="22222222xx"), {2}) is None
    assert roster.members["a"].node_id == 2
    late = roster.admit(1, introduction(instance="11111111xx"), {1, 2})
    assert late is not None
    assert late.exit_code == NameTakenError.exit_code


def test_a_site_that_restarts_takes_its_place_back_at_once(roster: Roster) -> None:
    roster.admit(1, introduction(train_clips=10), {1})
    # Its old node still counts as connected until its heartbeat is overdue.
    assert roster.admit(2, introduction(train_clips=12), {1, 2}) is None
    assert roster.members["a"].node_id == 2
    assert roster.members["a"].introduction.train_clips == 12
    assert roster.site_of(1) is None


def test_a_node_may_introduce_itself_twice(roster: Roster) -> None:
    roster.admit(1, introduction(), {1})
    assert roster.admit(1, introduction(), {1}) is None


@pytest.mark.parametrize("key_of", ["b", "", None, "A"])
def test_a_key_gives_no_other_name_than_its_own(key_of: str | None) -> None:
    roster = Roster(hello(SETTINGS, "run"), ("a", "b"), keys=True)
    dismissal = roster.admit(1, introduction("a"), {1}, key_of)
    assert dismissal is not None
    assert dismissal.exit_code == NameNotYoursError.exit_code
    assert "'a'" in dismissal.reason
    assert repr(key_of) in dismissal.reason
    assert roster.members == {}
    assert roster.admit(2, introduction("a"), {1, 2}, "a") is None
    assert roster.members["a"].node_id == 2


def test_without_keys_names_are_free(roster: Roster) -> None:
    assert roster.admit(1, introduction("a"), {1}, "b") is None


def test_an_absurd_number_of_clips_is_refused(roster: Roster) -> None:
    assert roster.admit(1, introduction("a", train_clips=10_000), {1}) is None
    dismissal = roster.admit(2, introduction("b", train_clips=2**62), {1, 2})
    assert dismissal is not None
    assert dismissal.exit_code == JoinRefusedError.exit_code
    for part in (str(2**62), "at most 10000", "max-site-clips"):
        assert part in dismissal.reason


@pytest.mark.parametrize("field", ["partition", "version", "agreement_hash", "refusal"])
def test_a_refusal_is_one_bounded_line_whatever_the_client_said(roster: Roster, field: str) -> None:
    dismissal = roster.admit(1, introduction(**{field: "\n\x1b[2Jgone\n" * 100_000}), {1})
    assert dismissal is not None
    assert dismissal.reason.isprintable()
    assert len(dismissal.reason) < 5000
