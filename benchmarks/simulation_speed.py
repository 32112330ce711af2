"""What a round costs beyond training: the simulation against the federation over gRPC.

The same settings and data, the whole network (16.5 MB a model), as little to train as a site can
have, one CPU thread a site. Times of rounds come from both run folders:

- beyond training: of the federation, whose sites train at the same time, what a round takes longer
  than its slowest site; of the simulation, whose sites train one after the other, what it takes
  longer than all of them;
- CPU: what all processes used from the first to the last, start included.

Run on an idle machine:

    python -m benchmarks.simulation_speed --sites 3 --rounds 8
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedpsyau_client.synthetic.twin import TABLE_3, write_twin
from fedpsyau_model.child_process import ChildProcess, free_port, script

CONFIG = """
[training]
epochs = 1
[rounds]
rounds = {rounds}
"""

#: A site's clips are the fewest that the twin makes.
SCALE = 0.001


def main() -> None:
    """Run both and print figures and ratios."""
    arguments = _arguments()
    sites = [partition.name for partition in TABLE_3][: arguments.sites]
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_twin(folder / "data", scale=SCALE)
        (folder / "federation.toml").write_text(CONFIG.format(rounds=arguments.rounds))
        figures = {
            "simulation": _measured(_simulate, folder, sites),
            "federation": _measured(_federate, folder, sites),
        }
    print(f"{len(sites)} sites, {arguments.rounds} rounds, load average {os.getloadavg()[0]:.1f}")
    for which, values in figures.items():
        for figure, value in values.items():
            print(f"{which}, {figure}: {value:.3f}")
    for figure in figures["simulation"]:
        ratio = figures["federation"][figure] / figures["simulation"][figure]
        print(f"federation / simulation, {figure}: {ratio:.1f}")


def _measured(run: Any, folder: Path, sites: Sequence[str]) -> dict[str, float]:
    """Seconds of a run; medians over its rounds, but for the first, in which things are loaded."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    rounds, together = run(folder, sites)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    later = rounds[1:]
    return {
        "whole command, s": seconds,
        "CPU of all processes, s": after.ru_utime
        + after.ru_stime
        - before.ru_utime
        - before.ru_stime,
        "a round, s": statistics.median(line["seconds"] for line in later),
        "a round beyond training, s": statistics.median(
            line["seconds"] - _training(line, together) for line in later
        ),
    }


def _training(line: dict[str, Any], together: bool) -> float:
    each = [site["train_seconds"] for site in line["sites"].values()]
    return float(max(each) if together else sum(each))


def _simulate(folder: Path, sites: Sequence[str]) -> tuple[list[dict[str, Any]], bool]:
    out = folder / "simulated"
    subprocess.run(
        [
            *(script("fedpsyau"), "simulate", "--data", str(folder / "data"), "--out", str(out)),
            *("--config", str(folder / "federation.toml"), "--sites", ",".join(sites)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return _rounds(out), False


def _federate(folder: Path, sites: Sequence[str]) -> tuple[list[dict[str, Any]], bool]:
    address = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> ChildProcess:
            command = [script(arguments[0]), *arguments[1:]]
            return stack.enter_context(ChildProcess(command, folder / f"{name}.log"))

        server = start(
            "server",
            *("fedpsyau-server", "--config", str(folder / "federation.toml")),
            *("--sites", ",".join(sites), "--listen", address),
            *("--runs", str(folder / "runs"), "--run", "federated"),
        )
        clients = [
            start(
                site,
                *("fedpsyau-client", "--partition", site, "--superlink", address),
                *("--data", str(folder / "data"), "--state", str(folder / "state")),
                *("--threads", "1"),
            )
            for site in sites
        ]
        while server.wait(600) is None:
            pass
        for client in clients:
            client.wait(60)
        if server.return_code:
            raise SystemExit(f"the server ended with {server.return_code}:\n{server.last_lines()}")
    return _rounds(folder / "runs" / "federated"), True


def _rounds(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=3, help="2 to 7")
    parser.add_argument("--rounds", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
