"""The way to the sites through Flower's grid: greeting nodes, sending orders, pulling replies.

Every message gets a record dictionary of its own. Replies are known by the message that they
answer, sites by the name in their introduction, never by Flower's node ids or list order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedpsyau_model.exchange import (
    DISMISS,
    HELLO,
    MODEL_RECORD,
    TRAIN,
    VALUES_RECORD,
    Dismissal,
    Introduction,
    MalformedMessageError,
    TrainingReport,
)
from fedpsyau_server.roster import Roster
from fedpsyau_server.rounds import Order, Reply

log = logging.getLogger(__name__)

#: Seconds between two looks for replies and for new nodes.
REPLY_POLL = 0.2
NODE_POLL = 1.0

#: Flower's own serialisation is not used: the one array holds safetensors bytes as they are.
_PACKED = "safetensors"


class FlowerLink:
    """A `SiteLink` over a Flower grid.

    on_event is called with a name and details whenever a site joins or is refused.
    """

    def __init__(self, grid: Grid, roster: Roster, on_event: Callable[..., None]) -> None:
        self._grid = grid
        self._roster = roster
        self._on_event = on_event
        self._greeted: set[int] = set()
        self._hellos: dict[str, int] = {}
        self._dismissals: set[str] = set()
        self._last_look = float("-inf")
        self._connected: frozenset[int] = frozenset()

    def wait_for_sites(self, enough: int, seconds: float) -> list[str]:
        """See SiteLink."""
        deadline = time.monotonic() + seconds
        while True:
            self._look_for_nodes()
            self._pull()
            present = self._roster.present(self._connected)
            if len(present) >= enough or time.monotonic() >= deadline:
                return present
            time.sleep(REPLY_POLL)

    def enrolled_clips(self, site: str) -> int:
        """See SiteLink."""
        return self._roster.members[site].introduction.train_clips

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Iterator[Reply]:
        """See SiteLink. A site that comes back under a new node gets its order again."""
        deadline = time.monotonic() + seconds
        pending: dict[str, tuple[str, int]] = {}
        waiting = set(orders)
        self._send_orders(orders, sorted(waiting), pending)
        while waiting and time.monotonic() < deadline:
            for message in self._pull(pending):
                site, _ = pending.pop(message.metadata.reply_to_message_id)
                if site in waiting:
                    waiting.discard(site)
                    yield _read_reply(site, message)
            self._look_for_nodes()
            moved = [
                site
                for site in sorted(waiting)
                if self._node_of(site)
                not in {node for name, node in pending.values() if name == site}
            ]
            self._send_orders(orders, moved, pending)
            if waiting:
                time.sleep(REPLY_POLL)

    def dismiss(self, dismissal: Dismissal, seconds: float) -> None:
        """Tell every connected site that its part has ended; wait for them to have read it."""
        deadline = time.monotonic() + seconds
        nodes = [self._node_of(site) for site in self._roster.present(self._connected)]
        self._push_dismissals(dismissal, nodes)
        while self._dismissals and time.monotonic() < deadline:
            self._pull()
            time.sleep(REPLY_POLL)

    def _push_dismissals(self, dismissal: Dismissal, nodes: list[int]) -> None:
        values = dismissal.to_values()
        self._dismissals |= set(
            self._push([_message(values, node, DISMISS, "join") for node in nodes])
        )

    def _send_orders(
        self,
        orders: Mapping[str, Order],
        sites: list[str],
        pending: dict[str, tuple[str, int]],
    ) -> None:
        messages = [
            _message(
                orders[site].order.to_values(),
                self._node_of(site),
                TRAIN,
                str(orders[site].order.round),
                orders[site].model,
            )
            for site in sites
        ]
        for site, message, message_id in zip(sites, messages, self._push(messages), strict=True):
            pending[message_id] = (site, message.metadata.dst_node_id)

    def _push(self, messages: list[Message]) -> list[str]:
        return list(self._grid.push_messages(messages)) if messages else []

    def _node_of(self, site: str) -> int:
        return self._roster.members[site].node_id

    def _look_for_nodes(self) -> None:
        """Greet nodes that have appeared since the last look, at most once a second."""
        if time.monotonic() - self._last_look < NODE_POLL:
            return
        self._last_look = time.monotonic()
        self._connected = frozenset(self._grid.get_node_ids())
        unknown = sorted(self._connected - self._greeted)
        hello = self._roster.hello.to_values()
        messages = [_message(hello, node, HELLO, "join") for node in unknown]
        self._hellos |= dict(zip(self._push(messages), unknown, strict=True))
        self._greeted |= set(unknown)

    def _pull(self, pending: Mapping[str, Any] | None = None) -> list[Message]:
        """Pull what has come; deal with introductions, return answers to orders."""
        wanted = [*self._hellos, *self._dismissals, *(pending or ())]
        if not wanted:
            return []
        answers = []
        for message in self._grid.pull_messages(wanted):
            answered = message.metadata.reply_to_message_id
            if answered in self._hellos:
                self._admit(self._hellos.pop(answered), message)
            elif answered in self._dismissals:
                self._dismissals.discard(answered)
            else:
                answers.append(message)
        return answers

    def _admit(self, node: int, message: Message) -> None:
        if message.has_error():
            self._greeted.discard(node)  # greeted again if it is still there at the next look
            return
        try:
            introduction = Introduction.from_values(_values(message))
        except MalformedMessageError as error:
            dismissal: Dismissal | None = Dismissal(reason=str(error), exit_code=error.exit_code)
            partition = "unknown"
        else:
            dismissal = self._roster.admit(node, introduction, self._connected)
            partition = introduction.partition
        if dismissal is None:
            self._on_event(
                "joined",
                site=partition,
                clips=introduction.train_clips,
                synthetic=introduction.synthetic,
            )
            return
        self._on_event("refused", site=partition, reason=dismissal.reason)
        self._push_dismissals(dismissal, [node])


def _message(
    values: Mapping[str, Any], node: int, kind: str, group: str, model: bytes | None = None
) -> Message:
    content = RecordDict({VALUES_RECORD: ConfigRecord(dict(values))})
    if model is not None:
        content[MODEL_RECORD] = ArrayRecord(
            {MODEL_RECORD: Array("uint8", (len(model),), _PACKED, model)}
        )
    return Message(content, node, kind, group_id=group)


def _read_reply(site: str, message: Message) -> Reply:
    if message.has_error():
        return Reply(site, fault=f"the site reported a failure (code {message.error.code})")
    try:
        report = TrainingReport.from_values(_values(message))
        model = message.content.array_records[MODEL_RECORD][MODEL_RECORD].data
    except (MalformedMessageError, KeyError) as error:
        return Reply(site, fault=f"malformed: {error}")
    return Reply(site, report, model)


def _values(message: Message) -> Mapping[str, Any]:
    records = message.content.config_records
    if set(message.content) - {VALUES_RECORD, MODEL_RECORD} or VALUES_RECORD not in records:
        raise MalformedMessageError(
            f"A message holds the records {sorted(message.content)}; only {VALUES_RECORD} and "
            f"{MODEL_RECORD} are allowed."
        )
    return records[VALUES_RECORD]
