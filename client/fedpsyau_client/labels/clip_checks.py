"""What is odd about the clips of a table: within one clip, and between clips."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from fedpsyau_client.labels.clip_record import ClipRecord, Oddity

__all__ = ["LONGEST_SECONDS", "between_clips", "within_clip"]

#: A micro-expression lasts at most so long, by the usual definition.
LONGEST_SECONDS = 0.5


def within_clip(clip: ClipRecord, frame_rate: float | None) -> Iterator[Oddity]:
    """Yield what is odd about the frame numbers of one clip; missing ones are not looked at."""
    onset, apex, offset = clip.onset, clip.apex, clip.offset
    span = f"onset {onset}, apex {apex}, offset {offset}"
    if offset == 0:
        yield Oddity("offset-zero", clip.row, span)
        offset = None
    if offset is not None and onset is not None and offset < onset:
        yield Oddity("offset-before-onset", clip.row, span)
        offset = None
    if apex is not None and apex == onset:
        yield Oddity("apex-equals-onset", clip.row, span)
    if apex is not None and not (onset or 0) <= apex <= (apex if offset is None else offset):
        yield Oddity("apex-outside", clip.row, span)
    if apex is not None and apex == offset:
        yield Oddity("apex-equals-offset", clip.row, span)
    if offset is not None and onset is not None and frame_rate:
        seconds = (offset - onset) / frame_rate
        if seconds > LONGEST_SECONDS:
            message = f"{offset - onset} frames, {seconds:.2f} s at {frame_rate:g} frames a second"
            yield Oddity("clip-long", clip.row, message)


def between_clips(clips: Sequence[ClipRecord]) -> Iterator[Oddity]:
    """Yield what is odd about clips beside each other: keys, repeated and look-alike names."""
    yield from _duplicate_keys(clips)
    yield from _repeated_names(clips)
    yield from _names_in_other_case(clips)


def _duplicate_keys(clips: Sequence[ClipRecord]) -> Iterator[Oddity]:
    first: dict[object, int] = {}
    for clip in clips:
        row = first.setdefault(clip.key, clip.row)
        if row != clip.row:
            message = f"{clip.subject} {clip.filename} with onset {clip.onset} is in row {row} too"
            yield Oddity("duplicate-key", clip.row, message)


def _repeated_names(clips: Sequence[ClipRecord]) -> Iterator[Oddity]:
    videos = Counter((clip.subject, clip.filename) for clip in clips)
    repeated = len(clips) - len(videos)
    if repeated:
        several = sum(count > 1 for count in videos.values())
        message = (
            f"{repeated} rows repeat subject and file name of an earlier row: "
            f"{several} videos hold several clips"
        )
        yield Oddity("repeated-filename", None, message)


def _names_in_other_case(clips: Sequence[ClipRecord]) -> Iterator[Oddity]:
    """Report the rarer spelling; where none is rarer, the later one of the same subject."""
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for clip in clips:
        spellings[clip.filename.casefold()][clip.filename] += 1
    earlier: dict[tuple[str, str], str] = {}
    for clip in clips:
        folded = clip.filename.casefold()
        usual, most = spellings[folded].most_common(1)[0]
        of_subject = earlier.setdefault((clip.subject, folded), clip.filename)
        if clip.filename != usual and spellings[folded][clip.filename] < most:
            yield Oddity("filename-case", clip.row, f"{clip.filename!r}; elsewhere {usual!r}")
        elif clip.filename != of_subject and spellings[folded][of_subject] == most:
            message = f"{clip.filename!r}; in an earlier row {of_subject!r}"
            yield Oddity("filename-case", clip.row, message)
