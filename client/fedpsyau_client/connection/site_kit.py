"""A site's kit: settings, the authority to trust and the site's key, from a folder or archive.

The files of an archive are held in memory while the client runs, so that its key lies nowhere
else, and is gone with the client, however that ends.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cryptography.hazmat.primitives.asymmetric import ec

from fedpsyau_client.oversight.policy import POLICY_FILE
from fedpsyau_model.certificates import read_certificate, require_valid_dates
from fedpsyau_model.errors import KitError
from fedpsyau_model.private_keys import read_site_key, require_private, write_private
from fedpsyau_model.site_kit import AUTHORITY, INSTRUCTIONS, KIT_FILES, SETTINGS, SITE_KEY

__all__ = ["SiteKit", "opened_kit"]

#: No file of a kit is anywhere near this size, in bytes.
_LARGEST = 1 << 20

_NEW_KIT = (
    "ask the coordinator for new kits; the server's authority has to be made anew for all sites."
)


@dataclass(frozen=True)
class SiteKit:
    """The files of a kit, which `opened_kit` has checked."""

    folder: Path
    site_key: ec.EllipticCurvePrivateKey

    @property
    def authority(self) -> Path:
        """Certificate of the authority that the server's certificate must come from."""
        return self.folder / AUTHORITY

    @property
    def key(self) -> Path:
        """The site's private key."""
        return self.folder / SITE_KEY

    @property
    def settings(self) -> Path:
        """The client's settings."""
        return self.folder / SETTINGS

    @property
    def policy(self) -> Path | None:
        """The policy that the site has put beside them, if it has; no archive holds one."""
        path = self.folder / POLICY_FILE
        return path if path.exists() else None


@contextmanager
def opened_kit(path: Path) -> Iterator[SiteKit]:
    """Open a kit, a folder or the archive as it was handed over, and check it.

    Raises KitError for what is missing or is no kit, PrivateKeyError and KeyPermissionsError for
    the key (or an archive that others may read), CertificateDatesError for the authority.
    """
    if path.is_dir():
        yield _checked(path)
    elif path.is_file():
        require_private(path)
        with (
            tempfile.TemporaryDirectory(prefix="fedpsyau-kit-") as folder,
            ExitStack() as in_memory,
        ):
            for name, content in _read_archive(path).items():
                _hold(content, Path(folder) / name, in_memory)
            yield _checked(Path(folder))
    else:
        raise KitError(
            f"There is no kit {path}. Give --kit the archive that the coordinator handed over, or "
            "the folder that it was unpacked to."
        )


def _checked(folder: Path) -> SiteKit:
    missing = [name for name in KIT_FILES if not (folder / name).is_file() and name != SITE_KEY]
    if missing:
        raise KitError(
            f"{folder} is no site's kit: there is no {' and no '.join(missing)}. Give --kit the "
            "archive that the coordinator handed over, or the folder that it was unpacked to "
            "(the one that holds client.toml)."
        )
    require_valid_dates(
        read_certificate(folder / AUTHORITY), f"The authority's certificate in {folder}", _NEW_KIT
    )
    return SiteKit(folder, read_site_key(folder / SITE_KEY))


def _hold(content: bytes, path: Path, stack: ExitStack) -> None:
    """Let `path` lead to a file in memory that its owner alone can read.

    It is there for this process and others of the same user, until the stack is closed or this
    process ends, be it by SIGKILL; then `path` leads nowhere. Where there is no Linux, `path` is a
    file, and stays where the process is killed.
    """
    if sys.platform != "linux":
        write_private(path, content)
        return
    stream = stack.enter_context(os.fdopen(os.memfd_create(path.name), "wb"))
    os.fchmod(stream.fileno(), 0o600)
    stream.write(content)
    stream.flush()
    path.symlink_to(f"/proc/{os.getpid()}/fd/{stream.fileno()}")


def _read_archive(archive: Path) -> dict[str, bytes]:
    """Content of a kit's files by name; nothing else in the archive is even looked at."""
    found: dict[str, bytes] = {}
    wanted = {*KIT_FILES, INSTRUCTIONS}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                name = PurePosixPath(member.name).name
                stream = members.extractfile(member) if member.isfile() else None
                if name not in wanted or stream is None or member.size > _LARGEST:
                    raise KitError(
                        f"{archive} is no site's kit: it holds {member.name!r}. Use the archive "
                        "that `fedpsyau-server provision` made, unchanged."
                    )
                found[name] = stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise KitError(
            f"The kit {os.fspath(archive)} cannot be unpacked: {what}. Copy it again from where it "
            "was handed over."
        ) from None
    return found
