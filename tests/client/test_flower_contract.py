"""Flower's internals, as `supernode_tasks.py` and the launchers use them.

When a new Flower breaks one of these, look there first.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import subprocess

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.constant import SubStatus
from flwr.proto.control_pb2 import ListRunsRequest, ListRunsResponse
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.run_pb2 import RunStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, AcquireTaskResponse
from flwr.server.superlink.fleet.message_handler.message_handler import (
    InvalidHeartbeatIntervalError,
    activate_node,
)
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NodeStatus, TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.retry import RetryInvoker
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.supernode import start_client_internal
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from fedpsyau_client.connection.supernode import _DROPPED
from fedpsyau_model.child_process import script


def parameters(function: object) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]  # type: ignore[arg-type]


def test_version() -> None:
    assert importlib.metadata.version("flwr").startswith("1.39.")


def test_task_functions() -> None:
    # What `_pull` does with shorter pauses; should Flower's own function change, so must it.
    assert parameters(pull_task_input) == ["client"]
    assert inspect.signature(pull_task_input).return_annotation == tuple[Message, Context, Run, Fab]
    used = inspect.getsource(pull_task_input)
    for words in (
        "client.PullTaskInput(PullTaskInputRequest())",
        "client.PullMessages(\n        PullAppMessagesRequest()",
        "TaskIdentity.task_id = res.task_id",
        "TaskIdentity.run_id = res.run.run_id",
        "TaskIdentity.node_id = res.context.node_id",
        "pull_and_inflate_object_from_tree(",
        'message.metadata.__dict__["_message_id"] = object_tree.object_id',
    ):
        assert used.count(words) == 1
    assert {
        *("return_type", "max_concurrent_pulls", "max_tries_per_object"),
        *("initial_backoff", "backoff_cap"),
    } <= {*parameters(pull_and_inflate_object_from_tree)}
    for make in (make_pull_object_fn_protobuf, make_confirm_message_received_fn_protobuf):
        assert parameters(make)[1:] == ["node", "run_id"]
    assert {field.name for field in dataclasses.fields(Fab)} >= {"hash_str", "content"}
    assert parameters(push_message) == ["client", "message", "context"]
    assert parameters(push_task_output) == ["client", "context", "sub_status", "details"]
    assert {"server_address", "insecure", "root_certificates", "interceptors", "retry_invoker"} <= {
        *parameters(RuntimeHttpClient.from_server_address)
    }
    assert parameters(RuntimeHttpClient.AcquireTask) == ["request"]
    assert parameters(HeartbeatSender.__init__) == ["heartbeat_fn"]
    assert parameters(SuperExecAuthHttpInterceptor.__init__) == [
        "master_secret",
        "protected_methods",
    ]
    assert parameters(RuntimeTokenHttpInterceptor.__init__) == ["token"]


def test_what_the_connection_process_says_when_it_drops_a_message() -> None:
    source = inspect.getsource(start_client_internal)
    for words in _DROPPED:
        assert source.count(words.decode()) == 1


def test_retries() -> None:
    assert {"max_tries", "max_time", "should_giveup"} <= {*parameters(RetryInvoker.__init__)}
    assert parameters(RuntimeHttpClient.SendTaskHeartbeat) == ["request"]


def test_task_messages() -> None:
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    assert list(request.supported_task_types) == ["flwr-clientapp"]
    assert AcquireTaskResponse().token == ""
    assert (SubStatus.COMPLETED, SubStatus.FAILED) == ("completed", "failed")


def test_grid() -> None:
    assert parameters(HttpGrid.push_messages) == ["messages"]
    assert parameters(HttpGrid.pull_messages) == ["message_ids"]
    assert parameters(HttpGrid.get_nodes) == []
    assert {"node_id", "name", "last_activated_at"} <= {
        field.name for field in NodeInfo.DESCRIPTOR.fields
    }


def test_the_key_is_looked_up_before_the_interval() -> None:
    """What `key_probe` rests on: an interval of 0 is refused in its own way if the key is known."""
    database = FLWR_IN_MEMORY_DB_NAME
    state = LinkStateFactory(
        database, NoOpFederationManager(), ObjectStoreFactory(database)
    ).state()
    request = ActivateNodeRequest(public_key=b"key", heartbeat_interval=0.0)
    with pytest.raises(ValueError, match="No SuperNode found"):
        activate_node(request, state)
    node = state.create_node("owner", "owner", b"key", 30, name="dfme_c1")
    with pytest.raises(InvalidHeartbeatIntervalError):
        activate_node(request, state)
    assert [(info.status, info.name) for info in state.get_node_info(node_ids=[node])] == [
        (NodeStatus.REGISTERED, "dfme_c1")
    ]
    assert (
        ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL,
        ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED,
    ) == (2003, 2004)


def test_control_client() -> None:
    assert {"server_address", "insecure", "root_certificates", "interceptors"} <= {
        *parameters(ControlHttpClient.from_server_address)
    }
    for call in (
        ControlHttpClient.RegisterNode,
        ControlHttpClient.UnregisterNode,
        ControlHttpClient.ListNodes,
        ControlHttpClient.ListRuns,
    ):
        assert parameters(call) == ["request"]
    runs = ListRunsResponse()
    runs.run_dict[7].status.CopyFrom(RunStatus(status="finished", sub_status="completed"))
    assert ListRunsRequest(run_id=7).run_id in runs.run_dict


@pytest.mark.usefixtures("task")
def test_an_array_carries_our_bytes_as_they_are() -> None:
    data = np.arange(7, dtype=np.uint8).tobytes()
    content = RecordDict(
        {
            "model": ArrayRecord({"model": Array("uint8", (7,), "safetensors", data)}),
            "values": ConfigRecord({"round": 1, "losses": [0.5], "name": "site", "ok": True}),
        }
    )
    message = Message(content, 5, "train.round", group_id="1")
    assert message.metadata.message_type == "train.round"
    assert message.content.array_records["model"]["model"].data == data


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (
            "flower-supernode",
            "--insecure --superlink --isolation --host --port --node-config "
            "--superexec-auth-secret-file --root-certificates --auth-supernode-private-key",
        ),
        (
            "flower-superlink",
            "--insecure --host --port --fleet-api-address "
            "--disable-runtime-dependency-installation --ssl-ca-certfile --ssl-certfile "
            "--ssl-keyfile --enable-supernode-auth",
        ),
    ],
)
def test_flags_of_the_launchers(command: str, flags: str) -> None:
    text = subprocess.run(
        [script(command), "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert [flag for flag in flags.split() if flag not in text] == []
