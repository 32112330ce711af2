"""Checks that a message of the server must pass before the site looks into its data.

They are about the message and what came before it; whether a model fits the network is checked by
the site, which has the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flwr.app import Message

from fedpsyau_model.errors import JoinRefusedError, RequestRefusedError
from fedpsyau_model.exchange import (
    DISMISS,
    HELLO,
    MODEL_RECORD,
    TRAIN,
    VALUES_RECORD,
    Hello,
    MalformedMessageError,
    TrainingOrder,
)

__all__ = ["PACKED", "RoundCourse", "request_model", "request_values"]

#: Flower's own serialisation is not used: the one array holds safetensors bytes as they are.
PACKED: Final = "safetensors"

#: Records of every kind of message.
_RECORDS: Final[Mapping[str, frozenset[str]]] = {
    HELLO: frozenset({VALUES_RECORD}),
    TRAIN: frozenset({VALUES_RECORD, MODEL_RECORD}),
    DISMISS: frozenset({VALUES_RECORD}),
}

#: Characters of a strange name that a message shows, and how many of them.
_SHOWN: Final = 40
_MOST_SHOWN: Final = 3


def request_values(message: Message, largest: int) -> Mapping[str, Any]:
    """Take the plain values out of a message of a known kind with the records of that kind.

    largest: bytes that the message may have, by the sizes of what it holds.

    Raises MalformedMessageError or RequestRefusedError.
    """
    if message.has_error():
        raise MalformedMessageError("The server sent an error in place of a request.")
    kind, records = message.metadata.message_type, message.content
    expected = _RECORDS.get(kind)
    if expected is None:
        raise MalformedMessageError(f"The server sent a message of the unknown type {_name(kind)}.")
    if set(records) != expected:
        raise MalformedMessageError(
            f"A {kind} message holds the records {_names(records)}, not {_names(expected)}."
        )
    if VALUES_RECORD not in records.config_records:
        raise MalformedMessageError(f"The record {VALUES_RECORD} holds no plain values.")
    values = records.config_records[VALUES_RECORD]
    size = values.count_bytes() + sum(
        len(array.data) for record in records.array_records.values() for array in record.values()
    )
    if size > largest:
        raise RequestRefusedError(
            f"The server's message has {size / 2**20:.1f} MiB, and this site looks into at most "
            f"{largest / 2**20:.0f} (max-message-mib in its policy)."
        )
    return values


def request_model(message: Message) -> bytes:
    """Take the model's bytes out of an order; MalformedMessageError if it has none of them."""
    record = message.content.array_records.get(MODEL_RECORD)
    if record is None or set(record) != {MODEL_RECORD}:
        raise MalformedMessageError(
            f"The record {MODEL_RECORD} does not hold the one array {MODEL_RECORD}."
        )
    array = record[MODEL_RECORD]
    data = bytes(array.data)
    if (array.stype, array.dtype, tuple(array.shape)) != (PACKED, "uint8", (len(data),)):
        raise MalformedMessageError(
            f"The array {MODEL_RECORD} is {_name(array.dtype)} of shape {tuple(array.shape)[:4]} "
            f"packed as {_name(array.stype)}, not the {len(data)} bytes of {PACKED} that it holds."
        )
    return data


class RoundCourse:
    """The course of the runs that this site has joined: no round comes before an earlier one.

    The last round may come again, because a server that dies in a round asks for it anew. What
    has passed is forgotten when the client ends, so a run that goes on from an old copy of its
    folder is met by starting the client anew.
    """

    def __init__(self) -> None:
        self._rounds: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def joined(self, hello: Hello) -> None:
        """Note that the site takes part in a run."""
        self._rounds[hello.run_id] = hello.rounds

    def require_next(self, order: TrainingOrder) -> None:
        """Raise JoinRefusedError or RequestRefusedError unless the order can come now."""
        rounds = self._rounds.get(order.run_id)
        if rounds is None:
            raise JoinRefusedError(
                "The server sent an order of a run that this site has not joined. It is greeted "
                "anew when the server sees it again."
            )
        last = self._last.get(order.run_id, 1)
        if order.rounds != rounds:
            raise RequestRefusedError(
                f"The server's order says that the run has {order.rounds} rounds, and its greeting "
                f"said {rounds}."
            )
        if order.round > order.rounds:
            raise RequestRefusedError(
                f"The server asks for round {order.round} of a run of {order.rounds}."
            )
        if order.round < last:
            raise RequestRefusedError(
                f"The server asks for round {order.round} after round {last}. If the coordinator "
                "has gone back to an older copy of the run, start this client anew."
            )

    def begun(self, order: TrainingOrder) -> None:
        """Note that the site works on an order."""
        self._last[order.run_id] = order.round


def _names(names: Any) -> str:
    shown = sorted(map(str, names))
    more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    return ", ".join(_name(name) for name in shown[:_MOST_SHOWN]) + more or "none"


def _name(name: object) -> str:
    return ascii(str(name)[:_SHOWN])
