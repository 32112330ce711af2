"""How long one waits: for ``fedpsyau --help``, and for a client until it has joined.

Both are whole processes as a user starts them; the best of several times counts. The client joins a
real server of two sites over loopback, with a small synthetic store, and has joined once it has
answered the server's greeting.

    python -m benchmarks.start_up
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from fedpsyau_client.synthetic.twin import write_twin
from fedpsyau_model.addresses import answers
from fedpsyau_model.child_process import ChildProcess, free_port, script

SITES = "dfme_c1,dfme_c2"

#: After this many seconds something is broken.
PATIENCE = 300.0


def main() -> None:
    """Print the figures."""
    arguments = _arguments()
    print(f"compared with nothing: the best of {arguments.repeat} starts of whole processes")
    helps = [_seconds([script("fedpsyau"), "--help"]) for _ in range(arguments.repeat)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_twin(folder / "data", scale=0.02)
        joins = [_join_seconds(folder, number) for number in range(arguments.repeat)]
    print(f"client, each start: {', '.join(f'{seconds:.1f}' for seconds in joins)} s")
    print(f"help_seconds: {min(helps):.3f}")
    print(f"client_join_seconds: {min(joins):.2f}")


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _join_seconds(folder: Path, number: int) -> float:
    """Seconds from a client's start to its word that it has joined, with the server up before."""
    address = f"127.0.0.1:{free_port()}"
    server = [script("fedpsyau-server"), "--listen", address, "--sites", SITES]
    client = [script("fedpsyau-client"), "--partition", SITES.split(",")[0], "--superlink", address]
    places = {
        "server": ["--runs", str(folder / "runs"), "--run", f"run{number}"],
        "client": ["--data", str(folder / "data"), "--state", str(folder / "state")],
    }
    server_log, client_log = (folder / f"{role}{number}.log" for role in places)
    with ChildProcess([*server, *places["server"]], server_log):
        _wait(lambda: answers(address), server_log)
        # The server's own start, its app included, is over when it waits for sites.
        _wait(lambda: "listening on" in server_log.read_text(), server_log)
        started = time.perf_counter()
        with ChildProcess([*client, *places["client"]], client_log):
            _wait(lambda: "joined run" in client_log.read_text(), client_log)
            return time.perf_counter() - started


def _wait(condition: object, log: Path) -> None:
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE:.0f} s in vain:\n{log.read_text()}")
        time.sleep(0.02)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="starts of each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
