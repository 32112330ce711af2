"""Watching a real run: health, metrics, and logs from which nobody learns a path or a subject."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import Federation, run
from prometheus_client.parser import text_string_to_metric_families

from fedpsyau_model.child_process import free_port
from fedpsyau_model.errors import DataNotFoundError
from fedpsyau_model.log_lines import KEYS

pytestmark = pytest.mark.e2e

SITES = ("dfme_c1", "dfme_c2")
CONFIG = """
[network]
global-stream = false
[training]
epochs = 1
[rounds]
rounds = 2
"""

#: A word in the name of every folder that the test makes, with a blank before it.
MARK = "Ward Nine"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def subjects(data: Path) -> set[str]:
    found = set()
    for site in SITES:
        with (data / site / "clips.csv").open(newline="") as stream:
            found |= {row["subject"] for row in csv.DictReader(stream)}
    assert found
    return found


def assert_tells_no_secret(text: str, secrets: set[str]) -> None:
    for line in lines(text):
        assert set(line) <= set(KEYS), line
        words = set(line["message"].replace("'", " ").replace(",", " ").split())
        assert not words & secrets, line
    assert "Ward" not in text
    assert "Nine" not in text


def test_a_run_is_watched_and_its_logs_tell_no_secret(
    new_federation: Callable[..., Federation], twin: Path, tmp_path: Path
) -> None:
    data = tmp_path / f"data of {MARK}"
    for site in SITES:
        shutil.copytree(twin / site, data / site)
    federation = new_federation(MARK, data)
    federation.metrics_address = f"127.0.0.1:{free_port()}"
    federation.start_server(CONFIG, "--sites", ",".join(SITES), "--log-format", "json")
    federation.start_sites(SITES, "--log-format", "json")
    federation.wait_for_event("round-done", round=1)

    page = f"http://{federation.metrics_address}"
    answer = httpx.get(f"{page}/healthz", trust_env=False)
    assert answer.status_code == 200
    assert {"status": "running", "well": True, "rounds": 2, "sites_connected": 2}.items() <= (
        answer.json().items()
    )
    asked = run("fedpsyau-server", "health", "--address", federation.metrics_address)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["well"] is True
    metrics = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(
            httpx.get(f"{page}/metrics", trust_env=False).text
        )
        for sample in family.samples
    }
    for site in SITES:
        assert metrics["fedpsyau_sent_bytes_total", site] > 1_000_000
        assert metrics["fedpsyau_received_bytes_total", site] > 1_000_000
        assert 0 <= metrics["fedpsyau_uf1", "trained", site] <= 1
    assert metrics["fedpsyau_round_seconds_count",] >= 1
    assert metrics["fedpsyau_last_round_phase_seconds", "exchange"] > 0

    codes = federation.wait_for_all()
    assert set(codes.values()) == {0}, federation.log("server")
    asked = run("fedpsyau-server", "health", "--address", federation.metrics_address)
    assert asked.returncode == 1
    assert "no server answers" in asked.stderr
    secrets = subjects(twin)
    for name in ("server", *SITES):
        assert_tells_no_secret(federation.log(name), secrets)
    told = lines(federation.log("server"))
    assert [line["site"] for line in told if line["event"] == "joined"] != []
    assert [line["round"] for line in told if line["event"] == "round-done"] == [1, 2]
    assert {line["role"] for line in told} == {"server"}


def test_an_error_is_a_line_too_and_tells_no_secret(tmp_path: Path) -> None:
    finished = run(
        "fedpsyau-client",
        *("--partition", "a", "--data", tmp_path / MARK / "none", "--log-format", "json"),
        cwd=tmp_path,
    )
    assert finished.returncode == DataNotFoundError.exit_code
    assert finished.stdout == ""
    last = lines(finished.stderr)[-1]
    assert (last["event"], last["exit_code"], last["error"]) == ("error", 10, "DataNotFoundError")
    assert_tells_no_secret(finished.stderr, set())
