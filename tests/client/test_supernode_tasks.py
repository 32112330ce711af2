"""The trainer's side of the task interface when the other side is busy, gone or refuses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from flwr.proto.runtime_pb2 import PullTaskInputRequest
from flwr.supercore.runtime import RuntimeHttpClient

from fedpsyau_client.connection import supernode_tasks
from fedpsyau_client.connection.supernode_tasks import TaskSource, _beat, _retries
from fedpsyau_model.child_process import free_port


class Answering(HTTPServer):
    """Answers requests with these status codes, one after the other."""

    def __init__(self, *codes: int) -> None:
        self.left = list(codes)
        super().__init__(("127.0.0.1", free_port()), _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Answering)
        self.send_response(self.server.left.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def supernode(request: pytest.FixtureRequest) -> Iterator[Answering]:
    server = Answering(*request.param)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def client_of(port: int) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        server_address=f"127.0.0.1:{port}",
        insecure=True,
        root_certificates=None,
        interceptors=[],
        retry_invoker=_retries(),
    )


def test_a_supernode_that_has_ended_is_given_up_at_once() -> None:
    client = client_of(free_port())
    started = time.monotonic()
    with pytest.raises(httpx.ConnectError):
        client.PullTaskInput(PullTaskInputRequest())
    assert _beat(client)  # the heartbeat goes quiet, too
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("supernode", [(503, 504, 404)], indirect=True)
def test_a_supernode_that_is_busy_is_tried_again_and_what_it_refuses_is_not(
    supernode: Answering,
) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        client_of(supernode.server_port).PullTaskInput(PullTaskInputRequest())
    assert refusal.value.response.status_code == 404
    assert supernode.left == []


@pytest.mark.parametrize("supernode", [(401, 401)], indirect=True)
def test_a_token_that_has_lapsed_costs_the_answer_and_not_the_process(
    supernode: Answering,
) -> None:
    """As after a machine was asleep. Flower's own client sends SIGINT to its process."""
    client = client_of(supernode.server_port)
    with pytest.raises(httpx.HTTPStatusError):
        client.PullTaskInput(PullTaskInputRequest())
    assert not _beat(client)


@pytest.mark.parametrize("supernode", [(503,) * 50], indirect=True)
def test_a_supernode_that_stays_busy_is_not_tried_for_ever(
    supernode: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernode_tasks, "_PATIENCE", 2.0)
    with pytest.raises(httpx.HTTPStatusError):
        client_of(supernode.server_port).PullTaskInput(PullTaskInputRequest())


def test_no_task_can_be_had_of_a_supernode_that_has_ended() -> None:
    source = TaskSource(f"127.0.0.1:{free_port()}", b"secret")
    assert source.answer_next(lambda message, _bundle: message) is False
    assert not source.lost_one
    source.close()
