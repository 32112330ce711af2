"""Taking tasks from the SuperNode and answering them in this process.

Flower starts a new process for every message; here the process that has the data, the network and
the device loaded takes the tasks itself. Like `key_probe`, this module uses Flower's internals
(its Runtime API and the object transfer behind it); tests/client/test_flower_contract.py checks
that they are as expected, under the exact pin in pyproject.toml.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

import httpx
from flwr.app import Message
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import RetryInvoker, make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

log = logging.getLogger(__name__)

#: Makes the reply to a message, from it and the bundle of its run as the server sent it.
Answer = Callable[[Message, bytes], Message]

#: What a task needs to be told apart from another version's.
_COMPONENT = "flwr-clientapp"
_ACQUIRE = frozenset({"/flwr.proto.Runtime/AcquireTask"})


class TaskSource:
    """Tasks of one SuperNode, which must run with ``--isolation process``.

    runtime_address: HOST:PORT of its Runtime API on loopback. secret: what guards that interface.
    """

    def __init__(self, runtime_address: str, secret: bytes) -> None:
        self._address = runtime_address
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

    def answer_next(self, answer: Answer) -> bool:
        """Take one waiting message, answer it and push the reply; False if none was waiting.

        While `answer` runs, the task's heartbeat goes on in a thread. A reply that cannot be
        pushed (the SuperNode ended meanwhile) is lost and logged; the server will ask again.
        """
        try:
            task = self._acquirer.AcquireTask(
                AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
            )
        except httpx.HTTPError as error:
            log.debug("no task could be asked for: %s", error)
            return False
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
            retry_invoker=make_simple_http_retry_invoker(),
        )
        try:
            _work_off(client, answer)
        except (httpx.HTTPError, RuntimeError) as error:
            log.warning("a message of the server could not be answered: %s", error)
        finally:
            client.close()
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._acquirer.close()


def _work_off(client: RuntimeHttpClient, answer: Answer) -> None:
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    heartbeat.start()
    context = None
    status, details = SubStatus.FAILED, "not answered"
    try:
        message, context, _, bundle = pull_task_input(client)
        push_message(client, answer(message, bundle.content), context)
        status, details = SubStatus.COMPLETED, ""
    finally:
        with suppress(RuntimeError):  # it has stopped by itself
            heartbeat.stop()
        push_task_output(client, context, status, details)


def _no_retries() -> RetryInvoker:
    invoker = make_simple_http_retry_invoker()
    invoker.max_tries = 1
    return invoker
