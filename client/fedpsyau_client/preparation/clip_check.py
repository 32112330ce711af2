"""Whether the clips of a label table are there, before hours of preparing them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedpsyau_client.labels.clip_record import ClipRecord, Oddity
from fedpsyau_client.preparation.clip_files import ClipFiles, index_clips
from fedpsyau_client.preparation.frames import ImageFolder, open_clip
from fedpsyau_model.errors import (
    ClipAmbiguousError,
    ClipNotFoundError,
    FrameMissingError,
    FrameUnreadableError,
)

__all__ = ["check_clips"]


def check_clips(root: Path, records: Sequence[ClipRecord]) -> tuple[Oddity, ...]:
    """Look for every clip below `root`, and for its onset and apex where it is a folder of images.

    Videos are not opened. Raises DataNotFoundError where `root` is no folder.
    """
    files = index_clips(root, records)
    found = (_oddity(record, files) for record in records)
    return tuple(oddity for oddity in found if oddity is not None)


def _oddity(record: ClipRecord, files: ClipFiles) -> Oddity | None:
    try:
        place = files.find(record)
        clip = open_clip(place.path)
        if isinstance(clip, ImageFolder):
            for number in (record.onset, record.apex):
                if number is not None:
                    clip.file_of(number)
    except ClipNotFoundError as error:
        return Oddity("clip-missing", record.row, str(error))
    except ClipAmbiguousError as error:
        return Oddity("clip-ambiguous", record.row, str(error))
    except (FrameMissingError, FrameUnreadableError) as error:
        return Oddity("frame-missing", record.row, str(error))
    return Oddity("clip-case", record.row, place.oddity) if place.oddity else None
