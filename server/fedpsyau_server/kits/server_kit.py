"""The coordinator's own folder: certificates, keys and the list of sites, checked before use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedpsyau_model.certificates import read_certificate, require_valid_dates
from fedpsyau_model.errors import KitError, PrivateKeyError
from fedpsyau_model.private_keys import require_private
from fedpsyau_server.kits.site_list import SiteList

__all__ = ["ServerKit", "open_server_kit", "read_tls_key"]

_RENEW = "run `fedpsyau-server provision --out {} --renew-server` and restart the server."


@dataclass(frozen=True)
class ServerKit:
    """Where the coordinator's files are. `open_server_kit` checks that they can be used."""

    folder: Path

    @property
    def authority(self) -> Path:
        """Certificate of the federation's own authority; every site has a copy."""
        return self.folder / "ca.crt"

    @property
    def authority_key(self) -> Path:
        """Private key of the authority; needed only to make or renew the server's certificate."""
        return self.folder / "ca.key"

    @property
    def certificate(self) -> Path:
        """Certificate of the server."""
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        """Private key of the server."""
        return self.folder / "server.key"

    @property
    def site_list(self) -> Path:
        """Public keys of the sites."""
        return self.folder / "sites.json"

    @property
    def archives(self) -> Path:
        """Folder of the archives for the sites."""
        return self.folder / "kits"


def open_server_kit(folder: Path) -> ServerKit:
    """Check a coordinator's folder, as far as can be done before the server starts.

    Raises KitError for what is missing or does not fit, PrivateKeyError and KeyPermissionsError
    for the server's key, CertificateDatesError for certificates outside their dates.
    """
    if not folder.is_dir():
        raise KitError(
            f"There is no folder {folder}. `fedpsyau-server provision --sites ... --host ... "
            f"--out {folder}` makes one."
        )
    kit = ServerKit(folder)
    SiteList.read(kit.site_list)
    authority, certificate = read_certificate(kit.authority), read_certificate(kit.certificate)
    require_valid_dates(
        authority,
        f"The authority's certificate {kit.authority}",
        "make new kits for all sites: `fedpsyau-server provision` into a new folder.",
    )
    require_valid_dates(
        certificate, f"The server's certificate {kit.certificate}", _RENEW.format(folder)
    )
    _require_issued_by(certificate, authority, kit)
    if read_tls_key(kit.key).public_key() != certificate.public_key():
        raise KitError(
            f"{kit.key} is not the key of {kit.certificate}. To make a new pair, "
            + _RENEW.format(folder)
        )
    return kit


def read_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a key that `authority.key_pem` wrote; PrivateKeyError if it is anything else."""
    require_private(path)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise PrivateKeyError(f"{path} is no PEM private key without passphrase: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PrivateKeyError(
            f"{path} is no elliptic-curve key; keep the one that `fedpsyau-server provision` made."
        )
    return key


def _require_issued_by(
    certificate: x509.Certificate, authority: x509.Certificate, kit: ServerKit
) -> None:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise KitError(
            f"{kit.certificate} was not issued by the authority {kit.authority}, so no site would "
            f"trust it. To make a new one, {_RENEW.format(kit.folder)}"
        ) from None
