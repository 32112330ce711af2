"""Whole federations in one process: the real round loop, strategies and sites, without Flower.

A simulation leaves the same run folder as a federation of the same settings, data and number of
threads, down to the last bit of every model; only times and the log of Flower are missing. The
sites' own state is in ``sites/`` of the run folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedpsyau_client.local_training.site import Site
from fedpsyau_client.own_priors.priors_file import PRIORS_NAME, read_priors_file
from fedpsyau_client.settings import ClientSettings
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_experiments.in_process_link import InProcessLink, TrainingProgress
from fedpsyau_experiments.pooled import PooledLink
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.devices import require_device
from fedpsyau_model.errors import DataNotFoundError, SettingsError
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
    priors_folder: Path | None = None,
    progress: TrainingProgress | None = None,
) -> RunFolder:
    """Run a federation of ``[server] sites`` from its first round to its last.

    data_folder: holds a feature store for every site, under its name.
    run_folder: made here; RunFolderError if it exists already.
    threads: CPU threads of the network, as a client's ``--threads``; sums, and so bits, depend on
        it.
    priors_folder: holds SITE/priors.json for the sites that use priors of their own, which the
        setting ``network.priors = "site"`` lets them. The run keeps copies among the sites' files.
    progress: called after every site's training.

    Raises what opening the sites raises (see `Site.open`), SettingsError for an unknown device,
    JoinRefusedError, or QuorumError. SettingsError or DataNotFoundError for priors that no site
    would use.
    """
    require_device(device)  # what is wrong now must not leave a run folder behind
    for site in settings.server.sites:
        open_feature_store(data_folder / site, verify=False)
    own = {} if priors_folder is None else _own_priors(priors_folder, settings)
    folder = create_run(settings, run_folder)
    for site, content in own.items():
        file = _own_priors_file(folder.path, site)
        file.parent.mkdir(parents=True, mode=0o700)
        write_atomically(file, content)
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


def _own_priors(priors_folder: Path, settings: FederationSettings) -> dict[str, bytes]:
    """Content of the sites' own priors files, checked, by site."""
    if settings.network.priors != "site":
        raise SettingsError(
            f'--priors gives sites priors of their own, but network.priors is "'
            f'{settings.network.priors}": set it to "site", or leave the option out.'
        )
    files = {site: priors_folder / site / PRIORS_NAME for site in settings.server.sites}
    found = {site: file for site, file in files.items() if file.is_file()}
    if not found:
        raise DataNotFoundError(
            f"{priors_folder} has priors of none of the sites: there is no "
            f"{next(iter(files.values()))}, nor one of another site. `fedpsyau priors build --out "
            f"{priors_folder / 'SITE'}` makes one."
        )
    for file in found.values():
        read_priors_file(file)
    return {site: file.read_bytes() for site, file in found.items()}


def _own_priors_file(run_folder: Path, site: str) -> Path:
    """Where a run keeps a site's own priors, so that a resumed run has them, too."""
    return run_folder / SITES_FOLDER / site / PRIORS_NAME


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
    own_priors = _own_priors_file(run_folder, site)
    values = {
        "partition": site,
        "data": data_folder,
        "state": run_folder / SITES_FOLDER,
        "device": device,
        "threads": threads,
        "priors": own_priors if own_priors.exists() else None,
    }
    return load_settings(ClientSettings, flags=values, environment={})


def _log_joined(folder: RunFolder, link: SiteLink, synthetic: Mapping[str, bool]) -> None:
    """Say who takes part, as a federation does; the report reads it."""
    for site, made_up in synthetic.items():
        folder.log_event("joined", site=site, clips=link.enrolled_clips(site), synthetic=made_up)
