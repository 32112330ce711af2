"""Taking tasks from the SuperNode and answering them in this process.

Flower starts a new process for every message; here the process that has the data, the network and
the device loaded takes the tasks itself. Like `key_probe`, this module uses Flower's internals
(its Runtime API and the object transfer behind it); tests/client/test_flower_contract.py checks
that they are as expected, under the exact pin in pyproject.toml.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
from flwr.app import Context, Message
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
)
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.runtime.run_clientapp import push_message, push_task_output

log = logging.getLogger(__name__)

#: Makes the reply to a message, from it and the bundle of its run as the server sent it.
Answer = Callable[[Message, bytes], Message]

#: What a task needs to be told apart from another version's.
_COMPONENT = "flwr-clientapp"
_ACQUIRE = frozenset({"/flwr.proto.Runtime/AcquireTask"})

#: Seconds for which a SuperNode that is busy is tried again.
_PATIENCE = 60.0

#: Seconds between two looks whether the SuperNode has received a message: first and longest.
_FIRST_PULL_PAUSE = 0.05
_LAST_PULL_PAUSE = 0.4

#: Answers of a server that is there and has no time: bad gateway, unavailable, gateway timeout.
_BUSY = frozenset({502, 503, 504})


class TaskSource:
    """Tasks of one SuperNode, which must run with ``--isolation process``.

    runtime_address: HOST:PORT of its Runtime API on loopback. secret: what guards that interface.

    lost_one: a message was taken and could not be answered. The SuperNode would wait for the
    answer, and so would the server: it has to be started anew, and the server then asks again.
    """

    lost_one = False

    def __init__(self, runtime_address: str, secret: bytes) -> None:
        self._address = runtime_address
        self._silent_since: float | None = None
        self._acquirer = RuntimeHttpClient.from_server_address(
            server_address=runtime_address,
            insecure=True,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name=_COMPONENT),
                SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=_ACQUIRE),
            ],
            retry_invoker=_no_retries(),
        )

    def silent_for(self) -> float:
        """Seconds since the SuperNode has no longer answered here; 0 while it does."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    def answer_next(self, answer: Answer) -> bool:
        """Take one waiting message, answer it and push the reply; False if none was waiting.

        While `answer` runs, the task's heartbeat goes on in a thread. A reply that cannot be
        pushed (the SuperNode ended meanwhile) is lost, logged and noted in `lost_one`.
        """
        try:
            task = self._acquirer.AcquireTask(
                AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
            )
        except httpx.HTTPError as error:
            log.debug("no task could be asked for: %s", error)
            if self._silent_since is None:
                self._silent_since = time.monotonic()
            return False
        self._silent_since = None
        if not task.token:
            return False
        client = RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=True,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name=_COMPONENT),
                RuntimeTokenHttpInterceptor(task.token),
            ],
            retry_invoker=_retries(),
        )
        try:
            _work_off(client, answer)
        except (httpx.HTTPError, RuntimeError, ObjectPullError, ObjectPushError) as error:
            self.lost_one = True
            log.warning("an answer did not reach the server, which will ask again: %s", error)
        finally:
            client.close()
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._acquirer.close()


def _work_off(client: RuntimeHttpClient, answer: Answer) -> None:
    heartbeat = HeartbeatSender(lambda: _beat(client))
    heartbeat.start()
    context = None
    status, details = SubStatus.FAILED, "not answered"
    try:
        message, context, bundle = _pull(client)
        push_message(client, answer(message, bundle), context)
        status, details = SubStatus.COMPLETED, ""
    finally:
        with suppress(RuntimeError):  # it has stopped by itself
            heartbeat.stop()
        push_task_output(client, context, status, details)


def _pull(client: RuntimeHttpClient) -> tuple[Message, Context, bytes]:
    """The task's message, its context and the bundle of its run.

    A task is there as soon as its message is announced. Flower's own function then waits 1, 2, 4,
    ... s for what is still on its way from the server.
    """
    task = client.PullTaskInput(PullTaskInputRequest())
    TaskIdentity.task_id = task.task_id
    TaskIdentity.run_id = task.run.run_id
    TaskIdentity.node_id = task.context.node_id
    context = context_from_proto(task.context)
    announced = client.PullMessages(PullAppMessagesRequest())
    if not announced.messages_list:
        raise RuntimeError("the task has no message")
    [tree] = announced.message_object_trees
    node = Node(node_id=context.node_id)
    message = pull_and_inflate_object_from_tree(
        tree,
        make_pull_object_fn_protobuf(client.PullObject, node, context.run_id),
        make_confirm_message_received_fn_protobuf(
            client.ConfirmMessageReceived, node, context.run_id
        ),
        return_type=Message,
        # The SuperNode has none of a message's objects or all of them.
        max_concurrent_pulls=1,
        max_tries_per_object=None,  # on a slow line that takes many, for at most Flower's two hours
        initial_backoff=_FIRST_PULL_PAUSE,
        backoff_cap=_LAST_PULL_PAUSE,
    )
    message.metadata.__dict__["_message_id"] = tree.object_id
    return message, context, task.fab.content


def _beat(client: RuntimeHttpClient) -> bool:
    """Tell the SuperNode that its task is being worked on; False to be called again soon.

    Flower's own function interrupts the whole process when the SuperNode has given the task up,
    as it does after a machine was asleep. Here the answer is lost then, and nothing else.
    """
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.ConnectError:
        return True  # the SuperNode has ended; who pushes the answer will notice
    except httpx.HTTPError:
        return False
    return True


def _retries() -> RetryInvoker:
    """Try again while the SuperNode is busy, and give up at once when it has ended.

    Flower's own retries go on for ever, and interrupt the process when a token is refused.
    """
    return RetryInvoker(
        lambda: exponential(max_delay=5),
        (httpx.TransportError, httpx.HTTPStatusError),
        max_tries=None,
        max_time=_PATIENCE,
        should_giveup=_is_final,
    )


def _is_final(error: Exception) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code not in _BUSY
    return isinstance(error, httpx.ConnectError)


def _no_retries() -> RetryInvoker:
    invoker = _retries()
    invoker.max_tries = 1
    return invoker
