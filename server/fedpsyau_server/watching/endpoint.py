"""The page with health and metrics: two paths, GET only, a bounded number of readers."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from fedpsyau_model.addresses import split_address
from fedpsyau_model.errors import FedPsyAUError, MetricsAddressError
from fedpsyau_server.watching.paths import HEALTH_PATH, METRICS_PATH
from fedpsyau_server.watching.run_watch import RunWatch

__all__ = ["require_address", "watched"]

log = logging.getLogger(__name__)

#: Readers at one time; more are turned away at once.
READERS = 8

#: Seconds that a reader is given for its request and for taking the answer.
PATIENCE = 5.0


@contextmanager
def watched(address: str, watch: RunWatch) -> Iterator[None]:
    """Serve a run's health and metrics at HOST:PORT while the block runs; nowhere if empty.

    Raises MetricsAddressError if the address cannot be had.
    """
    if not address:
        yield
        return
    with _listening(address, watch) as server:
        thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
        thread.start()
        log.info("health and metrics on http://%s%s and %s", address, HEALTH_PATH, METRICS_PATH)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def require_address(address: str) -> None:
    """Raise MetricsAddressError if HOST:PORT cannot be had at this moment; empty is always well."""
    if address:
        with _listening(address, None):
            pass


def _listening(address: str, watch: RunWatch | None) -> _Server:
    try:
        return _Server(split_address(address), watch)
    except OSError as error:
        raise MetricsAddressError(
            f"Health and metrics cannot be served at {address}: {error.strerror or error}. Another "
            "server may be running on this machine; give this one another address with "
            '--metrics-address, or "" to do without.'
        ) from None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Nobody who still reads may hold up the end of the server.
    block_on_close = False

    def __init__(self, address: tuple[str, int], watch: RunWatch | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.watch = watch
        self._places = threading.BoundedSemaphore(READERS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that breaks off is no event of the run."""
        log.debug("a reader of health or metrics broke off", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE
    server_version = "fedpsyau"
    sys_version = ""

    def do_GET(self) -> None:
        watch = self.server.watch
        assert watch is not None  # without one nobody is served
        try:
            if self.path == HEALTH_PATH:
                verdict = watch.health()
                status = HTTPStatus.OK if verdict.well else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, "application/json", _json(verdict.as_dict()))
            elif self.path == METRICS_PATH:
                self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, watch.metrics())
            else:
                self.send_error(HTTPStatus.NOT_FOUND, f"there are {HEALTH_PATH}, {METRICS_PATH}")
        except (OSError, FedPsyAUError) as error:
            log.warning("health could not be told: %s", error)
            answer = {"status": "unreadable", "well": False}
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "application/json", _json(answer))

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no events of the run."""


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"
