"""Asking a running server whether it is well.

Container checks ask every few seconds, so this loads nothing beyond the standard library.
"""

from __future__ import annotations

import http
import http.client

from fedpsyau_server.watching.paths import HEALTH_PATH

__all__ = ["PATIENCE", "Answer", "ask"]

#: Seconds that the server is given to answer.
PATIENCE = 5.0

#: Whether it is well, and what it said.
Answer = tuple[bool, str]


def ask(address: str) -> Answer:
    """Ask the server that tells its health at HOST:PORT.

    Raises OSError if nobody answers as a server does; ConnectionRefusedError if nobody is there.
    """
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request("GET", HEALTH_PATH)
        answer = connection.getresponse()
        return answer.status == http.HTTPStatus.OK, answer.read().decode(errors="replace").strip()
    except http.client.HTTPException as error:
        raise OSError(f"it is no HTTP ({error or type(error).__name__})") from None
    finally:
        connection.close()
