"""Serving one run: make or reopen its folder, start Flower, follow the run to its end."""

from __future__ import annotations

import datetime
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedpsyau_model import __version__
from fedpsyau_model.addresses import is_loopback, require_protected
from fedpsyau_model.errors import (
    FedPsyAUError,
    FlowerRuntimeError,
    KitError,
    RunFolderError,
    SettingsError,
)
from fedpsyau_model.exchange import SCHEMA_VERSION, disagreement
from fedpsyau_model.settings import FederationSettings, ServerSettings, changed_settings
from fedpsyau_server.event_lines import tell
from fedpsyau_server.event_tail import EventTail
from fedpsyau_server.kits.key_registry import KeyRegistry
from fedpsyau_server.kits.server_kit import ServerKit, open_server_kit
from fedpsyau_server.kits.site_list import SiteList
from fedpsyau_server.run_folder import RunConfig, RunFolder
from fedpsyau_server.superlink import SuperLink, require_free, superlink
from fedpsyau_server.watching.endpoint import require_address, watched
from fedpsyau_server.watching.run_watch import RunWatch

log = logging.getLogger(__name__)

#: Seconds between two looks at the run's events, and between two (costly) questions to Flower.
EVENT_POLL = 0.3
STATUS_POLL = 30.0

#: How long the process that runs the rounds may take to start.
START_SECONDS = 120.0

#: Seconds before the first, second, ... restart in a row of processes that have died.
RESTART_PAUSES = (0.5, 2.0, 5.0, 15.0)

#: How long a server that was killed is given to leave the folder.
PREDECESSOR_SECONDS = 30.0

#: What may be changed when a run goes on. Anything else would make it another run.
CHANGEABLE = (
    *("server.kit", "server.listen", "server.insecure", "server.metrics-address"),
    *("server.restarts", "rounds.min-sites", "rounds.join-seconds", "rounds.round-seconds"),
    *("rounds.quorum-seconds", "rounds.keep-rounds"),
)


class RunFailedError(FedPsyAUError):
    """The run ended early; the exit code is that of its cause."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


def new_run(settings: FederationSettings, name: str | None) -> RunFolder:
    """Make the folder of a new run, with the model that all sites start from.

    name: the folder's name below ``[server] runs``; default from date and strategy.
    """
    if settings.strategy.name == "pooled":
        raise SettingsError(
            "strategy.name = 'pooled' trains on all sites' clips in one place, which is what a "
            "federation avoids. Run it with fedpsyau simulate, where all data is on one machine."
        )
    protection(settings.server)
    settings = _with_whole_kit(settings)
    require_free(settings.server.listen)
    require_address(settings.server.metrics_address)
    now = datetime.datetime.now(datetime.UTC)
    name = name or f"{now:%Y%m%d-%H%M%S}-{settings.strategy.name}"
    return create_run(settings, settings.server.runs / name)


def _with_whole_kit(settings: FederationSettings) -> FederationSettings:
    """Check the kit, if there is one, and name it so that it is found from any folder."""
    if settings.server.kit is None:
        return settings
    kit = open_server_kit(settings.server.kit)
    _require_keys(kit, settings.server.sites)
    server = settings.server.model_copy(update={"kit": kit.folder.resolve()})
    return settings.model_copy(update={"server": server})


def create_run(settings: FederationSettings, path: Path) -> RunFolder:
    """Make the folder `path` for a new run; RunFolderError if it exists already."""
    from fedpsyau_server.initial_model import initial_model, start_checkpoint

    start = start_checkpoint(settings)
    now = datetime.datetime.now(datetime.UTC)
    config = RunConfig(
        run_id=uuid.uuid4().hex,
        version=__version__,
        schema_version=SCHEMA_VERSION,
        agreement_hash=settings.agreement_hash(),
        started=now.isoformat(timespec="seconds"),
        sites=settings.server.sites,
        settings=settings.as_dict(),
        start_sha256="" if start is None else start.sha256,
    )
    return RunFolder.create(path, config, initial_model(settings, start))


def resumed_run(path: Path, flags: Mapping[str, Any] | None = None) -> RunFolder:
    """Open a run folder to go on with; RunFolderError if there is nothing left to do.

    flags: values by dotted key; None values are ignored. What is in `CHANGEABLE`, also from the
    environment, is kept in the folder; anything else would make it another run: SettingsError.
    """
    folder = RunFolder.open(path)
    settings = folder.config.federation_settings()
    if folder.state.round >= settings.rounds.rounds:
        folder.finish("completed")
        raise RunFolderError(f"The run {path} is complete after {folder.state.round} rounds.")
    difference = disagreement(
        {
            "version": __version__,
            "schema_version": SCHEMA_VERSION,
            "agreement_hash": settings.agreement_hash(),
        },
        folder.config.model_dump(),
        "this server",
        "the run",
    )
    if difference:
        raise RunFolderError(
            f"The run {path} cannot go on here: they differ in {difference}. Use the fedpsyau "
            "version that started it, and leave its config.json as it was written."
        )
    changed = changed_settings(settings, CHANGEABLE, flags or {})
    protection(changed.server)
    changed = _with_whole_kit(changed)
    if changed != settings:
        folder.change_settings(changed)
    return folder


def with_kit_sites(settings: FederationSettings) -> FederationSettings:
    """Where a kit is used and nobody named the sites, they are those that the kit has keys for."""
    server = settings.server
    if server.kit is None or "sites" in server.model_fields_set:
        return settings
    names = SiteList.read(ServerKit(server.kit).site_list).names
    return settings.model_copy(update={"server": server.model_copy(update={"sites": names})})


def protection(settings: ServerSettings) -> str:
    """Say how the server's port is protected; see `require_protected` for what it refuses."""
    return require_protected(
        settings.listen, "--listen", tls=settings.kit is not None, insecure=settings.insecure
    )


def _require_keys(kit: ServerKit, sites: Sequence[str]) -> None:
    missing = sorted(set(sites) - set(SiteList.read(kit.site_list).names))
    if missing:
        raise KitError(
            f"{kit.folder} has no key for {', '.join(missing)}, so they could never connect. Make "
            f"one with `fedpsyau-server provision --out {kit.folder} --add-site "
            f"{','.join(missing)}`, or leave them out of --sites."
        )


def serve_run(folder: RunFolder) -> None:
    """Run the federation of a run folder to its end, logging what happens.

    If Flower or the process that runs the rounds dies, both are started again and the run goes on
    from its last whole round, as often as ``[server] restarts`` says.

    Raises RunFailedError with the cause's message and exit code, AddressInUseError,
    MetricsAddressError, RunFolderError, RunFolderInUseError, or FlowerRuntimeError. Whatever
    happens, no process of ours is left.
    """
    server = folder.config.federation_settings().server
    protection(server)
    if server.metrics_address and not is_loopback(server.metrics_address):
        log.warning(
            "health and metrics are plain HTTP for everybody who reaches %s", server.metrics_address
        )
    kit = open_server_kit(server.kit) if server.kit else None
    log.info("run folder %s", folder.path)
    folder.require_space()
    try:
        with (
            folder.locked("server", PREDECESSOR_SECONDS),
            watched(server.metrics_address, RunWatch(folder)),
        ):
            _serve_to_the_end(folder, server, kit)
    except KeyboardInterrupt:
        _note_the_stop(folder.path)
        raise


def _serve_to_the_end(folder: RunFolder, server: ServerSettings, kit: ServerKit | None) -> None:
    in_a_row = 0
    while (death := _serve_once(folder, server, kit)) is not None:
        before = folder.state.round
        folder.reread()
        folder.require_space()  # the likeliest reason why a process cannot even say what it died of
        in_a_row = in_a_row + 1 if folder.state.round == before else 1
        if in_a_row > server.restarts:
            raise death
        pause = RESTART_PAUSES[min(in_a_row, len(RESTART_PAUSES)) - 1]
        log.error(
            "%s Going on after round %d.",
            str(death).splitlines()[0],
            folder.state.round,
            extra={"fields": {"event": "restart", "round": folder.state.round}},
        )
        time.sleep(pause)


def _serve_once(
    folder: RunFolder, server: ServerSettings, kit: ServerKit | None
) -> FlowerRuntimeError | None:
    """Start Flower and follow the run to its end, None; or until a process dies, what it died of.

    A start that fails counts as a death, too: what it needs is another one.
    """
    try:
        with ExitStack() as stack:
            link = stack.enter_context(
                superlink(server.listen, folder.path, folder.model_bytes, kit)
            )
            refresh_keys: Callable[[], None] = _nothing
            if kit:
                registry = KeyRegistry(link.control, kit, folder.log_event)
                refresh_keys = stack.enter_context(registry).refresh
                refresh_keys()
            events = EventTail(folder.path / "events.jsonl", past=False)
            death = _Deaths(link, folder.path)
            run_id = link.submit()
            log.info("listening on %s for %s", server.listen, ", ".join(folder.config.sites))
            last_lines = link.process.last_lines
            _follow(link.status, run_id, events, last_lines, refresh_keys, death)
    except FlowerRuntimeError as error:
        return error
    return None


def _note_the_stop(path: Path) -> None:
    """Write into the folder that the run was stopped, as far as it can be written."""
    try:
        folder = RunFolder.open(path)
        folder.finish("stopped")
    except RunFolderError as error:
        log.error("%s", error)
        return
    log.warning(
        "stopped after round %d; go on with: fedpsyau-server --resume %s", folder.state.round, path
    )


def _nothing() -> None:
    """Stand in for what is done at every look where there is nothing to do."""


def _follow(
    status: Callable[[int], str],
    run_id: int,
    events: EventTail,
    last_lines: Callable[[], str],
    at_every_look: Callable[[], None] = _nothing,
    death: Callable[[], str | None] = _nothing,
) -> None:
    """Tell what happens until the run has ended.

    death: says which process has died, None while all live. Raises FlowerRuntimeError if one has,
    RunFailedError if the run itself has failed.
    """
    next_question = time.monotonic() + STATUS_POLL
    while True:
        at_every_look()
        dead = death()
        if _tell_until_end(events):  # its last word may have been said before it died
            return
        if dead:
            raise FlowerRuntimeError(f"{dead}\nThe end of Flower's log:\n{last_lines()}")
        if time.monotonic() > next_question:
            next_question = time.monotonic() + STATUS_POLL
            now = status(run_id)
            if _tell_until_end(events):  # it may have ended while Flower was asked
                return
            if now.startswith("finished"):
                raise FlowerRuntimeError(
                    f"Flower ended the run ({now}) without a word from it.\n"
                    f"The end of Flower's log:\n{last_lines()}"
                )
        time.sleep(EVENT_POLL)


def _tell_until_end(events: EventTail) -> bool:
    """Log what is new; True if the run has come to its end.

    Raises RunFailedError if that is a bad one, FlowerRuntimeError if Flower was the cause.
    """
    for event in events.new():
        tell(event)
        if event["event"] == "failed":
            if event["exit_code"] == FlowerRuntimeError.exit_code:
                raise FlowerRuntimeError(event["message"])
            raise RunFailedError(event["message"], event["exit_code"])
        if event["event"] == "ended":
            return True
    return False


class _Deaths:
    """Notices that the SuperLink or the process of the rounds has died, or never came to life.

    Flower drops a process whose start takes too long (on a machine that is very busy), and then
    neither starts another nor says that the run has ended.
    """

    def __init__(self, link: SuperLink, folder: Path) -> None:
        self._process = link.process
        self._folder = folder
        self._events = EventTail(folder / "events.jsonl", past=False)
        self._started = False
        self._deadline = time.monotonic() + START_SECONDS

    def __call__(self) -> str | None:
        if self._process.return_code is not None:
            return f"Flower's SuperLink ended (code {self._process.return_code})."
        self._started |= any(event["event"] == "started" for event in self._events.new())
        if self._started and not RunFolder.is_locked(self._folder, "rounds"):
            return "The process that runs the rounds ended without a word."
        if not self._started and time.monotonic() > self._deadline:
            return f"The process that runs the rounds did not start in {START_SECONDS:.0f} s."
        return None
