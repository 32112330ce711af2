"""A site's part in a federation, from opening its data to the server's farewell."""

from __future__ import annotations

import logging
import math
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fedpsyau_client.connection.front_door import require_transport
from fedpsyau_client.connection.site_kit import SiteKit
from fedpsyau_client.connection.supernode import LEASE_SECONDS, SuperNode
from fedpsyau_client.local_training.site_belongings import SiteBelongings, opened_belongings
from fedpsyau_client.oversight.audit_log import AuditLog
from fedpsyau_client.oversight.policy import Policy, read_policy
from fedpsyau_client.settings import ClientSettings
from fedpsyau_model.addresses import answers, require_protected, split_address
from fedpsyau_model.errors import (
    BundleRefusedError,
    FedPsyAUError,
    KeyInUseError,
    KeyRefusedError,
    ServerUnreachableError,
    TransportMismatchError,
)
from fedpsyau_model.exchange import Dismissal
from fedpsyau_model.proxies import connect_directly
from fedpsyau_model.settings import FederationSettings

if TYPE_CHECKING:
    from fedpsyau_client.app import SiteApp

log = logging.getLogger(__name__)

#: Seconds between two questions for a task: the first after an answer, growing to the last.
FIRST_TASK_POLL = 0.1
LAST_TASK_POLL = 0.5

#: Seconds between two tries to reach a silent server: the first, growing to the last.
CONNECT_POLL = 1.0
LAST_CONNECT_POLL = 15.0

#: Seconds between two looks at whether the server is still there, while there is nothing to do.
WATCH_SECONDS = 20.0

#: Seconds between two lines of the log while a server stays away.
REMINDER_SECONDS = 600.0

#: How long a handshake may fail before the server passes for another one; longer once it has been
#: the right one. A server that is busy, starting or behind a broken line breaks them off, too.
HANDSHAKE_PATIENCE = 10.0
HANDSHAKE_PATIENCE_LATER = 300.0

#: How long a key may be unknown to a server that answers.
KEY_PATIENCE = 8.0

#: How long the answer to a dismissal is given to travel before the connection is closed.
_FAREWELL_SECONDS = 2.0


class DismissedError(FedPsyAUError):
    """The server has ended this site's part; the exit code is the one that the server named."""

    def __init__(self, dismissal: Dismissal) -> None:
        super().__init__(dismissal.reason)
        self.exit_code = dismissal.exit_code  # type: ignore[misc]


def protection(settings: ClientSettings, kit: SiteKit | None) -> str:
    """Say how the connection is protected; see `require_protected` for what it refuses."""
    return require_protected(
        settings.superlink, "--superlink", tls=kit is not None, insecure=settings.insecure
    )


def policy_in_force(settings: ClientSettings, kit: SiteKit | None) -> tuple[Policy, Path | None]:
    """Read the site's policy; returns it with its file, or one that allows everything and None.

    Raises SettingsError for a file that is missing or wrong.
    """
    file = settings.policy or (kit.policy if kit else None)
    return (read_policy(file) if file else Policy()), file


def take_part(
    settings: ClientSettings, agreed: FederationSettings | None, kit: SiteKit | None = None
) -> str:
    """Train with the others until the server ends it; returns the sentence to end with.

    agreed: settings that this site insists on, or None to take what the server proposes.
    kit: the opened kit, or None to speak plaintext.

    Raises whatever is wrong with policy, data or audit log before anything is sent,
    ServerUnreachableError if nobody answers, DismissedError if the server refuses this site,
    PolicyRefusedError or BundleRefusedError if this site refuses the server, and, before the
    site's first word, whatever `front_door` and `key_probe` find out about server, key and clock.
    """
    protection(settings, kit)
    # The front door is looked at directly, so what is found there holds for direct connections.
    connect_directly([split_address(settings.superlink)[0]])
    policy, policy_file = policy_in_force(settings, kit)
    log.info("policy: %s", policy_file or "none, so whatever the server proposes is taken")
    with opened_belongings(settings) as own, AuditLog(own.state.audit_folder) as audit:
        audit.note("policy", policy.as_dict() if policy_file else {"values": "none"})
        _wait_for_server(settings, kit, known=False)
        log_file = own.state.log_file
        with SuperNode(settings.partition, settings.superlink, log_file, kit) as supernode:
            return _take_part(own, agreed, policy, audit, supernode, kit)


def _take_part(
    own: SiteBelongings,
    agreed: FederationSettings | None,
    policy: Policy,
    audit: AuditLog,
    supernode: SuperNode,
    kit: SiteKit | None,
) -> str:
    """Answer the server until it ends this site's part; returns the sentence to end with."""
    # Not before: loading torch takes seconds, in which the SuperNode starts as well.
    from fedpsyau_client.app import SiteApp
    from fedpsyau_client.local_training.site import Site

    site = Site(own, agreed)
    app = SiteApp(site, policy, audit)
    log.info("waiting for the server's greeting at %s", own.settings.superlink)
    try:
        dismissal = _answer_until_dismissed(app, supernode, own.settings, kit)
    except ServerUnreachableError:
        if app.refusal:  # it is this site that did not want to
            raise app.refusal from None
        raise
    time.sleep(_FAREWELL_SECONDS)
    if dismissal.exit_code != 0:
        raise app.refusal or DismissedError(dismissal)
    site.leave_run()
    return f"{dismissal.reason} This site's model is {site.state.personal_model}"


def _answer_until_dismissed(
    app: SiteApp, supernode: SuperNode, settings: ClientSettings, kit: SiteKit | None
) -> Dismissal:
    pause = FIRST_TASK_POLL
    known = False
    watch = _ServerWatch(settings.superlink)
    wanted = time.monotonic()
    while app.dismissal is None:
        if not isinstance(app.refusal, BundleRefusedError):
            wanted = time.monotonic()
        elif time.monotonic() - wanted > settings.connect_seconds:
            raise app.refusal  # and no run without code has come
        if supernode.keep_alive():
            _wait_for_server(settings, kit, known)
            _require_place(supernode, settings)
        if supernode.tasks.answer_next(app.answer):
            supernode.has_worked()
            pause = FIRST_TASK_POLL
            known = True
        else:
            watch.look()
            time.sleep(pause)
            pause = min(pause * 1.2, LAST_TASK_POLL)
    return app.dismissal


class _ServerWatch:
    """Says in the log when the server goes and when it is back, which Flower keeps to itself."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._there = True
        self._next_look = time.monotonic() + WATCH_SECONDS

    def look(self) -> None:
        """Look whether the server answers, now and then."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + WATCH_SECONDS
        there = answers(self._address)
        if there != self._there:
            self._there = there
            log.info(
                "the server at %s %s",
                self._address,
                "answers again" if there else "does not answer; waiting until it is back",
            )


def _require_place(supernode: SuperNode, settings: ClientSettings) -> None:
    """Raise KeyInUseError once a connection of this site's own that broke must have lapsed."""
    if supernode.refused_seconds > LEASE_SECONDS:
        raise KeyInUseError(
            f"The server at {settings.superlink} has not let this site in for "
            f"{supernode.refused_seconds:.0f} s, because a client with the same key is connected. "
            "Stop the other one, on this machine or wherever the kit was copied to. If this site "
            "runs no other, the key has leaked: tell the coordinator, who rotates it."
        )


def key_refusal(address: str, partition: str) -> KeyRefusedError:
    """Make the error for a key that the server does not know."""
    return KeyRefusedError(
        f"The server at {address} does not know the key of this kit ({partition}): it was revoked "
        "or replaced, or the kit is another server's. Ask the coordinator for this site's current "
        "kit."
    )


def _wait_for_server(settings: ClientSettings, kit: SiteKit | None, known: bool) -> None:
    """Wait until the right server answers and, with a kit, knows this site's key.

    known: this server has spoken to this site before. Then its address is right and it is worth
    waiting for, however long it is away; a server that never was there is not.
    """
    started = time.monotonic()
    patience = math.inf if known else settings.connect_seconds
    for_handshake = HANDSHAKE_PATIENCE_LATER if known else HANDSHAKE_PATIENCE
    first_mismatch = math.inf
    next_word = 0.0
    pause = CONNECT_POLL
    while True:
        try:
            if _lets_us_in(settings, kit, started + patience):
                return
            first_mismatch = math.inf
        except TransportMismatchError:
            first_mismatch = min(first_mismatch, time.monotonic())
            if time.monotonic() - first_mismatch >= min(for_handshake, patience):
                raise
        away = time.monotonic() - started
        if away >= patience:
            raise ServerUnreachableError(
                f"No server answers at {settings.superlink} (tried for "
                f"{settings.connect_seconds:.0f} s). Check that fedpsyau-server runs there, that "
                "the address is the one it listens on, and that no firewall is in between."
            )
        if away >= next_word:
            _tell_of_absence(settings.superlink, away, patience)
            next_word = away + REMINDER_SECONDS
        time.sleep(min(pause * random.uniform(0.5, 1.0), max(patience - away, 0.0)))
        pause = min(pause * 1.3, LAST_CONNECT_POLL)


def _tell_of_absence(address: str, away: float, patience: float) -> None:
    how_long = "until it is back" if math.isinf(patience) else f"for {patience:.0f} s"
    if away < REMINDER_SECONDS:
        log.info("no server at %s yet, trying %s", address, how_long)
    else:
        log.info("still no server at %s after %.0f min, trying %s", address, away / 60, how_long)


def _lets_us_in(settings: ClientSettings, kit: SiteKit | None, deadline: float) -> bool:
    address = settings.superlink
    if not answers(address):
        return False
    try:
        require_transport(address, kit)
    except OSError:
        return False
    if kit is None:
        return True
    from fedpsyau_client.connection.key_probe import key_is_known  # loads Flower, which takes time

    # A server that has just started registers its keys a moment after it has opened its port.
    patience = min(deadline, time.monotonic() + KEY_PATIENCE)
    while (known := key_is_known(address, kit)) is False and time.monotonic() < patience:
        time.sleep(CONNECT_POLL)
    if known is False:
        raise key_refusal(address, settings.partition)
    return known is True
