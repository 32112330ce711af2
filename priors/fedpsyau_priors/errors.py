"""The one failure of this package; it stands below all others and so brings its own type."""

from __future__ import annotations


class PriorError(ValueError):
    """A prior matrix has the wrong shape, or a row from which no prior can be made."""
