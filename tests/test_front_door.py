"""What a client finds out about a server's port, against real gRPC servers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from fedpsyau_client.connection.front_door import require_transport
from fedpsyau_client.connection.site_kit import SiteKit, opened_kit
from fedpsyau_model.errors import ServerNotTrustedError, TransportMismatchError
from fedpsyau_server.kits.provisioning import provision


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coordinator's folder for a server that is reached as 127.0.0.1."""
    folder = tmp_path_factory.mktemp("kits") / "coordinator"
    provision(folder, ["a"], ["127.0.0.1"], 9092)
    return folder


@pytest.fixture
def kit(folder: Path) -> Iterator[SiteKit]:
    with opened_kit(folder / "kits" / "a.tar.gz") as kit:
        yield kit


@contextmanager
def grpc_server(tls_from: Path | None) -> Iterator[int]:
    """A gRPC server without services on a free port of all loopback addresses."""
    server = grpc.server(ThreadPoolExecutor(1))
    if tls_from:
        pair = [(tls_from / name).read_bytes() for name in ("server.key", "server.crt")]
        port = server.add_secure_port("0.0.0.0:0", grpc.ssl_server_credentials([tuple(pair)]))
    else:
        port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def test_tls_with_the_right_kit(folder: Path, kit: SiteKit) -> None:
    with grpc_server(folder) as port:
        require_transport(f"127.0.0.1:{port}", kit)
        require_transport(f"localhost:{port}", kit)
        with pytest.raises(ServerNotTrustedError, match=r"another name.*127\.0\.0\.2"):
            require_transport(f"127.0.0.2:{port}", kit)


def test_tls_without_a_kit(folder: Path) -> None:
    with grpc_server(folder) as port, pytest.raises(TransportMismatchError, match="--kit"):
        require_transport(f"127.0.0.1:{port}", None)


def test_plaintext(kit: SiteKit) -> None:
    with grpc_server(None) as port:
        require_transport(f"127.0.0.1:{port}", None)
        with pytest.raises(TransportMismatchError, match="does not speak TLS"):
            require_transport(f"127.0.0.1:{port}", kit)


def test_another_authority(folder: Path, tmp_path: Path) -> None:
    provision(tmp_path / "other", ["a"], ["127.0.0.1"], 9092)
    with ExitStack() as stack:
        kit = stack.enter_context(opened_kit(tmp_path / "other" / "kits" / "a.tar.gz"))
        port = stack.enter_context(grpc_server(folder))
        with pytest.raises(ServerNotTrustedError, match="another authority"):
            require_transport(f"127.0.0.1:{port}", kit)


def test_a_broken_connection_says_nothing(kit: SiteKit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    with pytest.raises(ConnectionRefusedError):
        require_transport(address, kit)
