"""An HTTP application's request bodies, handed on in one piece.

A web server hands a body on in pieces of some 64 KB as they come. Every layer of Flower's HTTP
interfaces (two of Starlette's `BaseHTTPMiddleware`) starts two tasks for each piece: 250 times for
a model of 16.5 MB, which costs more than all that is done with it. Outside of them a piece costs
next to nothing. Flower holds the whole body in memory in any case.

Pure ASGI; nothing of a web framework is imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["WholeRequests"]

_Event = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Event]]
_Send = Callable[[_Event], Awaitable[None]]
_App = Callable[[_Event, _Receive, _Send], Awaitable[None]]


class WholeRequests:
    """ASGI middleware: the application inside sees every request body as one piece."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Event, receive: _Receive, send: _Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        first: _Event | None = await _whole(receive)

        async def receive_whole() -> _Event:
            nonlocal first
            if first is None:
                return await receive()
            event, first = first, None
            return event

        await self._app(scope, receive_whole, send)


async def _whole(receive: _Receive) -> _Event:
    """The body as one event, or that of a client who went away before its end."""
    pieces: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return event
        pieces.append(event.get("body", b""))
        if not event.get("more_body", False):
            return {**event, "body": b"".join(pieces), "more_body": False}
