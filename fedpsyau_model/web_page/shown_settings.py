"""Settings beside their defaults, as a page that may be handed out shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from fedpsyau_model.settings import FederationSettings, brief, flattened
from fedpsyau_model.settings_table import settings_rows

__all__ = ["ShownSetting", "shown_settings"]

#: Settings that are paths on somebody's machine; only their last part is shown.
_PATHS = ("server.runs", "server.start", "server.kit")


@dataclass(frozen=True)
class ShownSetting:
    """A setting as text. changed: whether it differs from its default."""

    key: str
    value: str
    default: str
    meaning: str
    changed: bool


def shown_settings(values: Mapping[str, Any]) -> list[ShownSetting]:
    """Every setting of the given sections, in the order of docs/settings.md.

    values: plain values under kebab-case keys, as of `FederationSettings.as_dict` or a part of it.
    """
    given = flattened(values)
    defaults = flattened(FederationSettings().as_dict())
    return [
        ShownSetting(
            key=key,
            value=_text(key, given[key]),
            default=_text(key, defaults[key]),
            meaning=meaning,
            changed=given[key] != defaults[key],
        )
        for key, _, _, meaning in settings_rows(FederationSettings)
        if key in given
    ]


def _text(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if key in _PATHS and value and PurePath(value).name != value:
        value = f"…/{PurePath(value).name}"
    return brief(json.dumps(value, ensure_ascii=False))
