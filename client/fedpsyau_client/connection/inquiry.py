"""Hearing what the server proposes, without taking part: its version, its settings, its run.

A server says these only to a client that has connected, in its greeting. The answer to it is that
this site does not take part yet; the server notes that and dismisses it.
"""

from __future__ import annotations

import time

from fedpsyau_client.app import SiteApp
from fedpsyau_client.connection.site_kit import SiteKit
from fedpsyau_client.connection.supernode import SuperNode
from fedpsyau_client.local_training.site_state import SiteState
from fedpsyau_client.oversight.audit_log import AuditLog
from fedpsyau_client.oversight.policy import Policy
from fedpsyau_client.settings import ClientSettings
from fedpsyau_model import __version__
from fedpsyau_model.errors import JoinRefusedError, ServerUnreachableError
from fedpsyau_model.exchange import (
    SCHEMA_VERSION,
    Hello,
    Introduction,
    TrainingOrder,
    TrainingReport,
    disagreement,
)

__all__ = ["heard_greeting"]

#: What the server hears in place of a site's introduction.
_ONLY_ASKING = "when to begin (this site only asks, with preflight --greet)"

#: Seconds between two looks for a message, and for the server to dismiss this site.
_POLL = 0.3
_FAREWELL = 15.0


class _OnlyAsking:
    """Stands where the site stands, has no data, and does not take part."""

    def __init__(self, partition: str, state: SiteState) -> None:
        self.partition = partition
        self.state = state
        self.hello: Hello | None = None
        self.difference = ""

    def introduce(self, hello: Hello, unwilling: str = "") -> Introduction:
        ours = {"version": __version__, "schema_version": SCHEMA_VERSION}
        ours["agreement_hash"] = hello.agreement_hash
        self.hello = hello
        self.difference = disagreement(ours, hello.model_dump(), self.partition, "server")
        return Introduction(
            partition=self.partition,
            instance=self.state.instance,
            version=__version__,
            schema_version=SCHEMA_VERSION,
            agreement_hash=hello.agreement_hash,
            train_clips=0,
            test_clips=0,
            synthetic=False,
            refusal=self.difference or unwilling or _ONLY_ASKING,
        )

    def require(self, order: TrainingOrder, model: bytes) -> None:
        raise JoinRefusedError("This site only asks, and trains nothing.")

    def train(self, order: TrainingOrder, model: bytes) -> tuple[TrainingReport, bytes]:
        raise JoinRefusedError("This site only asks, and trains nothing.")


def heard_greeting(settings: ClientSettings, kit: SiteKit | None, policy: Policy) -> Hello:
    """Connect, hear the server's greeting, decline, and leave. It goes on record as all else does.

    The proposal is kept for `fedpsyau-client policy init --proposed`.

    Raises JoinRefusedError for a server of another version, PolicyRefusedError for a proposal that
    the policy does not allow, BundleRefusedError for a bundle with code, NameTakenError if the
    site's client runs, ServerUnreachableError if no greeting comes in time.
    """
    folder = settings.state / settings.partition
    with SiteState(folder) as state, AuditLog(state.audit_folder) as audit:
        site = _OnlyAsking(settings.partition, state)
        app = SiteApp(site, policy, audit)
        with SuperNode(site.partition, settings.superlink, state.log_file, kit) as supernode:
            deadline = time.monotonic() + settings.connect_seconds
            while app.dismissal is None and app.refusal is None and time.monotonic() < deadline:
                if not supernode.tasks.answer_next(app.answer):
                    time.sleep(_POLL)
                elif site.hello is not None:
                    deadline = min(deadline, time.monotonic() + _FAREWELL)
    if app.refusal:
        raise app.refusal
    if site.hello is None:
        raise ServerUnreachableError(
            f"The server at {settings.superlink} has not greeted this site within "
            f"{settings.connect_seconds:.0f} s. Ask the coordinator whether a run is under way, "
            "and whether another client is connected with this site's key."
        )
    if site.difference:
        raise JoinRefusedError(f"Server and {site.partition} do not agree on {site.difference}.")
    return site.hello
