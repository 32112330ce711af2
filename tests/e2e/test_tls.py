"""Federations over TLS with kits: who is let in, who is refused and how, and what is reachable."""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from listening import listening
from processes import SCRIPTS, Federation, clean_environment, run

from fedpsyau_model.certificates import read_certificate
from fedpsyau_model.child_process import flower_environment, free_port
from fedpsyau_model.errors import (
    CertificateDatesError,
    ClockSkewError,
    KeyInUseError,
    KeyRefusedError,
    KitError,
    NameNotYoursError,
    PolicyRefusedError,
    PrivateKeyError,
    ServerNotTrustedError,
    TransportMismatchError,
)
from fedpsyau_model.private_keys import new_site_key, site_key_file
from fedpsyau_server.kits.authority import certificate_pem, issue_server_certificate, key_pem
from fedpsyau_server.kits.server_kit import read_tls_key

pytestmark = pytest.mark.e2e

SITES = ("dfme_c1", "dfme_c2", "dfme_c3")

#: How the clients of one server differ from a good one, and how each ends.
ENDS = {
    "unregistered": KeyRefusedError,
    "other-authority": ServerNotTrustedError,
    "other-name": ServerNotTrustedError,
    "plaintext": TransportMismatchError,
    "no-key": PrivateKeyError,
    "name-of-another": NameNotYoursError,
    "second-with-one-key": KeyInUseError,
}


def provision(
    folder: Path,
    port: int,
    sites: tuple[str, ...] = SITES,
    hosts: tuple[str, ...] = ("127.0.0.1",),
) -> Path:
    finished = run(
        "fedpsyau-server",
        *("provision", "--sites", ",".join(sites), "--host", ",".join(hosts)),
        *("--port", port, "--out", folder),
    )
    assert finished.returncode == 0, finished.stderr
    return folder


def unpack(kit: Path, site: str, to: Path) -> Path:
    """A site's kit as a folder, to be spoiled."""
    with tarfile.open(kit / "kits" / f"{site}.tar.gz") as archive:
        archive.extractall(to)
    return to / site


def start_with_kit(
    federation: Federation, name: str, kit: Path, *arguments: object
) -> subprocess.Popen[bytes]:
    return federation.start(
        name,
        "fedpsyau-client",
        *("--kit", kit, "--data", federation.data, "--threads", 1),
        *("--state", federation.folder / f"state-{name}", *arguments),
    )


def expect_one_paragraph(federation: Federation, name: str, code: int) -> str:
    """The site has ended with `code` and one error paragraph, which is returned."""
    assert federation.wait(name, 180) == code, federation.log(name)
    log = federation.log(name)
    assert "Traceback" not in log
    errors = [line for line in log.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, log
    return errors[0]


def test_a_federation_over_tls(tmp_path: Path, twin: Path) -> None:
    """It ends well, nobody but the Fleet port can be reached, and the wire shows no name."""
    federation = Federation(tmp_path, twin, free_port(), listen_on="0.0.0.0")
    kit = provision(tmp_path / "kit", federation.port)
    with federation:
        federation.start_server("[training]\nepochs = 1\n[rounds]\nrounds = 2\n", "--kit", kit)
        for site in SITES:
            start_with_kit(federation, site, kit / "kits" / f"{site}.tar.gz")
        federation.wait_for_event("round-started", round=1)
        sockets = {name: listening(each.pid) for name, each in federation.processes.items()}
        reachable = {
            (name, port)
            for name, addresses in sockets.items()
            for host, port in addresses
            if not ipaddress.ip_address(host).is_loopback
        }
        assert reachable == {("server", federation.port)}
        # The sites' task interfaces and the server's control interface are there, on loopback.
        assert all(sockets.values())
        assert len(sockets["server"]) > 1
        assert set(federation.wait_for_all().values()) == {0}, federation.log("server")
    assert [len(each["sites"]) for each in federation.rounds()] == [3, 3]
    assert "TLS and keys" in federation.log("server")


def test_a_client_that_is_killed_leaves_no_key(
    tmp_path: Path, twin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path / "federation", twin, free_port())
    federation.folder.mkdir()
    kit = provision(tmp_path / "kit", federation.port)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with federation:
        federation.start_server("", "--kit", kit)
        monkeypatch.setenv("TMPDIR", str(temporary))
        site = start_with_kit(federation, "site", kit / "kits" / "dfme_c1.tar.gz")
        federation.wait_for_event("joined", site="dfme_c1")
        assert any(temporary.glob("fedpsyau-kit-*/site.key"))  # or this test looks elsewhere
        site.kill()
        site.wait(30)
        left = [
            path
            for folder in (temporary, federation.folder)
            for path in folder.rglob("*")
            if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
        ]
    assert left == []


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory, twin: Path) -> Iterator[Federation]:
    """One TLS server, a good site, one to be revoked, and every bad client at the same time."""
    folder = tmp_path_factory.mktemp("refusals")
    federation = Federation(folder, twin, free_port(), listen_on="0.0.0.0")
    kit = provision(folder / "kit", federation.port)
    stranger = provision(folder / "stranger", federation.port)
    with federation:
        federation.start_server("[rounds]\njoin-seconds = 900\n", "--kit", kit)
        good = kit / "kits" / "dfme_c1.tar.gz"
        start_with_kit(federation, "good", good)
        start_with_kit(federation, "to-be-revoked", kit / "kits" / "dfme_c2.tar.gz")

        unregistered = unpack(kit, "dfme_c3", folder / "unregistered")
        (unregistered / "site.key").write_bytes(site_key_file(new_site_key()))
        start_with_kit(federation, "unregistered", unregistered)

        other_authority = unpack(kit, "dfme_c3", folder / "other-authority")
        shutil.copy(stranger / "ca.crt", other_authority)
        start_with_kit(federation, "other-authority", other_authority)

        dfme_c3 = unpack(kit, "dfme_c3", folder / "dfme_c3")
        start_with_kit(
            federation, "other-name", dfme_c3, "--superlink", f"127.0.0.2:{federation.port}"
        )
        start_with_kit(federation, "name-of-another", dfme_c3, "--partition", "dfme_c2")
        federation.start_site("dfme_c3", name="plaintext")

        no_key = unpack(kit, "dfme_c3", folder / "no-key")
        (no_key / "site.key").unlink()
        start_with_kit(federation, "no-key", no_key)

        federation.wait_for_event("joined", site="dfme_c1")
        start_with_kit(federation, "second-with-one-key", good)
        yield federation


@pytest.mark.parametrize("name", [name for name in ENDS if name != "second-with-one-key"])
def test_refused(refusals: Federation, name: str) -> None:
    paragraph = expect_one_paragraph(refusals, name, ENDS[name].exit_code)
    said = {
        "unregistered": ["does not know the key", "dfme_c3", "current kit"],
        "other-authority": ["another authority", refusals.address, "Nothing was sent"],
        "other-name": ["another name", "127.0.0.2"],
        "plaintext": ["speaks TLS", "--kit"],
        "no-key": ["site.key", "No such file"],
        "name-of-another": ["'dfme_c2'", "'dfme_c3'", "--partition"],
    }[name]
    for words in said:
        assert words in paragraph


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [60, -900])
def test_a_clock_that_is_wrong(refusals: Federation, seconds: int) -> None:
    """The real client, which signs with the time of a wrong clock."""
    pretender = (
        "import datetime; import flwr.client.grpc_rere_client.node_auth_client_interceptor as m; "
        f"right = m.now; m.now = lambda: right() + datetime.timedelta(seconds={seconds}); "
        "from fedpsyau_client.command import main; main()"
    )
    finished = subprocess.run(
        [
            *(sys.executable, "-c", pretender, "--data", str(refusals.data)),
            *("--kit", str(refusals.folder / "kit" / "kits" / "dfme_c3.tar.gz")),
            *("--state", str(refusals.folder / f"state-clock{seconds}")),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        env=clean_environment(),
        check=False,
    )
    assert finished.returncode == ClockSkewError.exit_code, finished.stderr
    assert "NTP" in finished.stderr
    assert "Traceback" not in finished.stderr


def preflight(
    federation: Federation, site: str, *more: object
) -> tuple[int, dict[str, bool | None]]:
    """Exit code and what was found, by check."""
    finished = run(
        "fedpsyau-client",
        *("preflight", "--json", "--data", federation.data, *more),
        *("--kit", federation.folder / "kit" / "kits" / f"{site}.tar.gz"),
        *("--state", federation.folder / "state-preflight"),
        timeout=300,
    )
    findings = [json.loads(line) for line in finished.stdout.splitlines()]
    return finished.returncode, {each["check"]: each["ok"] for each in findings}


@pytest.mark.slow
def test_preflight(refusals: Federation) -> None:
    code, found = preflight(refusals, "dfme_c3")
    assert code == 0, found
    assert len(found) == 14
    assert found.pop("server version and proposal") is None
    assert set(found.values()) == {True}
    assert not (refusals.folder / "state-preflight").exists()
    code, found = preflight(refusals, "nobody")
    assert code == KitError.exit_code
    assert (found["kit"], found["settings"], found["server"]) == (False, None, None)


@pytest.mark.slow
def test_preflight_that_hears_the_server(refusals: Federation, tmp_path: Path) -> None:
    """It asks as a client would, declines, and leaves a record and the proposal behind."""
    code, found = preflight(refusals, "dfme_c3", "--greet")
    assert (code, set(found.values())) == (0, {True}), found
    reason = refusals.wait_for_event("refused", site="dfme_c3")["reason"]
    assert "only asks" in reason
    state = ("--partition", "dfme_c3", "--state", refusals.folder / "state-preflight")
    finished = run(
        "fedpsyau-client", "policy", "init", "--proposed", *state, "--out", tmp_path / "p.toml"
    )
    assert finished.returncode == 0, finished.stderr
    assert "query.hello" in run("fedpsyau-client", "audit", *state).stdout
    (tmp_path / "strict.toml").write_text("max-rounds = 1")
    code, found = preflight(refusals, "dfme_c3", "--greet", "--policy", tmp_path / "strict.toml")
    assert (code, found["server version and proposal"]) == (PolicyRefusedError.exit_code, False)


@pytest.mark.slow
def test_flower_itself_refuses_a_node_without_a_key(refusals: Federation, tmp_path: Path) -> None:
    """What keeps strangers out is the server, not the good manners of our client."""
    finished = subprocess.run(
        [
            *(str(SCRIPTS / "flower-supernode"), "--superlink", refusals.address),
            *("--root-certificates", str(refusals.folder / "kit" / "ca.crt")),
            *("--port", str(free_port()), "--isolation", "process"),
        ],
        env=clean_environment() | flower_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 1
    assert "[code: 2001]" in finished.stderr + finished.stdout


def test_a_key_that_is_revoked_while_its_site_takes_part(refusals: Federation) -> None:
    refusals.wait_for_event("joined", site="dfme_c2")
    finished = run("fedpsyau-server", "revoke", "dfme_c2", "--kit", refusals.folder / "kit")
    assert finished.returncode == 0, finished.stderr
    refusals.wait_for_event("key-void", 10, site="dfme_c2")
    paragraph = expect_one_paragraph(refusals, "to-be-revoked", KeyRefusedError.exit_code)
    assert "revoked" in paragraph
    assert "the key of dfme_c2 is void" in refusals.log("server")


@pytest.mark.slow  # Flower gives a key free after a minute and a half
def test_a_second_client_with_one_key(refusals: Federation) -> None:
    paragraph = expect_one_paragraph(refusals, "second-with-one-key", KeyInUseError.exit_code)
    assert "same key" in paragraph
    assert "leaked" in paragraph
    # The first one never noticed, and only those who may have joined.
    assert refusals.processes["good"].poll() is None
    joined = [event["site"] for event in refusals.events() if event["event"] == "joined"]
    assert sorted(joined) == ["dfme_c1", "dfme_c2"]
    assert "connection process ended" not in refusals.log("good")


@pytest.mark.slow
@pytest.mark.parametrize(("days_ago", "words"), [(30, "has expired"), (-30, "is not valid yet")])
def test_server_certificate_outside_its_dates(
    tmp_path: Path, twin: Path, days_ago: int, words: str
) -> None:
    """At the server before it starts, and at a site that meets such a server."""
    federation = Federation(tmp_path, twin, free_port())
    kit = provision(tmp_path / "kit", federation.port, ("dfme_c1",))
    key, certificate = issue_server_certificate(
        read_tls_key(kit / "ca.key"),
        read_certificate(kit / "ca.crt"),
        ["127.0.0.1"],
        days=7,
        now=datetime.now(UTC) - timedelta(days=days_ago),
    )
    (kit / "server.key").write_bytes(key_pem(key))
    (kit / "server.crt").write_bytes(certificate_pem(certificate))
    with federation, tls_listener(kit, federation.port):
        start_with_kit(federation, "site", kit / "kits" / "dfme_c1.tar.gz")
        assert words in expect_one_paragraph(federation, "site", CertificateDatesError.exit_code)
    with federation:
        federation.start_server("", "--kit", kit)
        paragraph = expect_one_paragraph(federation, "server", CertificateDatesError.exit_code)
    assert ("--renew-server" in paragraph) == (days_ago > 0)
    assert "clock" in paragraph
    assert not (tmp_path / "runs").exists()


class tls_listener:  # noqa: N801, used like a function
    """Accepts TLS connections with a server kit's certificate, and says nothing."""

    def __init__(self, kit: Path, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(kit / "server.crt", kit / "server.key")
        context.set_alpn_protocols(["h2"])
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            try:
                self._context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    def __enter__(self) -> None:
        threading.Thread(target=self._serve, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
