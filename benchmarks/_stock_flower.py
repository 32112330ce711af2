"""A stock app of the installed Flower: what somebody has who follows Flower's documentation.

FedAvg by `Strategy.start()` on the server, at every site a ClientApp that returns the arrays it
received. Default isolation (a new process for every message), TLS and SuperNode keys. Nothing of
fedpsyau runs in these processes; its kit lends the certificates and keys.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fedpsyau_model.addresses import answers
from fedpsyau_model.child_process import ChildProcess, free_port, script
from fedpsyau_server.kits.key_registry import KeyRegistry
from fedpsyau_server.kits.server_kit import ServerKit

__all__ = ["stock_rounds"]

_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "stock"
version = "1.0.0"
description = "Sends arrays back"
license = { file = "LICENSE" }
dependencies = ["flwr>=1.39,<1.40"]

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "nobody"
fab-format-version = 1
flwr-version-target = "1.39.0"
fab-include = ["stock/**/*.py", "LICENSE"]

[tool.flwr.app.components]
serverapp = "stock.server_app:app"
clientapp = "stock.client_app:app"

[tool.flwr.app.config]
rounds = 3
sites = 7
shapes = ""
times = ""
"""

_SERVER_APP = """\
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class TimedFedAvg(FedAvg):
    times = []

    def aggregate_train(self, server_round, replies):
        result = super().aggregate_train(server_round, replies)
        self.times.append(time.time())
        return result


@app.main()
def main(grid, context):
    config = context.run_config
    shapes = [[int(side) for side in each.split("x")] for each in config["shapes"].split(",")]
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(shape, dtype=np.float32) for shape in shapes]
    sites = config["sites"]
    strategy = TimedFedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    strategy.start(grid, ArrayRecord(arrays), num_rounds=config["rounds"])
    partial = Path(config["times"] + ".partial")
    partial.write_text("\\n".join(map(str, strategy.times)))
    partial.rename(config["times"])
"""

_CLIENT_APP = """\
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    arrays = message.content["arrays"]
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
"""

#: After this many seconds something is broken.
_PATIENCE = 600.0


def stock_rounds(
    folder: Path,
    kit: ServerKit,
    keys: Mapping[str, Path],
    shapes: Sequence[tuple[int, ...]],
    rounds: int,
) -> list[float]:
    """Seconds from the end of each round to the end of the next: one fewer than `rounds`.

    keys: each site's private key. shapes: of the float32 arrays that travel.
    """
    folder.mkdir()
    app = _write_app(folder)
    times = folder / "times"
    control, fleet = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    environment = _environment(folder / "home", control, kit)
    with ExitStack() as stack:
        link = stack.enter_context(
            ChildProcess(
                [
                    *(script("flower-superlink"), "--enable-supernode-auth"),
                    *("--ssl-ca-certfile", str(kit.authority)),
                    *("--ssl-certfile", str(kit.certificate)),
                    *("--ssl-keyfile", str(kit.key)),
                    *("--host", "127.0.0.1", "--port", control.rpartition(":")[2]),
                    *("--fleet-api-address", fleet),
                    "--disable-runtime-dependency-installation",
                ],
                folder / "superlink.log",
                environment,
            )
        )
        _wait(lambda: answers(control) and answers(fleet), link)
        registry = stack.enter_context(KeyRegistry(control, kit, lambda *_, **__: None))
        registry.refresh()
        for site, key in keys.items():
            stack.enter_context(
                ChildProcess(
                    [
                        *(script("flower-supernode"), "--superlink", fleet),
                        *("--root-certificates", str(kit.authority)),
                        *("--auth-supernode-private-key", str(key)),
                        *("--host", "127.0.0.1", "--port", str(free_port())),
                    ],
                    folder / f"{site}.log",
                    environment,
                )
            )
        config = {
            "rounds": rounds,
            "sites": len(keys),
            "shapes": ",".join("x".join(map(str, shape)) for shape in shapes),
            "times": str(times),
        }
        values = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        _flwr(environment, "run", str(app), "stock", "--run-config", values)
        _wait(times.exists, link)
    ends = [float(line) for line in times.read_text().splitlines()]
    return np.diff(ends).tolist()


def _write_app(folder: Path) -> Path:
    app = folder / "app"
    (app / "stock").mkdir(parents=True)
    (app / "pyproject.toml").write_text(_PROJECT)
    (app / "LICENSE").write_text("None.\n")
    (app / "stock" / "__init__.py").write_text("")
    (app / "stock" / "server_app.py").write_text(_SERVER_APP)
    (app / "stock" / "client_app.py").write_text(_CLIENT_APP)
    return app


def _environment(home: Path, control: str, kit: ServerKit) -> dict[str, str]:
    """Flower's own defaults, but a private home and no calls to the outside."""
    home.mkdir()
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "stock"\n\n[superlink.stock]\n'
        f'address = "{control}"\nroot-certificates = {json.dumps(str(kit.authority))}\n'
    )
    scripts = str(Path(sys.executable).parent)
    return os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
    }


def _flwr(environment: dict[str, str], *arguments: str) -> None:
    """Let Flower's command line do something; its exit code does not say whether it did."""
    finished = subprocess.run(
        [script("flwr"), *arguments, "--format", "json"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if '"success": true' not in finished.stdout:
        raise SystemExit(f"flwr {arguments[0]} failed:\n{finished.stdout}\n{finished.stderr}")


def _wait(condition: Callable[[], bool], link: ChildProcess) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if link.return_code is not None or time.monotonic() > deadline:
            raise SystemExit(f"the stock app did not finish:\n{link.last_lines(30)}")
        time.sleep(0.2)
