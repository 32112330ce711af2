"""The round loop over plain sites, with numbers worked out by hand."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process_sites import (
    InProcessSites,
    PlainSite,
    altered_model,
    altered_report,
    new_run,
)

from fedpsyau_model.errors import QuorumError
from fedpsyau_model.exchange import pack_tensors
from fedpsyau_server import rounds, run_folder
from fedpsyau_server.fusion import Model
from fedpsyau_server.packed_model import PackedModel, unpacked
from fedpsyau_server.rounds import Reply, RoundLoop, run_rounds
from fedpsyau_server.run_folder import RunFolder

#: What `new_run` lets the sites start from, for its size.
WEIGHTS = {"w": np.zeros(2, dtype=np.float32)}


def run(
    path: Path, sites: Mapping[str, PlainSite], count: int, **sections: dict[str, Any]
) -> tuple[RunFolder, InProcessSites]:
    sections["rounds"] = {"rounds": count} | sections.get("rounds", {})
    folder = new_run(path, tuple(sorted(sites)), **sections)
    link = InProcessSites(sites)
    RoundLoop(folder, link).run()
    return RunFolder.open(path), link


def values(models: Mapping[str, Model | PackedModel]) -> dict[str, float]:
    tensors = {
        site: model if isinstance(model, dict) else unpacked(model)
        for site, model in models.items()
    }
    return {site: float(each["w"][0]) for site, each in tensors.items()}


def two_sites(**of_b: Any) -> dict[str, PlainSite]:
    return {"a": PlainSite(10, 1.0), "b": PlainSite(30, 5.0, **of_b)}


def events(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    lines = (folder.path / "events.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line))["event"] == kind]


# What sites are sent ------------------------------------------------------------------------------


def test_two_rounds_of_p_fedprox_by_hand(tmp_path: Path) -> None:
    folder, link = run(tmp_path / "run", two_sites(), 2, strategy={"theta": 0.75})
    # Round 1: w = (1, 5). g_a = 0.75 * 1 + 0.25 * 5 = 2, g_b = 0.75 * 5 + 0.25 * 1 = 4.
    assert values(link.sent[1]) == {"a": 0.0, "b": 0.0}
    assert values(link.sent[2]) == {"a": 2.0, "b": 4.0}
    # Round 2: w = (3, 9). g_a = 0.75 * 3 + 0.25 * 9, g_b = 0.75 * 9 + 0.25 * 3.
    assert values(folder.models()) == {"a": 4.5, "b": 7.5}
    assert values(folder.replies(2)) == {"a": 3.0, "b": 9.0}
    assert folder.state.status == "completed"
    assert folder.state.round == 2


def test_from_round_2_on_every_site_has_a_model_of_its_own(tmp_path: Path) -> None:
    sites = {name: PlainSite(10 + k, 1.0 + k) for k, name in enumerate("abcd")}
    _, link = run(tmp_path / "run", sites, 3)
    assert len(set(values(link.sent[1]).values())) == 1
    for number in (2, 3):
        assert len(set(values(link.sent[number]).values())) == 4


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
def test_with_one_global_model_all_sites_are_sent_the_same(tmp_path: Path, strategy: str) -> None:
    folder, link = run(tmp_path / "run", two_sites(), 3, strategy={"name": strategy})
    # Each round adds (10 * 1 + 30 * 5) / 40 = 4 to the one model.
    for number in (1, 2, 3):
        assert values(link.sent[number]) == {"a": 4.0 * (number - 1), "b": 4.0 * (number - 1)}
    assert values(folder.models()) == {"a": 12.0, "b": 12.0}


def test_local_sites_hear_nothing_of_each_other(tmp_path: Path) -> None:
    folder, _ = run(tmp_path / "run", two_sites(), 3, strategy={"name": "local"})
    assert values(folder.models()) == {"a": 3.0, "b": 15.0}


def test_with_theta_auto_the_others_mean_comes_along_and_the_choice_counts(
    tmp_path: Path,
) -> None:
    sites = {"a": PlainSite(10, 1.0, theta=1.0), "b": PlainSite(30, 5.0, theta=0.25)}
    folder, link = run(tmp_path / "run", sites, 2, strategy={"theta": "auto"})
    # Round 1: w = (1, 5), from which nobody can choose yet; a keeps its own, b is
    # 0.25 * 5 + 0.75 * 1 = 2, and each is sent what the other has trained.
    assert link.sent[1]["a"].keys() == {"w"}
    assert {site: float(model["others/w"][0]) for site, model in link.sent[2].items()} == {
        "a": 5.0,
        "b": 1.0,
    }
    assert values(link.sent[2]) == {"a": 1.0, "b": 2.0}
    assert link.all_clips == [0, 40]
    # Round 2: w = (2, 7): b is 0.25 * 7 + 0.75 * 2.
    assert values(folder.models()) == {"a": 2.0, "b": 3.25}
    assert folder.state.contributions["b"].theta == 0.25


# Silence and staleness ----------------------------------------------------------------------------


@pytest.mark.parametrize("silence", ["silent", "absent"])
def test_a_silent_site_contributes_while_it_is_not_too_old(tmp_path: Path, silence: str) -> None:
    # b answers in round 1 only: w_b = 4. With max-staleness 2 it counts in rounds 2 and 3.
    sites = {"a": PlainSite(10, 1.0), "b": PlainSite(30, 4.0, **{silence: (2, 3, 4, 5)})}
    folder, link = run(
        tmp_path / "run",
        sites,
        5,
        strategy={"theta": 0.5},
        rounds={"max-staleness": 2, "min-sites": 1, "keep-rounds": 0},
    )
    # a: w = 1, g = (1 + 4)/2 = 2.5; w = 3.5, g = 3.75; w = 4.75, g = 4.375; then b counts no more:
    # w = 5.375 and g = w as a is alone; w = g = 6.375.
    after = [values(folder.models(number)) for number in (1, 2, 3, 4, 5)]
    assert [models["a"] for models in after] == [2.5, 3.75, 4.375, 5.375, 6.375]
    # b keeps what it was given for its only answer: (4 + 1)/2.
    assert [models["b"] for models in after] == [2.5] * 5
    marks = [line["contributions"] for line in folder.rounds()]
    assert [sorted(mark) for mark in marks] == [["a", "b"]] * 3 + [["a"]] * 2
    assert marks[2]["b"] == {"round": 1, "clips": 30, "fisher_trace": 0.0, "theta": 0.0}
    line = folder.rounds()[2]
    assert line["answered"] == ["a"]
    assert line["silent"] == ["b"]
    assert line["absent"] == (["b"] if silence == "absent" else [])
    assert ("b" in link.sent[3]) == (silence == "silent")


def test_with_no_staleness_only_fresh_replies_count(tmp_path: Path) -> None:
    folder, _ = run(
        tmp_path / "run",
        two_sites(silent=(2,)),
        2,
        strategy={"theta": 0.5},
        rounds={"max-staleness": 0, "min-sites": 1},
    )
    # a: g = (1 + 5)/2 = 3, then w = 4 and it is alone. b keeps (5 + 1)/2.
    assert values(folder.models()) == {"a": 4.0, "b": 3.0}


def test_a_site_that_comes_back_goes_on_from_the_model_it_had(tmp_path: Path) -> None:
    _, link = run(
        tmp_path / "run",
        two_sites(absent=(2, 3)),
        4,
        strategy={"theta": 0.5},
        rounds={"min-sites": 1},
    )
    assert values(link.sent[4])["b"] == 3.0


def test_a_newcomer_starts_from_the_weighted_mean_of_the_others(tmp_path: Path) -> None:
    sites = {**two_sites(), "c": PlainSite(5, 100.0, absent=(1,))}
    folder, link = run(tmp_path / "run", sites, 2)
    # w of round 1: a 1 with 10 clips, b 5 with 30.
    assert values(link.sent[2])["c"] == (10 * 1 + 30 * 5) / 40
    assert "c" not in RunFolder.open(folder.path).models(1)
    assert "c" in folder.models()


def test_a_newcomer_that_stays_silent_keeps_what_it_was_sent(tmp_path: Path) -> None:
    sites = {**two_sites(), "c": PlainSite(5, 100.0, absent=(1,), silent=(2,))}
    folder, link = run(tmp_path / "run", sites, 3)
    assert values(link.sent[3])["c"] == values(link.sent[2])["c"] == 4.0
    assert folder.rounds()[1]["silent"] == ["c"]


# Faults -------------------------------------------------------------------------------------------


def not_finite(model: Model) -> Model:
    return {"w": np.full_like(model["w"], np.nan)}


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (altered_model(not_finite), "not finite"),
        (altered_model(lambda model: {"v": model["w"]}), "tensors missing: ['w']"),
        (lambda reply: Reply(reply.site, reply.report, b"junk"), "cannot be read"),
        (lambda reply: Reply(reply.site, fault="the site reported a failure"), "a failure"),
        (altered_report(train_clips=31), "claims 31 training clips, and enrolled 30"),
        (altered_report(round=7), "it answers for b, round 7"),
        (altered_report(run_id="other"), "the run other"),
        (altered_report(confusion_trained=[3]), "confusion_trained is not a 3 x 3 matrix"),
        (altered_report(partition="c"), "it answers for c, round 2, not for b, round 2"),
        (altered_report(partition="\n\x1b[2J" * 10**5), "it answers for \\n\\x1b[2J"),
        (altered_model(lambda model: {**model, "\nw": model["w"]}), "unexpected: ['\\nw']"),
        (altered_model(lambda model: {"w": model["w"].astype(np.float64)}), "is float64 (2,)"),
        (lambda reply: Reply(reply.site, reply.report, b""), "cannot be read"),
        (
            lambda reply: Reply(reply.site, reply.report, bytes(10**6)),
            "its model has 1000000 bytes",
        ),
    ],
)
def test_a_bad_reply_is_quarantined_and_the_round_goes_on(
    tmp_path: Path, alter: Any, reason: str
) -> None:
    sites = {
        "a": PlainSite(10, 1.0),
        "b": PlainSite(30, 5.0, alters={2: alter}),
        "c": PlainSite(10, 1.0),
    }
    folder, _ = run(tmp_path / "run", sites, 3, rounds={"keep-rounds": 0})
    line = folder.rounds()[1]
    assert reason in line["quarantined"]["b"]
    assert line["answered"] == ["a", "c"]
    assert line["silent"] == []
    assert "b" not in line["sites"]
    assert folder.replies(2).keys() == {"a", "c"}
    # It keeps its personal model, and its reply of the round before goes on counting.
    assert values(folder.models(2))["b"] == values(folder.models(1))["b"]
    assert line["contributions"]["b"]["round"] == 1
    assert folder.rounds()[2]["answered"] == ["a", "b", "c"]
    faults = {event["site"]: event["fault"] for event in events(folder, "reply") if event["fault"]}
    assert reason in faults["b"]


def test_reasons_are_single_bounded_lines(tmp_path: Path) -> None:
    spoilt = altered_report(run_id="x\ny\x1b" * 10**5)
    folder, _ = run(tmp_path / "run", two_sites(alters={1: spoilt}), 1, rounds={"min-sites": 1})
    reason = folder.rounds()[0]["quarantined"]["b"]
    assert reason.isprintable()
    assert len(reason) < 500


def test_a_site_whose_connection_broke_is_silent_and_nothing_is_held_against_it(
    tmp_path: Path,
) -> None:
    broke = two_sites(alters={2: lambda reply: Reply(reply.site, fault="it broke", lost=True)})
    folder, _ = run(tmp_path / "run", broke, 3, rounds={"min-sites": 1})
    line = folder.rounds()[1]
    assert (line["silent"], line["lost"], line["quarantined"]) == (["b"], {"b": "it broke"}, {})
    assert line["contributions"]["b"]["round"] == 1
    assert [event["fault"] for event in events(folder, "reply") if event["fault"]] == ["it broke"]
    assert folder.rounds()[2]["answered"] == ["a", "b"]


def test_an_update_far_beyond_the_median_is_quarantined(tmp_path: Path) -> None:
    sites = {name: PlainSite(10, 1.0) for name in "abc"} | {"d": PlainSite(10, 11.0)}
    folder, _ = run(tmp_path / "run", sites, 1, rounds={"max-update-ratio": 10.0})
    # Two weights move by 1 or by 11: norms sqrt(2) and 11 sqrt(2), more than 10 times the median.
    assert folder.rounds()[0]["quarantined"] == {
        "d": "its update norm 15.6 is beyond 10 times the median, 1.41"
    }
    assert values(folder.models()) == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}
    assert events(folder, "quarantined")[0]["site"] == "d"


def test_too_few_valid_replies_end_the_run_with_the_reasons(tmp_path: Path) -> None:
    sites = two_sites(alters={2: altered_model(not_finite)})
    folder = new_run(tmp_path / "run", ("a", "b"), rounds={"rounds": 3, "min-sites": 2})
    with pytest.raises(QuorumError) as error:
        RoundLoop(folder, InProcessSites(sites)).run()
    for part in ("Round 2 has 1 valid replies", "min-sites is 2", "b: tensor w holds", "--resume"):
        assert part in str(error.value)
    reopened = RunFolder.open(tmp_path / "run")
    assert reopened.state.round == 1
    assert reopened.models().keys() == {"a", "b"}


def test_too_few_connected_sites_end_the_run_with_their_names(tmp_path: Path) -> None:
    sites = two_sites(absent=(1,))
    folder = new_run(tmp_path / "run", ("a", "b"), rounds={"join-seconds": 7})
    with pytest.raises(QuorumError) as error:
        RoundLoop(folder, InProcessSites(sites)).run()
    for part in ("Only 1 of the 2 sites", "(a)", "Missing after 7 s: b", "min-sites is 2"):
        assert part in str(error.value)
    assert RunFolder.open(tmp_path / "run").state.round == 0


# Waiting for the quorum ---------------------------------------------------------------------------


class _LostFor(InProcessSites):
    """Sites of which b is lost in round 2, and answers only when asked the `tries`-th time more.

    Between two tries it is away for as many looks of the server as `looks` says.
    """

    def __init__(self, sites: Mapping[str, PlainSite], tries: int, looks: int = 0) -> None:
        super().__init__(sites)
        self.tries = tries
        self.looks = looks
        self.asked: list[tuple[int, list[str]]] = []

    def wait_for_sites(self, enough: int, seconds: float, among: Any = None) -> list[str]:
        present = super().wait_for_sites(enough, seconds, among)
        if among is not None and self.looks:
            self.looks -= 1
            present.remove("b")
        return present

    def exchange(self, orders: Any, seconds: float) -> Any:
        number = next(iter(orders.values())).order.round
        self.asked.append((number, sorted(orders)))
        lost = number == 2 and self.tries > 0
        for reply in super().exchange(orders, seconds):
            if reply.site == "b" and lost:
                self.tries -= 1
                yield Reply("b", fault="its connection was lost", lost=True)
            else:
                yield reply


def with_a_quorum_of_all(path: Path, **rounds: Any) -> RunFolder:
    return new_run(path, ("a", "b"), rounds={"rounds": 3, "min-sites": 2, **rounds})


@pytest.mark.parametrize(("tries", "looks"), [(1, 0), (2, 0), (1, 3)])
def test_a_lost_site_is_waited_for_and_the_run_is_as_if_nothing_had_been(
    tmp_path: Path, tries: int, looks: int
) -> None:
    link = _LostFor(two_sites(), tries, looks)
    folder = with_a_quorum_of_all(tmp_path / "lost")
    RoundLoop(folder, link).run()
    unbroken = with_a_quorum_of_all(tmp_path / "unbroken")
    RoundLoop(unbroken, InProcessSites(two_sites())).run()
    assert values(folder.models()) == values(unbroken.models())
    # Who has answered in the round is not asked again.
    assert link.asked == [(1, ["a", "b"]), (2, ["a", "b"]), *[(2, ["b"])] * tries, (3, ["a", "b"])]
    line = folder.rounds()[1]
    assert (line["answered"], line["quarantined"], line["lost"]) == (["a", "b"], {}, {})
    waiting = events(folder, "waiting")
    assert len(waiting) == tries + looks
    assert {(each["round"], each["needed"]) for each in waiting} == {(2, 1)}
    assert all(each["sites"] == ["b"] and each["seconds"] <= 3600 for each in waiting)


def test_without_time_to_wait_a_lost_site_ends_the_run(tmp_path: Path) -> None:
    folder = with_a_quorum_of_all(tmp_path / "run", **{"quorum-seconds": 0})
    with pytest.raises(QuorumError, match=r"b: its connection was lost\. Go on from round 1"):
        RoundLoop(folder, _LostFor(two_sites(), 1)).run()
    assert RunFolder.open(tmp_path / "run").state.round == 1


def test_a_site_that_never_comes_back_ends_the_run_when_the_time_is_over(tmp_path: Path) -> None:
    folder = with_a_quorum_of_all(tmp_path / "run")
    link = _LostFor(two_sites(), 1, looks=1000)
    with pytest.raises(QuorumError, match="Round 2 has 1 valid replies"):
        RoundLoop(folder, link).run()
    assert link.looks == 1000 - 3600 / rounds.NOTICE_SECONDS


def test_who_has_answered_wrongly_is_not_waited_for(tmp_path: Path) -> None:
    link = InProcessSites(two_sites(alters={2: altered_model(not_finite)}))
    folder = with_a_quorum_of_all(tmp_path / "run")
    with pytest.raises(QuorumError, match="not finite"):
        RoundLoop(folder, link).run()
    assert events(folder, "waiting") == []


def test_a_late_site_is_told_and_does_not_hold_up_a_round_that_has_its_quorum(
    tmp_path: Path,
) -> None:
    folder, _ = run(tmp_path / "run", two_sites(silent=(2,)), 2, rounds={"min-sites": 1})
    assert [(each["round"], each["site"]) for each in events(folder, "late")] == [(2, "b")]
    assert events(folder, "waiting") == []


def test_between_rounds_the_quorum_is_waited_for_and_missed_in_the_end(tmp_path: Path) -> None:
    sites = two_sites(absent=(2,))
    folder = with_a_quorum_of_all(tmp_path / "run", **{"quorum-seconds": 30})
    with pytest.raises(QuorumError, match=r"Missing for 30 s: b\. .*quorum-seconds"):
        RoundLoop(folder, InProcessSites(sites)).run()
    assert events(folder, "waiting")[0]["needed"] == 2


def test_a_whole_round_tells_of_its_phases(tmp_path: Path) -> None:
    folder, _ = run(tmp_path / "run", two_sites(), 1)
    done = events(folder, "round-done")[0]
    assert list(done["phases"]) == ["exchange", "fuse", "write"]
    assert done["seconds"] == pytest.approx(sum(done["phases"].values()), abs=0.002)
    assert {each["bytes"] for each in events(folder, "reply")} == {len(pack_tensors(WEIGHTS))}


def test_a_folder_that_cannot_be_written_does_not_hide_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_a_quorum_of_all(tmp_path / "run", **{"quorum-seconds": 0})

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    link = _LostFor(two_sites(), 1)
    link.wait_for_sites = lambda *_: monkeypatch.setattr(run_folder, "write_atomically", full)  # type: ignore[assignment,func-returns-value]
    with pytest.raises(TypeError):
        run_rounds(folder, link)
    assert events(folder, "failed")[0]["message"].startswith("TypeError")


def test_one_site_can_be_a_federation(tmp_path: Path) -> None:
    folder, _ = run(tmp_path / "run", {"a": PlainSite(10, 1.0)}, 2)
    assert values(folder.models()) == {"a": 2.0}


# The record ---------------------------------------------------------------------------------------


def test_a_rounds_line_holds_the_counts_and_their_scores(tmp_path: Path) -> None:
    received, trained = [2, 0, 0, 1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 1, 0, 1, 0, 0]
    sites = {"a": PlainSite(10, 1.0, test_clips=4, confusions=lambda _: (received, trained))}
    folder, _ = run(tmp_path / "run", sites, 1)
    site = folder.rounds()[0]["sites"]["a"]
    assert site["trained"]["confusion"] == [[2, 0, 0], [0, 1, 0], [1, 0, 0]]
    # F1 by class: 4/5, 1, 0. Recall: 1, 1, 0. Received: 4/6, 0, 0 and 1, 0, 0.
    assert site["trained"]["uf1"] == pytest.approx(1.8 / 3)
    assert site["trained"]["uar"] == pytest.approx(2 / 3)
    assert site["received"]["uf1"] == pytest.approx(2 / 9)
    assert site["received"]["uar"] == pytest.approx(1 / 3)
    assert site["update_norm"] == pytest.approx(2**0.5)
    assert (site["train_clips"], site["test_clips"]) == (10, 4)


def test_a_site_without_held_out_clips_has_no_score_and_the_line_is_json(tmp_path: Path) -> None:
    empty = [0] * 9
    sites = {"a": PlainSite(10, 1.0, test_clips=0, confusions=lambda _: (empty, empty))}
    folder, _ = run(tmp_path / "run", sites, 1)
    text = (folder.path / "rounds.jsonl").read_text()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    line = json.loads(text, parse_constant=refuse)
    assert line["sites"]["a"]["trained"]["uf1"] is None


# Going on -----------------------------------------------------------------------------------------


def eventful_sites() -> dict[str, PlainSite]:
    """Silence over the break, a newcomer after it, and a bad reply right before it."""
    return {
        "a": PlainSite(11, 0.1, fisher_trace=0.7, theta=0.8),
        "b": PlainSite(29, 0.31, silent=(3, 4), fisher_trace=1.9, theta=0.3),
        "c": PlainSite(7, -0.17, alters={3: altered_model(not_finite)}),
        "d": PlainSite(5, 0.23, absent=(1, 2, 3)),
    }


@pytest.mark.parametrize(
    "strategy",
    [{"name": "p-fedprox"}, {"theta": "auto"}, {"name": "fedas"}, {"name": "local"}],
    ids=lambda strategy: "-".join(strategy.values()),
)
@pytest.mark.parametrize("last_before_the_break", [1, 3, 5])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(
    tmp_path: Path, strategy: dict[str, str], last_before_the_break: int
) -> None:
    sections: dict[str, Any] = {
        "strategy": strategy,
        "rounds": {"rounds": 6, "min-sites": 1, "max-staleness": 2, "keep-rounds": 1},
    }
    names = ("a", "b", "c", "d")
    unbroken = new_run(tmp_path / "unbroken", names, initial=0.3, **sections)
    RoundLoop(unbroken, InProcessSites(eventful_sites())).run()
    broken = new_run(tmp_path / "broken", names, initial=0.3, **sections)
    stopping = _StopsAfter(eventful_sites(), last_before_the_break)
    with pytest.raises(KeyboardInterrupt):
        RoundLoop(broken, stopping).run()
    reopened = RunFolder.open(tmp_path / "broken")
    assert reopened.state.round == last_before_the_break
    RoundLoop(reopened, InProcessSites(eventful_sites(), last_before_the_break + 1)).run()

    for folder in ("models", "rounds/0006/models", "rounds/0006/replies"):
        expected = {file.name: file.read_bytes() for file in (unbroken.path / folder).iterdir()}
        found = {file.name: file.read_bytes() for file in (broken.path / folder).iterdir()}
        assert found == expected
    assert _without_seconds(reopened.rounds()) == _without_seconds(unbroken.rounds())


class _StopsAfter(InProcessSites):
    """Sites whose server is stopped in the middle of a round."""

    def __init__(self, sites: Mapping[str, PlainSite], rounds: int) -> None:
        super().__init__(sites)
        self._rounds = rounds

    def exchange(self, orders: Any, seconds: float) -> Any:
        for reply in super().exchange(orders, seconds):
            yield reply
            if len(self.sent) > self._rounds:
                raise KeyboardInterrupt


def _without_seconds(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_the_first_round_waits_for_all_and_a_resumed_one_for_those_that_took_part(
    tmp_path: Path,
) -> None:
    sites = {**two_sites(), "c": PlainSite(5, 1.0, absent=(1, 2, 3, 4))}
    folder = new_run(tmp_path / "run", ("a", "b", "c"), rounds={"rounds": 4, "min-sites": 1})
    stopping = _StopsAfter(sites, 2)
    with pytest.raises(KeyboardInterrupt):
        RoundLoop(folder, stopping).run()
    assert stopping.waited_for == [3, 1, 1]
    resumed = InProcessSites(sites, 3)
    RoundLoop(RunFolder.open(tmp_path / "run"), resumed).run()
    assert resumed.waited_for == [2, 1]


def test_a_run_that_is_complete_has_nothing_left_to_do(tmp_path: Path) -> None:
    folder, _ = run(tmp_path / "run", two_sites(), 2)
    again = InProcessSites(two_sites(), 3)
    RoundLoop(folder, again).run()
    assert again.sent == {}
