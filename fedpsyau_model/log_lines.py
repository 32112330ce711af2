"""Log lines for people, or JSON lines for whoever collects logs of many machines.

A JSON line has keys of a closed set, and nothing in it names a path: such lines leave the machine.
Lines for people stay on its terminal and may name one.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

__all__ = ["KEYS", "LogFormat", "hide_paths", "logs_as_json", "start_logging", "without_paths"]

LogFormat = Literal["text", "json"]

#: Environment variable that gives the format where there is no flag.
FORMAT_VARIABLE = "FEDPSYAU_LOG_FORMAT"

#: Keys that a JSON line may have, in the order in which they stand. The first four and the message
#: are in every line.
KEYS = (
    *("time", "level", "role", "event", "site", "round", "rounds", "sites", "needed", "answered"),
    *("expected", "clips", "bytes", "seconds", "exit_code", "error", "message"),
)

#: What stands in the place of a path.
_PATH = "<path>"

#: A word with a slash in it, up to a blank, quote, bracket or end of a sentence.
_LOOKS_LIKE_A_PATH = re.compile(r"[^\s'\"`(),;=<>]*/[^\s'\"`(),;<>]+")

_REST_OF_PATH = r"(?![\w-])[^\s'\"`(),;<>]*"

#: Slashes that are no paths: an address of the web, and a key's two parts.
_IS_NONE = re.compile(r"https?://[\w.:\[\]-]+(/healthz|/metrics)?|/healthz|/metrics")


def start_logging(role: str, log_format: LogFormat, name: str = "") -> None:
    """Let this process log to stderr.

    role: ``server`` or ``client``. name: what stands in text lines instead, and in every JSON line
    as the site; empty for a server.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonLines(role, name)
        if log_format == "json"
        else logging.Formatter(
            f"%(asctime)s {(name or role).replace('%', '%%')} %(message)s", datefmt="%H:%M:%S"
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("flwr", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def logs_as_json() -> bool:
    """Whether this process logs in JSON lines."""
    return _json_lines() is not None


def hide_paths(paths: Iterable[Path | None]) -> None:
    """Let JSON lines not name these paths either, which may hold blanks."""
    lines = _json_lines()
    if lines is not None:
        for path in paths:
            if path is not None:
                lines.hidden += sorted({str(path), str(path.resolve())}, key=len, reverse=True)


def without_paths(text: str, hidden: Iterable[str] = ()) -> str:
    """Put ``<path>`` in the place of `hidden` and of every word that looks like a path."""
    for path in hidden:
        if len(path) > 1:
            text = re.sub(re.escape(path) + _REST_OF_PATH, _blanked, text)
    return _LOOKS_LIKE_A_PATH.sub(_blanked, text)


def _blanked(found: re.Match[str]) -> str:
    word = found.group().rstrip(".:")
    if _IS_NONE.fullmatch(word):
        return found.group()
    return _PATH + found.group()[len(word) :]


def _json_lines() -> _JsonLines | None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _JsonLines):
            return handler.formatter
    return None


class _JsonLines(logging.Formatter):
    """One JSON object a line. Tracebacks stay out: they name files, and what was in them."""

    def __init__(self, role: str, site: str) -> None:
        super().__init__()
        self._always = {"role": role} | ({"site": site} if site else {})
        self.hidden: list[str] = []

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        values: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "note",
            **self._always,
            **getattr(record, "fields", {}),
            "message": without_paths(record.getMessage(), self.hidden),
        }
        if record.exc_info and record.exc_info[0]:
            values["error"] = record.exc_info[0].__name__
        return json.dumps({key: values[key] for key in KEYS if values.get(key) is not None})
