"""The audit log: what is written stays readable, and what was changed shows."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fedpsyau_client.oversight import audit_log
from fedpsyau_client.oversight.audit_chain import START, ChainEnd, audit_files, read_chain
from fedpsyau_client.oversight.audit_log import AuditLog
from fedpsyau_client.oversight.message_facts import MessageFacts, TensorFacts, payload_hash
from fedpsyau_model.errors import AuditChainError, AuditLogError

TENSORS = TensorFacts((("a.weight", "F32", (3, 4)), ("b", "F32", ())))


def facts(number: int = 1, tensors: TensorFacts | None = TENSORS) -> MessageFacts:
    return MessageFacts("train.round", "run", number, {"round": number}, tensors, 60, "ab" * 32)


def write(folder: Path, lines: int) -> None:
    with AuditLog(folder) as log:
        for number in range(lines):
            log.received(facts(number))


def contents(folder: Path) -> list[dict[str, Any]]:
    return [entry.content for entry in read_chain(audit_files(folder), ChainEnd())]


def test_a_line_names_the_hash_of_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "audit", 2)
    lines = (tmp_path / "audit" / "000001.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["n"] for line in lines] == [1, 2, 3, 4]
    previous = [START, *(hashlib.sha256(line).hexdigest() for line in lines)]
    assert [json.loads(line)["prev"] for line in lines] == previous[:-1]
    assert (tmp_path / "audit" / "000001.jsonl").stat().st_mode & 0o777 == 0o600


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    write(tmp_path, 2)
    before = (tmp_path / "000001.jsonl").read_bytes()
    write(tmp_path, 1)
    assert (tmp_path / "000001.jsonl").read_bytes().startswith(before)
    kinds = [each["kind"] for each in contents(tmp_path)]
    # The list of tensors stands there once: the second start found it.
    assert kinds == ["opened", "tensors", "train.round", "train.round", "opened", "train.round"]


def test_a_full_file_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "LARGEST_FILE", 1000)
    write(tmp_path, 8)
    write(tmp_path, 8)
    files = audit_files(tmp_path)
    assert [file.name for file in files] == [f"{n:06d}.jsonl" for n in range(1, len(files) + 1)]
    assert len(files) > 3
    everything = contents(tmp_path)
    assert [each["n"] for each in everything] == list(range(1, len(everything) + 1))
    for file in files:  # each can be read by itself: it lists the tensors that it refers to
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert {each["tensors"]["list"] for each in lines if each["kind"] == "train.round"} <= {
            each["list"] for each in lines if each["kind"] == "tensors"
        }


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_half_a_line_is_noted_and_the_chain_goes_on(tmp_path: Path, cut: int) -> None:
    write(tmp_path, 3)
    file = tmp_path / "000001.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    write(tmp_path, 1)
    kinds = [each["kind"] for each in contents(tmp_path)]
    if cut == 1:  # the line feed alone was missing
        assert kinds.count("torn-line") == 0
        assert kinds.count("train.round") == 4
        return
    assert kinds[-3:] == ["torn-line", "opened", "train.round"]
    note = contents(tmp_path)[-3]
    torn = whole[whole.rstrip().rindex(b"\n") + 1 : -cut]
    assert (note["bytes"], note["sha256"]) == (len(torn) + 1, hashlib.sha256(torn).hexdigest())


def test_half_a_line_after_half_a_line(tmp_path: Path) -> None:
    write(tmp_path, 3)
    file = tmp_path / "000001.jsonl"
    file.write_bytes(file.read_bytes()[:-30])
    write(tmp_path, 0)
    text = file.read_bytes()
    # The note on the first half line became a half line itself.
    file.write_bytes(text[: text.index(b'"torn-line"') + 5])
    write(tmp_path, 0)
    assert [each["kind"] for each in contents(tmp_path)][-2:] == ["torn-line", "opened"]


# What somebody may do to the lines of a log.


def _drop(lines: list[bytes]) -> list[bytes]:
    return lines[:2] + lines[3:]


def _change(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"accepted"', b'"refused"') for line in lines]


def _swap(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def _put_in(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[1], *lines[2:]]


def _blank(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], b"...\n", *lines[3:]]


def _no_beginning(lines: list[bytes]) -> list[bytes]:
    return lines[1:]


@pytest.mark.parametrize("change", [_drop, _change, _swap, _put_in, _blank, _no_beginning])
def test_changes_show(tmp_path: Path, change: Any) -> None:
    write(tmp_path, 4)
    file = tmp_path / "000001.jsonl"
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    with pytest.raises(AuditChainError, match="line"):
        contents(tmp_path)
    with pytest.raises(AuditChainError):  # and no client goes on from there
        AuditLog(tmp_path)


def test_a_missing_file_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "LARGEST_FILE", 1000)
    write(tmp_path, 20)
    (tmp_path / "000002.jsonl").unlink()
    with pytest.raises(AuditChainError, match=r"000003\.jsonl line 1"):
        contents(tmp_path)


def test_older_files_may_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "LARGEST_FILE", 1000)
    write(tmp_path, 20)
    for file in audit_files(tmp_path)[:-2]:
        file.unlink()
    write(tmp_path, 1)
    entries = list(read_chain(audit_files(tmp_path), ChainEnd(), anchored=False))
    assert entries[0].content["n"] > 1
    assert entries[-1].content["kind"] == "train.round"


@pytest.mark.parametrize("place", ["full", "read-only", "file"])
def test_a_log_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / "audit"
    if place == "file":
        folder.touch()
        with pytest.raises(AuditLogError, match="audit"):
            AuditLog(folder)
        return
    with AuditLog(folder) as log:
        if place == "full":
            write = os.write
            monkeypatch.setattr(
                os,
                "write",
                lambda file, data: write(file, data[:9] if file == log._file else data),
            )
        else:
            os.close(log._file)
            log._file = os.open(folder / "000001.jsonl", os.O_RDONLY)
        with pytest.raises(AuditLogError, match="cannot be written"):
            log.sent(facts())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk(tmp_path: Path) -> None:
    """The kernel's own refusal: what is written to /dev/full finds no room."""
    with AuditLog(tmp_path) as log:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, log._file)
        os.close(full)
        with pytest.raises(AuditLogError, match="No space left on device"):
            log.sent(facts())


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "000001.jsonl").symlink_to("/dev/zero")
    with pytest.raises(AuditLogError, match="device"):
        AuditLog(tmp_path)


def test_kill_9_while_it_writes(tmp_path: Path) -> None:
    """Whatever moment it hits, the chain holds, and no line that was reported is lost."""
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from test_audit_log import facts; "
        "from fedpsyau_client.oversight.audit_log import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "n = 0\n"
        "while True:\n"
        "    log.sent(facts(n)); sys.stdout.write(f'{n}\\n'); sys.stdout.flush(); n += 1\n"
    )
    told = 0
    for pause in (0.02, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        told += 1 + len(process.stdout.read().splitlines())
        process.wait()
    write(tmp_path, 0)
    assert sum(each["kind"] == "train.round" for each in contents(tmp_path)) >= told > 2


def test_the_hash_of_a_payload_is_that_of_its_canonical_text() -> None:
    expected = hashlib.sha256(b'{"a":[1,2],"b":"x"}\nmodel').hexdigest()
    assert payload_hash({"b": "x", "a": [1, 2]}, b"model") == expected
