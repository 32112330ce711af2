"""The way to the sites through Flower's grid: greeting nodes, sending orders, pulling replies.

Every message gets a record dictionary of its own. Replies are known by the message that they
answer, sites by the name in their introduction, never by Flower's node ids or list order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
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
from fedpsyau_model.foreign_text import printable
from fedpsyau_server.reply_intake import Answer, ReplySource
from fedpsyau_server.reply_sizes import SMALL, largest_reply
from fedpsyau_server.roster import Roster
from fedpsyau_server.rounds import Order, Reply

log = logging.getLogger(__name__)

#: Seconds between two looks for replies and for new nodes.
REPLY_POLL = 0.2
NODE_POLL = 1.0

#: Seconds for which a round waits for nobody but sites whose connection broke. A key gets its place
#: back after 72.
RETURN_SECONDS = 90.0

#: Seconds between two greetings, in the end, of a node that answers them with a failure.
LAST_GREETING_PAUSE = 60.0

#: Flower's own serialisation is not used: the one array holds safetensors bytes as they are.
_PACKED = "safetensors"


#: Told of a site that will not answer any message of this run.
_BUNDLE_REFUSED = (
    "A site refuses this run, because the bundle that it brings carries code (exit code "
    f"{BundleRefusedError.exit_code} at the site, whose log has the bundle's hash). Install "
    "fedpsyau-server anew: its bundle holds none."
)


@dataclass(frozen=True)
class _Address:
    """The connection that an order goes to, and whose it is."""

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


@dataclass(frozen=True)
class _Loss:
    """A site whose connection broke in a round, and until when it is waited for."""

    reason: str
    until: float

    def is_final(self) -> bool:
        return time.monotonic() >= self.until


@dataclass
class _Setback:
    """Greetings of a node in a row that were answered with a failure, and when to try again."""

    times: int = 0
    again: float = 0.0


class FlowerLink:
    """A `SiteLink` over a Flower grid.

    source: where the answers to what was pushed to the grid come from. on_event is called with a
    name and details whenever a site joins or is refused.
    """

    def __init__(
        self, grid: Grid, source: ReplySource, roster: Roster, on_event: Callable[..., None]
    ) -> None:
        self._grid = grid
        self._source = source
        self._roster = roster
        self._on_event = on_event
        self._greeted: dict[int, str] = {}
        self._setbacks: dict[int, _Setback] = {}
        self._admitted: dict[str, str] = {}
        self._hellos: dict[str, int] = {}
        self._dismissals: set[str] = set()
        self._pending: dict[str, _Address] = {}
        self._pending_round = 0
        self._largest: dict[str, int] = {}
        self._here: frozenset[str] = frozenset()
        self._unwanted: set[str] = set()
        self._last_look = float("-inf")
        self._connected: frozenset[int] = frozenset()
        self._nodes: dict[int, _Node] = {}

    def wait_for_sites(
        self, enough: int, seconds: float, among: Collection[str] | None = None
    ) -> list[str]:
        """See SiteLink."""
        deadline = time.monotonic() + seconds
        while True:
            self._look_for_nodes()
            self._hear()
            present = [site for site in self._present() if among is None or site in among]
            if len(present) >= enough or time.monotonic() >= deadline:
                return present
            time.sleep(REPLY_POLL)

    def enrolled_clips(self, site: str) -> int:
        """See SiteLink."""
        return self._roster.members[site].introduction.train_clips

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Iterator[Reply]:
        """See SiteLink. A site that comes back while the round is open gets its order again.

        A site whose connection broke is waited for as long as others train, and `RETURN_SECONDS`
        at least.
        """
        deadline = time.monotonic() + seconds
        waiting = set(orders)
        lost: dict[str, _Loss] = {}
        self._forget_other_rounds({order.order.round for order in orders.values()})
        while waiting and time.monotonic() < deadline:
            for site in self._send_orders(orders, self._unsent(waiting)):
                self._note_loss(lost, site, "its node could not be reached")
            for answer in self._pull(
                {id_: self._largest[each.site] for id_, each in self._pending.items()}
            ):
                sent = self._pending.pop(answer.answers)
                if sent.site not in waiting:
                    continue
                if _failed(answer) and self._comes_anew(sent):
                    continue
                if answer.lost:
                    self._note_loss(lost, sent.site, answer.fault or "lost")
                else:
                    waiting.discard(sent.site)
                    yield _read_reply(sent.site, answer)
            self._look_for_nodes()
            for site in {each.site for each in self._pending.values()} & lost.keys():
                del lost[site]  # it is back, and has its order
            if waiting <= lost.keys():
                for site in [site for site in sorted(waiting) if lost[site].is_final()]:
                    waiting.discard(site)
                    yield Reply(site, fault=lost[site].reason, lost=True)
            if waiting:
                time.sleep(REPLY_POLL)

    def _note_loss(self, lost: dict[str, _Loss], site: str, reason: str) -> None:
        self._look_for_nodes(at_once=True)
        if site not in lost:
            self._on_event("lost", site=site, reason=reason)
            lost[site] = _Loss(reason, time.monotonic() + RETURN_SECONDS)

    def _comes_anew(self, sent: _Address) -> bool:
        """Whether a site has a new connection, or is about to get one."""
        return sent != self._address_of(sent.site) or self._is_new(sent.site)

    def _forget_other_rounds(self, rounds: set[int]) -> None:
        """Let go of orders of earlier rounds; an answer to them would come too late.

        It is of no use to anybody, and yet is taken in, lest it stay in the SuperLink's memory.
        """
        if rounds != {self._pending_round}:
            self._unwanted.update(self._pending)
            self._pending.clear()
            self._pending_round = max(rounds, default=0)

    def _unsent(self, waiting: Collection[str]) -> list[str]:
        """Sites that have not been sent their order over the connection that they have now."""
        reached = set(self._pending.values())
        return [
            site
            for site in sorted(waiting)
            if self._address_of(site) not in reached
            and self._node_of(site) in self._connected
            and not self._is_new(site)
        ]

    def dismiss(self, dismissal: Dismissal, seconds: float) -> None:
        """Tell every connected site that its part has ended; wait for them to have read it."""
        deadline = time.monotonic() + seconds
        nodes = [self._node_of(site) for site in self._present()]
        self._push_dismissals(dismissal, nodes)
        while self._dismissals and time.monotonic() < deadline:
            self._hear()
            time.sleep(REPLY_POLL)

    def _push_dismissals(self, dismissal: Dismissal, nodes: list[int]) -> None:
        values = dismissal.to_values()
        pushed = self._push([_message(values, node, DISMISS, "join") for node in nodes])
        self._dismissals |= {message_id for message_id in pushed if message_id is not None}

    def _send_orders(self, orders: Mapping[str, Order], sites: list[str]) -> list[str]:
        """Send orders and note them as pending; returns the sites that could not be reached."""
        unreached = []
        for site in sites:
            # One at a time: what Flower is given together, it announces to all before it uploads
            # the first one's model, and every site waits for those of all. And a model is in
            # memory only while it is pushed.
            order = orders[site].order
            model = orders[site].model
            message = _message(
                order.to_values(), self._node_of(site), TRAIN, str(order.round), model
            )
            [message_id] = self._push([message])
            if message_id is None:
                unreached.append(site)
            else:
                self._pending[message_id] = self._address_of(site)
                self._largest[site] = largest_reply(len(model))
                self._on_event("sent", round=order.round, site=site, bytes=len(model))
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

    def _address_of(self, site: str) -> _Address:
        return _Address(site, self._node_of(site), self._admitted[site])

    def _look_for_nodes(self, *, at_once: bool = False) -> None:
        """Greet nodes that have appeared since the last look, at most once a second."""
        if not at_once and time.monotonic() - self._last_look < NODE_POLL:
            return
        self._last_look = time.monotonic()
        self._nodes = _nodes_that_answer(self._grid)
        self._connected = frozenset(self._nodes)
        self._tell_who_is_here()
        unknown = sorted(
            node
            for node, is_now in self._nodes.items()
            if self._greeted.get(node) != is_now.since
            and self._setbacks.get(node, _Setback()).again <= self._last_look
        )
        hello = self._roster.hello.to_values()
        messages = [_message(hello, node, HELLO, "join") for node in unknown]
        for node, message_id in zip(unknown, self._push(messages), strict=True):
            if message_id is not None:
                self._hellos[message_id] = node
                self._greeted[node] = self._nodes[node].since

    def _tell_who_is_here(self) -> None:
        """Say which members have gone since the last look, and which are back as they were."""
        here = frozenset(self._present())
        for site in sorted(self._here - here):
            self._on_event("gone", site=site)
        for site in sorted(here - self._here):
            self._on_event("here", site=site)
        self._here = here

    def _hear(self) -> None:
        """Deal with what has come while no order is open."""
        for _ in self._pull({}):
            pass

    def _pull(self, pending: Mapping[str, int]) -> Iterator[Answer]:
        """Pull what has come; deal with introductions, yield answers to orders one by one.

        pending: ids of orders, each with the bytes that its answer may have.
        """
        small = [*self._hellos, *self._dismissals, *self._unwanted]
        for answer in self._source.pull(dict.fromkeys(small, SMALL) | dict(pending)):
            if answer.answers in self._hellos:
                self._admit(self._hellos.pop(answer.answers), answer)
            elif answer.answers in self._dismissals:
                self._dismissals.discard(answer.answers)
            elif answer.answers in self._unwanted:
                self._unwanted.discard(answer.answers)
            else:
                yield answer

    def _admit(self, node: int, answer: Answer) -> None:
        if answer.lost:
            self._greeted.pop(node, None)  # greeted again if it is still there at the next look
            return
        if _failed(answer):
            if answer.message and answer.message.error.code == BundleRefusedError.exit_code:
                name = self._nodes[node].name if node in self._nodes else ""
                self._on_event("refused", site=name or "unknown", reason=_BUNDLE_REFUSED)
                return
            self._greet_later(node, answer)
            return
        self._setbacks.pop(node, None)
        try:
            introduction = Introduction.from_values(_values(answer.message))
        except MalformedMessageError as error:
            dismissal: Dismissal | None = Dismissal(
                reason=printable(str(error)), exit_code=error.exit_code
            )
            partition = "unknown"
        else:
            is_now = self._nodes.get(node)
            dismissal = self._roster.admit(
                node, introduction, self._connected, is_now.name if is_now else None
            )
            partition = introduction.partition
        if dismissal is None:
            self._admitted[partition] = self._greeted.get(node, "")
            self._here |= {partition}
            self._on_event(
                "joined",
                site=partition,
                clips=introduction.train_clips,
                synthetic=introduction.synthetic,
            )
            return
        self._on_event("refused", site=printable(partition, 64), reason=dismissal.reason)
        self._push_dismissals(dismissal, [node])

    def _greet_later(self, node: int, answer: Answer) -> None:
        """Note that a node could not introduce itself; say so once, and try again ever later."""
        setback = self._setbacks.setdefault(node, _Setback())
        setback.again = time.monotonic() + min(2.0**setback.times, LAST_GREETING_PAUSE)
        setback.times += 1
        self._greeted.pop(node, None)
        if setback.times == 1:
            name = self._nodes[node].name if node in self._nodes else ""
            self._on_event(
                "refused",
                site=name or "unknown",
                reason=f"{name or 'a client'} cannot introduce itself: {_failure(answer)}. Its own "
                "log says why; it is asked again from time to time",
            )


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


def _failed(answer: Answer) -> bool:
    return answer.message is None or answer.message.has_error()


def _failure(answer: Answer) -> str:
    if answer.message is None:
        return printable(answer.fault or "nothing came")
    return f"the site reported a failure (code {answer.message.error.code})"


def _read_reply(site: str, answer: Answer) -> Reply:
    if answer.message is None or answer.message.has_error():
        return Reply(site, fault=_failure(answer), lost=answer.lost)
    try:
        report = TrainingReport.from_values(_values(answer.message))
        model = answer.message.content.array_records[MODEL_RECORD][MODEL_RECORD].data
    except MalformedMessageError as error:
        return Reply(site, fault=printable(f"malformed: {error}"))
    except KeyError:
        return Reply(site, fault="malformed: it holds no model")
    return Reply(site, report, model)


def _values(message: Message | None) -> Mapping[str, Any]:
    if message is None or message.has_error():
        raise MalformedMessageError("A message has no content.")
    records = message.content.config_records
    if set(message.content) - {VALUES_RECORD, MODEL_RECORD} or VALUES_RECORD not in records:
        raise MalformedMessageError(
            f"A message holds the records {sorted(message.content)}; only {VALUES_RECORD} and "
            f"{MODEL_RECORD} are allowed."
        )
    return records[VALUES_RECORD]
