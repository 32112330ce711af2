"""Finding the video or image folder of a clip under a folder of clips.

The folder is walked once. A clip of a label table is then looked for leniently, so that the layouts
in which data sets are published work as they are:

1. where the file name is a path below the folder, there (an ending may be left out);
2. else wherever a video or a folder has the file name, or is called ``color``, ``rgb``, ``frames``
   or so and lies in one that has: below a folder of the subject, which may be written otherwise
   (``01``, ``sub01``, ``s1``, ``spNO.1``);
3. else wherever it has the file name and no folder above names any subject of the table, as in
   ``happiness/EP01`` -- but only if no other subject has a clip of that name.

Exact spelling goes before another case. Where several places are left, the clip is ambiguous, and
nothing is guessed.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.preparation.clip_endings import IMAGE_ENDINGS, VIDEO_ENDINGS
from fedpsyau_model.errors import ClipAmbiguousError, ClipNotFoundError, DataNotFoundError

__all__ = ["ClipFiles", "FoundClip", "index_clips"]

#: Folders between a clip's own and its frames, as in ``spNO.1/a/color/157.jpg``.
_INNER_FOLDERS: Final = frozenset(("color", "colour", "rgb", "frames", "images", "img"))

#: Ways of writing a subject's number.
_SUBJECT: Final = re.compile(r"(?:subject|subj|sub|spno|sp|sn|s|p)?[._ -]*0*([0-9]{1,9})", re.I)

#: Names that an ambiguous clip's message lists, at most.
_LISTED: Final = 4


@dataclass(frozen=True, slots=True)
class FoundClip:
    """Where a clip is: a video file or a folder of images.

    oddity: what a person should know about how it was found; "" where nothing was odd.
    """

    path: Path
    oddity: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A video (its ending taken off) or folder of images, by the parts of its path."""

    path: Path
    above: tuple[str, ...]
    name: str


class ClipFiles:
    """All videos and image folders below a folder, and whose clips they are."""

    def __init__(self, root: Path, paths: Iterable[Path], records: Sequence[ClipRecord]) -> None:
        self._root = root
        self._paths = frozenset(paths)
        self._by_name: dict[str, list[_Entry]] = defaultdict(list)
        for path in sorted(self._paths):
            entry = _entry(root, path)
            self._by_name[entry.name.casefold()].append(entry)
        self._subjects_of: dict[str, set[str]] = defaultdict(set)
        for record in records:
            self._subjects_of[record.filename.casefold()].add(record.subject)
        self._subjects = frozenset(_plain(record.subject) for record in records)

    def __len__(self) -> int:
        """Count the videos and image folders."""
        return len(self._paths)

    def find(self, record: ClipRecord) -> FoundClip:
        """Find the clip of a row. Raises ClipNotFoundError, ClipAmbiguousError."""
        if found := self._by_path(record.filename):
            return self._single(record, found)
        name = _stem(PurePosixPath(record.filename).name)
        entries = self._by_name.get(name.casefold(), [])
        for matches in self._subject_rules(record):
            entries_of_subject = [entry for entry in entries if matches(entry)]
            exact = [entry for entry in entries_of_subject if entry.name == name]
            if exact:
                return self._single(record, [entry.path for entry in exact])
            if entries_of_subject:
                found = [entry.path for entry in entries_of_subject]
                single = self._single(record, found).path
                return FoundClip(
                    single, f"{self._relative(single)} differs from {record.filename!r} in case"
                )
        raise ClipNotFoundError(
            f"No video or folder of images {record.filename!r} of subject {record.subject!r} was "
            f"found among the {len(self)} below {self._root}. Check that --clips is the folder "
            "that holds the subjects' folders, and the spelling in the label table."
        )

    def _by_path(self, filename: str) -> list[Path]:
        """Places named by a relative path; nothing where it is none or leads out of the folder."""
        relative = PurePosixPath(filename.replace("\\", "/"))
        if len(relative.parts) < 2 or relative.is_absolute() or ".." in relative.parts:
            return []
        whole = self._root / relative
        if whole in self._paths:
            return [whole]
        entries = self._by_name.get(whole.name.casefold(), [])
        return [entry.path for entry in entries if entry.path.with_name(entry.name) == whole]

    def _subject_rules(self, record: ClipRecord) -> list[Callable[[_Entry], bool]]:
        """Ever more lenient answers to whether a place belongs to the row's subject."""
        subject, plain = record.subject, _plain(record.subject)
        rules: list[Callable[[_Entry], bool]] = [
            lambda entry: subject in entry.above,
            lambda entry: subject.casefold() in (part.casefold() for part in entry.above),
            lambda entry: plain in (_plain(part) for part in entry.above),
        ]
        if len(self._subjects_of[record.filename.casefold()]) == 1:
            rules.append(
                lambda entry: self._subjects.isdisjoint(_plain(part) for part in entry.above)
            )
        return rules

    def _single(self, record: ClipRecord, paths: Sequence[Path]) -> FoundClip:
        if len(paths) == 1:
            return FoundClip(paths[0])
        names = ", ".join(self._relative(path) for path in sorted(paths)[:_LISTED])
        more = ", ..." if len(paths) > _LISTED else ""
        raise ClipAmbiguousError(
            f"{len(paths)} places could be the clip {record.filename!r} of subject "
            f"{record.subject!r}: {names}{more}. Give a deeper folder with --clips, or leave one "
            "of them."
        )

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def index_clips(root: Path, records: Sequence[ClipRecord]) -> ClipFiles:
    """Walk `root` once for the clips of a label table.

    Links to folders are followed, but no folder is entered twice. Hidden files and folders are left
    out. Raises DataNotFoundError where `root` is no folder that can be read.
    """
    if not root.is_dir():
        raise DataNotFoundError(
            f"There is no folder of clips {root}. Give the one that holds the videos or image "
            "folders with --clips."
        )
    try:
        return ClipFiles(root, _walk(root), records)
    except OSError as error:
        raise DataNotFoundError(
            f"The folder of clips {root} cannot be read: {error.strerror or error}."
        ) from None


def _walk(root: Path) -> list[Path]:
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()
    waiting = deque([os.fspath(root)])
    while waiting:
        folder = waiting.popleft()
        try:
            status = Path(folder).stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            if not entered:
                raise
            continue  # Its clips are then reported as not found.
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        entries = [entry for entry in entries if entry.name[0] != "."]
        if any(_has_ending(entry, IMAGE_ENDINGS) for entry in entries):
            found.append(Path(folder))
        found += [Path(entry.path) for entry in entries if _has_ending(entry, VIDEO_ENDINGS)]
        waiting += [entry.path for entry in entries if _is_folder(entry)]
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False


def _has_ending(entry: os.DirEntry[str], endings: frozenset[str]) -> bool:
    try:
        return Path(entry.name).suffix.lower() in endings and entry.is_file()
    except OSError:
        return False


def _entry(root: Path, path: Path) -> _Entry:
    *above, name = path.relative_to(root).parts or (root.name,)
    if len(above) >= 1 and name.casefold() in _INNER_FOLDERS:
        name = above.pop()
    return _Entry(path, tuple(above), _stem(name))


def _stem(name: str) -> str:
    """Take a video's ending off; a dot in a folder's name is none."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in VIDEO_ENDINGS else name


def _plain(subject: str) -> str:
    """One spelling for all ways of writing a subject: ``sub01``, ``s1`` and ``01`` are ``1``."""
    number = _SUBJECT.fullmatch(subject.strip())
    return number.group(1) if number else subject.strip().casefold()
