"""Damage that any file can suffer: to its bytes, to where it is, to its name."""

from __future__ import annotations

import functools
import io
import os
import shutil
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

#: Harms the file at a path, or leaves it whole; returns the path that is then given to the reader.
Damage = Callable[[Path, np.random.Generator], Path]

#: Names that file systems allow and programs stumble over; {} is the good name's stem.
ODD_NAMES = {
    "accents and emoji": "Ünïcødé 微表情 🙂 {}",
    "combining characters": "e\u0301\u0323 {}",
    "right to left": "\u202eتعبير {}",
    "newline": "one\ntwo {}",
    "quotes": 'it\'s "{}"; $(exit 3) `x` %s %(a)d {{}}',
    "escape sequence": "\x1b[31mred\x1b]0;title\x07 {}",
    "carriage return and tab": "a\r\tb {}",
    "not UTF-8": os.fsdecode(b"\xff\xfe\xe9 ") + "{}",
    "leading dash": "--help {}",
    "leading and trailing spaces": "  {}  ",
    "pattern characters": "[a-z]*?{}",
    "backslash": "a\\b\\..\\{}",
    "markup": "[bold red]{}[blink]<b>",
    "long": "x" * 200 + "{}",
    "dots": "...{}...",
    "percent": "%2e%2e%2f%00{}",
}


def whole(file: Path, rng: np.random.Generator) -> Path:
    """Leave the file as it is: what is refused here is refused wrongly."""
    return file


def on_bytes(change: Callable[[bytes, np.random.Generator], bytes]) -> Damage:
    """Make damage of a function of a file's bytes."""

    @functools.wraps(change)
    def damage(file: Path, rng: np.random.Generator) -> Path:
        file.write_bytes(change(file.read_bytes(), rng))
        return file

    return damage


def _truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(1, max(len(data), 2)))]


def _flipped(share: float) -> Callable[[bytes, np.random.Generator], bytes]:
    def flip(data: bytes, rng: np.random.Generator) -> bytes:
        values = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(0, len(values), max(1, int(share * len(values))))
        values[places] ^= np.uint8(1) << rng.integers(0, 8, len(places), dtype=np.uint8)
        return values.tobytes()

    return flip


def _hole(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    return data[:start] + bytes(end - start) + data[end:]


def _inserted(what: bytes) -> Callable[[bytes, np.random.Generator], bytes]:
    def insert(data: bytes, rng: np.random.Generator) -> bytes:
        place = int(rng.integers(0, len(data) + 1))
        return data[:place] + what + data[place:]

    return insert


def _shuffled(data: bytes, rng: np.random.Generator) -> bytes:
    """Swap two blocks, as a faulty disk or a wrongly joined download does."""
    size = max(len(data) // 8, 1)
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    order = rng.permutation(len(blocks))
    return b"".join(blocks[index] for index in order)


def _bad_text(data: bytes, rng: np.random.Generator) -> bytes:
    encodings = ("utf-16", "utf-32", "utf-8-sig", "cp500", "shift-jis", "utf-7")
    encoding = encodings[int(rng.integers(len(encodings)))]
    return data.decode("latin-1").encode(encoding, errors="replace")


def _other_content() -> dict[str, bytes]:
    """What people hand over by mistake, by name."""
    arrays, archive, sound = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(arrays, np.arange(6.0))
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("readme.txt", "nothing of use")
    with wave.open(sound, "wb") as recorded:
        recorded.setparams((1, 2, 8000, 0, "NONE", ""))
        recorded.writeframes(bytes(1600))
    picture = cv2.imencode(".png", np.full((80, 80, 3), 90, np.uint8))[1].tobytes()
    return {
        "a picture": picture,
        "an array": arrays.getvalue(),
        "an archive": archive.getvalue(),
        "sound": sound.getvalue(),
        "a web page": b"<!DOCTYPE html><html><body>Please log in</body></html>\n",
        "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "JSON": b'{"a": [1, 2, {"b": null}]}',
        "deep JSON": b"[" * 60_000 + b"]" * 60_000,
        "a number": b"1e400",
        "a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj<<>>endobj\n",
        "one long line": b"a" * 300_000,
        "a pickle": b"\x80\x04cos\nsystem\n\x94\x8c\x04true\x94\x85\x94R\x94.",
        "spaces": b" \t\r\n" * 200,
        "only quotes": b'"' * 999,
    }


def _wrong_type(file: Path, rng: np.random.Generator) -> Path:
    contents = list(_other_content().values())
    file.write_bytes(contents[int(rng.integers(len(contents)))])
    return file


def _missing(file: Path, rng: np.random.Generator) -> Path:
    file.unlink()
    return file


def _folder_instead(file: Path, rng: np.random.Generator) -> Path:
    file.unlink()
    file.mkdir()
    if rng.random() < 0.5:
        (file / "inside.txt").write_text("1,2\n")
    return file


def _linked(file: Path, rng: np.random.Generator) -> Path:
    """A link to the whole file, by which it can be read."""
    target = file.with_name(f"linked-{file.name}"[-200:])
    file.rename(target)
    file.symlink_to(target.name)
    return file


def _dangling(file: Path, rng: np.random.Generator) -> Path:
    file.unlink()
    file.symlink_to("nowhere")
    return file


def _link_to_itself(file: Path, rng: np.random.Generator) -> Path:
    file.unlink()
    file.symlink_to(file.name)
    return file


def _link_to_its_folder(file: Path, rng: np.random.Generator) -> Path:
    file.unlink()
    file.symlink_to(file.parent, target_is_directory=True)
    return file


def _named_pipe(file: Path, rng: np.random.Generator) -> Path:
    """Reading it waits for ever, as nobody writes to it."""
    file.unlink()
    os.mkfifo(file)
    return file


def _huge(file: Path, rng: np.random.Generator) -> Path:
    """8 TB of which nothing is on the disk: reading it whole fills any memory."""
    with file.open("r+b") as stream:
        stream.truncate(2**43)
    return file


def renamed(file: Path, rng: np.random.Generator) -> Path:
    """Give the file an odd name with the right ending."""
    pattern = list(ODD_NAMES.values())[int(rng.integers(len(ODD_NAMES)))]
    target = file.with_name(pattern.format(file.stem) + file.suffix)
    return file.rename(target)


def _other_ending(file: Path, rng: np.random.Generator) -> Path:
    endings = ("", ".txt", ".xls", ".npz", ".csv", ".XLSX", ".json", ".zip", ".bak", ".avi")
    return file.rename(file.with_suffix(endings[int(rng.integers(len(endings)))]))


def copied(folder: Path, target: Path) -> Path:
    """Copy a folder of good inputs to harm it there."""
    shutil.copytree(folder, target, symlinks=True)
    return target


BYTE_DAMAGE: dict[str, Damage] = {
    "truncated": on_bytes(_truncated),
    "empty": on_bytes(lambda data, rng: b""),
    "one bit flipped": on_bytes(_flipped(0)),
    "bits flipped": on_bytes(_flipped(0.01)),
    "random bytes": on_bytes(lambda data, rng: rng.bytes(len(data))),
    "hole of zeros": on_bytes(_hole),
    "NUL byte inserted": on_bytes(_inserted(b"\0")),
    "bytes inserted": on_bytes(_inserted(b'\xff\xfe"\r\n,;\x1a')),
    "blocks in disorder": on_bytes(_shuffled),
    "written twice": on_bytes(lambda data, rng: data + data),
    "garbage at the end": on_bytes(lambda data, rng: data + rng.bytes(500)),
    "garbage before": on_bytes(lambda data, rng: rng.bytes(20) + data),
    "another encoding": on_bytes(_bad_text),
    "another type": _wrong_type,
}

PLACE_DAMAGE: dict[str, Damage] = {
    "missing": _missing,
    "a folder": _folder_instead,
    "a link": _linked,
    "a dangling link": _dangling,
    "a link to itself": _link_to_itself,
    "a link to its folder": _link_to_its_folder,
    "a named pipe": _named_pipe,
    "huge": _huge,
}

NAME_DAMAGE: dict[str, Damage] = {"odd name": renamed, "another ending": _other_ending}

FILE_DAMAGE: dict[str, Damage] = {
    "whole": whole,
    **BYTE_DAMAGE,
    **PLACE_DAMAGE,
    **NAME_DAMAGE,
}
