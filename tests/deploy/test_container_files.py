"""What the files of the containers must say, as far as it shows without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedpsyau_model import __version__
from fedpsyau_model.settings import DEFAULT_SITES

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "deploy" / "container").glob("*.sh"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


@pytest.fixture(scope="module")
def sites(compose: dict[str, Any]) -> dict[str, Any]:
    return {
        name: service
        for name, service in compose["services"].items()
        if name not in {"prepare", "server"}
    }


def test_there_are_the_seven_sites(sites: dict[str, Any]) -> None:
    assert sorted(sites) == sorted(DEFAULT_SITES)


def test_each_site_reads_its_own_data_and_nobody_elses(sites: dict[str, Any]) -> None:
    for name, service in sites.items():
        assert service["volumes"] == [f"{name}:/site:ro", f"{name}_state:/state"]


def test_services_heal_and_may_do_little(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "ports" not in service, name
        if name != "prepare":
            assert service["restart"] == "always", name
            assert "cap_add" not in service, name
            assert service["networks"] == ["federation"], name
    assert compose["networks"]["federation"]["internal"] is True


@pytest.mark.parametrize("name", ["server", "site"])
def test_sites_on_their_own_machines_may_do_as_little(name: str) -> None:
    content = yaml.safe_load((ROOT / "deploy" / "compose" / f"{name}.yml").read_text())
    [service] = content["services"].values()
    assert service["restart"] == {"server": "on-failure", "site": "always"}[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert ("ports" in service) == (name == "server")
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert writable == {"server": ["./runs:/results"], "site": ["./state:/state"]}[name]


def test_one_service_builds_the_image_that_all_use(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert [name for name, service in services.items() if "build" in service] == ["prepare"]
    assert {service["image"] for service in services.values()} == {"fedpsyau:local"}
    never = {name for name, service in services.items() if service.get("pull_policy") == "never"}
    assert never == services.keys() - {"prepare"}


def test_the_label_says_the_version() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.findall(r'image[.]version="(.*?)"', dockerfile) == [__version__]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_in_order(script: Path) -> None:
    checker = ["shellcheck"] if shutil.which("shellcheck") else ["sh", "-n"]
    checked = subprocess.run(
        [*checker, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "set -eu" in script.read_text()


@pytest.mark.parametrize(
    ("status", "called"),
    [
        (
            None,
            ["fedpsyau-server --runs RUNS --run pilot --rounds 3", "fedpsyau report RUNS/pilot"],
        ),
        ("running", ["fedpsyau-server --resume RUNS/pilot", "fedpsyau report RUNS/pilot"]),
        ("failed", ["fedpsyau-server --resume RUNS/pilot", "fedpsyau report RUNS/pilot"]),
        ("completed", ["fedpsyau report RUNS/pilot"]),
    ],
)
def test_a_run_is_started_once_and_gone_on_with(
    tmp_path: Path, status: str | None, called: list[str]
) -> None:
    """The two commands are stood in for by what writes down how it was called."""
    calls = tmp_path / "calls"
    for command in ("fedpsyau-server", "fedpsyau"):
        program = tmp_path / command
        program.write_text(f'#!/bin/sh\necho "{command} $*" >> {calls}\n')
        program.chmod(0o755)
    if status is not None:
        (tmp_path / "runs" / "pilot").mkdir(parents=True)
        (tmp_path / "runs" / "pilot" / "state.json").write_text(json.dumps({"status": status}))
    serve = ROOT / "deploy" / "container" / "serve.sh"
    subprocess.run(
        ["sh", str(serve), str(tmp_path / "runs"), "pilot", "--rounds", "3"],
        env={"PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]])},
        timeout=30,
        check=True,
    )
    runs = str(tmp_path / "runs")
    assert calls.read_text().replace(runs, "RUNS").splitlines() == called
