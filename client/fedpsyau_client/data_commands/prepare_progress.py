"""The progress bar of ``fedpsyau data prepare``: clips, clips per second, time left, failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["clip_progress"]


class _ClipsPerSecond(ProgressColumn):
    """Clips per second of late, without those that were done before."""

    def render(self, task: Task) -> Text:
        """Text such as ``1.9 clips/s``."""
        speed = task.finished_speed or task.speed
        return Text("- clips/s" if speed is None else f"{speed:.1f} clips/s")


@contextmanager
def clip_progress() -> Iterator[tuple[Callable[[int, int, int], None], Callable[[bool], None]]]:
    """Show a bar on stderr; gives the callbacks `begin` and `progress` of `prepare`."""
    columns = (
        TextColumn("preparing"),
        BarColumn(),
        MofNCompleteColumn(),
        _ClipsPerSecond(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed"),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    failures = 0

    def begin(total: int, done: int, failed: int) -> None:
        nonlocal failures
        failures = failed
        bar.add_task("", total=total, completed=done + failed, failed=failures)
        bar.start()

    def progress(well: bool) -> None:
        nonlocal failures
        failures += not well
        bar.update(bar.task_ids[0], advance=1, failed=failures)

    try:
        yield begin, progress
    finally:
        bar.stop()
