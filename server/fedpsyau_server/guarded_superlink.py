"""Flower's SuperLink, with a limit on what a site may put into its memory, and one lock more.

Started by `superlink.py` as ``python -m fedpsyau_server.guarded_superlink``, with the flags of
``flower-superlink``. Flower takes messages of 2 GB and as many objects as a site cares to announce,
and keeps them until somebody fetches them. Here

- gRPC refuses a request larger than `LARGEST_REQUEST` before it has read it;
- a reply that announces more objects than the run's replies can have is not taken: an error with
  the reason stands in its place, so that the server hears of it at once;
- what answers nothing is refused.

Messages share the objects that they have in common. Flower looks one after the other whether they
are there, and lets go of its lock in between: a site that has just received the last message with
an object takes it away from the next one, and the run fails. Here that is one step.

What the ServerApp sends is taken in whole, not piece by piece: see `fedpsyau_model.whole_requests`.

The names that are replaced are Flower's internals: tests/server/test_guarded_superlink.py checks
them under the exact pin in pyproject.toml.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import grpc
from flwr.app.error import Error
from flwr.app.message.message import make_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.fleet.grpc_rere.fleet_servicer import FleetServicer
from flwr.supercore.inflatable.inflatable_object import get_object_tree, iterate_object_tree
from flwr.supercore.object_store import object_store_factory
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore

from fedpsyau_model.child_process import run_and_leave
from fedpsyau_model.whole_requests import WholeRequests
from fedpsyau_server.reply_sizes import (
    CHUNK,
    LARGEST_REPLY_VARIABLE,
    REPLY_REFUSED,
    SMALL,
    most_objects,
)

__all__ = ["LARGEST_REQUEST", "GuardedFleet", "WholeRegistration", "main"]

#: Bytes of one request over the Fleet port: one chunk of a tensor, and what is around it.
LARGEST_REQUEST = CHUNK + SMALL


class GuardedFleet(FleetServicer):
    """Flower's Fleet API, which looks at the size of what is announced."""

    def PushMessages(  # noqa: N802, Flower's name
        self, request: PushMessagesRequest, context: grpc.ServicerContext
    ) -> PushMessagesResponse:
        """Take a reply in, or an error in its place."""
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "one message at a time")
        if not request.messages_list[0].metadata.reply_to_message_id:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a site only answers")
        most = most_objects(int(os.environ[LARGEST_REPLY_VARIABLE]))
        count = sum(1 for _ in iterate_object_tree(request.message_object_trees[0]))
        if count <= most:
            return super().PushMessages(request, context)
        return self._refuse(
            request,
            context,
            f"it announces {count} objects, {count * CHUNK >> 20} MB at most, and {most} are taken",
        )

    def _refuse(
        self, request: PushMessagesRequest, context: grpc.ServicerContext, reason: str
    ) -> PushMessagesResponse:
        metadata = message_from_proto(request.messages_list[0]).metadata
        metadata.__dict__["_message_id"] = ""
        error = make_message(metadata=metadata, error=Error(REPLY_REFUSED, reason))
        error.metadata.__dict__["_message_id"] = error.object_id
        request.messages_list[0].CopyFrom(message_to_proto(error))
        request.message_object_trees[0].CopyFrom(get_object_tree(error))
        response = super().PushMessages(request, context)
        state = self.state_factory.state()
        for object_id in response.objects_to_push:
            state.store_object(metadata.run_id, response.session_id, object_id, error.deflate())
        # The site has nothing to upload: what it announced is not wanted.
        return PushMessagesResponse(
            reconnect=response.reconnect, results=response.results, session_id=response.session_id
        )


class WholeRegistration(InMemoryObjectStore):
    """Flower's store, in which nothing vanishes while a message is being registered."""

    def preregister(self, run_id: int, object_tree: ObjectTree) -> list[str]:
        """Register all objects of a message; returns those that have to be pushed."""
        with self.lock_store:
            return super().preregister(run_id, object_tree)


def main() -> None:
    """Run the SuperLink with the limits and the lock in place of Flower's."""
    # The package has a function of the module's name, which an import statement would find.
    flower = importlib.import_module("flwr.superlink.cli.flower_superlink")
    flower.GRPC_MAX_MESSAGE_LENGTH = LARGEST_REQUEST  # type: ignore[attr-defined]
    flower.FleetServicer = GuardedFleet  # type: ignore[attr-defined]
    object_store_factory.InMemoryObjectStore = WholeRegistration  # type: ignore[attr-defined]
    interface: Any = importlib.import_module("flwr.superlink.main")
    create_app = interface.create_app
    interface.create_app = lambda *arguments: WholeRequests(create_app(*arguments))
    sys.argv[0] = "flower-superlink"
    flower.flower_superlink()


if __name__ == "__main__":
    run_and_leave(main)
