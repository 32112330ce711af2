"""The way to the sites when connections come and go, against a grid that does as it is told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.error import Error
from flwr.supercore.task_identity import TaskIdentity

from fedpsyau_model import __version__
from fedpsyau_model.errors import BundleRefusedError, NameNotYoursError
from fedpsyau_model.exchange import (
    DISMISS,
    HELLO,
    SCHEMA_VERSION,
    TRAIN,
    VALUES_RECORD,
    Introduction,
    TrainingOrder,
    hello,
)
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server import flower_link
from fedpsyau_server.flower_link import FlowerLink
from fedpsyau_server.reply_intake import Answer
from fedpsyau_server.reply_sizes import SMALL, largest_reply
from fedpsyau_server.roster import Roster
from fedpsyau_server.rounds import Order

SETTINGS = FederationSettings()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between two looks, and messages outside of Flower's task processes."""
    monkeypatch.setattr(flower_link, "REPLY_POLL", 0.0)
    monkeypatch.setattr(flower_link, "NODE_POLL", 0.0)
    monkeypatch.setattr(flower_link, "RETURN_SECONDS", 0.2)
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@dataclass
class Grid:
    """Nodes with the names of their keys; `answering` ones introduce themselves as `says`."""

    names: dict[int, str]
    says: dict[int, str] = field(default_factory=dict)
    since: dict[int, str] = field(default_factory=dict)
    sent: list[tuple[str, int]] = field(default_factory=list)
    replies: dict[str, Answer] = field(default_factory=dict)
    unanswered: dict[str, Message] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    pushes: list[list[tuple[str, int]]] = field(default_factory=list)

    def get_nodes(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(node_id=node, name=name, last_activated_at=self.since.get(node, "t0"))
            for node, name in self.names.items()
        ]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        together: list[tuple[str, int]] = []
        self.pushes.append(together)
        for message in messages:
            number = f"message {len(self.sent)}"
            message.metadata.__dict__["_message_id"] = number
            kind, node = message.metadata.message_type, message.metadata.dst_node_id
            self.sent.append((kind, node))
            together.append((kind, node))
            if kind == HELLO:
                self.replies[number] = Answer(number, self.introduction(message, node))
            else:
                self.unanswered[number] = message
            ids.append(number)
        return ids

    def pull(self, largest: Mapping[str, int]) -> list[Answer]:
        self.asked |= largest
        return [self.replies.pop(number) for number in list(largest) if number in self.replies]

    def introduction(self, message: Message, node: int) -> Message:
        site = self.says.get(node, self.names[node])
        values: dict[str, Any] = Introduction(
            partition=site,
            instance=f"{site * 8}xx",
            version=__version__,
            schema_version=SCHEMA_VERSION,
            agreement_hash=SETTINGS.agreement_hash(),
            train_clips=10,
            test_clips=3,
            synthetic=True,
            refusal="",
        ).to_values()
        return Message(RecordDict({VALUES_RECORD: ConfigRecord(values)}), reply_to=message)

    def fail(self, kind: str) -> None:
        """Answer every open message of a kind with a failure of the site."""
        for number, message in list(self.unanswered.items()):
            if message.metadata.message_type == kind:
                self.replies[number] = Answer(number, Message(Error(3), reply_to=message))
                del self.unanswered[number]

    def lose(self, kind: str) -> None:
        """Let the answers to every open message of a kind get lost."""
        for number, message in list(self.unanswered.items()):
            if message.metadata.message_type == kind:
                self.replies[number] = Answer(number, fault="broke", lost=True)
                del self.unanswered[number]


@pytest.fixture
def events() -> list[tuple[str, dict[str, Any]]]:
    return []


def link_to(grid: Grid, events: list[tuple[str, dict[str, Any]]], keys: bool) -> FlowerLink:
    roster = Roster(hello(SETTINGS, "run"), ("a", "b"), keys=keys)
    return FlowerLink(grid, grid, roster, lambda name, **details: events.append((name, details)))  # type: ignore[arg-type]


def order(of_round: int = 1) -> Order:
    return Order(
        TrainingOrder(run_id="run", round=of_round, rounds=2, sites=2, all_clips=20),
        lambda: b"model",
    )


def test_orders_go_one_by_one_so_that_no_site_waits_for_the_models_of_others(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a", 2: "b"})
    link = link_to(grid, events, keys=True)
    link.wait_for_sites(2, 0.2)
    list(link.exchange({"a": order(), "b": order()}, 0.05))
    assert grid.pushes[-2:] == [[(TRAIN, 1)], [(TRAIN, 2)]]


def test_a_key_that_belongs_to_another_name_is_dismissed(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a", 2: "b"}, says={2: "a"})
    assert link_to(grid, events, keys=True).wait_for_sites(2, 0.2) == ["a"]
    assert (DISMISS, 2) in grid.sent
    assert (DISMISS, 1) not in grid.sent
    dismissal = next(iter(grid.unanswered.values())).content.config_records[VALUES_RECORD]
    assert dismissal["exit_code"] == NameNotYoursError.exit_code
    assert [name for name, _ in events] == ["joined", "refused"]


def test_a_node_without_a_name_is_dismissed_where_keys_are_used(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: ""}, says={1: "a"})
    assert link_to(grid, events, keys=True).wait_for_sites(1, 0.1) == []
    assert link_to(grid, events, keys=False).wait_for_sites(1, 0.1) == ["a"]


def kinds(grid: Grid) -> Iterator[str]:
    return (kind for kind, _ in grid.sent)


def test_a_site_that_connects_anew_with_its_key_introduces_itself_and_gets_its_order_again(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    """A key keeps its node id, so only the time of the connection tells that it is a new one."""
    grid = Grid({1: "a"})
    link = link_to(grid, events, keys=True)
    assert link.wait_for_sites(1, 1) == ["a"]
    replies = link.exchange({"a": order()}, 0.2)
    assert list(replies) == []
    assert list(kinds(grid)) == [HELLO, TRAIN]

    replies = link.exchange({"a": order()}, 0.5)
    grid.since[1] = "t1"
    assert list(replies) == []
    # The order that the old connection took with it, the new greeting, the order again, no more.
    assert list(kinds(grid)) == [HELLO, TRAIN, HELLO, TRAIN]
    assert [name for name, _ in events] == ["joined", "sent", "gone", "joined", "sent"]
    assert events[1][1] == {"round": 1, "site": "a", "bytes": len(b"model")}


def test_a_late_answer_is_taken_when_the_round_goes_on_waiting(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({7: "a"})
    link = link_to(grid, events, keys=True)
    link.wait_for_sites(1, 1)
    assert list(link.exchange({"a": order()}, 0.1)) == []
    grid.fail(TRAIN)
    assert [reply.fault for reply in link.exchange({"a": order()}, 5)] == [
        "the site reported a failure (code 3)"
    ]
    assert list(kinds(grid)) == [HELLO, TRAIN]


def test_an_answer_to_an_earlier_round_is_not_taken_for_one_to_this(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a"})
    link = link_to(grid, events, keys=True)
    link.wait_for_sites(1, 1)
    assert list(link.exchange({"a": order()}, 0.1)) == []
    grid.fail(TRAIN)
    assert list(link.exchange({"a": order(of_round=2)}, 0.1)) == []
    assert list(kinds(grid)) == [HELLO, TRAIN, TRAIN]


def test_who_goes_and_comes_back_as_it_was_is_told_once(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a", 2: "b"})
    link = link_to(grid, events, keys=True)
    assert link.wait_for_sites(2, 1) == ["a", "b"]
    del grid.names[2]
    assert link.wait_for_sites(1, 0.0, among=["b"]) == []
    grid.names[2] = "b"
    assert link.wait_for_sites(1, 1, among=["b"]) == ["b"]
    assert link.wait_for_sites(1, 0.0) == ["a", "b"]
    told = [(name, values["site"]) for name, values in events]
    assert told == [("joined", "a"), ("joined", "b"), ("gone", "b"), ("here", "b")]


def test_a_site_that_has_connected_anew_is_not_there_before_it_has_introduced_itself(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a"})
    link = link_to(grid, events, keys=True)
    assert link.wait_for_sites(1, 1) == ["a"]
    grid.since[1] = "t1"
    grid.introduction = lambda message, node: Message(Error(5), reply_to=message)  # type: ignore[method-assign]
    assert link.wait_for_sites(1, 0.1) == []


def test_a_site_that_refuses_the_bundle_is_told_once_and_left_alone(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a"})
    grid.introduction = lambda message, node: Message(  # type: ignore[method-assign]
        Error(BundleRefusedError.exit_code), reply_to=message
    )
    assert link_to(grid, events, keys=True).wait_for_sites(1, 0.1) == []
    assert list(kinds(grid)) == [HELLO]
    assert [(name, details["site"]) for name, details in events] == [("refused", "a")]
    assert "bundle" in events[0][1]["reason"]


def test_a_site_that_went_and_stays_away_is_not_waited_for_long(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a"})
    link = link_to(grid, events, keys=True)
    link.wait_for_sites(1, 1)
    replies = link.exchange({"a": order()}, 30)
    real_pull = grid.pull

    def pull_after_failure(largest: Mapping[str, int]) -> list[Answer]:
        grid.names.clear()
        grid.lose(TRAIN)
        return real_pull(largest)

    grid.pull = pull_after_failure  # type: ignore[method-assign]
    started = time.monotonic()
    assert [(reply.site, reply.fault, reply.lost) for reply in replies] == [("a", "broke", True)]
    assert 0.2 <= time.monotonic() - started < 10
    assert list(kinds(grid)) == [HELLO, TRAIN]
    assert events[-1] == ("lost", {"site": "a", "reason": "broke"})


def test_a_site_that_went_gets_its_order_again_if_it_is_back_while_others_train(
    events: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flower_link, "RETURN_SECONDS", 0.0)
    grid = Grid({1: "a", 2: "b"})
    link = link_to(grid, events, keys=True)
    link.wait_for_sites(2, 1)
    replies = link.exchange({"a": order(), "b": order()}, 1.0)
    real_pull, pulls = grid.pull, iter(range(10**9))

    def pull(largest: Mapping[str, int]) -> list[Answer]:
        number = next(pulls)
        if number == 1:
            del grid.names[1]
            lost = [key for key, each in grid.unanswered.items() if each.metadata.dst_node_id == 1]
            grid.replies[lost[0]] = Answer(lost[0], fault="broke", lost=True)
        elif number == 5:
            grid.names[1] = "a"
        return real_pull(largest)

    grid.pull = pull  # type: ignore[method-assign]
    assert list(replies) == []  # nobody has answered in the end, and nobody was given up
    assert grid.sent == [(HELLO, 1), (HELLO, 2), (TRAIN, 1), (TRAIN, 2), (TRAIN, 1)]


def test_an_order_whose_answer_got_lost_goes_to_its_site_again(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a"})
    link = link_to(grid, events, keys=True)
    link.wait_for_sites(1, 1)
    grid.since[1] = "t0"
    replies = link.exchange({"a": order()}, 0.3)
    grid_pull, lost = grid.pull, []

    def pull_and_lose_once(largest: Mapping[str, int]) -> list[Answer]:
        if not lost and grid.unanswered:
            lost.append(True)
            grid.lose(TRAIN)
        return grid_pull(largest)

    grid.pull = pull_and_lose_once  # type: ignore[method-assign]
    assert list(replies) == []
    assert list(kinds(grid)) == [HELLO, TRAIN, TRAIN]


def test_what_comes_after_the_round_is_fetched_only_to_be_dropped(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a"})
    link = link_to(grid, events, keys=True)
    link.wait_for_sites(1, 1)
    assert list(link.exchange({"a": order()}, 0.05)) == []
    [late] = grid.unanswered
    assert grid.asked[late] == largest_reply(len(order().model))
    assert list(link.exchange({"a": order(of_round=2)}, 0.05)) == []
    assert grid.asked[late] == SMALL
    grid.replies[late] = Answer(late, fault="it has at least 5 bytes")
    link.wait_for_sites(1, 0)
    grid.asked.clear()
    link.wait_for_sites(1, 0)
    assert late not in grid.asked


def test_a_site_that_cannot_introduce_itself_is_told_of_once_and_asked_ever_more_rarely(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    grid = Grid({1: "a"})
    grid.introduction = lambda message, node: Message(Error(11), reply_to=message)  # type: ignore[method-assign]
    link = link_to(grid, events, keys=True)
    assert link.wait_for_sites(1, 1.5) == []
    # At once and after one second; the next would be after two more.
    assert list(kinds(grid)) == [HELLO, HELLO]
    assert [(name, details["site"]) for name, details in events] == [("refused", "a")]
    assert "code 11" in events[0][1]["reason"]


def test_a_site_that_is_back_under_another_node_is_not_lost_with_the_old_one(
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    """Without keys a site that was killed comes back as a new node, before its old one lapses."""
    grid = Grid({1: "a"})
    link = link_to(grid, events, keys=False)
    link.wait_for_sites(1, 1)
    real_pull, pulls = grid.pull, iter(range(10**9))

    def pull(largest: Mapping[str, int]) -> list[Answer]:
        number = next(pulls)
        if number == 1:
            grid.names = {2: "a"}
        elif number == 5:
            old = [key for key, each in grid.unanswered.items() if each.metadata.dst_node_id == 1]
            grid.replies[old[0]] = Answer(old[0], fault="broke", lost=True)
        return real_pull(largest)

    grid.pull = pull  # type: ignore[method-assign]
    assert list(link.exchange({"a": order()}, 0.5)) == []
    assert grid.sent == [(HELLO, 1), (TRAIN, 1), (HELLO, 2), (TRAIN, 2)]
    assert [name for name, _ in events] == ["joined", "sent", "gone", "joined", "sent"]
