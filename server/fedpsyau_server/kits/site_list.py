"""The list of sites that a coordinator has made kits for: whose key is whose, and which are void.

It holds public keys only. A running server looks at it again and again, so that a revocation or a
new key takes effect without a restart.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import KitError, UnknownPartitionError
from fedpsyau_model.file_part import FilePart

__all__ = ["SiteEntry", "SiteList", "VoidKey"]


class SiteEntry(FilePart):
    """A site and the public key that it may connect with."""

    site: str
    public_key: str
    issued: datetime.datetime


class VoidKey(FilePart):
    """A key that was good once."""

    site: str
    public_key: str
    voided: datetime.datetime
    why: Literal["revoked", "rotated"]


class SiteList(FilePart):
    """Content of ``sites.json``."""

    schema_version: Literal[1] = 1
    hosts: tuple[str, ...] = Field(min_length=1)
    port: int
    sites: tuple[SiteEntry, ...] = ()
    void: tuple[VoidKey, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Sites that may connect, in the order in which they were added."""
        return tuple(entry.site for entry in self.sites)

    @property
    def keys(self) -> dict[str, str]:
        """Site of every public key that may connect."""
        return {entry.public_key: entry.site for entry in self.sites}

    def known(self, site: str) -> bool:
        """Whether a site has, or had, a key."""
        return site in self.names or any(key.site == site for key in self.void)

    def with_key(self, site: str, public_key: str) -> SiteList:
        """Give a site a key; one that it had is void from now on."""
        now = _now()
        entry = SiteEntry(site=site, public_key=public_key, issued=now)
        others = self._without(site, "rotated") if site in self.names else self
        return others.model_copy(update={"sites": (*others.sites, entry)})

    def without(self, site: str) -> SiteList:
        """Revoke a site's key; UnknownPartitionError if it has none."""
        if site not in self.names:
            raise UnknownPartitionError(
                f"The site {site!r} has no key that could be revoked. Sites with a key: "
                f"{', '.join(self.names) or 'none'}."
            )
        return self._without(site, "revoked")

    def _without(self, site: str, why: Literal["revoked", "rotated"]) -> SiteList:
        void = tuple(
            VoidKey(site=site, public_key=entry.public_key, voided=_now(), why=why)
            for entry in self.sites
            if entry.site == site
        )
        kept = tuple(entry for entry in self.sites if entry.site != site)
        return self.model_copy(update={"sites": kept, "void": (*self.void, *void)})

    @classmethod
    def read(cls, path: Path) -> SiteList:
        """Read the list; KitError if it is not there or was damaged."""
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise KitError(
                f"The list of sites {path} cannot be read: {error.strerror}. Give --kit the folder "
                "that `fedpsyau-server provision --out` made."
            ) from None
        except (ValidationError, ValueError) as error:
            reason = error.errors()[0] if isinstance(error, ValidationError) else error
            raise KitError(f"The list of sites {path} is damaged: {reason}.") from None

    def write(self, path: Path) -> None:
        """Write the list, whole or not at all."""
        values: dict[str, Any] = self.model_dump(mode="json")
        write_atomically(path, json.dumps(values, indent=2) + "\n")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
