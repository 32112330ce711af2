"""Everything that can be found out before a site takes part, one finding a line.

Nothing is changed, here or at the server, unless the server's greeting is to be heard: only there
does it say its fedpsyau version and what it proposes.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from fedpsyau_client.connection.front_door import require_transport
from fedpsyau_client.connection.inquiry import heard_greeting
from fedpsyau_client.connection.key_probe import key_is_known
from fedpsyau_client.connection.site_kit import SiteKit, opened_kit
from fedpsyau_client.connection.taking_part import key_refusal, policy_in_force, protection
from fedpsyau_client.local_training.site_state import audit_folder
from fedpsyau_client.oversight.audit_reading import verified
from fedpsyau_client.settings import ClientSettings
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_model import __version__
from fedpsyau_model.addresses import answers, split_address
from fedpsyau_model.certificates import read_certificate
from fedpsyau_model.devices import require_device
from fedpsyau_model.errors import (
    FedPsyAUError,
    OutputWriteError,
    ServerUnreachableError,
    SettingsError,
)
from fedpsyau_model.proxies import connect_directly
from fedpsyau_model.settings import load_settings

__all__ = ["Finding", "preflight"]

#: Free bytes below which a site cannot be expected to keep its models and logs.
_ROOM = 1 << 30


@dataclass(frozen=True)
class Finding:
    """What one check found. A check whose premise failed is not made: `ok` is None."""

    check: str
    ok: bool | None
    text: str
    exit_code: int = 0


def preflight(
    kit: Path | None, flags: Mapping[str, Any], *, greet: bool = False
) -> Iterator[Finding]:
    """Make all checks of a site, in the order in which a client would stumble.

    kit: folder or archive, or None for a client without one. flags: the client's settings by key.
    greet: whether to hear the server's greeting, too, which the server and the audit log note.
    """
    with ExitStack() as stack:
        site = _Site(kit, flags, stack)
        passed: set[str] = set()
        for name, premise, check in (
            ("python", "", _python),
            ("packages", "", _packages),
            ("kit", "", site.open_kit),
            ("settings", "kit", site.read_settings),
            ("policy", "settings", site.policy),
            ("device", "settings", site.device),
            ("data", "settings", site.data),
            ("state", "settings", site.state),
            ("audit log", "state", site.audit_log),
            ("protection", "settings", site.protection),
            ("server", "protection", site.server),
            ("handshake", "server", site.handshake),
            ("key and clock", "handshake", site.key),
            ("server version and proposal", "key and clock", site.greeting),
        ):
            if check == site.greeting and not greet:
                yield Finding(name, None, "not asked for; --greet hears the server's greeting")
                continue
            if premise and premise not in passed:
                yield Finding(name, None, f"not checked, because {premise} is not ok")
                continue
            try:
                yield Finding(name, True, check())
                passed.add(name)
            except FedPsyAUError as error:
                yield Finding(name, False, str(error), error.exit_code)


class _Site:
    """The checks that build on each other; each returns what is well, or raises."""

    def __init__(self, kit: Path | None, flags: Mapping[str, Any], stack: ExitStack) -> None:
        self._path = kit
        self._flags = flags
        self._stack = stack
        self._kit: SiteKit | None = None
        self._settings: ClientSettings

    def open_kit(self) -> str:
        if self._path is None:
            return "none: plaintext, on this machine only"
        self._kit = self._stack.enter_context(opened_kit(self._path))
        until = read_certificate(self._kit.authority).not_valid_after_utc
        return f"{self._path}, key readable by you alone, authority valid until {until:%Y-%m-%d}"

    def read_settings(self) -> str:
        file = self._kit.settings if self._kit else None
        self._settings = load_settings(ClientSettings, file, self._flags)
        connect_directly([split_address(self._settings.superlink)[0]])
        return f"site {self._settings.partition}, server {self._settings.superlink}"

    def policy(self) -> str:
        policy, file = policy_in_force(self._settings, self._kit)
        if file is None:
            return "none: whatever the server proposes is taken (`fedpsyau-client policy init`)"
        pinned = (policy.agreement_hash or "any")[:12]
        return (
            f"{file}: settings {pinned}, at least {policy.min_sites} sites, at most "
            f"{policy.max_rounds or 'any number of'} rounds, out may go "
            f"{', '.join(policy.metrics) or 'nothing'} beside the model and numbers of clips"
        )

    def device(self) -> str:
        require_device(self._settings.device)
        return self._settings.device

    def data(self) -> str:
        store = open_feature_store(self._settings.data / self._settings.partition)
        kind = "synthetic" if store.manifest.synthetic else "real"
        return f"{len(store.clips)} {kind} clips in {store.folder}, checksums right"

    def state(self) -> str:
        folder = (self._settings.state / self._settings.partition).absolute()
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise OutputWriteError(
                f"{folder} cannot be written: {there} may not be changed by this user. Give a "
                "folder of yours with --state."
            )
        free = shutil.disk_usage(there).free
        if free < _ROOM:
            raise OutputWriteError(
                f"Only {free / 2**20:.0f} MiB are free at {there}, and a site needs about "
                f"{_ROOM / 2**20:.0f} for its models and logs. Free some, or give another --state."
            )
        return f"{folder}, {free / 2**30:.1f} GiB free"

    def audit_log(self) -> str:
        folder = audit_folder(self._settings.state / self._settings.partition)
        return verified(folder) if folder.exists() else "none yet; it begins with the first start"

    def protection(self) -> str:
        return protection(self._settings, self._kit)

    def server(self) -> str:
        address = self._settings.superlink
        if not answers(address):
            raise ServerUnreachableError(
                f"No server answers at {address}. Check that fedpsyau-server runs there, that the "
                "address is the one it listens on, and that no firewall is in between."
            )
        return f"somebody answers at {address}"

    def handshake(self) -> str:
        address = self._settings.superlink
        try:
            require_transport(address, self._kit)
        except OSError as error:
            raise ServerUnreachableError(
                f"The connection to {address} broke ({error}). Try again; if it stays so, look for "
                "a firewall or proxy that ends connections."
            ) from None
        return "it is the kit's server" if self._kit else "it speaks plaintext, as this client does"

    def key(self) -> str:
        address = self._settings.superlink
        if self._kit is None:
            return "no key without a kit; any client can take any name"
        known = key_is_known(address, self._kit)
        if known is None:
            raise ServerUnreachableError(
                f"The server at {address} did not answer whether it knows this site's key. Try "
                "again; if it stays so, ask the coordinator whether it is a fedpsyau-server."
            )
        if not known:
            raise key_refusal(address, self._settings.partition)
        return "the server knows this site's key, and the clocks agree"

    def greeting(self) -> str:
        policy, file = policy_in_force(self._settings, self._kit)
        hello = heard_greeting(self._settings, self._kit, policy)
        return (
            f"fedpsyau {hello.version} there, too; settings {hello.agreement_hash[:12]}, "
            f"{hello.rounds} rounds, at least {hello.min_sites} sites"
            + (", as the policy allows" if file else "")
        )


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _packages() -> str:
    """Compare what is installed with what fedpsyau asks for."""
    wrong = []
    needed = [Requirement(line) for line in importlib.metadata.requires("fedpsyau") or ()]
    for requirement in needed:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement} is needed, and {version} is installed")
    if wrong:
        raise SettingsError(
            f"{'; '.join(wrong)}. Install again with the constraints that come with fedpsyau."
        )
    return f"fedpsyau {__version__}, flwr {importlib.metadata.version('flwr')}, as needed"
