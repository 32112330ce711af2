"""Scores that a watch gathers round by round, against those of all rounds read at once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from in_process_sites import InProcessSites, PlainSite, altered_report, new_run

from fedpsyau_model.errors import RunFolderError
from fedpsyau_server.round_tail import RoundTail
from fedpsyau_server.rounds import RoundLoop
from fedpsyau_server.run_folder import RunFolder
from fedpsyau_server.watching.run_watch import RunWatch

HIDDEN = altered_report(confusion_received=None, confusion_trained=None)


def some_rounds(path: Path, count: int) -> RunFolder:
    """A run in which `b` is silent in round 2, and `c` keeps its scores back from round 3 on."""
    sites = {
        "a": PlainSite(10, 1.0, test_clips=60, confusions=_better_every_round),
        "b": PlainSite(20, 2.0, test_clips=60, confusions=_better_every_round, silent=(2,)),
        "c": PlainSite(30, 3.0, alters=dict.fromkeys(range(3, count + 1), HIDDEN)),
    }
    folder = new_run(path, tuple(sites), rounds={"rounds": count, "min-sites": 1})
    RoundLoop(folder, InProcessSites(sites)).run()
    return RunFolder.open(path)


def _better_every_round(number: int) -> tuple[list[int], list[int]]:
    return _right(number), _right(2 * number)


def _right(of_twenty: int) -> list[int]:
    """Counts in which as many of the twenty clips of each class are right."""
    wrong = 20 - of_twenty
    return [of_twenty, wrong, 0, 0, of_twenty, wrong, wrong, 0, of_twenty]


def scores_of(metrics: bytes) -> dict[tuple[str, str], float]:
    """UF1 by site and model, as a page of metrics has them."""
    pattern = r'^fedpsyau_uf1\{model="(\w+)",site="(\w+)"\} (\S+)$'
    return {
        (site, model): float(value)
        for model, site, value in re.findall(pattern, metrics.decode(), re.MULTILINE)
    }


def all_scores(folder: RunFolder) -> dict[tuple[str, str], float]:
    """The same, from the last replies in rounds.jsonl, read as a whole."""
    last = {}
    for line in (folder.path / "rounds.jsonl").read_text().splitlines():
        last |= json.loads(line)["sites"]
    return {
        (site, model): record[model]["uf1"]
        for site, record in last.items()
        for model in ("received", "trained")
        if record[model]["uf1"] is not None
    }


def rerun(finished: RunFolder, path: Path) -> list[tuple[RunFolder, str, str]]:
    """The same run anew without anything whole; with what each round adds to its two files."""
    folder = new_run(path, finished.config.sites, rounds={"rounds": finished.state.round})
    lines = (finished.path / "rounds.jsonl").read_text().splitlines(keepends=True)
    events = (finished.path / "events.jsonl").read_text().splitlines(keepends=True)
    done = [each for each in events if '"round-done"' in each]
    return [(folder, line, event) for line, event in zip(lines, done, strict=True)]


def append(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


def test_scores_gathered_are_those_of_all_rounds_read_at_once(tmp_path: Path) -> None:
    finished = some_rounds(tmp_path / "finished", 5)
    steps = rerun(finished, tmp_path / "growing")
    growing = steps[0][0]
    watch = RunWatch(growing)
    seen = [scores_of(watch.metrics())]
    for _, line, event in steps:
        append(growing.path / "rounds.jsonl", line)
        append(growing.path / "events.jsonl", event)
        seen.append(scores_of(watch.metrics()))
        assert seen[-1] == all_scores(growing) == scores_of(RunWatch(growing).metrics())
    assert seen[0] == {}
    assert seen[1].keys() == {(s, m) for s in "abc" for m in ("received", "trained")}
    assert seen[2]["b", "trained"] == seen[1]["b", "trained"]  # it was silent
    assert seen[3].keys() == {(s, m) for s in "ab" for m in ("received", "trained")}
    assert len({each["a", "trained"] for each in seen[1:]}) == 5


def test_no_line_is_read_twice(tmp_path: Path) -> None:
    steps = rerun(some_rounds(tmp_path / "finished", 3), tmp_path / "growing")
    growing = steps[0][0]
    watch = RunWatch(growing)
    path = growing.path / "rounds.jsonl"
    for _, line, event in steps[:2]:
        append(path, line)
        append(growing.path / "events.jsonl", event)
        watch.metrics()
    whole = all_scores(growing)
    path.write_text("#" * path.stat().st_size)  # as long as they were
    assert scores_of(watch.metrics()) == whole
    append(path, steps[2][1])
    append(growing.path / "events.jsonl", steps[2][2])
    found = scores_of(watch.metrics())
    assert found["a", "trained"] != whole["a", "trained"]


def test_a_line_that_a_killed_server_left_does_not_count(tmp_path: Path) -> None:
    finished = some_rounds(tmp_path / "finished", 3)
    lines = (finished.path / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    path = tmp_path / "rounds.jsonl"
    tail = RoundTail(tmp_path)
    path.write_bytes(lines[0] + lines[1][:40])
    assert [each["round"] for each in tail.new(1)] == [1]
    assert tail.new(1) == []
    with pytest.raises(RunFolderError, match=r"rounds\.jsonl"):
        tail.new(2)  # the state is never ahead of the lines, unless the folder is damaged
    path.write_bytes(b"".join(lines))
    assert [each["round"] for each in tail.new(3)] == [2, 3]
    assert finished.rounds() == [json.loads(line) for line in lines]
