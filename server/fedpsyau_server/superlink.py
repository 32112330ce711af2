"""Flower's SuperLink and its one run, supervised: start, watch, stop.

The SuperLink and everything it starts live in a private Flower home and end with this process.
Only the Fleet port is for sites; the control interface stays on loopback.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
from flwr.proto.control_pb2 import ListRunsRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from fedpsyau_model.addresses import split_address
from fedpsyau_model.child_process import ChildProcess, flower_environment, free_port, script
from fedpsyau_model.errors import AddressInUseError, FlowerRuntimeError
from fedpsyau_model.private_folder import PrivateFolder
from fedpsyau_model.process_tree import kill_those_with
from fedpsyau_server.kits.server_kit import ServerKit
from fedpsyau_server.reply_sizes import LARGEST_REPLY_VARIABLE, largest_reply
from fedpsyau_server.run_folder import LAUNCHER_VARIABLE, RUN_FOLDER_VARIABLE

log = logging.getLogger(__name__)

#: Name under which the private Flower home knows our SuperLink.
_CONNECTION = "local"
_START_SECONDS = 60.0

#: How long the port of a server that was killed is waited for.
PORT_PATIENCE = 15.0
_PORT_POLL = 0.2


@dataclass(frozen=True)
class SuperLink:
    """A running SuperLink."""

    process: ChildProcess
    environment: dict[str, str]
    home: Path
    control: str
    """HOST:PORT of the control interface, on loopback."""
    authority: bytes | None
    """The certificate that it has to be trusted by; None without TLS."""

    def submit(self) -> int:
        """Start the run of the code-free bundle; returns Flower's number of the run."""
        bundle = self.home / "bundle"
        with resources.as_file(resources.files("fedpsyau_server") / "bundle") as source:
            shutil.copytree(source, bundle)
        answer = self._flwr("run", str(bundle), _CONNECTION)
        try:
            return int(answer["run-id"])
        except (KeyError, ValueError):
            raise FlowerRuntimeError(
                f"Flower did not start the run: {answer.get('error-message', answer)}. "
                f"Its log is {self.process.log_file}."
            ) from None

    def status(self, run_id: int) -> str:
        """Flower's status of a run, like ``running`` or ``finished:completed``.

        Asked from here: `flwr list` is a process that takes a second of a processor to start.
        """
        client = ControlHttpClient.from_server_address(
            server_address=self.control,
            insecure=self.authority is None,
            root_certificates=self.authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fedpsyau-server")],
        )
        try:
            status = client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id].status
        except httpx.HTTPError as error:
            log.debug("Flower does not say how the run is: %s", error)
            return "unknown"
        finally:
            client.close()
        return ":".join(filter(None, (status.status, status.sub_status))) or "unknown"

    def _flwr(self, *arguments: str) -> dict[str, Any]:
        finished = subprocess.run(
            [script("flwr"), *arguments, "--format", "json"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        # The exit code is not to be trusted; the answer is.
        try:
            answer = json.loads(finished.stdout)
        except json.JSONDecodeError:
            raise FlowerRuntimeError(
                f"`flwr {arguments[0]}` gave no JSON: {finished.stderr.strip()[-500:]}"
            ) from None
        return answer if isinstance(answer, dict) else {}


@contextmanager
def superlink(
    listen: str, run_folder: Path, model_bytes: int, kit: ServerKit | None = None
) -> Iterator[SuperLink]:
    """Run a SuperLink whose Fleet port is `listen` (HOST:PORT); it ends with the block.

    model_bytes: size of a packed model of the run; replies much larger are not taken.
    kit: turns on TLS and the sites' keys on all its interfaces; without one they speak plaintext,
    which callers allow on loopback only, unless the user insists.

    Raises AddressInUseError if the port is taken, FlowerRuntimeError if it does not start.
    """
    require_free(listen, PORT_PATIENCE)
    with PrivateFolder("fedpsyau-server-") as folder:
        home = folder.path
        control = f"127.0.0.1:{free_port()}"
        environment = flower_environment(home) | {
            RUN_FOLDER_VARIABLE: str(run_folder.resolve()),
            LAUNCHER_VARIABLE: str(os.getpid()),
            LARGEST_REPLY_VARIABLE: str(largest_reply(model_bytes)),
        }
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{_CONNECTION}"\n\n'
            f'[superlink.{_CONNECTION}]\naddress = "{control}"\n'
            + (f"root-certificates = {_toml(kit.authority)}\n" if kit else "insecure = true\n")
        )
        command = [
            *(sys.executable, "-P", "-m", "fedpsyau_server.guarded_superlink"),
            *_transport_flags(kit),
            *("--host", "127.0.0.1", "--port", control.rpartition(":")[2]),
            *("--fleet-api-address", listen),
            "--disable-runtime-dependency-installation",
        ]
        try:
            with ChildProcess(command, run_folder / "superlink.log", environment) as process:
                _wait_until_healthy(process, control, kit)
                authority = kit.authority.read_bytes() if kit else None
                yield SuperLink(process, environment, home, control, authority)
        finally:
            kill_those_with("FLWR_HOME", str(home))  # a SuperLink that died left its helpers behind


def require_free(listen: str, patience: float = 0.0) -> None:
    """Raise AddressInUseError if something listens on HOST:PORT and still does so in `patience`."""
    deadline = time.monotonic() + patience
    while True:
        try:
            _bind_once(listen)
        except AddressInUseError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_PORT_POLL)
        else:
            return


def _bind_once(listen: str) -> None:
    host, port = split_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressInUseError(
                f"The server cannot listen on {listen}: {error.strerror}. Another server may be "
                "running there; stop it, or choose another address with --listen and tell the "
                "sites."
            ) from None


def _transport_flags(kit: ServerKit | None) -> list[str]:
    """Flags of the Fleet port's protection."""
    if kit is None:
        return ["--insecure"]
    return [
        *("--ssl-ca-certfile", str(kit.authority.resolve())),
        *("--ssl-certfile", str(kit.certificate.resolve())),
        *("--ssl-keyfile", str(kit.key.resolve())),
        "--enable-supernode-auth",
    ]


def _toml(path: Path) -> str:
    """A path as a TOML string; JSON's escapes are TOML's."""
    return json.dumps(str(path.resolve()))


def _wait_until_healthy(process: ChildProcess, control: str, kit: ServerKit | None) -> None:
    scheme = "https" if kit else "http"
    trust = ssl.create_default_context(cafile=kit.authority) if kit else False
    deadline = time.monotonic() + _START_SECONDS
    with httpx.Client(verify=trust, timeout=2, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.return_code is not None:
                break
            try:
                if client.get(f"{scheme}://{control}/health").is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
    raise FlowerRuntimeError(
        f"Flower's SuperLink did not start (exit code {process.return_code}). The end of its log "
        f"{process.log_file}:\n{process.last_lines()}"
    )
