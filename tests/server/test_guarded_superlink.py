"""Names of Flower's that the guarded SuperLink replaces, and what is gained by it."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.object_store import ObjectStoreFactory, in_memory_object_store
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore

from fedpsyau_model.whole_requests import WholeRequests
from fedpsyau_server import guarded_superlink
from fedpsyau_server.guarded_superlink import LARGEST_REQUEST, GuardedFleet, WholeRegistration
from fedpsyau_server.reply_sizes import CHUNK


def test_the_replaced_names_are_what_flower_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    flower: Any = importlib.import_module("flwr.superlink.cli.flower_superlink")
    for name in ("GRPC_MAX_MESSAGE_LENGTH", "FleetServicer", "flower_superlink"):
        monkeypatch.setattr(flower, name, getattr(flower, name))
    factory: Any = guarded_superlink.object_store_factory
    monkeypatch.setattr(factory, "InMemoryObjectStore", InMemoryObjectStore)
    interface = importlib.import_module("flwr.superlink.main")
    monkeypatch.setattr(interface, "create_app", interface.create_app)  # put back at the end
    started = []
    flower.flower_superlink = lambda: started.append(True)
    monkeypatch.setattr(guarded_superlink.sys, "argv", ["other"])
    guarded_superlink.main()
    assert started
    assert isinstance(ObjectStoreFactory(":flwr-in-memory:").store(), WholeRegistration)
    source = inspect.getsource(flower._run_fleet_api_grpc_rere)
    assert "FleetServicer(" in source
    assert "max_message_length=GRPC_MAX_MESSAGE_LENGTH" in source
    assert (flower.FleetServicer, flower.GRPC_MAX_MESSAGE_LENGTH) == (GuardedFleet, LARGEST_REQUEST)
    assert "from flwr.superlink.main import" in inspect.getsource(flower._run_superlink_http_api)
    assert isinstance(interface.create_app(), WholeRequests)
    assert LARGEST_REQUEST > CHUNK + 1000  # what is around a chunk in a request


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def message(name: str) -> ObjectTree:
    """A message that shares its only record with every other."""
    return ObjectTree(object_id=digest(name), children=[ObjectTree(object_id=digest("shared"))])


def register_while_the_last_owner_goes(
    store: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    store.preregister(1, message("one"))
    store.put(digest("shared"), b"content")
    real = in_memory_object_store.iterate_object_tree

    def interrupted(tree: ObjectTree) -> Iterator[ObjectTree]:
        for node in real(tree):
            yield node
            received = threading.Thread(target=store.delete, args=(digest("one"),), daemon=True)
            received.start()
            received.join(0.3)

    monkeypatch.setattr(in_memory_object_store, "iterate_object_tree", interrupted)
    return store.preregister(1, message("two"))


def test_flowers_own_store_loses_what_messages_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should this fail some day, `WholeRegistration` is no longer needed."""
    with pytest.raises(KeyError):
        register_while_the_last_owner_goes(InMemoryObjectStore(verify=False), monkeypatch)


def test_the_guarded_store_keeps_what_messages_share(monkeypatch: pytest.MonkeyPatch) -> None:
    store = WholeRegistration(verify=False)
    assert register_while_the_last_owner_goes(store, monkeypatch) == [digest("two")]
    assert store.get(digest("shared")) == b"content"
