"""A site with a valid key answers with everything it should not, and harms nobody but itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hostile_site import KINDS, HostileSite
from processes import Federation
from test_federation import equal, models_of
from test_tls import provision, start_with_kit

from fedpsyau_experiments.simulation import simulate
from fedpsyau_model.child_process import free_port
from fedpsyau_model.process_tree import descendants
from fedpsyau_model.settings import FederationSettings, load_settings

pytestmark = pytest.mark.e2e

HONEST = ("casme3_c1", "casme3_c2")
HOSTILE = "dfme_c3"

CONFIG = """
seed = 5
[network]
au-branch = false
[training]
epochs = 1
batch-size = 16
[rounds]
rounds = {rounds}
min-sites = 2
keep-rounds = 0
"""

#: One of each layer that a bad reply can get to: SuperLink, intake, schema, model, norm.
SHORT = ["NaN", "empty message", "cut off", "huge norm", "a gigabyte from one chunk"]

LARGE = ["a gigabyte from one chunk", "a gigabyte"]

MEGABYTE = 1 << 20


class Memory:
    """The largest resident memory that each process of the server has had, in bytes."""

    def __init__(self, server: int) -> None:
        self._server = server
        self.at: dict[str, dict[str, int]] = {}

    def note(self, when: str) -> None:
        peaks: dict[str, int] = {}
        for pid in descendants(self._server):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:  # it has ended meanwhile
                continue
            for name in ("guarded_superlink", "flwr-serverapp"):
                if name in command:
                    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
                    assert peak is not None
                    peaks[name] = max(peaks.get(name, 0), int(peak[1]) * 1024)
        self.at[when] = peaks


def run_with_hostile_site(
    folder: Path, twin: Path, plan: Sequence[str]
) -> tuple[Federation, Memory]:
    """A whole run of two honest sites and the hostile one, with keys."""
    federation = Federation(folder, twin, free_port())
    kit = provision(folder / "kit", federation.port, (*HONEST, HOSTILE))
    with federation:
        server = federation.start_server(CONFIG.format(rounds=len(plan)), "--kit", kit)
        memory = Memory(server.pid)
        for site in HONEST:
            start_with_kit(federation, site, kit / "kits" / f"{site}.tar.gz")
        hostile = HostileSite(
            kit / "kits" / f"{HOSTILE}.tar.gz",
            federation.address,
            folder / "hostile",
            plan,
            lambda number, name: memory.note(f"before {number}: {name}"),
        )
        hostile.start()
        try:
            federation.wait_for_event("round-done", seconds=60 + 60 * len(plan), round=len(plan))
            memory.note("after all")
            assert set(federation.wait_for_all().values()) == {0}, federation.log("server")
        finally:
            hostile.stop()
    assert hostile.seen == list(plan)
    assert hostile.ended_well
    return federation, memory


def check_that_nobody_was_harmed(federation: Federation, plan: Sequence[str], twin: Path) -> None:
    for name, line in zip(plan, federation.rounds(), strict=True):
        assert line["answered"] == sorted(HONEST), (name, line["quarantined"])
        assert line["quarantined"].keys() == {HOSTILE}, name
        assert KINDS[name][1] in line["quarantined"][HOSTILE], name
        assert line["quarantined"][HOSTILE].isprintable(), name
        assert line["contributions"].keys() == set(HONEST)
    log = federation.log("server")
    assert "Traceback" not in log
    assert "\x1b" not in log
    assert log.count(f"{HOSTILE} is not used") == len(plan)
    # The honest sites have what they would have had without it, bit for bit.
    settings = load_settings(
        FederationSettings,
        federation.folder / "federation.toml",
        {"server.sites": HONEST},
        environment={},
    )
    alone = simulate(settings, twin, federation.folder / "alone", threads=1)
    for number in (1, len(plan)):
        for kind in ("models", "replies"):
            real = models_of(federation.run_folder, number, kind)
            expected = models_of(alone.path, number, kind)
            assert all(equal(real[site], expected[site]) for site in HONEST), (number, kind)


def test_bad_replies_harm_nobody(tmp_path: Path, twin: Path) -> None:
    federation, _ = run_with_hostile_site(tmp_path, twin, SHORT)
    check_that_nobody_was_harmed(federation, SHORT, twin)


@pytest.mark.slow
@pytest.mark.timeout(2400)  # one round for every kind
def test_every_bad_reply_is_quarantined(tmp_path: Path, twin: Path) -> None:
    plan = [name for name in KINDS if name not in LARGE]
    federation, _ = run_with_hostile_site(tmp_path, twin, plan)
    check_that_nobody_was_harmed(federation, plan, twin)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # two gigabytes have to be made and hashed
def test_gigabytes_are_quarantined_and_take_no_memory(tmp_path: Path, twin: Path) -> None:
    plan = ["NaN", *LARGE]
    federation, memory = run_with_hostile_site(tmp_path, twin, plan)
    print(json.dumps(memory.at, indent=1))  # noqa: T201, the figures for the page
    check_that_nobody_was_harmed(federation, plan, twin)
    before, after = memory.at[f"before 2: {plan[1]}"], memory.at["after all"]
    assert after.keys() == {"guarded_superlink", "flwr-serverapp"}
    # What is taken in is bounded by the size of a reply.
    reply = 2 * federation.run_folder.joinpath("initial.safetensors").stat().st_size
    for process, peak in after.items():
        assert peak - before[process] < reply + 30 * MEGABYTE, (process, before, after)
