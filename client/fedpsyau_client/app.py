"""The site's answers to the server's messages, between Flower's records and the `Site`.

Anything that goes wrong at the site is logged here and travels as a bare code: no text of an
error leaves the site, because it could name a path or a clip.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.error import Error
from flwr.clientapp import ClientApp

from fedpsyau_client.local_training.site import Site
from fedpsyau_model.errors import FedPsyAUError
from fedpsyau_model.exchange import (
    DISMISS,
    HELLO,
    MODEL_RECORD,
    TRAIN,
    VALUES_RECORD,
    Acknowledgement,
    Dismissal,
    Hello,
    MalformedMessageError,
    TrainingOrder,
)

log = logging.getLogger(__name__)

#: What the code-free bundle names. It has no functions: messages are answered by `SiteApp` in the
#: process that `fedpsyau-client` started, and a SuperNode that was started by hand answers nothing.
app = ClientApp()

#: Exit code that stands in an error reply for a failure without one of its own.
UNEXPECTED = 1

#: Flower's own serialisation is not used: the one array holds safetensors bytes as they are.
_PACKED = "safetensors"


class SiteApp:
    """Answers messages for one site; `dismissal` is set once the server has ended its part."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.dismissal: Dismissal | None = None

    def answer(self, message: Message) -> Message:
        """Answer one message. Never raises for anything that a message can cause."""
        try:
            return Message(self._content(message), reply_to=message)
        except FedPsyAUError as error:
            log.error("this site cannot answer: %s", error)
            return Message(Error(error.exit_code, "site failure"), reply_to=message)
        except Exception:
            log.exception("this site cannot answer")
            return Message(Error(UNEXPECTED, "site failure"), reply_to=message)

    def _content(self, message: Message) -> RecordDict:
        values = _values(message)
        kind = message.metadata.message_type
        if kind == HELLO:
            return _record(self._site.introduce(Hello.from_values(values)).to_values())
        if kind == TRAIN:
            order = TrainingOrder.from_values(values)
            report, model = self._site.train(order, _model(message))
            return _record(report.to_values(), model)
        if kind == DISMISS:
            self.dismissal = Dismissal.from_values(values)
            return _record(Acknowledgement(partition=self._site.partition).to_values())
        raise MalformedMessageError(f"The server sent a message of the unknown type {kind!r}.")


def _values(message: Message) -> Mapping[str, Any]:
    records = message.content
    if set(records) - {VALUES_RECORD, MODEL_RECORD} or VALUES_RECORD not in records.config_records:
        raise MalformedMessageError(f"The server sent the records {sorted(records)}.")
    return records.config_records[VALUES_RECORD]


def _model(message: Message) -> bytes:
    try:
        return message.content.array_records[MODEL_RECORD][MODEL_RECORD].data
    except KeyError:
        raise MalformedMessageError("The server sent an order without a model.") from None


def _record(values: Mapping[str, Any], model: bytes | None = None) -> RecordDict:
    content = RecordDict({VALUES_RECORD: ConfigRecord(dict(values))})
    if model is not None:
        content[MODEL_RECORD] = ArrayRecord(
            {MODEL_RECORD: Array("uint8", (len(model),), _PACKED, model)}
        )
    return content
