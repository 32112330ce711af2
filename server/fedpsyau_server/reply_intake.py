"""Taking in what sites send, object by object, before anything of it is trusted.

A message lies at the SuperLink as a tree of objects. Flower's own `pull_messages` waits until the
last one has come, puts together whatever they say, and raises what it stumbles over: one site that
stops in the middle, or sends rubbish, holds up or ends the run of all. Here no message waits for
another; nothing is put together before its size, even with repetitions, is known; and whatever is
wrong with one message is said of that message alone.

The Runtime API of the grid and the classes used here are Flower's internals:
tests/server/test_reply_intake.py checks them under the exact pin in pyproject.toml.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from flwr.app import Message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
)
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import (
    get_object_head_values_from_object_content,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid.http_grid import HttpGrid

from fedpsyau_server.reply_sizes import REPLY_REFUSED, SMALL, most_objects

__all__ = ["Answer", "ReplyIntake", "ReplySource"]


@dataclass(frozen=True)
class Answer:
    """What came for a message that was sent: an answer, or why it was not taken in.

    answers: id of the message that was sent, as the SuperLink has it, not as the answer claims.
    """

    answers: str
    message: Message | None = None
    fault: str | None = None
    lost: bool = False
    """Whether the fault is the connection's: the message was never whole at the SuperLink."""


class ReplySource(Protocol):
    """Where answers come from."""

    def pull(self, largest: Mapping[str, int]) -> Iterable[Answer]:
        """Answers that have come since the last call, each once, without waiting.

        largest: ids of the messages that were sent, each with the bytes that an answer may have.
        """


class _RefusedError(Exception):
    """The message is not taken in; the text says why."""


class _LostError(Exception):
    """The message will never be whole."""


@dataclass
class _Arriving:
    """A message of which not every object has come yet."""

    answers: str
    root: str
    largest: int
    generated: bool
    """Whether the SuperLink made it, for a site that it does not reach."""
    missing: list[str]
    contents: dict[str, bytes] = field(default_factory=dict)

    def put(self, content: bytes) -> None:
        self.contents[self.missing.pop(0)] = content
        size = sum(map(len, self.contents.values()))
        if size > self.largest:
            raise _RefusedError(
                f"it has at least {size} bytes, and at most {self.largest} are taken"
            )


class ReplyIntake:
    """A `ReplySource` over the grid of a ServerApp."""

    def __init__(self, grid: Grid) -> None:
        self._grid = cast(HttpGrid, grid)
        self._arriving: dict[str, _Arriving] = {}

    def pull(self, largest: Mapping[str, int]) -> Iterator[Answer]:
        """See ReplySource.

        An answer is fetched when it is asked for: whoever deals with one before asking for the next
        has one model in memory, and those that are being uploaded at this moment.
        """
        if not largest:
            return
        self._look_for_new(largest)
        for message in list(self._arriving):
            answer = self._go_on_with(self._arriving[message])
            if answer is not None:
                del self._arriving[message]
                yield answer

    def _look_for_new(self, largest: Mapping[str, int]) -> None:
        wanted = [each for each in largest if each not in self._arriving]
        if not wanted:
            return
        found = self._grid._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=wanted))
        for message, tree in zip(found.messages_list, found.message_object_trees, strict=True):
            answers = message.metadata.reply_to_message_id
            self._arriving[answers] = _Arriving(
                answers=answers,
                root=tree.object_id,
                largest=largest[answers],
                generated=message.metadata.src_node_id == SUPERLINK_NODE_ID,
                missing=_ids_of(tree),
            )

    def _go_on_with(self, arriving: _Arriving) -> Answer | None:
        """Pull what is there of a message; its answer once that can be given."""
        try:
            if len(arriving.missing) > most_objects(arriving.largest):
                raise _RefusedError(
                    f"it consists of {len(arriving.missing)} objects, and at most "
                    f"{most_objects(arriving.largest)} are taken"
                )
            if not self._pull_objects(arriving):
                return None
            message = _put_together(arriving.root, arriving.contents, arriving.largest)
        except _LostError:
            return Answer(arriving.answers, fault="its upload did not come to its end", lost=True)
        except _RefusedError as refusal:
            self._discard(arriving.root)
            return Answer(arriving.answers, fault=str(refusal))
        self._discard(arriving.root)
        if arriving.generated:
            return Answer(arriving.answers, fault="its connection to the server broke", lost=True)
        if message.has_error() and message.error.code == REPLY_REFUSED:
            return Answer(arriving.answers, fault=message.error.reason or "refused")
        return Answer(arriving.answers, message)

    def _pull_objects(self, arriving: _Arriving) -> bool:
        """Pull until all objects are here (True) or one has not been uploaded yet (False)."""
        while arriving.missing:
            found = self._grid._runtime_client.PullObject(
                PullObjectRequest(
                    node=self._grid.node,
                    run_id=self._grid.run.run_id,
                    object_id=arriving.missing[0],
                )
            )
            if not found.object_found:
                raise _LostError
            if not found.object_available:
                return False
            arriving.put(found.object_content)
        return True

    def _discard(self, root: str) -> None:
        """Let the SuperLink forget a message, which is in its memory until then."""
        self._grid._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self._grid.node, run_id=self._grid.run.run_id, message_object_id=root
            )
        )


def _ids_of(tree: ObjectTree) -> list[str]:
    return list(dict.fromkeys(each.object_id for each in iterate_object_tree(tree)))


def _put_together(root: str, contents: dict[str, bytes], largest: int) -> Message:
    """The message that objects make up; _RefusedError if they make up none."""
    try:
        _require_size(contents, largest)
        message = inflate_object_from_contents(root, contents)
    except _RefusedError:
        raise
    except Exception as error:  # anything at all may be in there, and nothing of it is ours
        raise _RefusedError(
            f"malformed: its objects make no message ({type(error).__name__})"
        ) from None
    if not isinstance(message, Message):
        raise _RefusedError("malformed: its objects make no message")
    return message


def _require_size(contents: Mapping[str, bytes], largest: int) -> None:
    """Refuse objects that would grow beyond `largest` bytes when they are put together.

    An array names its chunks by number and may name one many times: a chunk that was sent once
    must not become a thousand.
    """
    chunks: dict[str, int] = {}
    arrays: list[list[str]] = []
    for object_id, content in contents.items():
        kind, children, length = get_object_head_values_from_object_content(content)
        if kind == "ArrayChunk":
            chunks[object_id] = length
        elif len(content) > SMALL:
            raise _RefusedError(f"malformed: a record of {len(content)} bytes without tensors")
        if kind == "Array":
            numbers = json.loads(content[-length:])["arraychunk_ids"]
            arrays.append([children[number] for number in numbers])
    size = sum(chunks[chunk] for array in arrays for chunk in array)
    if size > largest:
        raise _RefusedError(f"its arrays have {size} bytes, and at most {largest} are taken")
