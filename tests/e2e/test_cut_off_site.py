"""A site behind a cable that is cut, for a round and for long, and mended again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cable import Cable, cable
from processes import Federation, wait_until
from test_federation import equal, models_of
from test_tls import provision, start_with_kit

from fedpsyau_model.child_process import free_port

#: A server notices after some 70 s that a site is gone, and TCP takes its time to find back.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

NEAR = ("casme3_c1", "casme3_c2")
FAR = "dfme_c2"

CONFIG = """
seed = 5
[network]
au-branch = false
[training]
epochs = 4
batch-size = 16
[rounds]
rounds = 1000
min-sites = 2
max-staleness = {max_staleness}
keep-rounds = 0
"""


@pytest.fixture
def line() -> Iterator[Cable]:
    with cable() as laid:
        yield laid


@contextmanager
def behind_cable(folder: Path, twin: Path, line: Cable, max_staleness: int) -> Iterator[Federation]:
    """Two sites beside the server and one behind the cable, all with kits, in the middle of a run.

    At the end all of them must still be there.
    """
    federation = Federation(folder, twin, free_port(), listen_on="0.0.0.0")
    kit = provision(folder / "kit", federation.port, (*NEAR, FAR), ("127.0.0.1", line.here))
    archives = {site: kit / "kits" / f"{site}.tar.gz" for site in (*NEAR, FAR)}
    with federation:
        federation.start_server(CONFIG.format(max_staleness=max_staleness), "--kit", kit)
        for site in NEAR:
            start_with_kit(federation, site, archives[site])
        federation.start(
            FAR,
            "fedpsyau-client",
            *("--kit", archives[FAR], "--data", federation.data),
            *("--superlink", f"{line.here}:{federation.port}", "--threads", 1),
            *("--state", federation.folder / f"state-{FAR}"),
            before=line.command,
        )
        wait_for_line(federation, lambda each: FAR in each["answered"], 600)
        yield federation
        assert {name for name, each in federation.processes.items() if each.poll() is None} == {
            "server",
            *NEAR,
            FAR,
        }
        federation.processes["server"].send_signal(signal.SIGTERM)
        federation.wait("server", 60)


def wait_for_line(
    federation: Federation, wanted: Any, seconds: float, after: int = 0
) -> dict[str, Any]:
    """The first line of rounds.jsonl after a round that is as wanted."""

    def found() -> dict[str, Any] | None:
        path = federation.run_folder / "rounds.jsonl"
        lines = federation.rounds() if path.exists() else []
        return next((each for each in lines if each["round"] > after and wanted(each)), None)

    return wait_until(found, seconds, "a line of rounds.jsonl")


def cut_off(federation: Federation, break_off: Callable[[], None]) -> dict[str, Any]:
    """Break the line; the first round that goes on without the site, whose last reply counts."""
    last = federation.rounds()[-1]["round"]
    break_off()
    first = wait_for_line(federation, lambda each: FAR not in each["answered"], 600, last)
    assert first["answered"] == sorted(NEAR)
    assert FAR in first["silent"]
    assert first["quarantined"] == {}
    assert first["contributions"][FAR]["round"] == first["round"] - 1
    return first


def comes_back(federation: Federation, mend: Callable[[], None], after: int) -> dict[str, Any]:
    """Mend the line; the first round in which the site answers again, which counts afresh."""
    mend()
    back = wait_for_line(federation, lambda each: FAR in each["answered"], 900, after)
    for each in (back, wait_for_line(federation, lambda _: True, 300, back["round"])):
        assert each["answered"] == sorted((*NEAR, FAR))
        assert each["contributions"][FAR]["round"] == each["round"]
    assert "Traceback" not in federation.log(FAR)
    return back


@pytest.mark.parametrize("cut", ["pulled out", "swallowed"])
def test_the_last_contribution_of_a_site_that_is_cut_off_counts_until_it_is_back(
    tmp_path: Path, twin: Path, line: Cable, cut: str
) -> None:
    break_off, mend = {
        "pulled out": (line.pull_out, line.plug_in),
        "swallowed": (line.swallow, line.let_through),
    }[cut]
    with behind_cable(tmp_path, twin, line, max_staleness=1000) as federation:
        first = cut_off(federation, break_off)
        back = comes_back(federation, mend, first["round"])
        between = federation.rounds()[first["round"] - 1 : back["round"] - 1]
        assert {each["contributions"][FAR]["round"] for each in between} == {first["round"] - 1}
        print([first["round"], first["lost"], back["round"]])  # noqa: T201
        print(federation.log(FAR))  # noqa: T201


def test_a_site_that_is_cut_off_for_long_no_longer_counts_and_comes_back_with_its_model(
    tmp_path: Path, twin: Path, line: Cable
) -> None:
    with behind_cable(tmp_path, twin, line, max_staleness=3) as federation:
        last = cut_off(federation, line.swallow)["round"] - 1
        stale = wait_for_line(federation, lambda each: FAR not in each["contributions"], 900, last)
        assert stale["round"] == last + 3 + 1
        kept = models_of(federation.run_folder, last, "models")[FAR]
        number = comes_back(federation, line.let_through, stale["round"])["round"]
        assert equal(models_of(federation.run_folder, number - 1, "models")[FAR], kept)
