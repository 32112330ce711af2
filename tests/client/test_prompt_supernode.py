"""The SuperNode's pauses, and Flower's internals that they stand in for."""

from __future__ import annotations

import importlib
import inspect
import re
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.runtime_pb2 import AcquireTaskResponse
from flwr.supercore.dependencies.runtime import RuntimeHandlers
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supernode import main as interface
from flwr.supernode.servicer.runtime import runtime_handlers

from fedpsyau_client.connection import prompt_supernode
from fedpsyau_client.connection.prompt_supernode import (
    FLOWERS_IDLE_PAUSE,
    PromptClock,
    patient,
)
from fedpsyau_model.whole_requests import WholeRequests

loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
router = importlib.import_module("flwr.supercore.routers.runtime.router")
command: Any = importlib.import_module("flwr.supernode.cli.flower_supernode")


def test_the_longer_nothing_comes_the_longer_are_the_pauses() -> None:
    slept: list[float] = []
    clock = SimpleNamespace(now=100.0)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    prompt = PromptClock(sleep, lambda: clock.now)
    prompt.sleep(3)
    clock.now = 120.0
    prompt.sleep(3)
    clock.now = 1000.0
    prompt.sleep(3)
    assert slept == [0.25, 1.0, 3]  # a twentieth of 20 s; never more than Flower's own
    prompt.sleep(0.5)  # an answer is waited for
    prompt.sleep(3)
    assert slept[3:] == [0.1, 0.25]


def test_a_handler_waits_until_there_is_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompt_supernode, "ANSWER_PAUSE", 0.001)
    answers = iter(["", "", "token"])
    assert patient(lambda *_: next(answers), bool)("request", "state") == "token"
    monkeypatch.setattr(prompt_supernode, "LONGEST_WAIT", 0.01)
    assert patient(lambda *_: "", bool)("request", "state") == ""


def test_what_is_unknown_is_not_waited_for() -> None:
    is_decided = prompt_supernode._is_decided
    assert not is_decided(PullObjectResponse(object_found=True, object_available=False))
    assert is_decided(PullObjectResponse(object_found=True, object_available=True))
    assert is_decided(PullObjectResponse(object_found=False, object_available=False))
    assert not prompt_supernode._is_task(AcquireTaskResponse())
    assert prompt_supernode._is_task(AcquireTaskResponse(token="token"))


def test_what_it_replaces_is_there_to_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    source = inspect.getsource(loop)
    assert sorted(re.findall(r"\btime\.(.+)", source)) == ["sleep(0.5)", "sleep(0.5)", "sleep(3)"]
    assert source.count("pull_objects(") == 1
    pauses = {"max_tries_per_object", "max_time", "initial_backoff", "backoff_cap"}
    assert pauses <= inspect.signature(pull_objects).parameters.keys()
    for module, name in (
        *((loop, "time"), (loop, "pull_objects"), (interface, "create_app")),
        *((runtime_handlers, "acquire_task"), (runtime_handlers, "pull_object")),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back at the end
    started: list[bool] = []
    monkeypatch.setattr(command, "flower_supernode", lambda: started.append(True))
    monkeypatch.setattr(prompt_supernode.sys, "argv", ["other"])
    prompt_supernode.main()
    assert started
    assert FLOWERS_IDLE_PAUSE == 3
    assert isinstance(loop.time, PromptClock)
    assert loop.pull_objects.func is pull_objects
    # The interface is made anew when the SuperNode starts, of handlers that are looked up by name.
    assert "from flwr.supernode.main import" in inspect.getsource(command._start_supernode_http_api)
    assert isinstance(interface.create_app(), WholeRequests)
    assert interface._RUNTIME_HANDLERS is runtime_handlers
    for name in ("acquire_task", "pull_object"):
        assert f"handlers.{name}(" in inspect.getsource(router)
        assert hasattr(RuntimeHandlers, name)
        # Not a coroutine: it runs in a thread of its own, in which it may wait.
        assert not inspect.iscoroutinefunction(getattr(runtime_handlers, name))
