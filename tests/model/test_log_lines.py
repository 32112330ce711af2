"""Log lines: for collectors a closed set of keys, and no path whatever is logged."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedpsyau_model.command_line import print_error, print_notice, print_result, print_warning
from fedpsyau_model.log_lines import KEYS, hide_paths, start_logging, without_paths

log = logging.getLogger("fedpsyau_model.test")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_has_what_it_was_given_and_nothing_beyond_the_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start_logging("server", "json")
    fields = {"event": "reply", "site": "a", "round": 3, "fault": None, "path": "/data", "bytes": 7}
    log.warning("round %d", 3, extra={"fields": fields})
    (line,) = lines(capsys)
    assert line.pop("time").endswith("+00:00")  # type: ignore[attr-defined]
    assert line == {
        **{"level": "warning", "role": "server", "event": "reply", "site": "a", "round": 3},
        **{"bytes": 7, "message": "round 3"},
    }
    assert set(line) <= set(KEYS)


def test_a_site_is_named_in_each_of_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("client", "json", "dfme_c1")
    log.info("hello")
    assert [(line["role"], line["site"], line["event"]) for line in lines(capsys)] == [
        ("client", "dfme_c1", "note")
    ]


def test_text_stays_as_people_know_it(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("client", "text", "100%")
    log.info("run folder %s", "/data/run")
    assert capsys.readouterr().err.endswith(" 100% run folder /data/run\n")


def test_a_traceback_is_told_by_its_name_only(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("client", "json", "a")
    try:
        raise OSError("/data/subject7")
    except OSError:
        log.exception("cannot answer")
    (line,) = lines(capsys)
    assert (line["error"], line["message"]) == ("OSError", "cannot answer")


def test_what_a_command_says_becomes_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("server", "json")
    print_notice("n")
    print_warning("w")
    print_error("The run folder /data/x is full.", "RunFolderError", 41)
    print_result("done: runs/x")
    captured = capsys.readouterr()
    assert captured.out == ""
    told = [json.loads(line) for line in captured.err.splitlines()]
    assert [(line["event"], line["level"]) for line in told] == [
        *(("notice", "info"), ("warning", "warning"), ("error", "error"), ("result", "info"))
    ]
    assert (told[2]["exit_code"], told[2]["error"]) == (41, "RunFolderError")
    assert told[2]["message"] == "The run folder <path> is full."
    assert told[3]["message"] == "done: <path>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run folder /srv/a/b", "run folder <path>"),
        ("There is no data/dfme_c1.", "There is no <path>."),
        ("(../x/y, './z/w'): no", "(<path>, '<path>'): no"),
        ("go on with --resume runs/x; now", "go on with --resume <path>; now"),
        ("--kit=/etc/kit is old", "--kit=<path> is old"),
        ("round 1: 3.5 s, UF1 0.4", "round 1: 3.5 s, UF1 0.4"),
        ("at http://127.0.0.1:9190/healthz and /metrics", None),
        ("plaintext on 127.0.0.1:9092; this is allowed", None),
    ],
)
def test_words_that_look_like_paths_are_blanked(text: str, expected: str | None) -> None:
    assert without_paths(text) == (expected or text)


def test_paths_with_blanks_are_hidden_where_they_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start_logging("client", "json", "a")
    hide_paths([Path("/mnt/Dr Smith/clips"), None])
    log.info("no /mnt/Dr Smith/clips/s7 there")
    assert lines(capsys)[0]["message"] == "no <path> there"
