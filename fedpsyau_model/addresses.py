"""Network addresses HOST:PORT, and which of them stay on this machine."""

from __future__ import annotations

import ipaddress
import socket
from typing import Annotated

from pydantic import AfterValidator

from fedpsyau_model.errors import InsecureTransportError


def split_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT, IPv6 hosts in square brackets; ValueError if it is anything else."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not HOST:PORT, like 127.0.0.1:9092")
    return host, int(port)


def _checked(address: str) -> str:
    split_address(address)
    return address


#: A settings value that holds HOST:PORT.
Address = Annotated[str, AfterValidator(_checked)]


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT can be reached from this machine only."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_protected(address: str, flag: str) -> None:
    """Raise InsecureTransportError unless plaintext at `address` stays on this machine."""
    if not is_loopback(address):
        raise InsecureTransportError(
            f"{flag} {address} is not on this machine, and without TLS everything would travel "
            "there in plaintext. This version speaks plaintext on loopback only: use 127.0.0.1, "
            "or a tunnel that ends there."
        )


def answers(address: str, seconds: float = 2.0) -> bool:
    """Whether something accepts a TCP connection at HOST:PORT."""
    try:
        with socket.create_connection(split_address(address), timeout=seconds):
            return True
    except OSError:
        return False
