"""The published matrices exactly as printed, read from the CSV files beside this module.

Every file has one header row and one header column of AU names; they are the authority on the AU
order of this package. Nothing is mended here: see `fedpsyau_priors.intrinsic` for the oddities.
"""

from __future__ import annotations

import csv
import functools
from importlib import resources

import numpy as np
import numpy.typing as npt

from fedpsyau_priors.errors import PriorError

IntMatrix = npt.NDArray[np.int64]


def action_units() -> tuple[int, ...]:
    """FACS numbers of the twelve action units, in the order of every matrix here."""
    return _read_matrix("intrinsic_cross.csv")[0]


def intrinsic_upper() -> IntMatrix:
    """Read the coordinated pairs within the upper face, supplement Fig. 3.

    Returns (6, 6), 1 or 0, read-only. 1 means coordinated, 0 mutually exclusive or
    unrelated. Order: AU 1, 2, 4, 5, 6, 7.
    """
    return _read_matrix("intrinsic_upper.csv")[1]


def intrinsic_lower() -> IntMatrix:
    """Read the coordinated pairs within the lower face, supplement Fig. 3.

    Returns (6, 6), 1 or 0, read-only. Order: AU 9, 10, 12, 14, 15, 17.
    """
    return _read_matrix("intrinsic_lower.csv")[1]


def intrinsic_cross() -> IntMatrix:
    """Read the coordinated pairs across the halves of the face, supplement Fig. 3.

    Returns (12, 12), read-only. Its two diagonal blocks are identities: pairs within a half
    stand in `intrinsic_upper` and `intrinsic_lower`. Not quite symmetric as published: AU9-AU2 is
    1, AU2-AU9 is 0.
    """
    return _read_matrix("intrinsic_cross.csv")[1]


def cooccurrence_counts() -> IntMatrix:
    """DFME clips in which both AUs of a pair were annotated (supplement Fig. 4): (12, 12).

    Symmetric, read-only. The diagonal counts the clips with that AU at all.
    """
    return _read_matrix("dfme_cooccurrence_counts.csv")[1]


@functools.cache
def _read_matrix(name: str) -> tuple[tuple[int, ...], IntMatrix]:
    text = (resources.files("fedpsyau_priors") / "data" / name).read_text(encoding="utf-8")
    header, *rows = csv.reader(text.splitlines())
    if [row[0] for row in rows] != header[1:]:
        raise PriorError(f"{name}: the AU names of the rows differ from those of the columns.")
    matrix = np.array([[int(cell) for cell in row[1:]] for row in rows], dtype=np.int64)
    matrix.setflags(write=False)
    return tuple(int(label.removeprefix("AU")) for label in header[1:]), matrix
