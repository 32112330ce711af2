"""A look at the server's port before anything is sent: whether it is the right server.

The connection process of Flower tries for ever, or ends without a reason that a person could act
upon; so the reasons are found out here and in `key_probe` first. Nothing but a TLS handshake goes
over the line.
"""

from __future__ import annotations

import socket
import ssl

from fedpsyau_client.connection.site_kit import SiteKit
from fedpsyau_model.addresses import split_address
from fedpsyau_model.errors import (
    CertificateDatesError,
    ServerNotTrustedError,
    TransportMismatchError,
)

__all__ = ["require_transport"]

#: Seconds for the connection and for each step of the handshake.
_PATIENCE = 5.0

#: OpenSSL's verification results (X509_V_ERR_*).
_NOT_YET_VALID = 9
_EXPIRED = 10
_OTHER_NAME = {62, 64}

#: gRPC servers take no TLS connection that does not offer HTTP/2.
_PROTOCOLS = ["h2"]


def require_transport(address: str, kit: SiteKit | None) -> None:
    """Check that the server at HOST:PORT speaks what this client is about to speak.

    With a kit: TLS, with a certificate of the kit's authority, for this name, within its dates.
    Without one: no TLS.

    Raises TransportMismatchError, ServerNotTrustedError or CertificateDatesError; OSError if the
    connection breaks, which says nothing about the server.
    """
    if kit is None:
        _require_plaintext(address)
    else:
        _require_trusted(address, kit)


def _require_trusted(address: str, kit: SiteKit) -> None:
    context = ssl.create_default_context(cafile=kit.authority)
    try:
        _handshake(address, context)
    except ssl.SSLCertVerificationError as error:
        raise _distrust(address, error) from None
    except (ssl.SSLError, ConnectionResetError, TimeoutError) as error:
        raise TransportMismatchError(
            f"The server at {address} does not speak TLS as this client does ({_reason(error)}). "
            "If it was started without --kit, ask the coordinator to start it with its kit; if "
            "another service listens there, correct --superlink."
        ) from None


def _require_plaintext(address: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _handshake(address, context)
    except (ssl.SSLError, ConnectionResetError, TimeoutError):
        return
    raise TransportMismatchError(
        f"The server at {address} speaks TLS, and this client was started without a kit. Ask the "
        "coordinator for this site's kit and start with --kit."
    )


def _handshake(address: str, context: ssl.SSLContext) -> None:
    host, port = split_address(address)
    context.set_alpn_protocols(_PROTOCOLS)
    with (
        socket.create_connection((host, port), timeout=_PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname=host),
    ):
        pass


def _distrust(
    address: str, error: ssl.SSLCertVerificationError
) -> CertificateDatesError | ServerNotTrustedError:
    reason = error.verify_message
    if error.verify_code == _EXPIRED:
        return CertificateDatesError(
            f"The certificate of the server at {address} has expired. Check this machine's clock; "
            "if it is right, ask the coordinator to run `fedpsyau-server provision "
            "--renew-server` and to restart the server."
        )
    if error.verify_code == _NOT_YET_VALID:
        return CertificateDatesError(
            f"The certificate of the server at {address} is not valid yet. Set this machine's "
            "clock right (switch on NTP) and start again; if it is right, the coordinator's clock "
            "was wrong when the certificate was made."
        )
    if error.verify_code in _OTHER_NAME:
        return ServerNotTrustedError(
            f"The server at {address} has a certificate for another name: {reason} Connect to a "
            "name that it was made for, or ask the coordinator to run `fedpsyau-server provision "
            "--renew-server --host ...` with this one."
        )
    return ServerNotTrustedError(
        f"The server at {address} cannot prove that it is this kit's server: {reason}. Its "
        "certificate is from another authority, so this is another federation's server or somebody "
        "in between. Nothing was sent. Check the address, and ask the coordinator whether all "
        "kits were made anew."
    )


def _reason(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else ""
    return reason or error.strerror or str(error)
