"""HOST:PORT, and what counts as staying on this machine."""

from __future__ import annotations

import socket

import pytest

from fedpsyau_model.addresses import (
    answers,
    is_loopback,
    join_address,
    require_protected,
    split_address,
)
from fedpsyau_model.errors import InsecureTransportError, SettingsError


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:9092", ("127.0.0.1", 9092)),
        ("[::1]:1", ("::1", 1)),
        ("coordinator.example.org:65535", ("coordinator.example.org", 65535)),
    ],
)
def test_host_and_port_are_told_apart(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", "localhost", ":9092", "localhost:", "localhost:0", "localhost:65536", "a:-1", "a:http"],
)
def test_anything_else_is_refused_with_its_value(address: str) -> None:
    with pytest.raises(ValueError, match="not HOST:PORT") as error:
        split_address(address)
    assert repr(address) in str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_loopback_stays_here(host: str) -> None:
    assert is_loopback(f"{host}:9092")
    require_protected(f"{host}:9092", "--listen")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "[::]", "192.168.1.5", "coordinator.example.org", "127.0.0.1.example.org"]
)
def test_plaintext_beyond_this_machine_is_refused(host: str) -> None:
    assert not is_loopback(f"{host}:9092")
    with pytest.raises(InsecureTransportError) as error:
        require_protected(f"{host}:9092", "--superlink")
    assert f"--superlink {host}:9092" in str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_kit_protects_everywhere(host: str) -> None:
    assert "TLS" in require_protected(f"{host}:9092", "--listen", tls=True)
    with pytest.raises(SettingsError, match=r"--kit.*--insecure"):
        require_protected(f"{host}:9092", "--listen", tls=True, insecure=True)


def test_insecure_is_said_loudly() -> None:
    assert "PLAINTEXT" in require_protected("0.0.0.0:9092", "--listen", insecure=True)


@pytest.mark.parametrize("address", ["[2001:db8::1]:9092", "127.0.0.1:1", "a.example.org:80"])
def test_joining_undoes_splitting(address: str) -> None:
    assert join_address(*split_address(address)) == address


def test_whether_somebody_listens() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert answers(address)
    assert not answers(address, seconds=0.5)
