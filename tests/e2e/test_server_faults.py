"""The server's own faults: killed at any moment, its disk full, its folder read-only.

Whatever happens, the run goes on from its last whole round and ends with the models of a run that
nothing happened to, bit for bit.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import Federation, run
from server_deaths import LAUNCHER, MOMENTS, ROUNDS, SUPERLINK, WHOLE, Death, Life, kill

from fedpsyau_model.errors import RunFolderError
from fedpsyau_server.run_folder import RunFolder

#: Generous, because these tests are also run on machines that do much else.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SITES = ("dfme_c1", "dfme_c2")

#: The smallest network that has everything that travels, and sites that must not be missed.
CONFIG = """
seed = 5
[network]
global-stream = false
[training]
epochs = 1
batch-size = 16
[rounds]
rounds = {rounds}
min-sites = 2
"""


def start(federation: Federation, rounds: int) -> None:
    federation.start_server(CONFIG.format(rounds=rounds), "--sites", ",".join(SITES))
    federation.start_sites(SITES)


def unbroken(federation: Federation, rounds: int) -> Path:
    """The same run without a network and without a fault; simulations equal federations."""
    config = federation.folder / "simulation.toml"
    config.write_text(CONFIG.format(rounds=rounds))
    out = federation.folder / "unbroken"
    finished = run(
        "fedpsyau",
        *("simulate", "--config", config, "--data", federation.data, "--out", out),
        *("--sites", ",".join(SITES)),
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr
    return out


def assert_ends_as(federation: Federation, other: Path) -> None:
    """The run ends well, with every round once, and with the other's models byte by byte."""
    codes = federation.wait_for_all(600)
    assert set(codes.values()) == {0}, (codes, federation.log("server"))
    ours, theirs = RunFolder.open(federation.run_folder), RunFolder.open(other)
    assert ours.state.status == "completed"
    assert [line["round"] for line in ours.rounds()] == [line["round"] for line in theirs.rounds()]
    for line in ours.rounds():
        assert line["answered"] == sorted(SITES)
    for site in SITES:
        name = f"models/{site}.safetensors"
        assert (ours.path / name).read_bytes() == (theirs.path / name).read_bytes(), site


# Killed -------------------------------------------------------------------------------------------


@dataclass
class Survived:
    """A death that the server has gone on from: what it hit, and when (Unix time).

    whole_rounds: those that there were then.
    """

    death: Death
    moment: str
    whole_rounds: int
    time: float


def survive(federation: Federation, deaths: list[Death]) -> list[Survived]:
    """Let the server die its deaths. Where the launcher died, too, it is started again."""
    survived = []
    life = Life(federation)
    for death in deaths:
        moment = kill(federation, death, life)
        survived.append(Survived(death, moment, whole_rounds(federation), time.time()))
        life = Life(federation)
        with (federation.folder / "deaths.txt").open("a") as stream:
            stream.write(f"{survived[-1]}\n")
        if death.victims in (WHOLE, LAUNCHER):
            federation.resume_server()
        if death.victims != WHOLE:
            life.wait_for_successor()
    return survived


def whole_rounds(federation: Federation) -> int:
    return RunFolder.open(federation.run_folder).state.round


def seconds_to_next_round(federation: Federation, survived: Survived) -> float:
    """From a death to the next round that was begun."""
    begun = [each["time"] for each in federation.events() if each["event"] == "round-started"]
    return min(each for each in begun if each > survived.time) - survived.time


def planned(generator: random.Random, rounds: range, victims: list[str]) -> list[Death]:
    """Deaths at random moments of random rounds, in the order in which they come.

    Each moment has as many of them as the others, and they are spread over its length.
    """
    numbers = sorted(generator.choice(rounds) for _ in victims)
    each = len(victims) // len(MOMENTS)
    spots = [
        (moment, (index + generator.random()) / each) for moment in MOMENTS for index in range(each)
    ]
    generator.shuffle(spots)
    return [
        Death(number, moment, part, victim)
        for number, (moment, part), victim in zip(numbers, spots, victims, strict=True)
    ]


def test_killed_while_it_writes_and_without_its_superlink(
    new_federation: Callable[..., Federation],
) -> None:
    """The short form: one kill of everything, one of a part that the launcher starts again."""
    federation = new_federation()
    start(federation, 2)
    survive(federation, [Death(1, "write", 0.0), Death(2, "wait", 0.0, SUPERLINK)])
    assert_ends_as(federation, unbroken(federation, 2))
    assert "Going on after round 1" in federation.log("server")


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_killed_twenty_times(new_federation: Callable[..., Federation]) -> None:
    generator = random.Random(20)
    victims = [WHOLE] * 16 + [LAUNCHER] * 2 + [SUPERLINK, ROUNDS]
    generator.shuffle(victims)
    deaths = planned(generator, range(3, 11), victims)
    # A death costs a whole round at most, and another where the rounds outlive the launcher or the
    # SuperLink for a moment: the run cannot be over before the last of them.
    rounds = 11 + len(deaths) + sum(each.victims in (LAUNCHER, SUPERLINK) for each in deaths)
    federation = new_federation()
    start(federation, rounds)
    federation.wait_for_event("round-done", 300, round=2)  # the first one loads much, and is longer
    survived = survive(federation, deaths)
    assert len(survived) == 20
    assert_ends_as(federation, unbroken(federation, rounds))
    lines = [
        f"planned round {each.death.round:2d} {each.death.moment:6s} at {each.death.part:4.2f}  "
        f"{each.death.victims:9s}  hit round {each.whole_rounds + 1:2d} {each.moment:7s}  "
        f"next round {seconds_to_next_round(federation, each):5.1f} s later"
        for each in survived
    ]
    (federation.folder / "summary.txt").write_text("\n".join(lines))
    assert {each.moment for each in survived} >= set(MOMENTS)


# Nowhere to write ---------------------------------------------------------------------------------


def mount(*arguments: object) -> None:
    """Mount something, or skip the test where that is not permitted."""
    finished = subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False)
    if finished.returncode != 0:
        pytest.skip(f"mount is not permitted here: {finished.stderr.decode().strip()}")


@pytest.fixture
def on_small_disk(new_federation: Callable[..., Federation]) -> Iterator[Federation]:
    """A federation whose run folder is on a disk of its own, of 80 MB."""
    federation = new_federation()
    runs = federation.folder / "runs"
    runs.mkdir()
    mount("-t", "tmpfs", "-o", "size=80m", "tmpfs", runs)
    try:
        yield federation
    finally:
        subprocess.run(["umount", "--lazy", str(runs)], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk has no byte left."""
    with path.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    stream.write(b"x" * size)


def assert_stopped_by(federation: Federation, cause: str) -> None:
    """The server has ended with one clear paragraph; the last whole round is there."""
    assert federation.wait("server", 300) == RunFolderError.exit_code, federation.log("server")
    errors = [line for line in federation.log("server").splitlines() if line.startswith("error: ")]
    assert cause in errors[-1]
    assert f"--resume {federation.run_folder}" in errors[-1]
    assert "Traceback" not in federation.log("server")
    folder = RunFolder.open(federation.run_folder)
    assert folder.state.round == 1
    assert sorted(folder.models()) == sorted(folder.contributions()) == sorted(SITES)
    assert [line["round"] for line in folder.rounds()] == [1]


@pytest.mark.slow
def test_full_disk(on_small_disk: Federation) -> None:
    federation = on_small_disk
    start(federation, 2)
    federation.wait_for_event("round-done", 300, round=1)
    ballast = federation.folder / "runs" / "ballast"
    fill(ballast)
    assert_stopped_by(federation, "disk")
    federation.resume_server()
    assert_stopped_by(federation, "disk")
    ballast.unlink()
    federation.resume_server()
    assert_ends_as(federation, unbroken(federation, 2))


@pytest.mark.slow
def test_disk_that_is_full_only_for_models(on_small_disk: Federation) -> None:
    """There is room for words, and none for a round: the run itself says what has happened."""
    federation = on_small_disk
    start(federation, 2)
    federation.wait_for_event("sent", 300, round=2)
    ballast = federation.folder / "runs" / "ballast"
    fill(ballast)
    with ballast.open("r+b") as stream:
        stream.truncate(ballast.stat().st_size - (1 << 20))
    assert_stopped_by(federation, "The disk is full: free some space.")
    assert federation.wait_for_event("failed", 1)["exit_code"] == RunFolderError.exit_code
    ballast.unlink()
    federation.resume_server()
    assert_ends_as(federation, unbroken(federation, 2))


@pytest.mark.slow
def test_read_only_folder(on_small_disk: Federation) -> None:
    federation = on_small_disk
    start(federation, 2)
    federation.wait_for_event("sent", 300, round=2)
    # What is open stays open; whoever opens a file from now on meets the read-only mount.
    folder = federation.run_folder
    mount("--bind", folder, folder)
    mount("-o", "remount,ro,bind", folder)
    try:
        assert_stopped_by(federation, "read-only")
        federation.resume_server()
        assert_stopped_by(federation, "read-only")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    federation.resume_server()
    assert_ends_as(federation, unbroken(federation, 2))
