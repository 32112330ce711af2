"""Servers and sites as real processes, for the end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

SCRIPTS = Path(sys.executable).parent
SITES = ("dfme_c1", "dfme_c2", "dfme_c3", "dfme_c4", "dfme_c5", "casme3_c1", "casme3_c2")


def run(command: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end."""
    return subprocess.run(
        [str(SCRIPTS / command), *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=options.pop("timeout", 120),
        env=clean_environment() | options.pop("env", {}),
        check=False,
        **options,
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without our own settings; one thread for each process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDPSYAU_")}
    return kept | {"OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "200"}


def command_of(pid: int) -> str:
    """Command line of a process; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until `condition` gives something true; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


@dataclass
class Federation:
    """A server and sites in one folder; everything is killed at the end of the `with` block."""

    folder: Path
    data: Path
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    listen_on: str = "127.0.0.1"
    metrics_address: str = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def run_folder(self) -> Path:
        return self.folder / "runs" / "test"

    def start_server(self, config: str = "", *arguments: object) -> subprocess.Popen[bytes]:
        file = self.folder / "federation.toml"
        if not file.exists():
            file.write_text(config)
        return self.start(
            "server",
            "fedpsyau-server",
            *("--config", file, "--listen", f"{self.listen_on}:{self.port}"),
            *("--runs", self.folder / "runs", "--run", "test"),
            *("--metrics-address", self.metrics_address),
            *arguments,
        )

    def resume_server(self, *arguments: object) -> subprocess.Popen[bytes]:
        return self.start("server", "fedpsyau-server", "--resume", self.run_folder, *arguments)

    def start_site(
        self, partition: str, *arguments: object, name: str | None = None
    ) -> subprocess.Popen[bytes]:
        return self.start(
            name or partition,
            "fedpsyau-client",
            *("--partition", partition, "--data", self.data, "--superlink", self.address),
            *("--state", self.folder / "state", "--threads", 1),
            *arguments,
        )

    def start_sites(self, partitions: Sequence[str] = SITES, *arguments: object) -> None:
        for partition in partitions:
            self.start_site(partition, *arguments)

    def start(
        self, name: str, command: str, *arguments: object, before: Sequence[object] = ()
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*map(str, before), str(SCRIPTS / command), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
                cwd=self.folder,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def wait(self, name: str, seconds: float = 240) -> int:
        try:
            return self.processes[name].wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} still runs; its log:\n{self.log(name)}") from None

    def wait_for_all(self, seconds: float = 240) -> dict[str, int]:
        codes = {"server": self.wait("server", seconds)}
        return codes | {name: self.wait(name, 60) for name in self.processes if name != "server"}

    def events(self) -> list[dict[str, Any]]:
        path = self.run_folder / "events.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_for_event(self, event: str, seconds: float = 120, **details: Any) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            for each in self.events():
                if {"event": event, **details}.items() <= each.items():
                    return each
            return None

        def found_or_over() -> dict[str, Any] | None:
            server = self.processes.get("server")
            is_over = server is not None and server.poll() is not None
            if not (event_found := found()) and is_over:
                raise AssertionError(f"the server ended without {event}:\n{self.log('server')}")
            return event_found

        return wait_until(found_or_over, seconds, f"the event {event} {details}")

    def rounds(self) -> list[dict[str, Any]]:
        text = (self.run_folder / "rounds.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
