"""A site's part in a federation, from opening its data to the server's farewell."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from fedpsyau_client.app import SiteApp
from fedpsyau_client.connection.front_door import require_transport
from fedpsyau_client.connection.key_probe import key_is_known
from fedpsyau_client.connection.site_kit import SiteKit
from fedpsyau_client.connection.supernode import SuperNode
from fedpsyau_client.local_training.site import Site
from fedpsyau_client.oversight.audit_log import AuditLog
from fedpsyau_client.oversight.policy import Policy, read_policy
from fedpsyau_client.settings import ClientSettings
from fedpsyau_model.addresses import answers, require_protected
from fedpsyau_model.errors import (
    BundleRefusedError,
    FedPsyAUError,
    KeyInUseError,
    KeyRefusedError,
    ServerUnreachableError,
)
from fedpsyau_model.exchange import Dismissal
from fedpsyau_model.settings import FederationSettings

log = logging.getLogger(__name__)

#: Seconds between two questions for a task: the first after an answer, growing to the last.
FIRST_TASK_POLL = 0.1
LAST_TASK_POLL = 0.5

#: Seconds between two tries to reach a silent server.
CONNECT_POLL = 1.0

#: How long a key may be unknown to a server that answers.
KEY_PATIENCE = 8.0

#: How long the server keeps the place of a client that broke off (Flower: 72 s), and a little more.
LEASE_SECONDS = 80.0

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
    policy, policy_file = policy_in_force(settings, kit)
    log.info("policy: %s", policy_file or "none, so whatever the server proposes is taken")
    with Site.open(settings, agreed) as site, AuditLog(site.state.audit_folder) as audit:
        audit.note("policy", policy.as_dict() if policy_file else {"values": "none"})
        app = SiteApp(site, policy, audit)
        try:
            return _take_part(app, site, settings, kit)
        except (DismissedError, ServerUnreachableError):
            if app.refusal:  # it is this site that did not want to
                raise app.refusal from None
            raise


def _take_part(app: SiteApp, site: Site, settings: ClientSettings, kit: SiteKit | None) -> str:
    _wait_for_server(settings, kit)
    with SuperNode(site.partition, settings.superlink, site.state.log_file, kit) as supernode:
        log.info("waiting for the server's greeting at %s", settings.superlink)
        dismissal = _answer_until_dismissed(app, supernode, settings, kit)
        time.sleep(_FAREWELL_SECONDS)
    if dismissal.exit_code != 0:
        raise DismissedError(dismissal)
    return f"{dismissal.reason} This site's model is {site.state.personal_model}"


def _answer_until_dismissed(
    app: SiteApp, supernode: SuperNode, settings: ClientSettings, kit: SiteKit | None
) -> Dismissal:
    pause = FIRST_TASK_POLL
    wanted = time.monotonic()
    while app.dismissal is None:
        if not isinstance(app.refusal, BundleRefusedError):
            wanted = time.monotonic()
        elif time.monotonic() - wanted > settings.connect_seconds:
            raise app.refusal  # and no run without code has come
        if supernode.keep_alive():
            _wait_for_server(settings, kit)
            _require_place(supernode, settings)
        if supernode.tasks.answer_next(app.answer):
            pause = FIRST_TASK_POLL
        else:
            time.sleep(pause)
            pause = min(pause * 1.2, LAST_TASK_POLL)
    return app.dismissal


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


def _wait_for_server(settings: ClientSettings, kit: SiteKit | None) -> None:
    """Wait until the right server answers and, with a kit, knows this site's key."""
    deadline = time.monotonic() + settings.connect_seconds
    told = False
    while not _lets_us_in(settings, kit, deadline):
        if time.monotonic() >= deadline:
            raise ServerUnreachableError(
                f"No server answers at {settings.superlink} (tried for "
                f"{settings.connect_seconds:.0f} s). Check that fedpsyau-server runs there, that "
                "the address is the one it listens on, and that no firewall is in between."
            )
        if not told:
            log.info(
                "no server at %s yet, trying for %.0f s",
                settings.superlink,
                settings.connect_seconds,
            )
            told = True
        time.sleep(CONNECT_POLL)


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
    # A server that has just started registers its keys a moment after it has opened its port.
    patience = min(deadline, time.monotonic() + KEY_PATIENCE)
    while (known := key_is_known(address, kit)) is False and time.monotonic() < patience:
        time.sleep(CONNECT_POLL)
    if known is False:
        raise key_refusal(address, settings.partition)
    return known is True
