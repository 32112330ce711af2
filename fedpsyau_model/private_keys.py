"""Private keys on disk: who may read them, and which kind a site's key must be.

A site proves who it is with an ECDSA key on P-384 in OpenSSH's format, which is what Flower's
SuperNode authentication takes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from fedpsyau_model.errors import KeyPermissionsError, PrivateKeyError

__all__ = [
    "new_site_key",
    "public_line",
    "read_site_key",
    "require_private",
    "site_key_file",
    "write_private",
]

#: Permission bits that let anybody but the owner read, write or run.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def new_site_key() -> ec.EllipticCurvePrivateKey:
    """Make a site's private key."""
    return ec.generate_private_key(ec.SECP384R1())


def site_key_file(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Content of a site's key file: OpenSSH's format, no passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def read_site_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a site's private key.

    Raises KeyPermissionsError if others may read it, PrivateKeyError if it is missing or is not
    an ECDSA key on P-384 in OpenSSH's format without a passphrase.
    """
    require_private(path)
    cure = (
        "A site's key is ECDSA on P-384 in OpenSSH's format without a passphrase; take the one "
        "from the kit, or ask the coordinator to run `fedpsyau-server provision --rotate SITE`."
    )
    try:
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PrivateKeyError(f"{path} is no key that can be used here ({error}). {cure}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        kind = key.curve.name if isinstance(key, ec.EllipticCurvePrivateKey) else type(key).__name__
        raise PrivateKeyError(f"{path} is a key of the kind {kind.lstrip('_')}. {cure}")
    return key


def public_line(key: ec.EllipticCurvePrivateKey) -> str:
    """Public half of a site's key as one line in OpenSSH's format."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def require_private(path: Path) -> None:
    """Raise KeyPermissionsError if others may read a file, PrivateKeyError if it is not there."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise PrivateKeyError(
            f"The private key {path} cannot be read: {error.strerror}. Use the kit as it was made."
        ) from None
    if mode & _OTHERS:
        raise KeyPermissionsError(
            f"Other users of this machine may read {path}, which holds a private key (its mode is "
            f"{stat.S_IMODE(mode):04o}). Run `chmod 600 {path}`. If somebody may have copied it, "
            "have the key replaced: `fedpsyau-server provision --rotate SITE`."
        )
    if not os.access(path, os.R_OK):
        raise PrivateKeyError(
            f"The private key {path} belongs to another user and cannot be read. Start the command "
            "as its owner, or change the owner with chown."
        )


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that its owner alone can read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
