"""A site's part in a federation, from opening its data to the server's farewell."""

from __future__ import annotations

import logging
import time

from fedpsyau_client.app import SiteApp
from fedpsyau_client.settings import ClientSettings
from fedpsyau_client.site import Site
from fedpsyau_client.supernode import SuperNode
from fedpsyau_model.addresses import answers, require_protected
from fedpsyau_model.errors import FedPsyAUError, ServerUnreachableError
from fedpsyau_model.exchange import Dismissal
from fedpsyau_model.settings import FederationSettings

log = logging.getLogger(__name__)

#: Seconds between two questions for a task: the first after an answer, growing to the last.
FIRST_TASK_POLL = 0.1
LAST_TASK_POLL = 0.5

#: Seconds between two tries to reach a silent server.
CONNECT_POLL = 1.0

#: How long the answer to a dismissal is given to travel before the connection is closed.
_FAREWELL_SECONDS = 2.0


class DismissedError(FedPsyAUError):
    """The server has ended this site's part; the exit code is the one that the server named."""

    def __init__(self, dismissal: Dismissal) -> None:
        super().__init__(dismissal.reason)
        self.exit_code = dismissal.exit_code  # type: ignore[misc]


def take_part(settings: ClientSettings, agreed: FederationSettings | None) -> str:
    """Train with the others until the server ends it; returns the sentence to end with.

    agreed: settings that this site insists on, or None to take what the server proposes.

    Raises whatever is wrong with the data before anything is sent, ServerUnreachableError if
    nobody answers, and DismissedError if the server refuses this site.
    """
    require_protected(settings.superlink, "--superlink")
    with Site.open(settings, agreed) as site:
        app = SiteApp(site)
        _wait_for_server(settings)
        with SuperNode(site.partition, settings.superlink, site.state.log_file) as supernode:
            log.info("waiting for the server's greeting at %s", settings.superlink)
            dismissal = _answer_until_dismissed(app, supernode, settings)
            time.sleep(_FAREWELL_SECONDS)
        if dismissal.exit_code != 0:
            raise DismissedError(dismissal)
        return f"{dismissal.reason} This site's model is {site.state.personal_model}"


def _answer_until_dismissed(
    app: SiteApp, supernode: SuperNode, settings: ClientSettings
) -> Dismissal:
    pause = FIRST_TASK_POLL
    while app.dismissal is None:
        if supernode.keep_alive():
            _wait_for_server(settings)
        if supernode.tasks.answer_next(app.answer):
            pause = FIRST_TASK_POLL
        else:
            time.sleep(pause)
            pause = min(pause * 1.2, LAST_TASK_POLL)
    return app.dismissal


def _wait_for_server(settings: ClientSettings) -> None:
    deadline = time.monotonic() + settings.connect_seconds
    told = False
    while not answers(settings.superlink):
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
