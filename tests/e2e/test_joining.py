"""Who may take part: every refusal says both sides' values, at the server and at the site."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from processes import Federation, clean_environment

from fedpsyau_model import __version__
from fedpsyau_model.errors import (
    JoinRefusedError,
    NameTakenError,
    QuorumError,
    UnknownPartitionError,
)

pytestmark = pytest.mark.e2e

#: Two sites are expected, so the server goes on waiting while a third is refused.
CONFIG = "[training]\nepochs = 1\n[rounds]\nrounds = 1\njoin-seconds = 90\n"
EXPECTED = ("--sites", "dfme_c1,dfme_c2")


@pytest.fixture
def waiting(new_federation: Callable[..., Federation]) -> Federation:
    """A server that waits for dfme_c1 and dfme_c2, the first of which has joined."""
    federation = new_federation()
    federation.start_server(CONFIG, *EXPECTED)
    federation.start_site("dfme_c1")
    federation.wait_for_event("joined", site="dfme_c1")
    return federation


def refusal(federation: Federation, name: str) -> str:
    """What server and site both say, once the site has ended."""
    reason = federation.wait_for_event("refused", seconds=60)["reason"]
    assert reason in federation.log(name)
    return reason


def test_unknown_partition(waiting: Federation) -> None:
    site = waiting.start_site("dfme_c5")
    assert waiting.wait("dfme_c5", 60) == UnknownPartitionError.exit_code
    assert site.returncode == 20
    reason = refusal(waiting, "dfme_c5")
    assert "'dfme_c5'" in reason
    assert "dfme_c1, dfme_c2" in reason


@pytest.mark.slow
def test_taken_name(waiting: Federation) -> None:
    waiting.start_site("dfme_c1", "--state", waiting.folder / "elsewhere", name="second")
    assert waiting.wait("second", 60) == NameTakenError.exit_code
    reason = refusal(waiting, "second")
    first, second = (
        (waiting.folder / state / "dfme_c1" / "instance").read_text()[:8]
        for state in ("state", "elsewhere")
    )
    assert first in reason
    assert second in reason
    # The refusal did no harm: with the site that was waited for, the run ends well.
    waiting.start_site("dfme_c2")
    assert waiting.wait("server") == 0, waiting.log("server")
    assert waiting.wait("dfme_c1", 60) == 0


@pytest.mark.slow
def test_same_state_folder_twice(waiting: Federation) -> None:
    waiting.start_site("dfme_c1", name="second")
    assert waiting.wait("second", 60) == NameTakenError.exit_code
    assert str(waiting.processes["dfme_c1"].pid) in waiting.log("second")
    assert str(waiting.processes["second"].pid) in waiting.log("second")


def test_other_settings(waiting: Federation) -> None:
    agreed = waiting.folder / "agreed.toml"
    agreed.write_text("[loss]\nalpha4 = 0.5\n[training]\nepochs = 1\n")
    waiting.start_site("dfme_c2", "--config", agreed)
    assert waiting.wait("dfme_c2", 60) == JoinRefusedError.exit_code
    reason = refusal(waiting, "dfme_c2")
    assert "loss.alpha4" in reason
    assert "0.5" in reason
    assert "0.001" in reason
    assert "epochs" not in reason


@pytest.mark.slow
def test_the_same_settings_are_agreed_to(waiting: Federation) -> None:
    waiting.start_site("dfme_c2", "--config", waiting.folder / "federation.toml")
    assert waiting.wait("server") == 0, waiting.log("server")
    assert waiting.wait("dfme_c2", 60) == 0


@pytest.mark.slow
def test_other_version(waiting: Federation) -> None:
    """The real client, which believes that it is another version."""
    pretender = (
        "import fedpsyau_model; fedpsyau_model.__version__ = '99.0.1'; "
        "from fedpsyau_client.command import main; main()"
    )
    finished = subprocess.run(
        [
            *(sys.executable, "-c", pretender, "--partition", "dfme_c2"),
            *("--data", str(waiting.data), "--superlink", waiting.address),
            *("--state", str(waiting.folder / "state")),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        env=clean_environment(),
        check=False,
    )
    assert finished.returncode == JoinRefusedError.exit_code
    reason = waiting.wait_for_event("refused", seconds=10)["reason"]
    assert "99.0.1" in reason
    assert __version__ in reason
    assert reason in finished.stderr


@pytest.mark.slow
def test_too_few_sites(new_federation: Callable[..., Federation]) -> None:
    federation = new_federation()
    federation.start_server(CONFIG.replace("90", "15"), *EXPECTED)
    federation.start_site("dfme_c1")
    assert federation.wait("server", 90) == QuorumError.exit_code
    assert "Missing after 15 s: dfme_c2" in federation.log("server")
    assert "Traceback" not in federation.log("server")
