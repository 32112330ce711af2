"""A SuperLink without processes: its real state and handlers, and a node that answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.server.superlink.fleet.message_handler import message_handler
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.servicer.runtime import runtime_handlers

from fedpsyau_server.guarded_superlink import GuardedFleet


class Context:
    """What a handler sees of a gRPC call."""

    def abort(self, code: Any, details: str) -> None:
        raise ConnectionAbortedError(f"{code}: {details}")


class InProcessSuperLink:
    """One run and one node. `grid` is what a ServerApp has, `answer` what a site does."""

    def __init__(self) -> None:
        database = FLWR_IN_MEMORY_DB_NAME
        objects = ObjectStoreFactory(database)
        states = LinkStateFactory(database, NoOpFederationManager(), objects)
        self.state = states.state()
        self.objects = objects.store()
        self.fleet = GuardedFleet(states, objects, enable_supernode_auth=False)
        self.node = self.state.create_node("owner", "owner", b"key", 0)
        assert self.state.activate_node(self.node, 30)
        self.run = self.state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP
        )
        task = self.state.get_tasks()[0]
        assert self.state.claim_task(task.task_id)
        assert self.state.activate_task(task.task_id)
        self._task = task
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = task.task_id, self.run, 1
        self.grid: Any = SimpleNamespace(
            _runtime_client=self, node=Node(node_id=1), run=SimpleNamespace(run_id=self.run)
        )

    # What the ServerApp calls.

    def PullMessages(self, request: PullAppMessagesRequest) -> Any:  # noqa: N802
        return runtime_handlers.pull_messages(request, self.state, self._task)

    def PullObject(self, request: PullObjectRequest) -> Any:  # noqa: N802
        return message_handler.pull_object(request, self.state)

    def ConfirmMessageReceived(self, request: ConfirmMessageReceivedRequest) -> Any:  # noqa: N802
        return message_handler.confirm_message_received(request, self.state, self.objects)

    def send(self) -> Message:
        """Store an order for the node, as the ServerApp's push does."""
        content = RecordDict({"values": ConfigRecord({"round": len(self.objects)})})
        order = Message(content, self.node, "train.round", group_id="1")
        order.metadata.__dict__["_message_id"] = order.object_id
        assert self.state.store_message_ins(order)
        return order

    # What the node does.

    def announce(self, message: Message, tree: ObjectTree | None = None) -> PushMessagesResponse:
        """Push a message without its objects."""
        message.metadata.__dict__["_message_id"] = tree.object_id if tree else message.object_id
        proto = message_to_proto(remove_content_from_message(message))
        return self.fleet.PushMessages(
            PushMessagesRequest(
                node=Node(node_id=self.node),
                messages_list=[proto],
                message_object_trees=[tree or get_object_tree(message)],
            ),
            Context(),  # type: ignore[arg-type]
        )

    def upload(self, response: PushMessagesResponse, contents: dict[str, bytes]) -> None:
        """Push the objects that the SuperLink asked for, as far as they are in `contents`."""
        for object_id in response.objects_to_push:
            if object_id in contents:
                stored = message_handler.push_object(
                    PushObjectRequest(
                        node=Node(node_id=self.node),
                        run_id=self.run,
                        object_id=object_id,
                        object_content=contents[object_id],
                        session_id=response.session_id,
                    ),
                    self.state,
                )
                assert stored.stored

    def answer(self, message: Message) -> None:
        """Push a message with all its objects."""
        self.upload(self.announce(message), contents_of(message))


def contents_of(message: Message) -> dict[str, bytes]:
    """Every object of a message as it travels, by id."""
    return {key: each.deflate() for key, each in get_all_nested_objects(message).items()}
