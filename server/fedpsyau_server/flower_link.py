"""The way to the sites through Flower's grid: greeting nodes, sending orders, pulling replies.

Every message gets a record dictionary of its own. Replies are known by the message that they
answer, sites by the name in their introduction, never by Flower's node ids or list order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedpsyau_model.errors import BundleRefusedError
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


#: Told of a site that will not answer any message of this run.
_BUNDLE_REFUSED = (
    "A site refuses this run, because the bundle that it brings carries code (exit code "
    f"{BundleRefusedError.exit_code} at the site, whose log has the bundle's hash). Install "
    "fedpsyau-server anew: its bundle holds none."
)


@dataclass(frozen=True)
class _Sent:
    """An order on its way: whose it is, and the connection it went to."""

    site: str
    node: int
    since: str


@dataclass(frozen=True)
class _Node:
    """A node that answers.

    name: whose key it has, or nothing. since: when it connected. A node with a key keeps its id
    when the site is started anew, and this is how that is seen.
    """

    name: str
    since: str


class FlowerLink:
    """A `SiteLink` over a Flower grid.

    on_event is called with a name and details whenever a site joins or is refused.
    """

    def __init__(self, grid: Grid, roster: Roster, on_event: Callable[..., None]) -> None:
        self._grid = grid
        self._roster = roster
        self._on_event = on_event
        self._greeted: dict[int, str] = {}
        self._admitted: dict[str, str] = {}
        self._hellos: dict[str, int] = {}
        self._dismissals: set[str] = set()
        self._last_look = float("-inf")
        self._connected: frozenset[int] = frozenset()
        self._nodes: dict[int, _Node] = {}

    def wait_for_sites(self, enough: int, seconds: float) -> list[str]:
        """See SiteLink."""
        deadline = time.monotonic() + seconds
        while True:
            self._look_for_nodes()
            self._pull()
            present = self._present()
            if len(present) >= enough or time.monotonic() >= deadline:
                return present
            time.sleep(REPLY_POLL)

    def enrolled_clips(self, site: str) -> int:
        """See SiteLink."""
        return self._roster.members[site].introduction.train_clips

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Iterator[Reply]:
        """See SiteLink. A site that comes back under a new connection gets its order again."""
        deadline = time.monotonic() + seconds
        waiting = set(orders)
        pending: dict[str, _Sent] = {}
        unsent = sorted(waiting)
        while waiting and time.monotonic() < deadline:
            for site in self._send_orders(orders, unsent, pending):
                waiting.discard(site)
                yield Reply(site, fault="its node could not be reached")
            for message in self._pull(pending):
                sent = pending.pop(message.metadata.reply_to_message_id)
                is_back = sent != self._address_of(sent.site) or self._is_new(sent.site)
                if sent.site in waiting and not (message.has_error() and is_back):
                    waiting.discard(sent.site)
                    yield _read_reply(sent.site, message)
            self._look_for_nodes()
            reached = set(pending.values())
            unsent = [
                site
                for site in sorted(waiting)
                if self._address_of(site) not in reached and not self._is_new(site)
            ]
            if waiting:
                time.sleep(REPLY_POLL)

    def dismiss(self, dismissal: Dismissal, seconds: float) -> None:
        """Tell every connected site that its part has ended; wait for them to have read it."""
        deadline = time.monotonic() + seconds
        nodes = [self._node_of(site) for site in self._present()]
        self._push_dismissals(dismissal, nodes)
        while self._dismissals and time.monotonic() < deadline:
            self._pull()
            time.sleep(REPLY_POLL)

    def _push_dismissals(self, dismissal: Dismissal, nodes: list[int]) -> None:
        values = dismissal.to_values()
        pushed = self._push([_message(values, node, DISMISS, "join") for node in nodes])
        self._dismissals |= {message_id for message_id in pushed if message_id is not None}

    def _send_orders(
        self, orders: Mapping[str, Order], sites: list[str], pending: dict[str, _Sent]
    ) -> list[str]:
        """Send orders and note them in `pending`; returns the sites that could not be reached."""
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
        unreached = []
        for site, message_id in zip(sites, self._push(messages), strict=True):
            if message_id is None:
                unreached.append(site)
            else:
                pending[message_id] = self._address_of(site)
        return unreached

    def _push(self, messages: list[Message]) -> list[str | None]:
        """Push messages; for each its id, or None if its node has gone."""
        if not messages:
            return []
        return list(self._grid.push_messages(messages)) or [None] * len(messages)

    def _node_of(self, site: str) -> int:
        return self._roster.members[site].node_id

    def _present(self) -> list[str]:
        sites = self._roster.present(self._connected)
        return [site for site in sites if not self._is_new(site)]

    def _is_new(self, site: str) -> bool:
        """Whether a member has connected anew and has not introduced itself since."""
        is_now = self._nodes.get(self._node_of(site))
        return is_now is not None and is_now.since != self._admitted[site]

    def _address_of(self, site: str) -> _Sent:
        return _Sent(site, self._node_of(site), self._admitted[site])

    def _look_for_nodes(self) -> None:
        """Greet nodes that have appeared since the last look, at most once a second."""
        if time.monotonic() - self._last_look < NODE_POLL:
            return
        self._last_look = time.monotonic()
        self._nodes = _nodes_that_answer(self._grid)
        self._connected = frozenset(self._nodes)
        unknown = sorted(
            node for node, is_now in self._nodes.items() if self._greeted.get(node) != is_now.since
        )
        hello = self._roster.hello.to_values()
        messages = [_message(hello, node, HELLO, "join") for node in unknown]
        for node, message_id in zip(unknown, self._push(messages), strict=True):
            if message_id is not None:
                self._hellos[message_id] = node
                self._greeted[node] = self._nodes[node].since

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
            if message.error.code == BundleRefusedError.exit_code:
                name = self._nodes[node].name if node in self._nodes else ""
                self._on_event("refused", site=name or "unknown", reason=_BUNDLE_REFUSED)
                return
            self._greeted.pop(node, None)  # greeted again if it is still there at the next look
            return
        try:
            introduction = Introduction.from_values(_values(message))
        except MalformedMessageError as error:
            dismissal: Dismissal | None = Dismissal(reason=str(error), exit_code=error.exit_code)
            partition = "unknown"
        else:
            is_now = self._nodes.get(node)
            dismissal = self._roster.admit(
                node, introduction, self._connected, is_now.name if is_now else None
            )
            partition = introduction.partition
        if dismissal is None:
            self._admitted[partition] = self._greeted.get(node, "")
            self._on_event(
                "joined",
                site=partition,
                clips=introduction.train_clips,
                synthetic=introduction.synthetic,
            )
            return
        self._on_event("refused", site=partition, reason=dismissal.reason)
        self._push_dismissals(dismissal, [node])


def _nodes_that_answer(grid: Grid) -> dict[int, _Node]:
    return {node.node_id: _Node(node.name, node.last_activated_at) for node in grid.get_nodes()}


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
