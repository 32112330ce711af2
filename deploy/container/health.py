#!/opt/fedpsyau/bin/python
"""Tell whether what this container runs is well: exit code 0, or 1 and a line with what is not.

A server is asked for its health, or, where that page is switched off, must take connections of
sites. Anything else that runs here is well as long as it runs.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path, PurePath

from fedpsyau_server.watching.asking import PATIENCE, ask


def running() -> set[str]:
    """Names of the programs that run in this container."""
    names: set[str] = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
        names |= {PurePath(argument).name for argument in arguments[:2]}
    return names


def server_fault() -> str:
    """What is wrong with the server, or nothing."""
    page = os.environ.get("FEDPSYAU_SERVER__METRICS_ADDRESS", "127.0.0.1:9190")
    if not page:
        return closed_port()
    try:
        well, told = ask(page)
    except ConnectionRefusedError:
        return closed_port()
    except OSError as error:
        return f"the server does not answer at {page}: {error}"
    return "" if well else told


def closed_port() -> str:
    """What is wrong with the port for the sites, or nothing."""
    listen = os.environ.get("FEDPSYAU_SERVER__LISTEN", ":9092")
    port = int(listen.rpartition(":")[2])
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except OSError as error:
        return f"the server takes no connections on port {port}: {error.strerror}"
    return ""


if __name__ == "__main__":
    sys.exit((server_fault() if "fedpsyau-server" in running() else "") or 0)
