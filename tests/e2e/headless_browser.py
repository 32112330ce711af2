"""Chromium without a window, spoken to over its DevTools pipe: what a page asks for and says."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Events that tell of a fault: words on the console, uncaught errors, the browser's own log, and
#: what it lists under "issues" (requests that a policy stopped, odd documents).
_COMPLAINTS = (
    "Runtime.consoleAPICalled",
    "Runtime.exceptionThrown",
    "Log.entryAdded",
    "Audits.issueAdded",
)


def find_browser() -> str | None:
    """Path of a Chromium, if one is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Browser:
    """One browser with one tab; use it in a `with` block."""

    executable: str
    profile: Path
    complaints: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        reads, self._to_browser = os.pipe()
        self._from_browser, writes = os.pipe()
        # Chromium expects its end of the pipes as 3 and 4.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (reads, writes)]
        self._process = subprocess.Popen(
            [
                *(self.executable, "--headless=new", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--remote-debugging-pipe", f"--user-data-dir={self.profile}"),
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(3, 4),
            preexec_fn=lambda: [os.dup2(end, 3 + i) for i, end in enumerate(high)],
        )
        for end in (reads, writes, *high):
            os.close(end)
        self._buffer = b""
        self._last_id = 0
        self._session: str | None = None
        self._events: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for end in (self._to_browser, self._from_browser):
            os.close(end)

    def open(self, address: str) -> None:
        """Load a page, wait until it and all that it asks for are there, and until it is calm."""
        self.complaints.clear()
        self.requests.clear()
        self._events.clear()
        self.call("Page.navigate", url=address)
        self._read_until(lambda: "Page.loadEventFired" in self._events, 30)
        calm = time.monotonic() + 0.5
        while (left := calm - time.monotonic()) > 0:
            self._read(left)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def size(self, width: int, height: int) -> None:
        """Give the window a size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def emulate(self, media: str, scheme: str = "light") -> None:
        """Show the page as on "screen" or in "print", on a light or a dark desktop."""
        self.call(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def pdf(self) -> bytes:
        """Print the page as its style sheet has it."""
        result = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return base64.b64decode(result["data"])

    def screenshot(self) -> bytes:
        """PNG of what the window shows."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a DevTools method and wait for its result."""
        self._last_id += 1
        number = self._last_id
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        answers: dict[int, dict[str, Any]] = {}
        self._answers = answers
        self._read_until(lambda: number in answers, 60)
        assert "error" not in answers[number], (method, answers[number]["error"])
        result: dict[str, Any] = answers[number]["result"]
        return result

    def _read_until(self, done: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, "the browser does not answer"
            self._read(0.5)

    def _read(self, seconds: float) -> None:
        """Take in what the browser says within `seconds`."""
        if not select.select([self._from_browser], [], [], seconds)[0]:
            return
        data = os.read(self._from_browser, 1 << 20)
        assert data, "the browser has ended"
        *messages, self._buffer = (self._buffer + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
                continue
            self._events.append(message["method"])
            if message["method"] in _COMPLAINTS:
                self.complaints.append(message)
            elif message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
