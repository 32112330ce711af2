"""What crosses the wire: models, counts and names, byte for byte accounted for."""

from __future__ import annotations

import csv
import getpass
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Federation

from fedpsyau_model.child_process import free_port

pytestmark = pytest.mark.e2e


class RecordingProxy:
    """A TCP proxy that keeps every byte that passes, for each direction."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.from_sites = bytearray()
        self.from_server = bytearray()
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            site, _ = self._listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                site.close()
                continue
            threading.Thread(target=self._pump, args=(site, server), daemon=True).start()

    def _pump(self, site: socket.socket, server: socket.socket) -> None:
        while True:
            for source in select.select([site, server], [], [])[0]:
                try:
                    data = source.recv(1 << 16)
                except OSError:
                    data = b""
                if not data:
                    site.close()
                    server.close()
                    return
                (self.from_sites if source is site else self.from_server).extend(data)
                (server if source is site else site).sendall(data)


def private_words(federation: Federation, partition: str) -> set[str]:
    """Words that must not leave the site: clips, subjects, paths, user and host names."""
    with (federation.data / partition / "clips.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    words = {row["clip"] for row in rows} | {row["subject"] for row in rows}
    words |= {str(federation.data), str(federation.folder), str(Path.home())}
    words |= {"clips.csv", "features.safetensors", "manifest.json"}
    words |= {socket.gethostname(), getpass.getuser() + "@", os.environ.get("LOGNAME", "") + "@"}
    return {word for word in words if len(word) >= 4}


def test_only_models_and_counts_leave_a_site(new_federation: Callable[..., Federation]) -> None:
    rounds = 2
    federation = new_federation()
    federation.start_server(
        f"[training]\nepochs = 1\n[rounds]\nrounds = {rounds}\nmin-sites = 1\n",
        "--sites",
        "dfme_c1",
    )
    proxy = RecordingProxy(federation.port)
    federation.start_site("dfme_c1", "--superlink", f"127.0.0.1:{proxy.port}")
    assert set(federation.wait_for_all().values()) == {0}, federation.log("dfme_c1")

    sent = bytes(proxy.from_sites)
    model_bytes = (federation.run_folder / "initial.safetensors").stat().st_size
    # The proxy sees what it should see: the site's name, its counts, its weights.
    assert b"dfme_c1" in sent
    assert b"confusion_trained" in sent
    reply = federation.run_folder / "rounds" / f"{rounds:04d}" / "replies" / "dfme_c1.safetensors"
    assert reply.read_bytes()[-4000:-3000] in sent
    # Every byte is accounted for: one model for each round, and little beside them.
    assert rounds * model_bytes < len(sent) < rounds * model_bytes * 1.02 + 200_000
    for word in private_words(federation, "dfme_c1"):
        assert word.encode() not in sent, f"{word!r} left the site"
