from __future__ import annotations

import urllib.request
from collections.abc import Mapping

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpsyau_model.proxies import LOOPBACK, connect_directly, direct_variables

HOSTS = st.lists(st.from_regex(r"[a-z]{1,8}\.example", fullmatch=True), max_size=3)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"no_proxy": ".clinic.example"}, ".clinic.example,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a, b", "no_proxy": "b,c"}, "b,c,a,127.0.0.1,localhost,::1"),
        ({"no_proxy": "localhost"}, "localhost,127.0.0.1,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_what_was_named_stays_named(before: Mapping[str, str], after: str) -> None:
    assert direct_variables((), before) == {"no_proxy": after, "NO_PROXY": after}


def test_the_variable_of_grpc_is_kept_up_only_where_it_hides_the_others() -> None:
    variables = direct_variables(["fl.example"], {"no_grpc_proxy": "a"})
    assert variables["no_grpc_proxy"] == "a,127.0.0.1,localhost,::1,fl.example"
    assert "no_grpc_proxy" not in direct_variables((), {"no_grpc_proxy": ""})


@given(hosts=HOSTS, lower=HOSTS, upper=HOSTS)
def test_a_second_time_changes_nothing(
    hosts: list[str], lower: list[str], upper: list[str]
) -> None:
    environment = {"no_proxy": ",".join(lower), "NO_PROXY": ",".join(upper), "PATH": "/bin"}
    connect_directly(hosts, environment)
    once = dict(environment)
    connect_directly(hosts, environment)
    assert environment == once
    assert environment["PATH"] == "/bin"
    assert {*hosts, *lower, *upper, *LOOPBACK} == set(environment["no_proxy"].split(","))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "fl.example.org"])
def test_httpx_and_urllib_ask_no_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Judged by those that read the variables, not by their text."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert _asks_a_proxy(host)
    for name, value in direct_variables(["fl.example.org"], {}).items():
        monkeypatch.setenv(name, value)
    assert not _asks_a_proxy(host)
    assert urllib.request.proxy_bypass(host.strip("[]"))
    assert _asks_a_proxy("elsewhere.example")


def _asks_a_proxy(host: str) -> bool:
    with httpx.Client() as client:
        chosen = client._transport_for_url(httpx.URL(f"http://{host}:8000"))
        return chosen is not client._transport
