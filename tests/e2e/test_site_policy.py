"""Sites with policies: what they allow happens, what they do not is refused by them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Federation, run, wait_until

from fedpsyau_model.addresses import answers
from fedpsyau_model.errors import (
    AuditChainError,
    AuditLogError,
    BundleRefusedError,
    PolicyRefusedError,
    QuorumError,
)
from fedpsyau_model.settings import FederationSettings, load_settings

pytestmark = pytest.mark.e2e

CONFIG = "[training]\nepochs = 1\n[rounds]\nrounds = 2\nmin-sites = 2\njoin-seconds = 400\n"


def one_error(federation: Federation, name: str, code: int, seconds: float = 240) -> str:
    """The one paragraph that a client ended with."""
    assert federation.wait(name, seconds) == code, federation.log(name)
    log = federation.log(name)
    assert "Traceback" not in log
    (error,) = [line for line in log.splitlines() if line.startswith("error: ")]
    return error


def client(*arguments: object, code: int = 0) -> str:
    finished = run("fedpsyau-client", *arguments)
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout + finished.stderr


@pytest.mark.slow
def test_a_policy_from_the_first_proposal_to_the_last_round(
    new_federation: Callable[..., Federation],
) -> None:
    """A site hears a proposal, agrees to it, keeps its scores to itself, and reads its log."""
    federation = new_federation()
    folder, site = federation.folder, "dfme_c2"
    federation.start_server(CONFIG, "--sites", "dfme_c1,dfme_c2")
    # Pinned from the coordinator's file by the one site, with everything allowed out ...
    client("policy", "init", "--config", folder / "federation.toml", "--out", folder / "c1.toml")
    federation.start_site("dfme_c1", "--policy", folder / "c1.toml")
    # ... and from what the server proposes by the other, which refuses everything at first.
    client("policy", "init", "--closed", "--out", folder / "closed.toml")
    federation.start_site(site, "--policy", folder / "closed.toml", name="closed")
    error = one_error(federation, "closed", PolicyRefusedError.exit_code)
    settings = load_settings(FederationSettings, folder / "federation.toml", environment={})
    assert settings.agreement_hash() in error
    assert "0" * 64 in error
    reason = federation.wait_for_event("refused", site=site)["reason"]
    assert "what this site's policy allows (agreement-hash)" in reason
    assert settings.agreement_hash() not in reason
    own = ("--partition", site, "--state", folder / "state")
    agreed = folder / "agreed.toml"
    client("policy", "init", "--proposed", *own, "--metrics", "seconds", "--out", agreed)
    assert settings.agreement_hash() in client("policy", "show", agreed)

    federation.start_site(site, "--policy", agreed)
    assert federation.wait("server") == 0, federation.log("server")
    for name in ("dfme_c1", site):
        assert federation.wait(name, 120) == 0, federation.log(name)
    for record in federation.rounds():
        assert record["sites"][site]["trained"] == {"confusion": None, "uf1": None, "uar": None}
        assert record["sites"][site]["loss_total"] is None
        assert record["sites"]["dfme_c1"]["loss_total"] > 0
    report = run("fedpsyau", "report", federation.run_folder).stdout
    assert re.search(rf"{site} +2 .*not shared", report)
    assert f"Not shared, by these sites' own policies: {site} (confusion, losses)" in report

    log = client("audit", *own)
    assert "refused" in log
    assert "agreement-hash" in log
    assert log.count("train.round") == 4
    whole = client("audit", *own, "--verify")
    last = re.search(r"last hash is ([0-9a-f]{64})", whole)
    assert last
    assert "sent" not in client("audit", *own, "--since", "2999-01-01")
    client("audit", *own, "--verify", "--holds", last[1])
    file = folder / "state" / site / "audit" / "000001.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-3]))  # what is cut off at the end shows by the hash alone
    client("audit", *own, "--verify")
    client("audit", *own, "--verify", "--holds", last[1], code=AuditChainError.exit_code)
    file.write_bytes(b"".join(lines).replace(b'"round":2', b'"round":1'))
    client("audit", *own, "--verify", code=AuditChainError.exit_code)
    federation.start_site(site, "--policy", agreed, name="after")
    assert "audit log" in one_error(federation, "after", AuditChainError.exit_code)


@pytest.mark.slow
def test_policies_that_do_not_fit(new_federation: Callable[..., Federation]) -> None:
    """Every key of a policy, each at a client of its own, against one waiting server."""
    federation = new_federation()
    federation.start_server(
        CONFIG + '[strategy]\ntheta = "auto"\n', "--sites", "dfme_c1,dfme_c2,dfme_c3,dfme_c4"
    )
    other = federation.folder / "other.toml"
    other.write_text("[training]\nepochs = 7\n")
    client("policy", "init", "--config", other, "--out", federation.folder / "dfme_c1.toml")
    for name, text in (
        ("dfme_c2", "max-rounds = 1"),
        ("dfme_c3", "min-sites = 3"),
        ("dfme_c4", 'metrics = ["losses"]'),
    ):
        (federation.folder / f"{name}.toml").write_text(text)
    expected = {
        "dfme_c1": ["agreement-hash: ", "training.epochs: here 7, there 1", "strategy.theta"],
        "dfme_c2": ["max-rounds: the run has 2, and 1 are allowed"],
        "dfme_c3": ["min-sites: runs count with 2 sites, and at least 3 are needed"],
        "dfme_c4": ["metrics: strategy p-fedprox needs theta", "losses"],
    }
    for name in expected:
        federation.start_site(name, "--policy", federation.folder / f"{name}.toml")
    for name, words in expected.items():
        error = one_error(federation, name, PolicyRefusedError.exit_code)
        for each in words:
            assert each in error
        reason = federation.wait_for_event("refused", site=name)["reason"]
        assert not any(each in reason for each in words)
    assert not list(federation.folder.glob("state/*/personal.safetensors"))


#: The real server, whose bundle holds more than it should.
PRETENDER = """
import contextlib, sys, types
from pathlib import Path
import fedpsyau_server.superlink as m
folder = Path(sys.argv.pop(1))
m.resources = types.SimpleNamespace(files=lambda _: folder, as_file=contextlib.nullcontext)
from fedpsyau_server.command import main
main()
"""


@pytest.mark.slow
def test_code_in_the_bundle(new_federation: Callable[..., Federation]) -> None:
    """The site says no with the bundle's hash and lives on; the run ends with a clear error."""
    federation = new_federation()
    folder = federation.folder / "evil"
    bundle = folder / "bundle"
    shutil.copytree(Path(__file__).parents[2] / "server" / "fedpsyau_server" / "bundle", bundle)
    project = bundle / "pyproject.toml"
    project.write_text(
        project.read_text().replace(
            'fab-include = ["LICENSE"]', 'fab-include = ["LICENSE", "helper/**/*.py"]'
        )
    )
    (bundle / "helper").mkdir()
    marker = federation.folder / "ran"
    (bundle / "helper" / "__init__.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = federation.folder / "federation.toml"
    config.write_text("[rounds]\nmin-sites = 1\njoin-seconds = 60\n")
    federation.start(
        "server",
        "python",
        *("-c", PRETENDER, folder, "--config", config, "--listen", federation.address),
        *("--runs", federation.folder / "runs", "--run", "test", "--sites", "dfme_c1"),
    )
    wait_until(lambda: answers(federation.address), 120, "the server's port")
    site = federation.start_site("dfme_c1", "--connect-seconds", 40)
    wait_until(
        lambda: "it holds 'helper/__init__.py'" in federation.log("dfme_c1"), 240, "the refusal"
    )
    assert site.poll() is None
    reason = federation.wait_for_event("refused", 240)["reason"]
    assert "bundle" in reason
    assert federation.wait("server", 240) == QuorumError.exit_code
    assert "refused: A site refuses this run" in federation.log("server")
    assert "Missing after 60 s: dfme_c1" in federation.log("server")
    error = one_error(federation, "dfme_c1", BundleRefusedError.exit_code)
    (told,) = set(re.findall(r"SHA-256 ([0-9a-f]{64})", federation.log("dfme_c1")))
    assert told in error
    lines = (federation.folder / "state" / "dfme_c1" / "audit" / "000001.jsonl").read_text()
    refused = [json.loads(line) for line in lines.splitlines()]
    assert any(told in line.get("why", "") for line in refused)
    assert not any(line.get("decision") == "accepted" for line in refused)
    fabs = [path.read_bytes() for path in federation.folder.rglob("*.fab")]
    assert all(hashlib.sha256(fab).hexdigest() == told for fab in fabs)
    assert not marker.exists()


@pytest.mark.slow
def test_nothing_leaves_that_cannot_be_written_down(
    new_federation: Callable[..., Federation],
) -> None:
    """The audit log's disk is full: the site ends before it sends a word."""
    federation = new_federation()
    federation.start_server("[rounds]\nmin-sites = 1\njoin-seconds = 30\n", "--sites", "dfme_c1")
    program = (
        "import os, sys; import fedpsyau_client.oversight.audit_log as m;"
        "write = os.write; room = [900]\n"
        "def full(file, data):\n"
        "    if file > 2 and data.startswith(b'{\"n\":'):\n"
        "        room[0] -= len(data)\n"
        "        if room[0] < 0: raise OSError(28, 'No space left on device')\n"
        "    return write(file, data)\n"
        "m.os.write = full\n"
        "from fedpsyau_client.command import main; main()"
    )
    federation.start(
        "dfme_c1",
        "python",
        *("-c", program, "--partition", "dfme_c1", "--data", federation.data),
        *("--superlink", federation.address, "--state", federation.folder / "state"),
    )
    error = one_error(federation, "dfme_c1", AuditLogError.exit_code)
    assert "No space left on device" in error
    assert federation.wait("server", 240) == QuorumError.exit_code
    assert not any(event["event"] == "joined" for event in federation.events())
