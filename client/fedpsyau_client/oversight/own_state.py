"""Finding a site's state folder for commands that only look into it."""

from __future__ import annotations

from pathlib import Path

from fedpsyau_client.connection.site_kit import opened_kit
from fedpsyau_client.settings import ClientSettings
from fedpsyau_model.settings import load_settings

__all__ = ["state_folder"]


def state_folder(partition: str | None, state: Path | None, kit: Path | None) -> Path:
    """The folder that a client with these options keeps its state in.

    Raises what a kit or settings that are wrong raise.
    """
    flags = {"partition": partition, "state": state}
    if kit is None:
        settings = load_settings(ClientSettings, None, flags)
    else:
        with opened_kit(kit) as opened:
            settings = load_settings(ClientSettings, opened.settings, flags)
    return settings.state / settings.partition
