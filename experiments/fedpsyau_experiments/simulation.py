"""Whole federations in one process: the real round loop, strategies and sites, without Flower.

A simulation leaves the same run folder as a federation of the same settings, data and number of
threads, down to the last bit of every model; only times and the log of Flower are missing. The
sites' own state is in ``sites/`` of the run folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedpsyau_client.local_training.site import Site, require_device
from fedpsyau_client.settings import ClientSettings
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_experiments.in_process_link import InProcessLink, TrainingProgress
from fedpsyau_experiments.pooled import PooledLink
from fedpsyau_model.exchange import hello
from fedpsyau_model.settings import FederationSettings, load_settings
from fedpsyau_server.rounds import SiteLink, run_rounds
from fedpsyau_server.run_folder import RunFolder
from fedpsyau_server.serving import create_run, resumed_run

__all__ = ["TrainingProgress", "resume_simulation", "simulate"]

#: Folder within the run folder where the sites keep what a client keeps under ``--state``.
SITES_FOLDER = "sites"


def simulate(
    settings: FederationSettings,
    data_folder: Path,
    run_folder: Path,
    *,
    threads: int = 1,
    device: str = "cpu",
    progress: TrainingProgress | None = None,
) -> RunFolder:
    """Run a federation of ``[server] sites`` from its first round to its last.

    data_folder: holds a feature store for every site, under its name.
    run_folder: made here; RunFolderError if it exists already.
    threads: CPU threads of the network, as a client's ``--threads``; sums, and so bits, depend on
        it.
    progress: called after every site's training.

    Raises what opening the sites raises (see `Site.open`), SettingsError for an unknown device,
    JoinRefusedError, or QuorumError.
    """
    for site in settings.server.sites:  # what is wrong now must not leave a run folder behind
        require_device(_client_settings(site, run_folder, data_folder, threads, device).device)
        open_feature_store(data_folder / site, verify=False)
    folder = create_run(settings, run_folder)
    return _run(folder, data_folder, threads, device, progress)


def resume_simulation(
    data_folder: Path,
    run_folder: Path,
    *,
    threads: int = 1,
    device: str = "cpu",
    progress: TrainingProgress | None = None,
) -> RunFolder:
    """Go on with a simulation from its last whole round; the end is that of an unbroken one.

    Raises RunFolderError if there is no run, or nothing of it is left to do.
    """
    return _run(resumed_run(run_folder), data_folder, threads, device, progress)


def _run(
    folder: RunFolder,
    data_folder: Path,
    threads: int,
    device: str,
    progress: TrainingProgress | None,
) -> RunFolder:
    settings = folder.config.federation_settings()
    try:
        if settings.strategy.name == "pooled":
            pooled = PooledLink(
                settings, data_folder, threads=threads, device=device, progress=progress
            )
            _log_joined(folder, pooled, pooled.synthetic)
            run_rounds(folder, pooled)
        else:
            with _open_sites(folder, data_folder, threads, device) as sites:
                link = InProcessLink(sites, hello(settings, folder.config.run_id), progress)
                _log_joined(folder, link, link.synthetic)
                run_rounds(folder, link)
    except KeyboardInterrupt:
        folder.finish("stopped")
        raise
    except Exception:
        folder.finish("failed")
        raise
    return folder


@contextmanager
def _open_sites(
    folder: RunFolder, data_folder: Path, threads: int, device: str
) -> Iterator[dict[str, Site]]:
    with ExitStack() as opened:
        yield {
            site: opened.enter_context(
                Site.open(_client_settings(site, folder.path, data_folder, threads, device))
            )
            for site in folder.config.sites
        }


def _client_settings(
    site: str, run_folder: Path, data_folder: Path, threads: int, device: str
) -> ClientSettings:
    """What a client would be started with. Raises SettingsError for an unknown device."""
    values = {
        "partition": site,
        "data": data_folder,
        "state": run_folder / SITES_FOLDER,
        "device": device,
        "threads": threads,
    }
    return load_settings(ClientSettings, flags=values, environment={})


def _log_joined(folder: RunFolder, link: SiteLink, synthetic: Mapping[str, bool]) -> None:
    """Say who takes part, as a federation does; the report reads it."""
    for site, made_up in synthetic.items():
        folder.log_event("joined", site=site, clips=link.enrolled_clips(site), synthetic=made_up)
