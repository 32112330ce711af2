"""Serving one run: make or reopen its folder, start Flower, follow the run to its end."""

from __future__ import annotations

import datetime
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedpsyau_model import __version__
from fedpsyau_model.addresses import require_protected
from fedpsyau_model.errors import (
    FedPsyAUError,
    FlowerRuntimeError,
    KitError,
    RunFolderError,
    SettingsError,
)
from fedpsyau_model.exchange import SCHEMA_VERSION, disagreement
from fedpsyau_model.settings import FederationSettings, ServerSettings
from fedpsyau_server.event_tail import EventTail
from fedpsyau_server.kits.key_registry import KeyRegistry
from fedpsyau_server.kits.server_kit import ServerKit, open_server_kit
from fedpsyau_server.kits.site_list import SiteList
from fedpsyau_server.run_folder import RunConfig, RunFolder
from fedpsyau_server.superlink import require_free, superlink

log = logging.getLogger(__name__)

#: Seconds between two looks at the run's events, and between two (costly) questions to Flower.
EVENT_POLL = 0.3
STATUS_POLL = 30.0


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
    if settings.server.kit:
        kit = open_server_kit(settings.server.kit)
        _require_keys(kit, settings.server.sites)
        # A resumed run finds its kit from wherever it is started.
        server = settings.server.model_copy(update={"kit": kit.folder.resolve()})
        settings = settings.model_copy(update={"server": server})
    require_free(settings.server.listen)
    now = datetime.datetime.now(datetime.UTC)
    name = name or f"{now:%Y%m%d-%H%M%S}-{settings.strategy.name}"
    return create_run(settings, settings.server.runs / name)


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


def resumed_run(path: Path) -> RunFolder:
    """Open a run folder to go on with; RunFolderError if there is nothing left to do."""
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

    Raises RunFailedError with the cause's message and exit code, AddressInUseError, or
    FlowerRuntimeError. Whatever happens, no process of ours is left.
    """
    settings = folder.config.federation_settings().server
    protection(settings)
    kit = open_server_kit(settings.kit) if settings.kit else None
    log.info("run folder %s", folder.path)
    try:
        with ExitStack() as stack:
            link = stack.enter_context(
                superlink(settings.listen, folder.path, folder.model_bytes, kit)
            )
            refresh_keys: Callable[[], None] = _nothing
            if kit:
                registry = KeyRegistry(link.control, kit, folder.log_event)
                refresh_keys = stack.enter_context(registry).refresh
                refresh_keys()
            events = EventTail(folder.path / "events.jsonl", past=False)
            run_id = link.submit()
            log.info("listening on %s for %s", settings.listen, ", ".join(folder.config.sites))
            _follow(link.status, run_id, events, link.process.last_lines, refresh_keys)
    except KeyboardInterrupt:
        folder = RunFolder.open(folder.path)
        folder.finish("stopped")
        log.warning(
            "stopped after round %d; go on with: fedpsyau-server --resume %s",
            folder.state.round,
            folder.path,
        )
        raise


def _nothing() -> None:
    """Stand in for what is done at every look where there is nothing to do."""


def _follow(
    status: Callable[[int], str],
    run_id: int,
    events: EventTail,
    last_lines: Callable[[], str],
    at_every_look: Callable[[], None] = _nothing,
) -> None:
    next_question = time.monotonic() + STATUS_POLL
    while True:
        at_every_look()
        if _tell_until_end(events):
            return
        if time.monotonic() > next_question:
            next_question = time.monotonic() + STATUS_POLL
            now = status(run_id)
            if _tell_until_end(events):  # it may have ended while Flower was asked
                return
            if now.startswith("finished"):
                raise FlowerRuntimeError(
                    f"Flower ended the run ({now}) without a word from it. The end of its log:\n"
                    f"{last_lines()}"
                )
        time.sleep(EVENT_POLL)


def _tell_until_end(events: EventTail) -> bool:
    """Log what is new; True if the run has come to its end, RunFailedError if to a bad one."""
    for event in events.new():
        _tell(event)
        if event["event"] == "failed":
            raise RunFailedError(event["message"], event["exit_code"])
        if event["event"] == "ended":
            return True
    return False


def _tell(event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "joined":
        log.info("%s joined (%d training clips)", event["site"], event["clips"])
    elif kind == "refused":
        log.warning("refused: %s", event["reason"])
    elif kind == "key-void":
        log.warning("the key of %s is void: it can no longer take part with it", event["site"])
    elif kind == "key-added":
        log.info("%s may connect with its new key", event["site"])
    elif kind == "round-started":
        log.info("round %d with %d sites", event["round"], len(event["sites"]))
    elif kind == "lost":
        log.warning(
            "%s: %s; it gets its order again if it comes back", event["site"], event["reason"]
        )
    elif kind == "reply" and event["lost"]:
        log.warning("round %d goes on without %s", event["round"], event["site"])
    elif kind == "reply" and event["fault"]:
        log.warning("round %d: %s is not used: %s", event["round"], event["site"], event["fault"])
    elif kind == "reply":
        log.info(
            "round %d: %s answered (%d of %d)",
            event["round"],
            event["site"],
            event["answered"],
            event["expected"],
        )
    elif kind == "quarantined":
        log.warning("round %d: %s is not used: %s", event["round"], event["site"], event["reason"])
    elif kind == "round-done":
        log.info("round %d done in %.1f s", event["round"], event["seconds"])
