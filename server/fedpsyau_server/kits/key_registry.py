"""Which site keys a running SuperLink takes: kept equal to the list of sites on disk.

A key that is not registered there, or no longer, is refused at its next message. Like
`fedpsyau_client.connection.supernode_tasks`, this uses internals of Flower (its control client);
tests/server/test_flower_contract.py checks that they are as expected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from fedpsyau_model.errors import FlowerRuntimeError, KitError
from fedpsyau_server.kits.server_kit import ServerKit
from fedpsyau_server.kits.site_list import SiteList

__all__ = ["KeyRegistry"]

log = logging.getLogger(__name__)


class KeyRegistry:
    """Registrations of one SuperLink, by the coordinator's folder.

    control: HOST:PORT of the SuperLink's control interface.
    on_change: called with an event's name and details when a site's key becomes good or void
        after the first `refresh`.
    """

    def __init__(self, control: str, kit: ServerKit, on_change: Callable[..., None]) -> None:
        self._client = ControlHttpClient.from_server_address(
            server_address=control,
            insecure=False,
            root_certificates=kit.authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fedpsyau-server")],
        )
        self._path = kit.site_list
        self._on_change = on_change
        self._seen = 0
        self._nodes: dict[str, int] = {}
        self._sites: dict[str, str] = {}

    def refresh(self) -> None:
        """Register and unregister what has changed on the list since the last call.

        Costs one `stat` if nothing has. A list that cannot be read changes nothing and is told.

        Raises FlowerRuntimeError if the SuperLink does not do as it is told.
        """
        first = self._seen == 0
        try:
            changed = self._path.stat().st_mtime_ns
            if changed == self._seen:
                return
            wanted = SiteList.read(self._path).keys
        except (KitError, OSError) as error:
            if first:
                raise
            log.error("the list of sites cannot be read, so it stays as it was: %s", error)
            return
        self._seen = changed
        for key in self._nodes.keys() - wanted.keys():
            self._unregister(key)
            self._on_change("key-void", site=self._sites.pop(key))
        for key in wanted.keys() - self._nodes.keys():
            self._register(key, wanted[key])
            self._sites[key] = wanted[key]
            if not first:
                self._on_change("key-added", site=wanted[key])

    def _register(self, key: str, site: str) -> None:
        request = RegisterNodeRequest(public_key=_public_bytes(key, site, self._path), name=site)
        try:
            self._nodes[key] = self._client.RegisterNode(request).node_id
        except httpx.HTTPError as error:
            raise FlowerRuntimeError(
                f"Flower's SuperLink did not register the key of {site}: {error}. A key that was "
                "void once needs a new kit (`fedpsyau-server provision --rotate SITE`) or a new "
                "start of the server."
            ) from None

    def _unregister(self, key: str) -> None:
        node = self._nodes.pop(key)
        try:
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))
        except httpx.HTTPError as error:
            # Flower 1.39 answers with a failure, though it has done it, where a node has never
            # been connected; what counts is what it says now.
            if self._status(node) != NodeStatus.UNREGISTERED:
                raise FlowerRuntimeError(
                    f"Flower's SuperLink did not void the key of {self._sites[key]}: {error}. Stop "
                    "the server to keep that site out."
                ) from None

    def _status(self, node: int) -> str:
        nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return next((info.status for info in nodes if info.node_id == node), "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _public_bytes(key: str, site: str, path: Path) -> bytes:
    try:
        return bytes(public_key_to_bytes(load_ssh_public_key(key.encode())))  # type: ignore[arg-type]
    except ValueError as error:
        raise KitError(f"The public key of {site} in {path} cannot be read: {error}.") from None
