"""Keeping connections that must be direct away from a machine's proxies.

Hospitals set `http_proxy` and its relatives for whole machines. httpx and gRPC, and so Flower, then
ask the proxy even for another process of the same machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, MutableMapping

__all__ = ["LOOPBACK", "connect_directly", "direct_variables"]

#: Names of this machine, as clients write them.
LOOPBACK = ("127.0.0.1", "localhost", "::1")

#: What says for which hosts no proxy is asked. Where gRPC finds its own, it reads no other.
_EVERYBODYS = ("no_proxy", "NO_PROXY")
_GRPCS = "no_grpc_proxy"


def connect_directly(
    hosts: Iterable[str], environment: MutableMapping[str, str] = os.environ
) -> None:
    """Have this process and those it starts reach `hosts` and this machine without a proxy."""
    environment.update(direct_variables(hosts, environment))


def direct_variables(hosts: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that add `hosts` and this machine to those for which there is no proxy.

    What `environment` names already stays named; `*`, which is all hosts, stays as it is.
    """
    added = [*LOOPBACK, *hosts]
    named = [host for name in _EVERYBODYS for host in _hosts(environment.get(name, ""))]
    variables = dict.fromkeys(_EVERYBODYS, _joined([*named, *added]))
    if environment.get(_GRPCS):
        variables[_GRPCS] = _joined([*_hosts(environment[_GRPCS]), *added])
    return variables


def _hosts(text: str) -> list[str]:
    return [host.strip() for host in text.split(",") if host.strip()]


def _joined(hosts: Iterable[str]) -> str:
    each_once = list(dict.fromkeys(hosts))
    return "*" if "*" in each_once else ",".join(each_once)
