"""The bundle that a run brings along, which may hold no code.

Flower ships an app bundle to every site before the first message of a run. Ours names the
installed packages and holds nothing else, and this process never unpacks one; a bundle with more
in it therefore does nothing here, and yet says that somebody expects his code to run at this site.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
import zlib
from typing import Final

from fedpsyau_model.errors import BundleRefusedError

__all__ = ["COMPONENTS", "require_no_code"]

#: What the components of a bundle may name: apps of the installed packages.
COMPONENTS: Final = {
    "serverapp": "fedpsyau_server.app:app",
    "clientapp": "fedpsyau_client.app:app",
}

_PROJECT = "pyproject.toml"

#: Files of a bundle; the last is Flower's own list of the others.
_FILES = frozenset({_PROJECT, "LICENSE", ".info/CONTENT"})

#: Bytes that no file of such a bundle comes near.
_LARGEST_FILE = 1 << 18

#: Names of unexpected files that a message shows, and characters of each.
_SHOWN = 5
_LONGEST_NAME = 60


def require_no_code(content: bytes) -> None:
    """Raise BundleRefusedError, with the bundle's SHA-256, unless it is free of code.

    content: the zip archive as it came. Nothing is unpacked to disk, and nothing large to memory.
    """
    fault = _fault(content)
    if fault:
        raise BundleRefusedError(
            f"The server's run brings a bundle that is not fedpsyau's own: {fault} (SHA-256 "
            f"{hashlib.sha256(content).hexdigest()}). Nothing of it was unpacked or run, and no "
            "message of that run is answered. Ask the coordinator what it is for, and give the "
            "hash."
        )


def _fault(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _fault_in_files(archive) or _fault_in_project(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError):
        return "it cannot be read as a bundle"


def _fault_in_files(archive: zipfile.ZipFile) -> str:
    members = archive.infolist()
    names = [member.filename for member in members]
    if strange := [name for name in names if name not in _FILES]:
        shown = ", ".join(ascii(name[:_LONGEST_NAME]) for name in strange[:_SHOWN])
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        return f"it holds {shown}{more}"
    if len(set(names)) < len(names):
        return "it holds a file twice"
    if _PROJECT not in names:
        return f"it has no {_PROJECT}"
    if any(member.file_size > _LARGEST_FILE for member in members):
        return f"a file in it is larger than {_LARGEST_FILE} bytes"
    return ""


def _fault_in_project(archive: zipfile.ZipFile) -> str:
    with archive.open(_PROJECT) as stream:
        text = stream.read(_LARGEST_FILE + 1)  # the archive's word on its size may be a lie
    if len(text) > _LARGEST_FILE:
        return f"its {_PROJECT} is larger than it says"
    try:
        components = tomllib.loads(text.decode())["tool"]["flwr"]["app"]["components"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"its {_PROJECT} names no components"
    if components != COMPONENTS:
        return f"its components are {ascii(components)[:200]}, not those of fedpsyau"
    return ""
