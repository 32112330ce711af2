"""``fedpsyau demo``: a whole federation on this machine, on synthetic data, in a few minutes.

One server and seven sites as separate processes over gRPC on loopback, exactly as in earnest.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fedpsyau_model.child_process import ChildProcess, free_port, script
from fedpsyau_model.command_line import new_app
from fedpsyau_model.errors import FlowerRuntimeError, OutputExistsError
from fedpsyau_server.event_tail import EventTail

if TYPE_CHECKING:
    from rich.progress import Progress

app = new_app("Run a whole federation on this machine, on synthetic data.", acts_alone=True)

#: What the demo trains with, unless the flags say otherwise.
SCALE = 0.1
ROUNDS = 10
EPOCHS = 3
BATCH_SIZE = 16
SEED = 7

#: File by which a folder is known to be a demo's, so that nothing else is ever deleted.
_MARK = ".fedpsyau-demo"

#: How long the sites are given to end by themselves once the server has ended.
_CLIENT_END_SECONDS = 30.0


@app.callback()
def demo(
    out: Path = typer.Option(Path("demo"), help="Folder for everything that the demo makes."),
    scale: float = typer.Option(SCALE, help="Size of the synthetic data; 1 is Table 3's."),
    rounds: int = typer.Option(ROUNDS, help="Communication rounds."),
    strategy: str = typer.Option("p-fedprox", help="How the sites train together."),
    seed: int = typer.Option(SEED, help="Seed of data and training."),
) -> None:
    """Make the synthetic twin, train it with seven sites over gRPC, and show what came out."""
    from rich.console import Console

    from fedpsyau_server.report.files import write_report
    from fedpsyau_server.report.terminal import print_sites_table
    from fedpsyau_server.run_folder import RunFolder

    console = Console()
    started = time.monotonic()
    _prepare_folder(out)
    console.print(f"[bold]1 of 3[/] synthetic data of seven sites, in {out / 'data'}")
    _make_data(out / "data", scale, seed)
    console.print("[bold]2 of 3[/] one server and seven sites, separate processes over gRPC")
    run = _federate(out, rounds, strategy, seed, console)
    console.print("[bold]3 of 3[/] what came out (synthetic data: it says nothing of real faces)")
    folder = RunFolder.open(run)
    files = write_report(folder)
    print_sites_table(folder, console)
    console.print(f"Report: {files.page}", soft_wrap=True)
    console.print(f"Took {time.monotonic() - started:.0f} s.")


def _prepare_folder(out: Path) -> None:
    """Make an empty demo folder; an earlier demo's is replaced, anything else is refused."""
    if out.exists():
        if not (out / _MARK).exists():
            raise OutputExistsError(
                f"The folder {out} exists and was not made by a demo. Give another one with --out."
            )
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / _MARK).touch()


def _make_data(data: Path, scale: float, seed: int) -> None:
    command = [script("fedpsyau"), "data", "synth"]
    arguments = ["--out", str(data), "--scale", str(scale), "--seed", str(seed)]
    finished = subprocess.run([*command, *arguments], stdin=subprocess.DEVNULL, check=False)
    if finished.returncode != 0:
        sys.exit(finished.returncode)


def _federate(out: Path, rounds: int, strategy: str, seed: int, console: Any) -> Path:
    """Run server and sites to their end; returns the run folder."""
    config = out / "federation.toml"
    config.write_text(
        f"seed = {seed}\n\n[training]\nepochs = {EPOCHS}\nbatch-size = {BATCH_SIZE}\n\n"
        f'[strategy]\nname = "{strategy}"\n\n[rounds]\nrounds = {rounds}\n'
    )
    sites = sorted(path.name for path in (out / "data").iterdir() if path.is_dir())
    address = f"127.0.0.1:{free_port()}"
    logs = out / "logs"
    logs.mkdir()
    run = out / "runs" / "demo"
    with ExitStack() as processes:

        def start(name: str, *arguments: str) -> ChildProcess:
            command = [script(arguments[0]), *arguments[1:]]
            return processes.enter_context(ChildProcess(command, logs / f"{name}.log"))

        server = start(
            "server",
            *("fedpsyau-server", "--config", str(config), "--listen", address),
            *("--sites", ",".join(sites), "--runs", str(run.parent), "--run", run.name),
            *("--metrics-address", ""),
        )
        clients = {
            site: start(
                site,
                *("fedpsyau-client", "--partition", site, "--superlink", address),
                *("--data", str(out / "data"), "--state", str(out / "state"), "--threads", "1"),
            )
            for site in sites
        }
        _follow(server, clients, run / "events.jsonl", rounds, console)
        for client in clients.values():
            client.wait(_CLIENT_END_SECONDS)
    return run


def _follow(
    server: ChildProcess,
    clients: Mapping[str, ChildProcess],
    events: Path,
    rounds: int,
    console: Any,
) -> None:
    """Show the run as it goes, until the server ends."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[left]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        show = _progress_display(progress, len(clients), rounds)
        for event in _new_events(server, clients, events):
            show(event)
    if server.return_code != 0:
        raise FlowerRuntimeError(
            f"The server ended with code {server.return_code}. The end of its log "
            f"{server.log_file}:\n{server.last_lines()}"
        )


def _new_events(
    server: ChildProcess, clients: Mapping[str, ChildProcess], path: Path
) -> Iterator[dict[str, Any]]:
    """Events of the run as they are written, until the server has ended."""
    tail = EventTail(path, past=True)
    while True:
        ended = server.return_code is not None
        yield from tail.new()
        if ended:
            return
        for site, client in clients.items():
            if client.return_code not in (None, 0):
                raise FlowerRuntimeError(
                    f"The site {site} ended with code {client.return_code}. The end of its log "
                    f"{client.log_file}:\n{client.last_lines()}"
                )
        time.sleep(0.2)


def _progress_display(
    progress: Progress, sites: int, rounds: int
) -> Callable[[dict[str, Any]], None]:
    """Make what draws an event: a bar for the rounds and one for the sites in this round."""
    overall = progress.add_task("sites joining", total=rounds, left="")
    within = progress.add_task("joined", total=sites, left=f"0 of {sites}")
    seconds: list[float] = []
    joined: set[str] = set()

    def show(event: dict[str, Any]) -> None:
        if event["event"] == "joined":
            joined.add(event["site"])
            progress.update(within, completed=len(joined), left=f"{len(joined)} of {sites}")
        elif event["event"] == "round-started":
            progress.update(overall, description=f"round {event['round']} of {rounds}")
            progress.reset(within, description="sites answered", total=sites, left=f"0 of {sites}")
        elif event["event"] == "reply":
            answered = event["answered"]
            progress.update(within, completed=answered, left=f"{answered} of {sites}")
        elif event["event"] == "round-done":
            seconds.append(event["seconds"])
            left = (rounds - event["round"]) * sum(seconds) / len(seconds)
            progress.update(overall, completed=event["round"], left=f"about {left:.0f} s left")

    return show
