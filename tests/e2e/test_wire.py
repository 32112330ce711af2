"""What crosses the wire, captured and decoded, and the same from the sites' own audit logs."""

from __future__ import annotations

import csv
import getpass
import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import Federation, run
from safetensors.numpy import load_file
from wire import RecordingProxy, Sent, sent_by_site

from fedpsyau_model.exchange import (
    DISMISS,
    HELLO,
    MODEL_RECORD,
    TRAIN,
    VALUES_RECORD,
    Acknowledgement,
    Introduction,
    TrainingReport,
    unpack_tensors,
)

pytestmark = pytest.mark.e2e

SITES = ("dfme_c1", "dfme_c2", "casme3_c1")
ROUNDS = 2

#: What a site answers to each kind of message, and whether a model comes with it.
ANSWERS: dict[str, tuple[Any, bool]] = {
    HELLO: (Introduction, False),
    TRAIN: (TrainingReport, True),
    DISMISS: (Acknowledgement, False),
}


@pytest.fixture(scope="module")
def captured(
    tmp_path_factory: pytest.TempPathFactory, twin: Path
) -> tuple[Federation, dict[str, RecordingProxy]]:
    """A whole run of three sites without TLS, each behind a proxy of its own."""
    from fedpsyau_model.child_process import free_port

    federation = Federation(tmp_path_factory.mktemp("wire"), twin, free_port())
    with federation:
        federation.start_server(
            f"[training]\nepochs = 1\n[rounds]\nrounds = {ROUNDS}\n", "--sites", ",".join(SITES)
        )
        proxies = {site: RecordingProxy(federation.port) for site in SITES}
        for site, proxy in proxies.items():
            federation.start_site(site, "--superlink", f"127.0.0.1:{proxy.port}")
        codes = federation.wait_for_all()
    assert set(codes.values()) == {0}, federation.log("server")
    return federation, proxies


@pytest.fixture(scope="module")
def decoded(captured: tuple[Federation, dict[str, RecordingProxy]]) -> dict[str, Sent]:
    return {site: sent_by_site(proxy.from_site) for site, proxy in captured[1].items()}


def private_words(federation: Federation, partition: str) -> set[str]:
    """Words that must not leave the site: clips, subjects, paths, user and host names."""
    with (federation.data / partition / "clips.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    words = {row["clip"] for row in rows} | {row["subject"] for row in rows}
    words |= {str(federation.data), str(federation.folder), str(Path.home())}
    words |= {"clips.csv", "features.safetensors", "manifest.json"}
    words |= {socket.gethostname(), getpass.getuser() + "@", os.environ.get("LOGNAME", "") + "@"}
    return {word for word in words if len(word) >= 4}


def feature_samples(federation: Federation, partition: str) -> list[bytes]:
    """Stretches of the site's flow and patches, as they are stored and as float32."""
    found = []
    for array in load_file(federation.data / partition / "features.safetensors").values():
        for clip in array:
            values = clip.ravel()
            start = int(np.argmax(np.abs(values.astype(np.float32)) > 1e-3))
            stretch = values[start : start + 12]
            found += [stretch.tobytes(), stretch.astype(np.float32).tobytes()]
    return found


def payload(values: dict[str, Any], model: bytes) -> str:
    """The hash that docs/policy-and-audit.md describes."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode() + b"\n" + model).hexdigest()


def audit(federation: Federation, site: str, *arguments: object) -> str:
    finished = run(
        "fedpsyau-client",
        *("audit", "--partition", site, "--state", federation.folder / "state", *arguments),
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("site", SITES)
def test_only_records_of_the_closed_schema_leave_a_site(
    captured: tuple[Federation, dict[str, RecordingProxy]], decoded: dict[str, Sent], site: str
) -> None:
    federation, sent = captured[0], decoded[site]
    travels = {
        name: (tensor.shape, tensor.dtype)
        for name, tensor in load_file(federation.run_folder / "initial.safetensors").items()
    }
    kinds = [message.metadata.message_type for message in sent.messages]
    assert sorted(kinds) == sorted([HELLO, *[TRAIN] * ROUNDS, DISMISS])
    model_bytes = 0
    for message in sent.messages:
        kind, has_model = ANSWERS[message.metadata.message_type]
        records = message.content
        assert set(records) == {VALUES_RECORD, *([MODEL_RECORD] if has_model else [])}
        values = dict(records.config_records[VALUES_RECORD])
        assert kind.from_values(values).partition == site
        if has_model:
            assert set(records.array_records[MODEL_RECORD]) == {MODEL_RECORD}
            data = records.array_records[MODEL_RECORD][MODEL_RECORD].data
            tensors = unpack_tensors(data)
            assert {n: (t.shape, t.dtype) for n, t in tensors.items()} == travels
            # Every byte of it is a weight or the list of names.
            weights = sum(tensor.nbytes for tensor in tensors.values())
            assert len(data) - weights < 200 * len(tensors)
            model_bytes += len(data)
    # Every byte is accounted for: the models, and little beside them.
    total = sum(map(len, captured[1][site].from_site))
    assert model_bytes < total < model_bytes * 1.01 + 100_000
    assert sent.other_bytes < 150_000


@pytest.mark.parametrize("site", SITES)
def test_no_pixel_path_subject_or_clip_leaves_a_site(
    captured: tuple[Federation, dict[str, RecordingProxy]], site: str
) -> None:
    federation, proxies = captured
    sent = b"".join(bytes(each) for each in proxies[site].from_site)
    # The search would find what is there: the site's name, its counts, its weights.
    reply = federation.run_folder / "rounds" / f"{ROUNDS:04d}" / "replies" / f"{site}.safetensors"
    for there in (site.encode(), b"confusion_trained", reply.read_bytes()[-4000:-3000]):
        assert there in sent
    for word in private_words(federation, site):
        assert word.encode() not in sent, f"{word!r} left the site"
    samples = feature_samples(federation, site)
    assert len(samples) > 20
    for sample in samples:
        assert sample not in sent, "a stretch of a clip's features left the site"


@pytest.mark.parametrize("site", SITES)
def test_the_audit_log_says_what_the_wire_says(
    captured: tuple[Federation, dict[str, RecordingProxy]], decoded: dict[str, Sent], site: str
) -> None:
    federation = captured[0]
    text = audit(federation, site, "--json")
    lines = [json.loads(line) for line in text.splitlines()]
    out = [line for line in lines if line["direction"] == "out"]
    on_the_wire = []
    for message in decoded[site].messages:
        records = message.content
        model = records.array_records.get(MODEL_RECORD)
        values = dict(records.config_records[VALUES_RECORD])
        data = model[MODEL_RECORD].data if model else b""
        on_the_wire.append((message.metadata.message_type, values, payload(values, data)))
    told = [(line["kind"], line["values"], line["sha256"]) for line in out]
    assert sorted(told, key=str) == sorted(on_the_wire, key=str)
    # What came in was accepted, and is what the server says that it sent.
    came = [(line["kind"], line["decision"]) for line in lines if line["direction"] == "in"]
    assert came == [(HELLO, "accepted"), *[(TRAIN, "accepted")] * ROUNDS, (DISMISS, "accepted")]
    travels = load_file(federation.run_folder / "initial.safetensors")
    (listed,) = [line["tensors"] for line in lines if line["kind"] == "tensors"]
    assert {name: tuple(shape) for name, _, shape in listed} == {
        name: tensor.shape for name, tensor in travels.items()
    }
    for word in private_words(federation, site):
        assert word not in text, f"{word!r} is in the audit log"
    assert "are as they were written" in audit(federation, site, "--verify")
