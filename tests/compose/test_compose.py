"""docker-compose.yml for real: build, train with seven sites, crash, heal, take everything down.

`make test-compose` runs this. It needs an engine and ten minutes, and as many again where the image
has to be built.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedpsyau_model.settings import DEFAULT_SITES

pytestmark = [pytest.mark.compose, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
ROUNDS = 6
CRASHING_SITE = "dfme_c3"

#: What must not be found in the image: an index's password, and files that lay beside the sources.
PASSWORD = "password-of-an-index"
SECRETS = ("federation/ca.key", "client/fedpsyau_client/site.key", ".env")


@dataclass
class Clone:
    """A clean clone of the project, and the compose project that lives in it."""

    folder: Path
    command: tuple[str, ...]

    @property
    def run(self) -> Path:
        return self.folder / "results" / "first"

    def compose(self, *arguments: str) -> str:
        return called(*self.command, *arguments, cwd=self.folder)

    def container(self, service: str) -> str:
        return self.compose("ps", "-q", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(called("docker", "inspect", self.container(service)))[0]
        return found

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "exec", self.container(service), *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def crash(self, service: str, program: str) -> None:
        """Kill a program as a fault of its own would: from within, not by an operator's stop."""
        pattern = f"{program[:-1]}[{program[-1]}]"
        self.inside(
            service,
            *("sh", "-c"),
            f"for each in /proc/[0-9]*; do grep -qs '{pattern}' $each/cmdline "
            "&& kill -9 ${each#/proc/}; done",
        )

    def rounds(self) -> list[dict[str, Any]]:
        return json_lines(self.run / "rounds.jsonl")

    def in_round(self, number: int) -> bool:
        """Whether a round is under way in which some sites have answered and others have not."""
        events = json_lines(self.run / "events.jsonl")
        last = max(
            (i for i, each in enumerate(events) if each["event"] == "round-started"), default=0
        )
        after = [each["event"] for each in events[last:]]
        return bool(events) and events[last].get("round") == number and "round-done" not in after

    def wait_until(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"waited in vain for {what}:\n{self.compose('logs', '--no-color', '--tail=30')}"
                )
            time.sleep(0.5)


def called(*command: str, **options: Any) -> str:
    """Run a command to its end; returns what it printed."""
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=1800, check=False, **options
    )
    assert finished.returncode == 0, f"{shlex.join(command)}\n{finished.stdout}{finished.stderr}"
    return finished.stdout


def json_lines(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def left_behind(project: str) -> list[str]:
    """Containers, volumes and networks of a compose project."""
    label = f"label=com.docker.compose.project={project}"
    return [
        *called("docker", "ps", "--all", "--quiet", "--filter", label).split(),
        *called("docker", "volume", "ls", "--quiet", "--filter", label).split(),
        *called("docker", "network", "ls", "--quiet", "--filter", label).split(),
    ]


@pytest.fixture(scope="module")
def compose_command() -> tuple[str, ...]:
    given = os.environ.get("COMPOSE", "")
    for candidate in [given] if given else ["docker compose", "docker-compose"]:
        if (
            shutil.which(candidate.split()[0])
            and not subprocess.run(
                [*candidate.split(), "version"], capture_output=True, check=False
            ).returncode
        ):
            return tuple(candidate.split())
    pytest.fail("neither `docker compose` nor `docker-compose` works; COMPOSE names another")


@pytest.fixture(scope="module")
def clone(
    tmp_path_factory: pytest.TempPathFactory, compose_command: tuple[str, ...]
) -> Iterator[Clone]:
    """The sources as git has them, the wheels, and some files that must not get into the image."""
    folder = tmp_path_factory.mktemp("fedpsyau-compose")
    listed = called(*("git", "-C", str(ROOT)), "ls-files", "-co", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for wheel in (ROOT / "deploy" / "wheelhouse").glob("*.whl"):
        shutil.copy2(wheel, folder / "deploy" / "wheelhouse")
    for name in SECRETS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret")
    owner = os.getuid() or 1000
    (folder / ".env").write_text(
        f"FEDPSYAU_ROUNDS={ROUNDS}\nFEDPSYAU_SCALE=0.02\n"
        f"FEDPSYAU_UID={owner}\nFEDPSYAU_GID={owner}\n"
        f"PIP_EXTRA_INDEX_URL=https://somebody:{PASSWORD}@index.invalid/simple\n"
    )
    clone = Clone(folder, compose_command)
    try:
        yield clone
    finally:
        clone.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")


@pytest.fixture(scope="module")
def healed(clone: Clone) -> Clone:
    """A run to its end in which a site crashed in mid-round and the server in a later one."""
    clone.compose("up", "-d", "--build")
    clone.wait_until(lambda: clone.in_round(2), 900, "the second round")
    clone.crash(CRASHING_SITE, "fedpsyau-client")
    clone.wait_until(lambda: clone.in_round(3), 600, "the third round")
    clone.crash("server", "fedpsyau-server")
    clone.wait_until(
        lambda: "nothing more is done" in clone.compose("logs", "--no-color", "server"),
        1800,
        "the report",
    )
    return clone


def test_the_run_is_complete_with_every_site_in_the_last_round(healed: Clone) -> None:
    assert json.loads((healed.run / "state.json").read_text())["status"] == "completed"
    rounds = healed.rounds()
    assert [line["round"] for line in rounds] == list(range(1, ROUNDS + 1))
    assert rounds[-1]["answered"] == sorted(DEFAULT_SITES)


def test_models_and_report_are_on_the_host(healed: Clone) -> None:
    models = {path.stem for path in (healed.run / "models").glob("*.safetensors")}
    assert models == set(DEFAULT_SITES)
    assert any((healed.run / "report").iterdir())


def test_what_crashed_was_started_again(healed: Clone) -> None:
    for service in ("server", CRASHING_SITE):
        assert healed.inspect(service)["RestartCount"] >= 1, service


def test_the_server_stays_and_the_sites_wait(healed: Clone) -> None:
    for service in ("server", *DEFAULT_SITES):
        state = healed.inspect(service)["State"]
        assert state["Running"], service
    healed.wait_until(
        lambda: healed.inspect("server")["State"]["Health"]["Status"] == "healthy", 120, "health"
    )


def test_a_site_can_write_nothing_but_its_state(healed: Clone) -> None:
    for place, may in (("/site/data", False), ("/opt/fedpsyau", False), ("/state", True)):
        finished = healed.inside("dfme_c1", "touch", f"{place}/written")
        assert (finished.returncode == 0) == may, (place, finished.stderr)
    assert healed.inside("dfme_c1", "id", "-u").stdout.strip() != "0"


def test_a_site_sees_no_other_sites_files(healed: Clone) -> None:
    assert healed.inside("dfme_c1", "ls", "/site/data").stdout.split() == ["dfme_c1"]


def test_a_site_reaches_nothing_beyond_this_machine(healed: Clone) -> None:
    """Judged by the name server, which containers reach that are not shut in."""
    servers = re.findall(r"^nameserver ([0-9.]+)$", Path("/etc/resolv.conf").read_text(), re.M)
    outside = [server for server in servers if not server.startswith("127.")]
    if not outside:
        pytest.skip("this machine's name server is on it")
    connect = ("python", "-c", f"import socket; socket.create_connection(({outside[0]!r}, 53), 5)")
    free = subprocess.run(["docker", "run", "--rm", "fedpsyau:local", *connect], check=False)
    if free.returncode:
        pytest.skip("containers of this machine reach nothing anyway")
    assert healed.inside("dfme_c1", *connect).returncode == 1


def test_nothing_secret_is_in_the_image(healed: Clone) -> None:
    history = called("docker", "history", "--no-trunc", "fedpsyau:local")
    assert PASSWORD not in history + called("docker", "inspect", "fedpsyau:local")
    found = called(
        *("docker", "run", "--rm", "--user", "0", "--entrypoint", "sh", "fedpsyau:local", "-c"),
        "find / -xdev -name '*.key' -o -xdev -name .env -o -xdev -name '*.whl' -path '/source/*'",
    )
    assert found == ""


def test_down_leaves_results_and_nothing_else(healed: Clone) -> None:
    assert left_behind(healed.folder.name)
    began = time.monotonic()
    healed.compose("down", "--volumes")
    assert left_behind(healed.folder.name) == []
    assert time.monotonic() - began < 60
    assert (healed.run / "report").is_dir()
