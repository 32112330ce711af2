"""Reading X.509 certificates, and whether this machine's clock agrees with their dates."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509

from fedpsyau_model.errors import CertificateDatesError, KitError

__all__ = ["dates_problem", "read_certificate", "require_valid_dates"]


def read_certificate(path: Path) -> x509.Certificate:
    """Read a PEM certificate; KitError if there is none at `path`."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise KitError(
            f"The certificate {path} cannot be read: {error.strerror}. Give --kit the folder or "
            "archive that `fedpsyau-server provision` made, unchanged."
        ) from None
    except ValueError:
        raise KitError(f"{path} is no PEM certificate. Use the kit as it was made.") from None


def require_valid_dates(
    certificate: x509.Certificate,
    name: str,
    cure: str,
    now: datetime.datetime | None = None,
) -> None:
    """Raise CertificateDatesError if the clock stands before or after a certificate's dates.

    name: what the certificate is called in the message. cure: what to do if it has expired.
    now: an aware time; default this machine's clock.
    """
    problem = dates_problem(
        name, cure, certificate.not_valid_before_utc, certificate.not_valid_after_utc, now
    )
    if problem:
        raise CertificateDatesError(problem)


def dates_problem(
    name: str,
    cure: str,
    begin: datetime.datetime,
    end: datetime.datetime,
    now: datetime.datetime | None = None,
) -> str:
    """Say why a certificate is not valid at `now`; empty if it is. Times are aware."""
    now = now or datetime.datetime.now(datetime.UTC)
    clock = f"This machine's clock says {_told(now)}"
    if now < begin:
        return (
            f"{name} is not valid before {_told(begin)}. {clock}; set it right (switch on NTP) and "
            "start again."
        )
    if now > end:
        return (
            f"{name} has expired: it was valid until {_told(end)}. {clock}; if that is right, "
            f"{cure}"
        )
    return ""


def _told(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
