"""Which addresses a process and its offspring listen on, read from /proc."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

from fedpsyau_model.process_tree import descendants

#: State of a listening socket in /proc/net/tcp.
_LISTEN = "0A"


def listening(pid: int) -> set[tuple[str, int]]:
    """(address, port) of every TCP socket that a process or its offspring listens on."""
    inodes = set().union(*(_sockets(each) for each in {pid, *descendants(pid)}))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in inodes:
                found.add(_address(fields[1]))
    return found


def _sockets(pid: int) -> set[str]:
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    return inodes


def _address(field: str) -> tuple[str, int]:
    """Read ``0100007F:2382``: words of four bytes, each in the machine's byte order."""
    words, port = field.split(":")
    packed = b"".join(
        int(words[start : start + 8], 16).to_bytes(4, sys.byteorder)
        for start in range(0, len(words), 8)
    )
    return str(ipaddress.ip_address(packed)), int(port, 16)
