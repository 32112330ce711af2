"""Replies as they lie at a SuperLink: whole, in parts, and made to do harm."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.error import Error
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER
from flwr.supercore.task_identity import TaskIdentity
from superlink_in_process import InProcessSuperLink, contents_of

from fedpsyau_server.reply_intake import Answer, ReplyIntake
from fedpsyau_server.reply_sizes import (
    CHUNK,
    LARGEST_REPLY_VARIABLE,
    REPLY_REFUSED,
    SMALL,
    largest_reply,
    most_objects,
)

MODEL = os.urandom(2 * CHUNK + 1000)
LARGEST = largest_reply(len(MODEL))


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcessSuperLink]:
    monkeypatch.setenv(LARGEST_REPLY_VARIABLE, str(LARGEST))
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    return InProcessSuperLink()


def reply(order: Message, data: bytes = MODEL) -> Message:
    content = RecordDict(
        {
            "values": ConfigRecord({"round": 1}),
            "model": ArrayRecord({"model": Array("uint8", (len(data),), "safetensors", data)}),
        }
    )
    return Message(content, reply_to=order)


def pull(intake: ReplyIntake, *orders: Message) -> list[Answer]:
    return list(intake.pull({order.metadata.message_id: LARGEST for order in orders}))


def test_the_sizes_are_flowers() -> None:
    assert CHUNK == FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
    # An honest reply: message, record dictionary, two records, the array, and its chunks.
    assert most_objects(largest_reply(CHUNK)) >= 5 + 1
    assert most_objects(largest_reply(10 * CHUNK)) >= 5 + 10


def test_an_honest_reply_is_taken_whole_and_forgotten_by_the_superlink(
    link: InProcessSuperLink,
) -> None:
    order, intake = link.send(), ReplyIntake(link.grid)
    assert pull(intake, order) == []
    link.answer(reply(order))
    [answer] = pull(intake, order)
    assert answer.answers == order.metadata.message_id
    assert answer.message is not None
    assert answer.message.content.array_records["model"]["model"].data == MODEL
    assert len(link.objects) == 0
    assert list(intake.pull({})) == []


def test_a_reply_that_stops_half_way_holds_up_nobody(link: InProcessSuperLink) -> None:
    slow, quick, intake = link.send(), link.send(), ReplyIntake(link.grid)
    half = reply(slow)
    contents = contents_of(half)
    session = link.announce(half)
    link.upload(session, dict(list(contents.items())[:3]))
    link.answer(reply(quick, b"short"))
    assert [each.answers for each in pull(intake, slow, quick)] == [quick.metadata.message_id]
    assert pull(intake, slow) == []
    link.upload(session, dict(list(contents.items())[3:]))
    [answer] = pull(intake, slow)
    assert answer.message is not None
    assert answer.message.content.array_records["model"]["model"].data == MODEL


def test_an_upload_that_is_given_up_is_lost_and_not_held_against_the_site(
    link: InProcessSuperLink,
) -> None:
    order, intake = link.send(), ReplyIntake(link.grid)
    link.announce(reply(order))
    assert pull(intake, order) == []
    for session in link.state._object_push_sessions.values():  # type: ignore[attr-defined]
        session.expires_at = datetime(2025, 1, 1, tzinfo=UTC)
    [answer] = pull(intake, order)
    assert (answer.message, answer.lost) == (None, True)
    assert "upload" in str(answer.fault)


def test_a_site_that_is_not_reached_is_lost(link: InProcessSuperLink) -> None:
    order, intake = link.send(), ReplyIntake(link.grid)
    link.state.nodes[link.node].online_until = 0.0  # type: ignore[attr-defined]
    [answer] = pull(intake, order)
    assert (answer.message, answer.lost) == (None, True)
    assert "connection" in str(answer.fault)


def test_a_failure_that_a_site_reports_is_its_answer(link: InProcessSuperLink) -> None:
    order, intake = link.send(), ReplyIntake(link.grid)
    link.answer(Message(Error(11, "site failure"), reply_to=order))
    [answer] = pull(intake, order)
    assert answer.message is not None
    assert answer.message.error.code == 11


def refusal(link: InProcessSuperLink, make: Callable[[Message], Message]) -> str:
    """What is said of a reply, which must be refused and forgotten."""
    order, intake = link.send(), ReplyIntake(link.grid)
    link.answer(make(order))
    [answer] = pull(intake, order)
    assert (answer.message, answer.lost) == (None, False)
    assert len(link.objects) == 0
    return str(answer.fault)


def test_too_many_bytes_are_not_pulled(link: InProcessSuperLink) -> None:
    large = os.urandom(LARGEST + 1)
    assert f"at most {LARGEST} are taken" in refusal(link, lambda order: reply(order, large))


def test_a_chunk_that_is_named_again_and_again_does_not_grow(link: InProcessSuperLink) -> None:
    """Equal chunks travel once: what is small on the wire need not be so afterwards."""
    fault = refusal(link, lambda order: reply(order, bytes(6 * CHUNK)))
    assert fault == f"its arrays have {6 * CHUNK} bytes, and at most {LARGEST} are taken"


def test_a_record_of_many_bytes_is_refused(link: InProcessSuperLink) -> None:
    def make(order: Message) -> Message:
        return Message(RecordDict({"values": ConfigRecord({"x": "y" * SMALL})}), reply_to=order)

    assert "without tensors" in refusal(link, make)


def test_more_objects_than_a_reply_has_are_refused_when_they_are_announced(
    link: InProcessSuperLink,
) -> None:
    most = most_objects(LARGEST)
    order, intake = link.send(), ReplyIntake(link.grid)
    flood = reply(order, os.urandom(most * CHUNK))
    response = link.announce(flood)
    assert list(response.objects_to_push) == []
    [answer] = pull(intake, order)
    assert answer.message is None
    assert f"it announces {most + 5} objects" in str(answer.fault)
    assert f"{most} are taken" in str(answer.fault)
    assert len(link.objects) == 0


def test_the_reason_of_a_refusal_cannot_be_taken_for_an_honest_reply(
    link: InProcessSuperLink,
) -> None:
    order, intake = link.send(), ReplyIntake(link.grid)
    link.answer(Message(Error(REPLY_REFUSED, "made up"), reply_to=order))
    assert [each.fault for each in pull(intake, order)] == ["made up"]


def test_a_site_only_answers(link: InProcessSuperLink) -> None:
    order = link.send()
    stray = reply(order)
    stray.metadata.__dict__["_reply_to_message_id"] = ""
    with pytest.raises(ConnectionAbortedError, match="only answers"):
        link.announce(stray)


# Objects that Flower would not make ---------------------------------------------------------------


def made_object(kind: str, children: list[str], body: bytes) -> tuple[str, bytes]:
    head = HEAD_VALUE_DIVIDER.join([kind, ",".join(children), str(len(body))])
    content = head.encode() + HEAD_BODY_DIVIDER + body
    return hashlib.sha256(content).hexdigest(), content


def forged(link: InProcessSuperLink, order: Message, *objects: tuple[str, bytes]) -> Answer:
    """The answer that comes of made objects, the last of which is the root."""
    contents = dict(objects)
    root = objects[-1][0]
    tree = ObjectTree(
        object_id=root,
        children=[ObjectTree(object_id=each) for each in contents if each != root],
    )
    intake = ReplyIntake(link.grid)
    link.upload(link.announce(reply(order, b""), tree), contents)
    [answer] = pull(intake, order)
    return answer


CONFIG = made_object("ConfigRecord", [], b"")
ABSENT = "0" * 64


@pytest.mark.parametrize(
    "objects",
    [
        [CONFIG],
        [made_object("Message", [], b"\xff\xff\xff")],
        [made_object("Message", [ABSENT], b"")],
        [made_object("RecordDict", [], b"{" * 5000)],
        [made_object("RecordDict", [], b"[" * 50_000)],
        [CONFIG, made_object("RecordDict", [CONFIG[0]], json.dumps({"values": "x"}).encode())],
        [made_object("Array", [], b"not json")],
        [made_object("Array", [], b'{"arraychunk_ids": [7]}')],
        [made_object("Array", [ABSENT], b'{"arraychunk_ids": [0]}')],
        [made_object("ArrayChunk", [], b"x" * 100)],
    ],
)
def test_objects_that_make_no_message_are_malformed(
    link: InProcessSuperLink, objects: list[tuple[str, bytes]]
) -> None:
    answer = forged(link, link.send(), *objects)
    assert (answer.message, answer.lost) == (None, False)
    assert str(answer.fault).startswith("malformed: ")
    assert len(link.objects) == 0


def test_what_a_reply_says_that_it_answers_does_not_count(link: InProcessSuperLink) -> None:
    mine, others = link.send(), link.send()
    message = reply(others, b"x")
    contents = contents_of(message)
    root = message.object_id
    honest: Any = reply(mine, b"")
    intake = ReplyIntake(link.grid)
    tree = ObjectTree(
        object_id=root, children=[ObjectTree(object_id=each) for each in contents if each != root]
    )
    link.upload(link.announce(honest, tree), contents)
    assert [each.answers for each in pull(intake, mine, others)] == [mine.metadata.message_id]
