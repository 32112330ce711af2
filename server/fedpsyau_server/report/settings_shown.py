"""A run's settings beside their defaults, as a page that may be handed out shows them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from fedpsyau_model.settings import FederationSettings, brief, flattened
from fedpsyau_model.settings_table import settings_rows

__all__ = ["ShownSetting", "shown_settings"]

#: Settings that are paths on the coordinator's machine; only their last part is shown.
_PATHS = ("server.runs", "server.start", "server.kit")


@dataclass(frozen=True)
class ShownSetting:
    """A setting as text. changed: whether it differs from its default."""

    key: str
    value: str
    default: str
    meaning: str
    changed: bool


def shown_settings(settings: FederationSettings) -> list[ShownSetting]:
    """Every setting, in the order of docs/settings.md."""
    values = flattened(settings.as_dict())
    defaults = flattened(FederationSettings().as_dict())
    return [
        ShownSetting(
            key,
            _text(key, values[key]),
            _text(key, defaults[key]),
            meaning,
            values[key] != defaults[key],
        )
        for key, _, _, meaning in settings_rows(FederationSettings)
    ]


def _text(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if key in _PATHS and PurePath(value).name != value and value:
        value = f"…/{PurePath(value).name}"
    return brief(json.dumps(value, ensure_ascii=False))
