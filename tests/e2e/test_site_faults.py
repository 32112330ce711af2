"""Sites are killed in the middle of their training, and no round and no site is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from processes import SITES, Federation, command_of, wait_until
from test_tls import provision, start_with_kit

from fedpsyau_model.child_process import free_port
from fedpsyau_model.process_tree import alive, descendants

pytestmark = pytest.mark.e2e

CONFIG = """
seed = 5
[network]
au-branch = false
[training]
epochs = {epochs}
batch-size = 16
[rounds]
rounds = {rounds}
min-sites = {min_sites}
keep-rounds = 0
"""

RECEIVED = b"Received successfully"

TWO = ("casme3_c1", "casme3_c2")

#: What of a client is killed: all of it, as by a power cut; its trainer, whose connection process
#: then ends by itself; or its connection process, which the trainer starts again.
ALL, TRAINER, CONNECTION = "all", "trainer", "connection"


def state_of(federation: Federation, site: str) -> Path:
    """The site's state folder, wherever the client was told to keep it."""
    [folder] = federation.folder.glob(f"state*/{site}")
    return folder


def connection_process(client: int) -> int:
    """The SuperNode of a client."""
    for pid in descendants(client):
        if "prompt_supernode" in command_of(pid):
            return pid
    raise AssertionError(f"client {client} has no connection process")


def wait_for_training(federation: Federation, site: str, number: int) -> None:
    """Wait until the site has its order of a round, which it then works on for some seconds."""
    federation.wait_for_event("round-started", seconds=600, round=number)
    log = state_of(federation, site) / "client.log"
    mark = f"ROUND {number}]".encode()

    def has_order() -> bool:
        _, found, since = log.read_bytes().rpartition(mark)
        return bool(found) and RECEIVED in since

    wait_until(has_order, 240, f"the order of round {number} at {site}")


def kill(federation: Federation, site: str, what: str) -> None:
    """Kill -9 a part of a client; a client that is gone is started again, as systemd would."""
    client = federation.processes[site]
    parts = descendants(client.pid)
    connection = connection_process(client.pid)
    if what in (ALL, TRAINER):
        client.kill()
        client.wait()
    if what in (ALL, CONNECTION):
        os.kill(connection, signal.SIGKILL)
    if what == TRAINER:
        wait_until(lambda: not alive(parts), 30, "the end of the connection process")


def count_joined(federation: Federation) -> int:
    """How often a site has joined the run, coming back included."""
    return sum(event["event"] == "joined" for event in federation.events())


def run_with_kills(
    federation: Federation, sites: Sequence[str], kills: Sequence[tuple[int, str, str]], epochs: int
) -> None:
    """A whole run in which (round, site, what) is killed while it trains."""
    rounds = kills[-1][0] + 1
    config = CONFIG.format(epochs=epochs, rounds=rounds, min_sites=1)
    federation.start_server(config, "--sites", ",".join(sites))
    federation.start_sites(sites)
    for number, site, what in kills:
        wait_for_training(federation, site, number)
        kill(federation, site, what)
        if what != CONNECTION:
            federation.start_site(site)
    codes = federation.wait_for_all(900)
    assert set(codes.values()) == {0}, {name: federation.log(name) for name in codes}
    lines = federation.rounds()
    assert [line["round"] for line in lines] == list(range(1, rounds + 1))
    assert lines[-1]["answered"] == sorted(sites)
    # Nothing is held against a site that was killed.
    assert [line["quarantined"] for line in lines] == [{}] * rounds
    for site in sites:
        assert "Traceback" not in federation.log(site)
        assert not list(state_of(federation, site).rglob("*.partial"))


def test_a_site_of_which_any_part_is_killed_takes_part_again(
    new_federation: Callable[..., Federation],
) -> None:
    federation = new_federation()
    kills = [(1, TWO[0], CONNECTION), (2, TWO[1], ALL), (2, TWO[0], TRAINER)]
    run_with_kills(federation, TWO, kills, epochs=15)
    # Each of them answered in the very round in which it was killed.
    assert [line["answered"] for line in federation.rounds()] == [sorted(TWO)] * 3
    # The first kill left its client alive, which noticed, be it before its answer or with it.
    assert "the connection process" in federation.log(TWO[0])


@pytest.mark.slow
@pytest.mark.timeout(2400)  # seven rounds, in each of which somebody comes back
def test_each_of_seven_sites_is_killed_in_turn(
    new_federation: Callable[..., Federation],
) -> None:
    federation = new_federation()
    what = [ALL, TRAINER, CONNECTION, ALL, TRAINER, CONNECTION, ALL]
    kills = [(number, site, what[number - 1]) for number, site in enumerate(SITES, 1)]
    run_with_kills(federation, SITES, kills, epochs=6)
    print([(line["answered"], line["lost"]) for line in federation.rounds()])  # noqa: T201


@pytest.mark.slow
def test_a_server_that_was_there_is_waited_for_without_end(
    new_federation: Callable[..., Federation],
) -> None:
    federation = new_federation()
    config = CONFIG.format(epochs=4, rounds=6, min_sites=2)
    server = federation.start_server(config, "--sites", ",".join(TWO))
    federation.start_sites(TWO, "--connect-seconds", 60)
    federation.wait_for_event("round-done", seconds=300, round=1)
    server.kill()
    server.wait()
    for site in TWO:
        wait_until(lambda site=site: "does not answer" in federation.log(site), 180, "the word")
    time.sleep(75)  # longer than they would look for a server that they have never met
    for site in TWO:
        assert federation.processes[site].poll() is None, federation.log(site)
        assert federation.log(site).count("does not answer") == 1
        assert len(federation.log(site).splitlines()) < 30
    # While it waits, a site can be stopped as at any other time.
    federation.processes[TWO[0]].send_signal(signal.SIGTERM)
    assert federation.wait(TWO[0], 30) == 130
    federation.resume_server()
    federation.start_site(TWO[0])
    assert set(federation.wait_for_all().values()) == {0}, federation.log("server")
    assert [line["answered"] for line in federation.rounds()] == [sorted(TWO)] * 6


@pytest.mark.slow  # Flower gives a key's place free after 72 seconds
def test_with_its_key_a_killed_site_waits_for_its_place(tmp_path: Path, twin: Path) -> None:
    federation = Federation(tmp_path, twin, free_port())
    kit = provision(tmp_path / "kit", federation.port, TWO)
    with federation:
        federation.start_server(CONFIG.format(epochs=20, rounds=12, min_sites=1), "--kit", kit)
        for site in TWO:
            start_with_kit(federation, site, kit / "kits" / f"{site}.tar.gz")
        wait_for_training(federation, TWO[0], 2)
        joined = count_joined(federation)
        kill(federation, TWO[0], ALL)
        start_with_kit(federation, TWO[0], kit / "kits" / f"{TWO[0]}.tar.gz")
        wait_until(lambda: count_joined(federation) > joined, 300, "the site to come back")
        assert set(federation.wait_for_all().values()) == {0}, federation.log("server")
    log = federation.log(TWO[0])
    assert log.count("the server still keeps the place of this site's last connection") == 1
    assert "connection process ended" not in log
    lines = federation.rounds()
    assert [line["round"] for line in lines] == list(range(1, 13))
    assert lines[1]["lost"].keys() <= {TWO[0]}
    assert lines[-1]["answered"] == sorted(TWO)
