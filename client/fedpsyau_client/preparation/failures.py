"""Clips that could not be prepared: which, why, and when there are too many of them.

The lists stay in the working folder: they name clips and files.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import ClipError, OutputWriteError, PreparationStoppedError

__all__ = [
    "FAILURES_CSV",
    "FAILURES_JSON",
    "Failure",
    "check_failures",
    "count_reasons",
    "reason",
    "write_failures",
]

FAILURES_CSV: Final = "failures.csv"
FAILURES_JSON: Final = "failures.json"

#: Clips to try before a share of failures means anything.
_LEAST_TRIED: Final = 10

_COLUMNS: Final = ("row", "clip", "subject", "filename", "onset", "reason", "message")


@dataclass(frozen=True, eq=False)
class Failure:
    """A clip that could not be prepared, with its pseudonymous id."""

    record: ClipRecord
    clip: str
    error: ClipError

    @property
    def cells(self) -> dict[str, str | int | None]:
        """Its row in the lists, by column."""
        subject, filename, onset = self.record.key
        values = (self.record.row, self.clip, subject, filename, onset, reason(self.error))
        return dict(zip(_COLUMNS, (*values, str(self.error)), strict=True))


def reason(error: ClipError) -> str:
    """Short name of why a clip failed, such as ``no-face``; it names no clip."""
    if type(error) is ClipError:
        return "unforeseen"
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<=.)(?=[A-Z])", "-", name).lower()


def count_reasons(failures: Sequence[Failure]) -> dict[str, int]:
    """Clips by reason, the commonest first."""
    counts = Counter(reason(failure.error) for failure in failures)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def write_failures(folder: Path, failures: Sequence[Failure]) -> None:
    """Write ``failures.csv`` and ``failures.json`` to the working folder, also where none failed.

    Raises OutputWriteError.
    """
    rows = [failure.cells for failure in sorted(failures, key=lambda each: each.clip)]
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        write_atomically(folder / FAILURES_CSV, text.getvalue())
        write_atomically(folder / FAILURES_JSON, json.dumps(rows, indent=2) + "\n")
    except OSError as error:
        raise OutputWriteError(
            f"{folder / FAILURES_CSV} cannot be written: {error.strerror or error}. Check free "
            "space and permissions."
        ) from error


def check_failures(
    failures: Sequence[Failure], tried: int, total: int, share: float, folder: Path
) -> None:
    """Stop where more than `share` of all clips failed, or none is left.

    tried: clips that were done or failed so far. Raises PreparationStoppedError.
    """
    enough = tried >= min(_LEAST_TRIED, total)
    too_many = tried >= _LEAST_TRIED and len(failures) > share * total
    if not (too_many or (enough and len(failures) == total)):
        return
    counts = ", ".join(f"{count} {name}" for name, count in count_reasons(failures).items())
    raise PreparationStoppedError(
        f"{len(failures)} of {total} clips could not be prepared ({counts}), and at most "
        f"{share:.0%} may fail. The first: {failures[0].error} All of them stand in "
        f"{folder / FAILURES_CSV}. Mend the cause and call the same command again: clips that are "
        "done are not done again. Or let more of them fail with --max-failures."
    )
