"""A machine whose proxy settings would swallow every connection to itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from processes import Federation

pytestmark = pytest.mark.e2e

#: Nothing listens there, so whoever asks this proxy fails.
NOWHERE = "http://127.0.0.1:9"


def test_a_federation_asks_no_proxy(
    new_federation: Callable[..., Federation], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, NOWHERE)
        monkeypatch.setenv(name.upper(), NOWHERE)
    monkeypatch.setenv("no_proxy", "intranet.example")
    monkeypatch.delenv("NO_PROXY", raising=False)
    federation = new_federation()
    federation.start_server(
        "[training]\nepochs = 1\n[rounds]\nrounds = 1\njoin-seconds = 60\n",
        *("--sites", "dfme_c1,casme3_c2"),
    )
    federation.start_sites(["dfme_c1", "casme3_c2"])
    assert set(federation.wait_for_all(120).values()) == {0}, federation.log("server")
    assert federation.rounds()[0]["answered"] == ["casme3_c2", "dfme_c1"]
