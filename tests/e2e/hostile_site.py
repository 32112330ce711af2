"""A site with a valid key and bad intentions: a real SuperNode, and a trainer of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.error import Error

from fedpsyau_client.connection.site_kit import opened_kit
from fedpsyau_client.connection.supernode import SuperNode
from fedpsyau_model.exchange import (
    DISMISS,
    HELLO,
    MODEL_RECORD,
    VALUES_RECORD,
    Acknowledgement,
    Hello,
    Introduction,
    Tensors,
    TrainingOrder,
    TrainingReport,
    pack_tensors,
    unpack_tensors,
)

#: Clips that the site claims when it joins.
ENROLLED = 50

GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Order:
    """What the site was asked."""

    message: Message
    order: TrainingOrder
    partition: str

    @property
    def model(self) -> Tensors:
        """The model that came along."""
        record = self.message.content.array_records[MODEL_RECORD][MODEL_RECORD]
        return unpack_tensors(record.data)

    def values(self, **changes: Any) -> dict[str, Any]:
        """The values of an honest report, with some changed."""
        honest = TrainingReport(
            partition=self.partition,
            run_id=self.order.run_id,
            round=self.order.round,
            train_clips=ENROLLED,
            test_clips=3,
            confusion_received=[1, 0, 0, 0, 1, 0, 0, 0, 1],
            confusion_trained=[1, 0, 0, 0, 1, 0, 0, 0, 1],
            loss_total=1.0,
            loss_emotion=1.0,
            loss_au=0.0,
            loss_au_aux=0.0,
            loss_proximal=0.0,
            fisher_trace=0.0,
            theta=0.0,
            train_seconds=1.0,
        )
        return honest.to_values() | changes

    def reply(self, records: Mapping[str, Any]) -> Message:
        """Any records as an answer."""
        return Message(RecordDict(dict(records)), reply_to=self.message)

    def with_bytes(self, data: bytes, **changes: Any) -> Message:
        """An honest report, some of it changed, with any bytes in the place of the model."""
        array = Array("uint8", (len(data),), "safetensors", data)
        return self.reply(
            {
                VALUES_RECORD: ConfigRecord(self.values(**changes)),
                MODEL_RECORD: ArrayRecord({MODEL_RECORD: array}),
            }
        )

    def with_model(self, change: Callable[[str, np.ndarray], np.ndarray]) -> Message:
        """An honest report with a model of which every tensor was changed."""
        return self.with_bytes(
            pack_tensors({name: change(name, each) for name, each in self.model.items()})
        )

    def with_report(self, **changes: Any) -> Message:
        """The model as it came, with a report that is honest but for the changes."""
        return self.with_bytes(pack_tensors(self.model), **changes)


Kind = Callable[[Order], Message]


def one_value(value: float) -> Kind:
    """A model with one value in one tensor replaced."""

    def change(name: str, tensor: np.ndarray) -> np.ndarray:
        changed = tensor.copy()
        if name.endswith("weight"):
            changed.flat[0] = value
        return changed

    return lambda order: order.with_model(change)


def a_tensor(order: Order) -> str:
    return sorted(order.model)[0]


def without_a_tensor(order: Order) -> Message:
    model = order.model
    del model[a_tensor(order)]
    return order.with_bytes(pack_tensors(model))


def renamed(name: str) -> Kind:
    return lambda order: order.with_bytes(pack_tensors({**order.model, name: np.zeros(1, "f4")}))


def twice_named(order: Order) -> Message:
    packed = pack_tensors(order.model)
    length = int.from_bytes(packed[:8], "little")
    header, body = packed[8 : 8 + length], packed[8 + length :]
    first = header[1 : header.index(b"}") + 1]
    longer = header[:1] + first + b"," + header[1:]
    return order.with_bytes(len(longer).to_bytes(8, "little") + longer + body)


def cut(order: Order) -> Message:
    return order.with_bytes(pack_tensors(order.model)[:200])


def huge_header(order: Order) -> Message:
    return order.with_bytes((1 << 60).to_bytes(8, "little") + pack_tensors(order.model)[8:])


def huge_tensor(order: Order) -> Message:
    header = b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    return order.with_bytes(len(header).to_bytes(8, "little") + header + bytes(64))


def distinct_gigabyte(order: Order) -> Message:
    """A gigabyte of which no part equals another, so that all of it would have to travel."""
    return order.with_bytes(np.arange(GIGABYTE // 4, dtype=np.uint32).tobytes())


def repeated_gigabyte(order: Order) -> Message:
    """A gigabyte of zeros: one chunk on the wire, named two hundred times."""
    return order.with_bytes(bytes(GIGABYTE))


def no_model(order: Order) -> Message:
    return order.reply({VALUES_RECORD: ConfigRecord(order.values())})


def other_record(order: Order) -> Message:
    return order.reply(
        {VALUES_RECORD: ConfigRecord(order.values()), "\x1b[2Jmore\n": ConfigRecord({})}
    )


def failure_with_a_story(order: Order) -> Message:
    return Message(Error(7, "\x1b[31m/home/somebody/clips\n" * 1000), reply_to=order.message)


#: Every bad answer with a part of the reason that the server must give.
KINDS: dict[str, tuple[Kind, str]] = {
    "NaN": (one_value(float("nan")), "not finite"),
    "infinity": (one_value(float("inf")), "not finite"),
    "minus infinity": (one_value(float("-inf")), "not finite"),
    "huge norm": (
        lambda order: order.with_model(lambda _, w: w + w.dtype.type(1000)),
        "the median",
    ),
    "wrong shape": (lambda order: order.with_model(lambda _, w: w[None]), "float32 (1, "),
    "shape that broadcasts": (
        lambda order: order.with_model(lambda _, w: np.zeros(1, w.dtype)),
        "is float32 (1,), not",
    ),
    "wrong type": (lambda order: order.with_model(lambda _, w: w.astype(np.float16)), "float16"),
    "missing tensor": (without_a_tensor, "tensors missing: ['"),
    "extra tensor": (renamed("extra"), "unexpected: ['extra']"),
    "a name that steers terminals": (renamed("\x1b[2J\n"), r"unexpected: ['\x1b[2J\n']"),
    "no tensors": (lambda order: order.with_bytes(pack_tensors({})), "tensors missing"),
    "no clips": (lambda order: order.with_report(train_clips=0), "train_clips"),
    "negative clips": (lambda order: order.with_report(train_clips=-5), "train_clips"),
    "more clips than enrolled": (
        lambda order: order.with_report(train_clips=2**62),
        f"claims {2**62} training clips, and enrolled {ENROLLED}",
    ),
    "no bytes": (lambda order: order.with_bytes(b""), "cannot be read"),
    "rubbish": (lambda order: order.with_bytes(b"\xa5" * 5000), "cannot be read"),
    "cut off": (cut, "cannot be read"),
    "header of an exabyte": (huge_header, "cannot be read"),
    "tensor of 4 TB": (huge_tensor, "cannot be read"),
    "a name twice": (twice_named, "twice"),
    "empty message": (lambda order: order.reply({}), "malformed: A message holds the records []"),
    "no model": (no_model, "malformed: it holds no model"),
    "another record": (other_record, "malformed: A message holds the records"),
    "another schema": (
        lambda order: order.with_report(schema_version=99),
        "does not follow schema version",
    ),
    "round is text": (lambda order: order.with_report(round="1"), "wrong or missing round"),
    "another site": (
        lambda order: order.with_report(partition="casme3_c1"),
        "answers for casme3_c1",
    ),
    "past round": (
        lambda order: order.with_report(round=max(1, order.order.round - 1)),
        "it answers for",
    ),
    "another run": (lambda order: order.with_report(run_id="f" * 32), "it answers for the run"),
    "negative count": (
        lambda order: order.with_report(confusion_trained=[5, -2, 0, 0, 0, 0, 0, 0, 0]),
        "confusion_trained is not",
    ),
    "too many counted": (
        lambda order: order.with_report(confusion_trained=[9, 9, 9, 9, 9, 9, 9, 9, 9]),
        "confusion_trained is not",
    ),
    "loss is NaN": (lambda order: order.with_report(loss_total=float("nan")), "loss_total"),
    "failure with a story": (failure_with_a_story, "reported a failure (code 7)"),
    "a gigabyte from one chunk": (repeated_gigabyte, f"its arrays have {GIGABYTE} bytes"),
    "a gigabyte": (distinct_gigabyte, "it announces 2"),
}


class HostileSite(threading.Thread):
    """Answers round after round with one kind of bad reply each, until it is dismissed.

    before_answer is called with the number of the round and the kind's name.
    """

    def __init__(
        self,
        kit: Path,
        address: str,
        folder: Path,
        plan: Sequence[str],
        before_answer: Callable[[int, str], None],
    ) -> None:
        super().__init__(daemon=True)
        self._kit = kit
        self._address = address
        self._folder = folder
        self._plan = plan
        self._before_answer = before_answer
        self._done = threading.Event()
        self.seen: list[str] = []
        self.ended_well = False

    def run(self) -> None:
        self._folder.mkdir()
        with opened_kit(self._kit) as kit:
            self._partition = self._kit.name.partition(".")[0]
            log_file = self._folder / "supernode.log"
            with SuperNode(self._partition, self._address, log_file, kit) as supernode:
                while not self._done.is_set():
                    supernode.keep_alive()
                    if not supernode.tasks.answer_next(self._answer):
                        self._done.wait(0.2)
                threading.Event().wait(2)  # the farewell travels
        self.ended_well = True

    def stop(self) -> None:
        self._done.set()
        self.join(30)

    def _answer(self, message: Message, _bundle: bytes) -> Message:
        kind = message.metadata.message_type
        values = dict(message.content.config_records[VALUES_RECORD])
        if kind == HELLO:
            return self._introduction(message, Hello.from_values(values))
        if kind == DISMISS:
            self._done.set()
            answer = Acknowledgement(partition=self._partition).to_values()
            return Message(RecordDict({VALUES_RECORD: ConfigRecord(answer)}), reply_to=message)
        order = Order(message, TrainingOrder.from_values(values), self._partition)
        name = self._plan[order.order.round - 1]
        self._before_answer(order.order.round, name)
        self.seen.append(name)
        return KINDS[name][0](order)

    def _introduction(self, message: Message, hello: Hello) -> Message:
        introduction = Introduction(
            partition=self._partition,
            instance="f" * 32,
            version=hello.version,
            schema_version=hello.schema_version,
            agreement_hash=hello.agreement_hash,
            train_clips=ENROLLED,
            test_clips=3,
            synthetic=True,
            refusal="",
        )
        content = RecordDict({VALUES_RECORD: ConfigRecord(introduction.to_values())})
        return Message(content, reply_to=message)
