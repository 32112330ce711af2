"""Where a network runs, as people name it."""

from __future__ import annotations

import re

from fedpsyau_model.errors import SettingsError

__all__ = ["DEVICES", "is_device", "require_device"]

#: What `is_device` allows, for messages.
DEVICES = "cpu, cuda and cuda:N"


def is_device(name: str) -> bool:
    """Tell whether a device may be called so, be it there or not."""
    return re.fullmatch(r"cpu|cuda(:\d+)?", name) is not None


def require_device(name: str) -> None:
    """Raise SettingsError for a name that no device has, or that torch does not see here."""
    if not is_device(name):
        raise SettingsError(f"device = {name!r}: allowed are {DEVICES}.")
    if name.startswith("cuda"):
        import torch  # only here: what prints help reads the names above

        if not torch.cuda.is_available():
            raise SettingsError(
                f"device = {name!r}: torch sees no CUDA device here. Use --device cpu, or install "
                "torch's CUDA build and the driver."
            )
        _, _, number = name.partition(":")
        if number and int(number) >= torch.cuda.device_count():
            raise SettingsError(
                f"device = {name!r}: torch sees {torch.cuda.device_count()} CUDA devices here, "
                "counted from 0. Give one of those."
            )
