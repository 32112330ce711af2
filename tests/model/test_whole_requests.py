"""Request bodies in one piece, whatever pieces they come in."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from fedpsyau_model.whole_requests import WholeRequests

Event = MutableMapping[str, Any]


def seen_inside(scope: Event, events: list[Event], reads: int) -> list[Event]:
    """What an application reads first, when its server gives it these events."""
    seen: list[Event] = []
    waiting = iter(events)

    async def receive() -> Event:
        return next(waiting)

    async def send(_: Event) -> None:
        raise AssertionError("nothing is sent")

    async def app(_: Event, read: Any, __: Any) -> None:
        seen.extend([await read() for _ in range(reads)])

    asyncio.run(WholeRequests(app)(scope, receive, send))
    return seen


@pytest.mark.parametrize("pieces", [[b""], [b"one"], [b"o", b"n", b"", b"e"]])
def test_a_body_comes_in_one_piece_and_what_follows_as_it_was(pieces: list[bytes]) -> None:
    events: list[Event] = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]
    gone: Event = {"type": "http.disconnect"}
    body = {"type": "http.request", "body": b"".join(pieces), "more_body": False}
    assert seen_inside({"type": "http"}, [*events, gone], 2) == [body, gone]


def test_a_body_that_breaks_off_is_none() -> None:
    begun: Event = {"type": "http.request", "body": b"o", "more_body": True}
    gone: Event = {"type": "http.disconnect"}
    assert seen_inside({"type": "http"}, [begun, gone], 1) == [gone]


def test_what_is_no_request_is_left_alone() -> None:
    events: list[Event] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    assert seen_inside({"type": "lifespan"}, events, 2) == events
