"""Asking the server whether it knows this site's key, before a connection is tried with it.

Flower tells a node that it was not let in, but not why. This asks for an activation with an
interval that is never allowed: Flower looks up the key first and the interval second, so its
refusal says whether the key is known, and nothing changes at the server. That order, and the
classes used here, are Flower's internals: tests/client/test_flower_contract.py checks them under
the exact pin in pyproject.toml.
"""

from __future__ import annotations

import grpc
from flwr.client.grpc_rere_client.node_auth_client_interceptor import NodeAuthClientInterceptor
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.grpc import create_channel
from flwr.supercore.interceptors import RuntimeVersionClientInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from fedpsyau_client.connection.site_kit import SiteKit
from fedpsyau_model.errors import ClockSkewError, JoinRefusedError

__all__ = ["key_is_known"]

_PATIENCE = 10.0

#: Never allowed: the shortest interval that Flower takes is 10 s.
_NO_INTERVAL = 0.0


def key_is_known(address: str, kit: SiteKit) -> bool | None:
    """Whether the server at HOST:PORT has registered the kit's key; None if it did not say.

    Raises ClockSkewError if the server takes this machine's signature for stale, JoinRefusedError
    if the versions of Flower do not go together.
    """
    public_key = kit.site_key.public_key()
    channel = create_channel(
        server_address=address,
        insecure=False,
        root_certificates=kit.authority.read_bytes(),
        interceptors=[
            RuntimeVersionClientInterceptor(component_name="SuperNode"),
            NodeAuthClientInterceptor(kit.site_key, public_key),
        ],
    )
    request = ActivateNodeRequest(
        public_key=public_key_to_bytes(public_key), heartbeat_interval=_NO_INTERVAL
    )
    try:
        FleetStub(channel).ActivateNode(request, timeout=_PATIENCE)
    except grpc.RpcError as refusal:
        return _understood(refusal, address)
    finally:
        channel.close()
    return None


def _understood(refusal: grpc.RpcError, address: str) -> bool | None:
    details = str(refusal.details())
    if refusal.code() == grpc.StatusCode.UNAUTHENTICATED and "timestamp" in details:
        raise ClockSkewError(
            f"The server at {address} does not accept this machine's signature, because the two "
            "clocks differ: a site may be up to 5 seconds ahead of the server and 5 minutes behind "
            "it. Switch on time synchronisation (NTP) on both machines, and start again."
        )
    error = FlowerError.from_json(details)
    if error is None:
        return None
    if error.code == ApiErrorCode.RUNTIME_VERSION_INCOMPATIBLE:
        raise JoinRefusedError(
            f"The server at {address} runs another version of Flower: {error.message} Install the "
            "same fedpsyau version on both sides."
        )
    return {
        ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL: True,
        ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED: False,
    }.get(ApiErrorCode(error.code))
