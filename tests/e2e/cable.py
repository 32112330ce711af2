"""A machine of its own for one process: a network namespace behind a cable that can be cut."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Cable:
    """A namespace whose only way out is a pair of interfaces.

    here, there: addresses of this machine and of the namespace on the cable.
    """

    name: str
    here: str
    there: str

    @property
    def command(self) -> tuple[str, ...]:
        """What goes before a command that is to run behind the cable."""
        return ("ip", "netns", "exec", self.name)

    def pull_out(self) -> None:
        """Take the link down: whoever sends there is told so."""
        _ip("-n", self.name, "link", "set", self._far, "down")

    def plug_in(self) -> None:
        """Undo `pull_out`."""
        _ip("-n", self.name, "link", "set", self._far, "up")

    def swallow(self) -> None:
        """Let every packet vanish without a word, as a firewall or a broken router does."""
        for chain, flag in (("INPUT", "-i"), ("OUTPUT", "-o")):
            _run(*self.command, "iptables", "-A", chain, flag, self._far, "-j", "DROP")

    def let_through(self) -> None:
        """Undo `swallow`."""
        _run(*self.command, "iptables", "-F")

    @property
    def _near(self) -> str:
        return f"{self.name}a"

    @property
    def _far(self) -> str:
        return f"{self.name}b"

    def _lay(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far)
        _ip("link", "set", self._far, "netns", self.name)
        _ip("addr", "add", f"{self.here}/30", "dev", self._near)
        _ip("link", "set", self._near, "up")
        _ip("-n", self.name, "addr", "add", f"{self.there}/30", "dev", self._far)
        _ip("-n", self.name, "link", "set", "lo", "up")
        self.plug_in()


@contextmanager
def cable() -> Iterator[Cable]:
    """Lay a cable; the test is skipped, with the reason, where that is not possible."""
    number = os.getpid()
    net = f"10.213.{number % 254}"
    laid = Cable(f"fpc{number % 100_000}", f"{net}.1", f"{net}.2")
    try:
        try:
            laid._lay()
            laid.swallow()
            laid.let_through()
        except (OSError, subprocess.CalledProcessError) as error:
            told = getattr(error, "stderr", "") or str(error)
            pytest.skip(f"no network namespace can be made here: {told.strip()}")
        yield laid
    finally:
        for command in (("link", "del", laid._near), ("netns", "del", laid.name)):
            subprocess.run(["ip", *command], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True)
