"""What half-precision and delta exchange save on the wire, and whether the models suffer.

Bytes: one small federation over gRPC in each precision, with the whole network; its sites reach the
server through a proxy that counts every byte in both directions, connection and polls included.
Beside it stands what the run itself noted of its models, header and names included.

UF1: the same federations on the synthetic twin, simulated, which gives the models of the real one
bit for bit; every seed divides subjects and draws weights anew, alike for all precisions. The score
is of the last models on the held-out subjects of all sites, pooled; its change comes with the 95 %
interval of a paired bootstrap over subjects.

The two figures are of the smallest exchange whose change is not certainly a loss.

    python -m benchmarks.exchange_bytes
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fedpsyau_client.synthetic.twin import TABLE_3, write_twin
from fedpsyau_experiments.paper.cell_result import SubjectCounts
from fedpsyau_experiments.paper.federation_cell import tested_federation
from fedpsyau_experiments.paper.outcome import counts_of_seeds
from fedpsyau_experiments.paper.statistics import mean_scores, paired_difference, spread
from fedpsyau_model.bootstrap import RESAMPLES, drawn_subjects
from fedpsyau_model.child_process import ChildProcess, free_port, script
from fedpsyau_model.metrics import uf1_of_each
from fedpsyau_model.settings import FederationSettings

PRECISIONS = ("full", "half", "delta")

#: Sites of the federation whose bytes are counted, and the twin's scale: the fewest clips.
COUNTED_SITES = ("dfme_c1", "casme3_c1")
COUNTED_SCALE = 0.001

CONFIG = """
[training]
epochs = 1
[exchange]
precision = "{precision}"
[rounds]
rounds = {rounds}
"""

MEGABYTE = 1e6


@dataclass(frozen=True)
class Traffic:
    """Bytes of a whole run: on the wire in both directions, and of the models in its records."""

    wire: int
    down: int
    up: int


@dataclass(frozen=True)
class Scores:
    """UF1 of every seed, and the change of their mean against full precision."""

    seeds: tuple[float, ...]
    change: float = 0.0
    low: float = 0.0
    high: float = 0.0


def main() -> None:
    """Print what is compared, then the figures."""
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="fedpsyau-exchange-") as name:
        folder = Path(name)
        traffic = _counted(folder, arguments.counted_rounds)
        scores = _scored(folder, arguments)
    ratios = {each: traffic[each].wire / traffic["full"].wire for each in PRECISIONS}
    for precision in PRECISIONS:
        _tell(precision, traffic[precision], ratios[precision], scores[precision])
    best = min(
        (each for each in PRECISIONS if scores[each].high >= 0), key=lambda each: ratios[each]
    )
    print(f"the figures are of {best}")
    print(f"exchange_bytes_ratio: {ratios[best]:.4f}")
    print(f"exchange_uf1_change: {scores[best].change:.4f}")


def _tell(precision: str, traffic: Traffic, ratio: float, scores: Scores) -> None:
    found = spread(scores.seeds)
    seeds = ", ".join(f"{each:.4f}" for each in scores.seeds)
    print(
        f"{precision}: {traffic.wire / MEGABYTE:.2f} MB on the wire, {ratio:.4f} of full; models "
        f"{traffic.down / MEGABYTE:.2f} MB to the sites, {traffic.up / MEGABYTE:.2f} MB back"
    )
    print(
        f"{precision}: UF1 {found.mean:.4f} (seeds {seeds}), change {scores.change:+.4f} "
        f"[{scores.low:+.4f}, {scores.high:+.4f}]"
    )


# Bytes --------------------------------------------------------------------------------------------


def _counted(folder: Path, rounds: int) -> dict[str, Traffic]:
    print(f"bytes: {len(COUNTED_SITES)} sites, {rounds} rounds, no TLS", flush=True)
    write_twin(folder / "counted", scale=COUNTED_SCALE)
    return {each: _federation(folder, each, rounds) for each in PRECISIONS}


def _federation(folder: Path, precision: str, rounds: int) -> Traffic:
    """Run a federation of `COUNTED_SITES` from start to end and count its bytes."""
    own = folder / f"counted-{precision}"
    own.mkdir()
    (own / "federation.toml").write_text(CONFIG.format(precision=precision, rounds=rounds))
    port = free_port()
    with ExitStack() as stack:
        proxy = stack.enter_context(_CountingProxy(port))

        def start(name: str, *arguments: str) -> ChildProcess:
            command = [script(arguments[0]), *arguments[1:]]
            return stack.enter_context(ChildProcess(command, own / f"{name}.log"))

        server = start(
            "server",
            *("fedpsyau-server", "--config", str(own / "federation.toml")),
            *("--sites", ",".join(COUNTED_SITES), "--listen", f"127.0.0.1:{port}"),
            *("--runs", str(own / "runs"), "--run", "counted", "--metrics-address", ""),
        )
        sites = [
            start(
                site,
                *("fedpsyau-client", "--partition", site, "--threads", "1"),
                *("--data", str(folder / "counted"), "--state", str(own / "state")),
                *("--superlink", f"127.0.0.1:{proxy.port}"),
            )
            for site in COUNTED_SITES
        ]
        while server.wait(600) is None:
            pass
        if server.return_code:
            raise SystemExit(f"the server ended with {server.return_code}:\n{server.last_lines()}")
        for site in sites:
            site.wait(60)
        events = own / "runs" / "counted" / "events.jsonl"
        told = [json.loads(line) for line in events.read_text().splitlines()]
        down, up = (
            sum(each["bytes"] for each in told if each["event"] == kind)
            for kind in ("sent", "reply")
        )
        return Traffic(proxy.bytes, down, up)


class _CountingProxy:
    """A TCP proxy that counts the bytes that pass, in both directions together."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._counts: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def bytes(self) -> int:
        """Bytes that have passed."""
        return sum(self._counts)

    def __enter__(self) -> _CountingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                site, _ = self._listener.accept()
            except OSError:  # the end
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # the server is not there yet
                site.close()
                continue
            for source, sink in ((site, server), (server, site)):
                self._counts.append(0)
                place = len(self._counts) - 1
                threading.Thread(target=self._pump, args=(source, sink, place), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, place: int) -> None:
        try:
            while data := source.recv(1 << 16):
                self._counts[place] += len(data)
                sink.sendall(data)
        except OSError:  # one of the two has gone
            pass
        for each in (source, sink):
            each.close()


# UF1 ----------------------------------------------------------------------------------------------


def _scored(folder: Path, arguments: argparse.Namespace) -> dict[str, Scores]:
    """Simulate every precision with every seed, in two processes of one thread each."""
    sites = [partition.name for partition in TABLE_3][: arguments.sites]
    print(
        f"UF1: {len(sites)} sites, scale {arguments.scale} of the twin, {arguments.rounds} rounds "
        f"of 2 epochs, {arguments.seeds} seeds",
        flush=True,
    )
    write_twin(folder / "twin", scale=arguments.scale)
    jobs = [
        (precision, seed, sites, arguments.rounds, folder)
        for seed in range(arguments.seeds)
        for precision in PRECISIONS
    ]
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        tested = dict(zip([job[:2] for job in jobs], pool.map(_simulated, jobs), strict=True))
    print(f"UF1: {len(jobs)} simulations in {time.monotonic() - started:.0f} s", flush=True)
    return _compared(
        {
            precision: [tested[precision, seed] for seed in range(arguments.seeds)]
            for precision in PRECISIONS
        }
    )


def _simulated(job: tuple[str, int, Sequence[str], int, Path]) -> SubjectCounts:
    precision, seed, sites, rounds, folder = job
    torch.set_num_threads(1)
    settings = FederationSettings.model_validate(
        {
            "seed": seed,
            "exchange": {"precision": precision},
            "rounds": {"rounds": rounds},
            "server": {"sites": sites},
        }
    )
    run = folder / f"{precision}-{seed}"
    return tested_federation(settings, folder / "twin", run, "cpu", lambda _: None)


def _compared(tested: Mapping[str, Sequence[SubjectCounts]]) -> dict[str, Scores]:
    subjects = sorted({subject for each in tested["full"] for subject in each.subject})
    drawn = drawn_subjects(len(subjects), RESAMPLES, np.random.default_rng(0))
    drawn = np.concatenate([np.ones((1, len(subjects)), dtype=np.int64), drawn])
    counts = {name: counts_of_seeds(each, subjects) for name, each in tested.items()}
    means = {name: mean_scores(each, drawn, uf1_of_each) for name, each in counts.items()}
    found = {}
    for name, each in counts.items():
        difference = paired_difference(means["full"], means[name])
        seeds = tuple(float(uf1_of_each(seed.sum(axis=0))) for seed in each)
        found[name] = Scores(seeds, difference.value, difference.low, difference.high)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counted-rounds", type=int, default=4, help="whose bytes are counted")
    parser.add_argument("--sites", type=int, default=7, help="whose UF1 is pooled, 2 to 7")
    parser.add_argument("--scale", type=float, default=0.05, help="of the twin for UF1")
    parser.add_argument("--rounds", type=int, default=6, help="of the federations for UF1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="simulations at a time")
    return parser.parse_args()


if __name__ == "__main__":
    main()
