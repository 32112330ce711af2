"""Network addresses HOST:PORT, and which of them stay on this machine."""

from __future__ import annotations

import ipaddress
import socket
from typing import Annotated

from pydantic import AfterValidator

from fedpsyau_model.errors import InsecureTransportError, SettingsError


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

#: The same, or empty for none.
OptionalAddress = Annotated[str, AfterValidator(lambda address: address and _checked(address))]


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT can be reached from this machine only."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def join_address(host: str, port: int) -> str:
    """HOST:PORT, with IPv6 hosts in square brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def require_protected(address: str, flag: str, *, tls: bool = False, insecure: bool = False) -> str:
    """Say how traffic to or at `address` is protected, for a notice.

    tls: whether a kit is used. insecure: whether the user has asked for plaintext anyway.

    Raises InsecureTransportError if plaintext would leave this machine unasked, SettingsError if
    both a kit and plaintext were asked for.
    """
    if tls and insecure:
        raise SettingsError(
            "--kit and --insecure exclude each other: with a kit everything is encrypted. Leave "
            "one of them out."
        )
    if tls:
        return f"TLS and keys on {address}."
    if is_loopback(address):
        return f"plaintext on {address}; this is allowed because it is this machine."
    if insecure:
        return (
            f"PLAINTEXT ON {address}. Anybody on the way can read and change every model, and "
            "anybody who reaches the port can take part under any name. Never use --insecure with "
            "models of real people."
        )
    raise InsecureTransportError(
        f"{flag} {address} is not on this machine, and without TLS everything would travel "
        "there in plaintext. Make kits with `fedpsyau-server provision` and start with --kit; or "
        "say --insecure if nothing that travels needs protection."
    )


def answers(address: str, seconds: float = 2.0) -> bool:
    """Whether something accepts a TCP connection at HOST:PORT."""
    try:
        with socket.create_connection(split_address(address), timeout=seconds):
            return True
    except OSError:
        return False
