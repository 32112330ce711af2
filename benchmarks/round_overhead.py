"""What a round costs beyond training: seven sites, real gRPC on loopback, TLS and keys.

Both contenders are whole processes as a user starts them, one after the other on the same machine,
with the same certificates, keys and model:

- a stock Flower app of the installed version: FedAvg, `Strategy.start()`, default isolation, a
  ClientApp that returns the arrays it received, no evaluation;
- this project's server and clients. Local training cannot be switched off, so every site has eight
  clips, of which it makes one step, and evaluates the received and the trained model; all of that
  counts as overhead and nothing is subtracted.

A round lasts from the end of the one before to its own end, models on disk included; the first is
left out. With real training, the overhead is what a round takes beyond the slowest site's training
(evaluation included), by the site's own clock.

    python -m benchmarks.round_overhead
    python -m benchmarks.round_overhead --flame-graph docs/pictures/round.svg
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tarfile
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks._flame_graph import flame_graph, sampled, sampling, stacks_of, table
from benchmarks._stock_flower import stock_rounds
from fedpsyau_client.store.feature_store import ClipTable, write_feature_store
from fedpsyau_client.synthetic.twin import write_twin
from fedpsyau_model.action_units import AUS, POINT_COUNT
from fedpsyau_model.child_process import ChildProcess, free_port, script
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import (
    DEFAULT_SITES,
    FederationSettings,
    NetworkSettings,
    StrategySettings,
)
from fedpsyau_model.site_kit import SITE_KEY
from fedpsyau_model.travelling import travelling_names
from fedpsyau_server.event_tail import EventTail
from fedpsyau_server.kits.server_kit import ServerKit

#: Clips and subjects of every site where nothing is to be trained.
FEW_CLIPS, FEW_SUBJECTS = 8, 4

#: Settings of the server: one step of all clips; models in half precision.
ONE_STEP = "[training]\nepochs = 1\nbatch-size = 4096\n"
HALF = '[exchange]\nprecision = "half"\n'

#: What stands in a figure's place when a part of it was not run.
NOT_AVAILABLE = "not available"

#: After this many seconds something is broken.
PATIENCE = 900.0


@dataclass(frozen=True)
class Round:
    """One round of our own federation."""

    seconds: float
    end: float
    """Seconds since the epoch."""
    training: float
    """Seconds of the slowest site, by its own clock."""
    phases: dict[str, float]


def main() -> None:
    """Print what is compared, then the figures."""
    arguments = _arguments()
    sites = DEFAULT_SITES[: arguments.sites]
    shapes = model_shapes()
    size = 4 * sum(_count(shape) for shape in shapes)
    print(
        f"compared: a stock Flower app and this project, each with {len(sites)} sites, "
        f"{size / 1e6:.1f} MB float32 in {len(shapes)} arrays, TLS and keys, {os.cpu_count()} cores"
    )
    with tempfile.TemporaryDirectory(prefix="fedpsyau-round-") as name:
        folder = Path(name)
        kit = provision(folder / "kit", sites)
        write_few_clips(folder / "small", sites)
        if arguments.flame_graph:
            _draw(arguments.flame_graph, folder, kit, arguments.rounds, 2 * size * len(sites))
            return
        seconds = _seconds(folder, kit, shapes, arguments.rounds, arguments.parts)
        over = _over_training(folder, kit, arguments.scale) if "training" in arguments.parts else ""
    for figure, part in (
        ("round_overhead_ratio", "own"),
        ("round_overhead_ratio_half", "half"),
    ):
        known = {"stock", part} <= seconds.keys()
        ratio = f"{seconds[part] / seconds['stock']:.3f}" if known else NOT_AVAILABLE
        print(f"{figure}: {ratio}")
    own = f"{seconds['own']:.2f}" if "own" in seconds else NOT_AVAILABLE
    print(f"round_overhead_seconds: {own}")
    print(f"round_over_training: {over or NOT_AVAILABLE}")


def _seconds(
    folder: Path,
    kit: ServerKit,
    shapes: Sequence[tuple[int, ...]],
    rounds: int,
    parts: Collection[str],
) -> dict[str, float]:
    """Seconds of the median round of those parts that are asked for and there are."""
    seconds = {}
    if "stock" in parts:
        keys = _private_keys(kit, folder)
        stock = stock_rounds(folder / "stock", kit, keys, shapes, rounds)
        _print_rounds("stock Flower app", stock)
        seconds["stock"] = statistics.median(stock)
    configs = {"own": ONE_STEP}
    if "exchange" in FederationSettings.model_fields:
        configs["half"] = ONE_STEP + HALF
    for part, config in configs.items():
        if part not in parts:
            continue
        found = own_rounds(folder / part, kit, folder / "small", config, rounds)
        _print_own("one step of a few clips" + (", half precision" * (part == "half")), found)
        seconds[part] = statistics.median(each.seconds for each in found)
    return seconds


def _over_training(folder: Path, kit: ServerKit, scale: float) -> str:
    write_twin(folder / "twin", scale=scale)
    found = own_rounds(folder / "trained", kit, folder / "twin", "", 2)
    _print_own("training as by default", found)
    return f"{statistics.median(each.seconds / each.training for each in found) - 1:.3f}"


def model_shapes() -> list[tuple[int, ...]]:
    """Shapes of the tensors that travel."""
    network = build_network(NetworkSettings(), generator_seed=0)
    state = network.state_dict()
    return [tuple(state[name].shape) for name in travelling_names(network, StrategySettings())]


def _count(shape: tuple[int, ...]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def write_few_clips(folder: Path, sites: Sequence[str]) -> None:
    """Stores of hardly any clips, of random motion, so that training and evaluation cost little."""
    generator = np.random.default_rng(0)
    labels = np.arange(FEW_CLIPS) % 3
    emotion = np.array(["disgust", "happiness", "surprise"])[labels]
    clips = ClipTable(
        clip=np.array([f"clip{number}" for number in range(FEW_CLIPS)]),
        subject=np.array([f"subject{number % FEW_SUBJECTS}" for number in range(FEW_CLIPS)]),
        emotion=emotion,
        class3=np.array(CLASS_NAMES["three"])[labels],
        class7=emotion,
        au_known=np.ones(FEW_CLIPS, dtype=bool),
        aus=generator.integers(0, 2, (FEW_CLIPS, len(AUS))).astype(np.uint8),
    )
    for site in sites:
        write_feature_store(
            folder / site,
            partition=site,
            dataset="random",
            synthetic=True,
            clips=clips,
            flow=generator.normal(scale=0.1, size=(FEW_CLIPS, 3, 28, 28)),
            rois=generator.normal(scale=0.4, size=(FEW_CLIPS, POINT_COUNT, 3, 5, 5)),
            preprocessing={},
        )


def provision(folder: Path, sites: Sequence[str]) -> ServerKit:
    """Certificates and keys, as the coordinator makes them."""
    log = folder.with_suffix(".log")
    command = [script("fedpsyau-server"), "provision", "--sites", ",".join(sites)]
    with ChildProcess([*command, "--host", "127.0.0.1", "--out", str(folder)], log) as process:
        if process.wait(PATIENCE) != 0:
            raise SystemExit(f"no kits:\n{process.last_lines(20)}")
    return ServerKit(folder)


def _private_keys(kit: ServerKit, folder: Path) -> dict[str, Path]:
    for archive in kit.archives.iterdir():
        with tarfile.open(archive) as members:
            members.extractall(folder / "unpacked")
    return {each.name: each / SITE_KEY for each in sorted((folder / "unpacked").iterdir())}


def own_rounds(
    folder: Path,
    kit: ServerKit,
    data: Path,
    config: str,
    rounds: int,
    variables: Mapping[str, str] | None = None,
) -> list[Round]:
    """Run a federation; returns all rounds but the first.

    variables: of the environment of all processes, beside or instead of this one's.
    """
    folder.mkdir()
    (folder / "federation.toml").write_text(f"{config}\n[rounds]\nrounds = {rounds}\n")
    address = f"127.0.0.1:{free_port()}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("FEDPSYAU_")
    }
    environment |= {"OMP_NUM_THREADS": "1"} | dict(variables or {})
    with ExitStack() as stack:

        def start(name: str, *command: object) -> ChildProcess:
            return stack.enter_context(
                ChildProcess([*map(str, command)], folder / f"{name}.log", environment)
            )

        server = start(
            "server",
            *(script("fedpsyau-server"), "--kit", kit.folder, "--listen", address),
            *("--config", folder / "federation.toml", "--runs", folder / "runs", "--run", "run"),
            *("--metrics-address", ""),
        )
        for archive in sorted(kit.archives.iterdir()):
            start(
                archive.name.partition(".")[0],
                *(script("fedpsyau-client"), "--kit", archive),
                *("--superlink", address, "--data", data, "--state", folder / "state"),
                *("--threads", 1),
            )
        if server.wait(PATIENCE) != 0:
            raise SystemExit(f"the server failed:\n{server.last_lines(30)}")
    return _rounds(folder / "runs" / "run")


def _rounds(run: Path) -> list[Round]:
    """What a run folder tells of its rounds, without the first."""
    done = [
        each
        for each in EventTail(run / "events.jsonl", past=True).new()
        if each["event"] == "round-done"
    ]
    records = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    return [
        Round(
            seconds=event["time"] - before["time"],
            end=event["time"],
            training=max(site["train_seconds"] for site in record["sites"].values()),
            phases=event["phases"],
        )
        for (before, event), record in zip(pairwise(done), records[1:], strict=True)
    ]


def _print_rounds(what: str, seconds: Sequence[float]) -> None:
    print(f"{what}: {', '.join(f'{each:.2f}' for each in seconds)} s a round", flush=True)


def _print_own(what: str, rounds: Sequence[Round]) -> None:
    _print_rounds(f"this project, {what}", [each.seconds for each in rounds])
    for each in rounds:
        phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in each.phases.items())
        print(
            f"  slowest site {each.training:.2f} s at work; at the server: {phases} s", flush=True
        )


def _draw(picture: Path, folder: Path, kit: ServerKit, rounds: int, size: int) -> None:
    """Draw the last round, with a sampling thread in every process, and print where it went.

    size: bytes that travel in a round.
    """
    samples = folder / "samples"
    samples.mkdir()
    data = folder / "small"
    last = own_rounds(folder / "sampled", kit, data, ONE_STEP, rounds, sampling(samples))[-1]
    found = sampled(samples, last.end - last.seconds, last.end)
    site, *others = sorted(each.name for each in data.iterdir())
    count = 1 + len(others)
    print(table(found, last.seconds, size / 1e6, 2 * count))
    title = (
        f"One round of {count} sites, {last.seconds:.1f} s: processor seconds of the server's "
        f"processes and of the site {site}"
    )
    picture.write_text(flame_graph(stacks_of(found, site), title))


PARTS = ("stock", "own", "half", "training")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds, with the first")
    parser.add_argument("--sites", type=int, default=len(DEFAULT_SITES), help="the first so many")
    parser.add_argument("--scale", type=float, default=1.0, help="of the twin, with training")
    parser.add_argument("--flame-graph", type=Path, help="draw a round into this SVG instead")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
