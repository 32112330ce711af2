"""Where the processor's seconds of a round go: a flame graph, and a table.

Every process of a federation samples itself (`_sampled/sitecustomize.py`); here the samples are put
together. The graph shows the server's processes and those of one site, the table all of them.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["flame_graph", "sampled", "sampling", "stacks_of", "table"]

#: A line of a sampling process, and which it is.
Sample = dict[str, Any]

#: Processes by what stands in their command line.
PROCESSES = {
    "fedpsyau_server.guarded_superlink": "SuperLink",
    "flwr-serverapp": "ServerApp",
    "prompt_supernode": "SuperNode",
    "fedpsyau-client": "site (trainer)",
    "flower-superexec": "Flower's helpers",
    "flwr ": "Flower's helpers",
    "fedpsyau-server": "Flower's helpers",
}

#: What a frame of a module is about, or of a function in it. The innermost known one counts.
ABOUT = {
    "flwr.supercore.inflatable.inflatable_object.get_object_id": "hashes",
    "fedpsyau_client.oversight.message_facts": "hashes",
    "grpc": "gRPC, its TLS included",
    "native threads": "gRPC, its TLS included",
    "ssl": "HTTP, its TLS included",
    "asyncio": "HTTP, its TLS included",
    "uvicorn": "HTTP, its TLS included",
    "starlette": "HTTP, its TLS included",
    "fastapi": "HTTP, its TLS included",
    "anyio": "HTTP, its TLS included",
    "httpx": "HTTP, its TLS included",
    "httpcore": "HTTP, its TLS included",
    "h11": "HTTP, its TLS included",
    "flwr.supercore.protobuf": "copies into and out of messages",
    "flwr.supercore.inflatable": "copies into and out of messages",
    "flwr.app": "copies into and out of messages",
    "safetensors": "copies into and out of messages",
    "fedpsyau_model.exchange": "copies into and out of messages",
    "fedpsyau_model.atomic_files": "files",
    "fedpsyau_server.run_folder": "files",
    "fedpsyau_client.local_training.site_state": "files",
    "fedpsyau_server.fusion": "fusion and checks",
    "fedpsyau_server.reply_checks": "fusion and checks",
    "fedpsyau_server.reply_intake": "fusion and checks",
    "torch": "training and evaluation",
    "fedpsyau_model": "training and evaluation",
    "fedpsyau_client.local_training": "training and evaluation",
}
REST = "the rest, waiting for work included"

#: Frames that every stack begins with.
_PLUMBING = ("runpy", "threading", "click", "typer", "__main__", "importlib", "concurrent")

#: Packages whose functions are worth a frame of their own; of others, the package is one.
_OWN_FRAMES = ("fedpsyau", "flwr", "native")

#: Size of the picture, pixels, and what is narrower is left out.
WIDTH, ROW, NARROWEST = 1200, 17, 1.5


def sampling(folder: Path) -> dict[str, str]:
    """Variables of the environment that make Python processes write samples into a folder."""
    path = [str(Path(__file__).parent / "_sampled"), os.environ.get("PYTHONPATH", "")]
    return {"STACK_SAMPLES": str(folder), "PYTHONPATH": os.pathsep.join(path)}


def sampled(folder: Path, begin: float, end: float) -> list[Sample]:
    """What known processes have written in a span of time, each with its ``process``."""
    return [
        sample | {"process": process}
        for file in sorted(folder.iterdir())
        for sample in map(json.loads, file.read_text().splitlines())
        if begin < sample["time"] <= end and (process := _process(sample["command"]))
    ]


def _process(command: str) -> str:
    return next((name for words, name in PROCESSES.items() if words in command), "")


def about(stack: str) -> str:
    """What the innermost frame that is known of a stack is about."""
    for frame in reversed(stack.split(";")):
        words = frame.split(".")
        for length in range(len(words), 0, -1):
            if (what := ABOUT.get(".".join(words[:length]))) is not None:
                return what
    return REST


def table(samples: Sequence[Sample], seconds: float, megabytes: float, messages: int) -> str:
    """A table in Markdown of what the processes did, below a line with the sums.

    seconds, megabytes, messages: how long the sampled time was, and what travelled in it.
    """
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    processes: Counter[str] = Counter()
    for sample in samples:
        for stack, spent in sample["stacks"].items():
            rows[about(stack)][sample["process"]] += spent
            processes[sample["process"]] += spent
    whole = sum(processes.values())
    names = [name for name, _ in processes.most_common()]
    lines = [
        f"a round of {seconds:.1f} s, {messages} messages, {megabytes:.0f} MB: {whole:.1f} s of "
        f"processor time, {1000 * whole / megabytes:.0f} ms a MB, {whole / messages:.2f} s a "
        "message",
        f"| processor seconds | {' | '.join(names)} | all |",
        "|---|" + "--:|" * (len(names) + 1),
    ]
    for what, spent in sorted(rows.items(), key=lambda each: -each[1].total()):
        cells = [f"{spent[name]:.2f}" for name in names]
        lines.append(f"| {what} | {' | '.join(cells)} | {spent.total():.2f} |")
    sums = [f"{processes[name]:.2f}" for name in names]
    lines.append(f"| all | {' | '.join(sums)} | {whole:.2f} |")
    return "\n".join(lines)


def stacks_of(samples: Sequence[Sample], site: str) -> Counter[str]:
    """Seconds by stack of the server's processes and of those of one site."""
    clients = {each["pid"] for each in samples if f"{site}.tar.gz" in each["command"]}
    stacks: Counter[str] = Counter()
    for sample in samples:
        if sample["process"] == "SuperNode" and sample["parent"] not in clients:
            continue
        if sample["process"] == "site (trainer)" and sample["pid"] not in clients:
            continue
        for stack, spent in sample["stacks"].items():
            stacks[";".join([sample["process"], *_told(stack)])] += spent
    return stacks


def _told(stack: str) -> list[str]:
    """Frames of a stack that are worth drawing: our own and Flower's; of others, the package."""
    frames: list[str] = []
    for frame in stack.split(";"):
        package = frame.partition(".")[0]
        if package in _PLUMBING:
            continue
        name = ".".join(frame.split(".")[-2:]) if package.startswith(_OWN_FRAMES) else package
        if not frames or frames[-1] != name:
            frames.append(name)
    return frames


class _Node:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.inside: dict[str, _Node] = {}


def flame_graph(stacks: Mapping[str, float], title: str) -> str:
    """An SVG of collapsed stacks: frames separated by semicolons, outermost first, with seconds."""
    root = _Node()
    for stack, seconds in stacks.items():
        node = root
        node.seconds += seconds
        for frame in stack.split(";"):
            node = node.inside.setdefault(frame, _Node())
            node.seconds += seconds
    boxes: list[tuple[int, float, float, str, float]] = []
    scale = WIDTH / (root.seconds or 1.0)

    def place(node: _Node, row: int, left: float) -> None:
        for name, inner in sorted(node.inside.items()):
            width = inner.seconds * scale
            if width >= NARROWEST:
                boxes.append((row, left, width, name, inner.seconds))
                place(inner, row + 1, left)
            left += width

    place(root, 0, 0.0)
    height = ROW * (max((row for row, *_ in boxes), default=0) + 4)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            'font-family="sans-serif" font-size="11">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            f'<text x="6" y="{ROW}" font-size="13">{escape(title)}</text>',
            *(_box(height, *box) for box in boxes),
            "</svg>\n",
        ]
    )


def _box(height: int, row: int, left: float, width: float, name: str, seconds: float) -> str:
    top = height - ROW * (row + 2)
    fits = int(width / 6.2)
    text = name if len(name) <= fits else name[: max(fits - 1, 0)] + "…" if fits > 2 else ""
    return (
        f'<g><title>{escape(name)}: {seconds:.2f} s</title><rect x="{left:.1f}" y="{top}" '
        f'width="{width:.1f}" height="{ROW - 1}" fill="{_colour(row, name)}" stroke="#ffffff" '
        f'stroke-width="0.5"/><text x="{left + 3:.1f}" y="{top + 12}">{escape(text)}</text></g>'
    )


def _colour(row: int, name: str) -> str:
    if row == 0:
        return "#d9d2e9"
    if "." in name:
        return "#8fc1e3"
    return "#f4b183"
