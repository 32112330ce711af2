"""The site's answers to the server's messages, between Flower's records and the `Site`.

Every message is checked, written to the audit log with the decision, and only then followed; every
answer is written there before it goes. Anything that goes wrong at the site is logged here and
travels as a bare code: no text of an error leaves the site, because it could name a path or a clip.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.error import Error
from flwr.clientapp import ClientApp

from fedpsyau_client.local_training.site import proposed_agreement
from fedpsyau_client.local_training.site_state import SiteState
from fedpsyau_client.oversight.audit_log import AuditLog
from fedpsyau_client.oversight.bundle import require_no_code
from fedpsyau_client.oversight.message_facts import MessageFacts, message_facts
from fedpsyau_client.oversight.policy import (
    Policy,
    join_differences,
    order_differences,
    refusal,
    short_refusal,
)
from fedpsyau_client.oversight.requests import (
    PACKED,
    RoundCourse,
    request_model,
    request_values,
)
from fedpsyau_model.errors import (
    AuditLogError,
    BundleRefusedError,
    FedPsyAUError,
    JoinRefusedError,
    PolicyRefusedError,
    RequestRefusedError,
    WeightsMismatchError,
)
from fedpsyau_model.exchange import (
    HELLO,
    MODEL_RECORD,
    TRAIN,
    VALUES_RECORD,
    Acknowledgement,
    Dismissal,
    Hello,
    Introduction,
    MalformedMessageError,
    TrainingOrder,
    TrainingReport,
)

log = logging.getLogger(__name__)

#: What the code-free bundle names. It has no functions: messages are answered by `SiteApp` in the
#: process that `fedpsyau-client` started, and a SuperNode that was started by hand answers nothing.
app = ClientApp()

#: Exit code that stands in an error reply for a failure without one of its own.
UNEXPECTED: Final = 1

#: Errors whose text is about the message alone; that of any other could name a path or a clip.
_ABOUT_THE_MESSAGE = (
    BundleRefusedError,
    JoinRefusedError,
    MalformedMessageError,
    PolicyRefusedError,
    RequestRefusedError,
    WeightsMismatchError,
)


class Participant(Protocol):
    """What answers for a site: the `Site`, or who only asks."""

    partition: str
    state: SiteState

    def introduce(self, hello: Hello, unwilling: str = "") -> Introduction:
        """See Site."""

    def require(self, order: TrainingOrder, model: bytes) -> None:
        """See Site."""

    def train(self, order: TrainingOrder, model: bytes) -> tuple[TrainingReport, bytes]:
        """See Site."""


@dataclass
class _Decision:
    """Why a message is refused; empty while it is not."""

    why: str = ""


class SiteApp:
    """Answers messages for one site.

    dismissal: set once the server has ended this site's part. refusal: why this site itself does
    not take part, by the last thing that the server asked for.
    """

    def __init__(self, site: Participant, policy: Policy, audit: AuditLog) -> None:
        self._site = site
        self._policy = policy
        self._audit = audit
        self._course = RoundCourse()
        self.dismissal: Dismissal | None = None
        self.refusal: FedPsyAUError | None = None

    def answer(self, message: Message, bundle: bytes) -> Message:
        """Answer one message of a run that brought `bundle`.

        Raises AuditLogError if it cannot go on record, in which case nothing may be sent; nothing
        else that a message can cause.
        """
        try:
            reply = Message(self._content(message, bundle), reply_to=message)
        except AuditLogError:
            raise
        except FedPsyAUError as error:
            log.error("this site cannot answer: %s", error)
            if isinstance(error, BundleRefusedError | PolicyRefusedError):
                self.refusal = error
            reply = Message(Error(error.exit_code, "site failure"), reply_to=message)
        except Exception:
            log.exception("this site cannot answer")
            reply = Message(Error(UNEXPECTED, "site failure"), reply_to=message)
        self._audit.sent(message_facts(reply))
        return reply

    def _content(self, message: Message, bundle: bytes) -> RecordDict:
        kind = message.metadata.message_type
        with self._on_record(message_facts(message)) as decision:
            require_no_code(bundle)
            values = request_values(message, self._policy.max_message_mib << 20)
            if kind == HELLO:
                introduction = self._introduce(Hello.from_values(values), decision)
            elif kind == TRAIN:
                order, model = self._order(TrainingOrder.from_values(values), message)
            else:
                dismissal = Dismissal.from_values(values)
        if kind == HELLO:
            return _record(introduction.to_values())
        if kind == TRAIN:
            self._course.begun(order)
            report, trained = self._site.train(order, model)
            return _record(report.without(self._policy.held_back).to_values(), trained)
        self.dismissal = dismissal
        return _record(Acknowledgement(partition=self._site.partition).to_values())

    @contextmanager
    def _on_record(self, facts: MessageFacts) -> Iterator[_Decision]:
        """Write a message down once the block has decided on it."""
        decision = _Decision()
        try:
            yield decision
        except Exception as error:
            kind = type(error).__name__
            told = f"{kind}: {error}" if isinstance(error, _ABOUT_THE_MESSAGE) else kind
            self._audit.received(facts, told)
            raise
        self._audit.received(facts, decision.why)

    def _introduce(self, hello: Hello, decision: _Decision) -> Introduction:
        proposed = proposed_agreement(hello)
        self._site.state.save_proposal(hello.model_dump() | {"agreement": proposed})
        differences = join_differences(self._policy, proposed, hello.rounds, hello.min_sites)
        short = short_refusal(differences)
        introduction = self._site.introduce(hello, short)
        decision.why = introduction.refusal
        self.refusal = None
        if short and introduction.refusal == short:
            self.refusal = refusal(differences)
            decision.why = str(self.refusal)
            log.error("this site does not take part: %s", self.refusal)
        if not introduction.refusal:
            self._course.joined(hello)
        return introduction

    def _order(self, order: TrainingOrder, message: Message) -> tuple[TrainingOrder, bytes]:
        """Check an order and take its model."""
        if differences := order_differences(self._policy, order.rounds, order.sites):
            raise refusal(differences)
        self._course.require_next(order)
        model = request_model(message)
        self._site.require(order, model)
        return order, model


def _record(values: Mapping[str, Any], model: bytes | None = None) -> RecordDict:
    content = RecordDict({VALUES_RECORD: ConfigRecord(dict(values))})
    if model is not None:
        content[MODEL_RECORD] = ArrayRecord(
            {MODEL_RECORD: Array("uint8", (len(model),), PACKED, model)}
        )
    return content
