"""What fusion costs for 7, 70 and 700 sites of the real model, and a round for 1,000 sites.

Three parts:

- in memory: P-FedProx of seven models, against a plain copy of seven models on as many threads, in
  turns. Bytes are those that fusing cannot do without: each model read twice and written once;
- on disk: as the server does it, from files to files, flushed and renamed, in processes of their
  own, against a copy of files (read, written, flushed, renamed) on as many threads. Trained models
  are at most 70 different files, of which each is there under several names; all of them are really
  read, twice, and all fused models are really written. A pass writes as many models with few sites
  as with many, and they stay until it is over, since disks are faster with the first of many
  gigabytes and where they have been written before. There are two passes for each number of sites,
  the second in reverse order, so that a disk that gets slower does so for all; the better one
  counts, since disks that others use stand still at times, too;
- messages: rounds of the real loop with 1,000 sites of a tiny model, of which some are late, silent
  or bad (`_many_sites.py`), checked against the definition.

    python -m benchmarks.fuse_scaling
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._many_sites import ManySites, Plan, check_run, new_run
from fedpsyau_model import __version__
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.exchange import SCHEMA_VERSION
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.fusion import TOGETHER, Contribution, fuse_personalised, fusion_threads
from fedpsyau_server.packed_model import PIECE, ModelInMemory, PackedModel
from fedpsyau_server.report.tables import read_tables
from fedpsyau_server.rounds import RoundLoop
from fedpsyau_server.run_folder import ContributionMark, RunConfig, RunFolder
from fedpsyau_server.strategies import next_models
from fedpsyau_server.watching.run_watch import RunWatch

#: Parameters of the model that travels: 16.5 MB.
PARAMETERS = 4_125_000

#: Trained models that are different from each other.
DIFFERENT = 70

THETA = 0.9


def main() -> None:
    """Print the figures."""
    arguments = _arguments()
    if arguments.fuse:
        print(json.dumps(_fuse_on_disk(arguments.fuse, arguments.times)))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the models are deleted, too
    logging.getLogger("fedpsyau_server").setLevel(logging.ERROR)  # bad replies are to be expected
    fraction = _in_memory(arguments.repeat)
    seconds, peak = _on_disk(arguments.sites, arguments.folder)
    _messages(arguments.many, arguments.rounds)
    few, many = min(seconds), max(seconds)
    print(f"fuse_bandwidth_fraction: {fraction:.2f}")
    print(f"fuse_per_site_ratio_{many}_to_{few}: {seconds[many] / seconds[few]:.2f}")
    print(f"fuse_peak_rss_mb_{many}: {peak:.0f}")


# In memory ----------------------------------------------------------------------------------------


def _in_memory(repeat: int) -> float:
    """The fusion's bytes in a second, as a share of those of a plain copy."""
    models = [ModelInMemory(data) for data in _packed_models(7)]
    size = models[0].layout.size
    fused = [np.empty(PARAMETERS, np.float32) for _ in models]
    sources = [
        np.frombuffer(model.data, np.float32, PARAMETERS, size - 4 * PARAMETERS) for model in models
    ]
    shares: dict[int, float] = {}
    for threads in sorted({1, fusion_threads()}):
        with ThreadPoolExecutor(threads) as pool:
            copying, fusing = _best(
                repeat,
                partial(_copy_into, fused, sources, pool),
                partial(_fuse_into, fused, models, pool),
            )
        copied, used = 2 * len(models) * size / copying, 3 * len(models) * size / fusing
        shares[threads] = used / copied
        print(
            f"in memory, 7 models of {size / 1e6:.1f} MB, {threads} thread(s): copying "
            f"{copied / 1e9:.1f} GB/s, fusing {used / 1e9:.1f} GB/s "
            f"({1000 * fusing / len(models):.1f} ms a site)"
        )
        _check(sources, fused)
    return shares[fusion_threads()]


def _check(sources: list[np.ndarray], fused: list[np.ndarray]) -> None:
    """AssertionError unless the first site's model is what the formula gives in whole arrays."""
    clips = [10 + k for k in range(len(sources))]
    total = np.zeros(PARAMETERS)
    for count, source in zip(clips, sources, strict=True):
        total += count * source.astype(np.float64)
    own = sources[0].astype(np.float64)
    others = (total - clips[0] * own) / (sum(clips) - clips[0])
    expected = THETA * own + (1.0 - THETA) * others
    assert np.abs(fused[0] - expected).max() <= 2e-7  # of numbers below 1


def _fuse_into(
    fused: list[np.ndarray],
    models: list[ModelInMemory],
    pool: ThreadPoolExecutor,
) -> None:
    contributions = {f"{k}": Contribution(model, 10 + k) for k, model in enumerate(models)}
    results = list(fuse_personalised(contributions, THETA).values())
    firsts = range(0, len(models), TOGETHER)
    list(
        pool.map(
            _read_into,
            [results[first : first + TOGETHER] for first in firsts],
            [fused[first : first + TOGETHER] for first in firsts],
        )
    )


def _copy_into(
    targets: list[np.ndarray], sources: list[np.ndarray], pool: ThreadPoolExecutor
) -> None:
    list(pool.map(np.copyto, targets, sources))


def _read_into(models: list[PackedModel], targets: list[np.ndarray]) -> None:
    """Read models in turns, as they are written to disk."""
    for start in range(0, PARAMETERS, PIECE):
        for model, target in zip(models, targets, strict=True):
            piece = target[start : start + PIECE]
            found = model.numbers(0, start, piece)
            if found is not piece:
                piece[:] = found


def _best(repeat: int, *works: Callable[[], object]) -> list[float]:
    """Seconds of each, the best of several times in turns."""
    best = [float("inf")] * len(works)
    for _ in range(repeat):
        for index, work in enumerate(works):
            started = time.perf_counter()
            work()
            best[index] = min(best[index], time.perf_counter() - started)
    return best


def _packed_models(count: int) -> list[bytes]:
    generator = np.random.default_rng(0)
    return [
        ModelInMemory.of({"w": generator.random(PARAMETERS, np.float32)}).data for _ in range(count)
    ]


# On disk ------------------------------------------------------------------------------------------


def _on_disk(sizes: Sequence[int], below: Path | None) -> tuple[dict[int, float], float]:
    """Seconds a site by number of sites, and the peak memory with most of them, MB."""
    most = max(sizes)
    needed = (most + 2 * DIFFERENT + 70) * 4 * PARAMETERS
    if shutil.disk_usage(below or tempfile.gettempdir()).free < needed:
        raise SystemExit(
            f"{needed / 1e9:.0f} GB of disk are needed; give --folder or fewer --sites"
        )
    peaks: dict[int, float] = {}
    with tempfile.TemporaryDirectory(dir=below) as name:
        folder = Path(name)
        (folder / "trained").mkdir()
        for index, data in enumerate(_packed_models(DIFFERENT)):
            (folder / "trained" / f"{index}.safetensors").write_bytes(data)
        os.sync()
        seconds = dict.fromkeys(sorted(sizes), float("inf"))
        copies = []
        for count in [*seconds, *reversed(seconds)]:
            copies.append(_copy_on_disk(folder, DIFFERENT))
            times = round(most / count)
            found = _fuse_in_process(folder, count, times)
            each = found["seconds"] / (times * count)
            seconds[count] = min(seconds[count], each)
            peaks[count] = max(peaks.get(count, 0.0), found["peak"])
            print(
                f"on disk, {count} sites, {times} times: {found['seconds']:.1f} s, "
                f"{1000 * each:.1f} ms a site ({12 * PARAMETERS / each / 1e6:.0f} MB/s); copying "
                f"just before: {1000 * copies[-1]:.1f} ms a file; peak memory "
                f"{found['peak']:.0f} MB, of which {found['start']:.0f} before fusing; at the end "
                f"{found['anonymous']:.0f} MB anonymous, {found['file']:.0f} MB of files",
                flush=True,
            )
    copying = min(copies)
    print(f"on disk, copying {DIFFERENT} files, the best: {1000 * copying:.1f} ms a file")
    print(f"fuse_disk_bandwidth_fraction: {1.5 * copying / seconds[most]:.2f}")
    return seconds, peaks[most]


def _copy_on_disk(folder: Path, count: int) -> float:
    """Seconds a model for copying files as the server writes them."""
    target = folder / "copied"
    target.mkdir()
    sources = [folder / "trained" / f"{index}.safetensors" for index in range(count)]
    started = time.perf_counter()
    with ThreadPoolExecutor(fusion_threads()) as pool:
        list(
            pool.map(lambda each: write_atomically(target / each.name, each.read_bytes()), sources)
        )
    seconds = time.perf_counter() - started
    shutil.rmtree(target)
    return seconds / count


def _fuse_in_process(folder: Path, sites: int, times: int) -> dict[str, float]:
    run = folder / "run"
    _make_run(run, folder / "trained", sites)
    command = [
        sys.executable,
        "-m",
        "benchmarks.fuse_scaling",
        "--fuse",
        str(run),
        f"--times={times}",
    ]
    try:
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    finally:
        shutil.rmtree(run)
        os.sync()  # a disk may have to be told what is free; it is not for the next to wait for it
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def _make_run(path: Path, trained: Path, sites: int) -> None:
    """A run whose first round has brought a trained model from every site."""
    names = tuple(f"site{k:04d}" for k in range(sites))
    settings = FederationSettings.model_validate(
        {"server": {"sites": list(names)}, "strategy": {"theta": THETA}}
    )
    config = RunConfig(
        run_id="0" * 32,
        version=__version__,
        schema_version=SCHEMA_VERSION,
        agreement_hash=settings.agreement_hash(),
        started="2025-01-01T00:00:00+00:00",
        sites=names,
        settings=settings.as_dict(),
    )
    folder = RunFolder.create(path, config, {"w": np.zeros(PARAMETERS, np.float32)})
    with folder.new_round(1) as draft:
        initial = folder.initial()
        draft.write_models(dict.fromkeys(names, initial))
    replies = path / "rounds" / "0001" / "replies"
    for index, site in enumerate(names):
        os.link(trained / f"{index % DIFFERENT}.safetensors", replies / f"{site}.safetensors")
    marks = {site: ContributionMark(round=1, clips=10 + k) for k, site in enumerate(names)}
    folder.finish_round({"round": 1}, names, marks)


def _fuse_on_disk(path: Path, times: int) -> dict[str, float]:
    """Fuse as the server does after a round, several times; what it took, seconds in all."""
    folder = RunFolder.open(path)
    settings = folder.config.federation_settings().strategy
    contributions, current = folder.contributions(), folder.models()
    start = _memory("VmHWM")
    seconds = 0.0
    for index in range(times):
        with folder.new_round(2) as draft:
            started = time.perf_counter()
            models = next_models(settings, current, contributions, frozenset(contributions))
            draft.write_models(models)
            seconds += time.perf_counter() - started
        (path / "rounds" / "0002").rename(path / f"written-{index}")
    return {
        "seconds": seconds,
        "start": start,
        "peak": _memory("VmHWM"),
        "anonymous": _memory("RssAnon"),
        "file": _memory("RssFile"),
    }


def _memory(name: str) -> float:
    """A figure of this process's memory, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) / 1e3


# Messages -----------------------------------------------------------------------------------------


def _messages(count: int, rounds: int) -> None:
    """Run rounds of many sites with a tiny model; say where the time goes."""
    with tempfile.TemporaryDirectory() as name:
        sites = ManySites(Plan.draw(count, rounds, seed=1), seed=1)
        folder = new_run(Path(name) / "run", sites.plan, rounds, staleness=1)
        RoundLoop(folder, sites).run()
        check_run(folder, sites)
        done = [each for each in _events(folder) if each["event"] == "round-done"]
        phases = {
            phase: float(np.mean([each["phases"][phase] for each in done]))
            for phase in done[0]["phases"]
        }
        seconds = float(np.mean([each["seconds"] for each in done]))
        print(
            f"messages, {count} sites, {rounds} rounds, all as planned: {seconds:.2f} s a round: "
            + ", ".join(f"{phase} {each:.2f}" for phase, each in phases.items())
        )
        for what, work in (
            ("metrics", lambda: RunWatch(folder).metrics()),
            ("tables of the report", lambda: read_tables(folder)),
        ):
            print(f"  {what}: {_best(1, work)[0]:.2f} s")


def _events(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder.path / "events.jsonl").open(encoding="utf-8")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[7, 70, 700], help="on disk")
    parser.add_argument("--folder", type=Path, help="where there is room for all of their models")
    parser.add_argument("--many", type=int, default=1000, help="sites of the messages")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of the messages")
    parser.add_argument("--repeat", type=int, default=20, help="times in memory, in turns")
    parser.add_argument("--fuse", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
