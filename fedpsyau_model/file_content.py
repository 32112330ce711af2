"""Tables and pictures as what a file holds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["csv_text", "png_bytes"]


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Text of a CSV file with a header; rows, at least one, have the columns of the first."""
    lines = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def png_bytes(figure: Figure, dpi: int = 150) -> bytes:
    """Bytes of a PNG file of a figure at `dpi` dots per inch; the same figure, the same bytes."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi)
    return picture.getvalue()
