"""Making and changing what lets a federation trust each other: authority, certificates, kits."""

from __future__ import annotations

import functools
import io
import re
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import ParamSpec, TypeVar

from fedpsyau_model import site_kit
from fedpsyau_model.addresses import join_address
from fedpsyau_model.atomic_files import new_folder, write_atomically
from fedpsyau_model.certificates import read_certificate
from fedpsyau_model.errors import (
    KitError,
    OutputExistsError,
    OutputWriteError,
    SettingsError,
    UnknownPartitionError,
)
from fedpsyau_model.private_keys import (
    new_site_key,
    public_line,
    site_key_file,
    write_private,
)
from fedpsyau_model.settings import require_site_names
from fedpsyau_server.kits.authority import (
    certificate_pem,
    issue_server_certificate,
    key_pem,
    new_authority,
)
from fedpsyau_server.kits.server_kit import ServerKit, read_tls_key
from fedpsyau_server.kits.site_list import SiteList

__all__ = [
    "AUTHORITY_DAYS",
    "SERVER_DAYS",
    "Lifetimes",
    "add_sites",
    "provision",
    "renew_server",
    "revoke",
    "rotate",
]

#: Lifetimes in days: the authority outlives a study, the server's certificate is renewed yearly.
AUTHORITY_DAYS = 3650.0
SERVER_DAYS = 398.0


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lifetimes:
    """Days for which new certificates are valid."""

    authority: float = AUTHORITY_DAYS
    server: float = SERVER_DAYS


def _tells_if_unwritable(change: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function that writes to a folder raise OutputWriteError where it cannot."""

    @functools.wraps(change)
    def told(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        try:
            return change(*arguments, **named)
        except OSError as error:
            raise OutputWriteError(
                f"{error.filename or 'The folder'} cannot be written: {error.strerror}. Give a "
                "folder that you may write to, on a disk with room."
            ) from None

    return told


@_tells_if_unwritable
def provision(
    folder: Path,
    sites: Sequence[str],
    hosts: Sequence[str],
    port: int,
    lifetimes: Lifetimes | None = None,
) -> list[Path]:
    """Make a coordinator's folder with an archive for every site; returns the archives.

    hosts: names and addresses that the sites reach the server by; the first goes into the kits.

    Raises OutputExistsError if the folder is there, SettingsError for wrong names. Nothing is
    left half-made.
    """
    lifetimes = lifetimes or Lifetimes()
    require_site_names(sites)
    _require_hosts(hosts)
    if folder.exists():
        raise OutputExistsError(
            f"{folder} is there already. Its authority and keys are kept as they are: change it "
            "with --add-site, --rotate or --renew-server, or give another --out."
        )
    with new_folder(folder) as partial:
        partial.chmod(0o700)
        kit = ServerKit(partial)
        kit.archives.mkdir(mode=0o700)
        authority_key, authority = new_authority(lifetimes.authority)
        key, certificate = issue_server_certificate(
            authority_key, authority, hosts, lifetimes.server
        )
        kit.authority.write_bytes(certificate_pem(authority))
        write_private(kit.authority_key, key_pem(authority_key))
        kit.certificate.write_bytes(certificate_pem(certificate))
        write_private(kit.key, key_pem(key))
        SiteList(hosts=tuple(hosts), port=port).write(kit.site_list)
        archives = _give_keys(kit, sites)
    return [folder / archive.relative_to(partial) for archive in archives]


@_tells_if_unwritable
def add_sites(folder: Path, sites: Sequence[str]) -> list[Path]:
    """Make kits for further sites, under the authority that is there; returns the archives."""
    kit = ServerKit(folder)
    require_site_names(sites)
    taken = sorted(set(sites) & set(SiteList.read(kit.site_list).names))
    if taken:
        raise OutputExistsError(
            f"{', '.join(taken)} has a key already in {folder}. `--rotate {taken[0]}` replaces it."
        )
    return _give_keys(kit, sites)


@_tells_if_unwritable
def rotate(folder: Path, sites: Sequence[str]) -> list[Path]:
    """Give sites new keys; the old ones are void at once. Returns the archives."""
    kit = ServerKit(folder)
    known = SiteList.read(kit.site_list)
    for site in sites:
        if not known.known(site):
            raise UnknownPartitionError(
                f"{folder} knows no site {site!r}. Sites with a key: "
                f"{', '.join(known.names) or 'none'}. `--add-site` makes a first kit."
            )
    return _give_keys(kit, sites)


@_tells_if_unwritable
def renew_server(folder: Path, hosts: Sequence[str], days: float) -> None:
    """Issue a new server certificate; sites keep their kits unless the first host changes.

    hosts: names and addresses, or nothing to keep those of before.
    """
    kit = ServerKit(folder)
    listed = SiteList.read(kit.site_list)
    hosts = hosts or listed.hosts
    _require_hosts(hosts)
    if not kit.authority_key.exists():
        raise KitError(
            f"The authority's key {kit.authority_key} is not there. If it is kept elsewhere, put "
            "it back for the renewal."
        )
    key, certificate = issue_server_certificate(
        read_tls_key(kit.authority_key), read_certificate(kit.authority), hosts, days
    )
    _replace_private(kit.key, key_pem(key))
    write_atomically(kit.certificate, certificate_pem(certificate))
    listed.model_copy(update={"hosts": tuple(hosts)}).write(kit.site_list)


@_tells_if_unwritable
def revoke(folder: Path, site: str) -> None:
    """Make a site's key void. A server that runs with this folder sees it within a second."""
    kit = ServerKit(folder)
    SiteList.read(kit.site_list).without(site).write(kit.site_list)
    _archive(kit, site).unlink(missing_ok=True)


def _give_keys(kit: ServerKit, sites: Sequence[str]) -> list[Path]:
    """Make a key and an archive for each site, and put the keys on the list."""
    listed = SiteList.read(kit.site_list)
    archives = []
    for site in sites:
        key = new_site_key()
        archives.append(_write_archive(kit, listed, site, site_key_file(key)))
        listed = listed.with_key(site, public_line(key))
        listed.write(kit.site_list)
    return archives


def _archive(kit: ServerKit, site: str) -> Path:
    return kit.archives / f"{site}.tar.gz"


def _write_archive(kit: ServerKit, listed: SiteList, site: str, key: bytes) -> Path:
    address = join_address(listed.hosts[0], listed.port)
    settings = (
        f"# The client's settings at {site}; docs/settings.md lists all that can stand here.\n"
        f'partition = "{site}"\nsuperlink = "{address}"\n'
    )
    template = resources.files("fedpsyau_server.kits").joinpath("instructions.md").read_text()
    members = {
        site_kit.AUTHORITY: (kit.authority.read_bytes(), 0o644),
        site_kit.SITE_KEY: (key, 0o600),
        site_kit.SETTINGS: (settings.encode(), 0o644),
        site_kit.INSTRUCTIONS: (template.format(site=site, address=address).encode(), 0o644),
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, (content, mode) in members.items():
            member = tarfile.TarInfo(f"{site}/{name}")
            member.size, member.mode, member.mtime = len(content), mode, int(time.time())
            archive.addfile(member, io.BytesIO(content))
    path = _archive(kit, site)
    _replace_private(path, stream.getvalue())
    return path


def _replace_private(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    write_private(partial, content)
    partial.replace(path)


def _require_hosts(hosts: Sequence[str]) -> None:
    for host in hosts:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9a-fA-F:]+", host):
            raise SettingsError(
                f"--host {host!r} is no host name or address. Give names and addresses without a "
                "port, separated by commas, like fl.example.org,192.0.2.10; --port gives the port."
            )
    if not hosts:
        raise SettingsError("--host needs at least one name or address that sites can reach.")
