"""Which flow image belongs to which clip of a label table, by name.

An image's name, without ending and in lower case, is compared with what a clip may be called, the
most particular first:

1. the path in the table's column ``flow_image``, if it has one;
2. subject, filename and onset: ``SUBJECT_FILENAME_ONSET`` or ``SUBJECT/FILENAME_ONSET``,
   ``SUBJECT/FILENAME/ONSET``;
3. subject and filename: ``SUBJECT_FILENAME`` or ``SUBJECT/FILENAME``;
4. filename and onset: ``FILENAME_ONSET``;
5. ``FILENAME``.

Names with ``/`` are compared with the image's folders. The first of these that names an image
decides; if it names several, or the image is claimed by several clips, the clip is ambiguous and is
left out, because a wrong guess would teach a wrong label.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_model.errors import ClipAmbiguousError, ClipNotFoundError

__all__ = ["IMAGE_ENDINGS", "Match", "flow_images", "match_names"]

IMAGE_ENDINGS: Final = (".png", ".jpg", ".jpeg", ".bmp")

#: Endings that label tables write behind a clip's name.
_CLIP_ENDINGS: Final = (*IMAGE_ENDINGS, ".avi", ".mp4", ".mov", ".mkv", ".npy")

#: Candidates that a message lists.
_LISTED: Final = 5

#: Position of a clip's image among the names, or why it has none.
Match = int | ClipNotFoundError | ClipAmbiguousError


def flow_images(folder: Path) -> list[str]:
    """Paths of all images below a folder, relative to it, with ``/``, sorted.

    Links to folders are not followed, so that no loop of links is either; hidden names are skipped.
    """
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith("."):
                found.append((Path(place) / name).relative_to(folder).as_posix())
    return sorted(found)


def match_names(records: Sequence[ClipRecord], names: Sequence[str]) -> list[Match]:
    """Find each clip's image. Returns for each record a position in `names`, or the reason why not.

    names: paths with ``/``, or plain clip names, with or without an ending.
    """
    index: defaultdict[str, set[int]] = defaultdict(set)
    for position, name in enumerate(names):
        for key in _name_keys(name):
            index[key].add(position)
    found = [_first_named(record, index, names) for record in records]
    claims = Counter(match for match in found if isinstance(match, int))
    return [
        ClipAmbiguousError(f"{names[match]} could be the flow of {claims[match]} clips.")
        if isinstance(match, int) and claims[match] > 1
        else match
        for match in found
    ]


def _first_named(record: ClipRecord, index: Mapping[str, set[int]], names: Sequence[str]) -> Match:
    for keys in _clip_keys(record):
        positions = set().union(*(index[key] for key in keys if key in index))
        if len(positions) == 1:
            return positions.pop()
        if positions:
            listed = ", ".join(names[position] for position in sorted(positions)[:_LISTED])
            return ClipAmbiguousError(f"{len(positions)} flow images could be its: {listed}.")
    looked_for = ", ".join(keys[0] for keys in _clip_keys(record))
    return ClipNotFoundError(f"No flow image has its name. Looked for: {looked_for}.")


def _name_keys(name: str) -> Iterator[str]:
    """The name without ending, alone and with one, two... folders above it."""
    parts = _bare(name).split("/")
    for depth in range(1, len(parts) + 1):
        yield "/".join(parts[-depth:])


def _clip_keys(record: ClipRecord) -> Iterator[list[str]]:
    """What a clip may be called, the most particular first."""
    if record.flow_image:
        yield [_bare(record.flow_image)]
        return
    subject, filename = record.subject.strip().casefold(), _bare(record.filename)
    flat = filename.replace("/", "_")
    if record.onset is not None:
        onset = str(record.onset)
        yield [
            f"{subject}_{flat}_{onset}",
            f"{subject}/{filename}_{onset}",
            f"{subject}/{filename}/{onset}",
        ]
    yield [f"{subject}_{flat}", f"{subject}/{filename}"]
    if record.onset is not None:
        yield [f"{flat}_{record.onset}", f"{filename}_{record.onset}"]
    yield [flat, filename]


def _bare(name: str) -> str:
    path = PurePosixPath(name.strip().replace("\\", "/").casefold())
    return str(path.with_suffix("") if path.suffix in _CLIP_ENDINGS else path)
