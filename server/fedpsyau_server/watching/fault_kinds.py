"""Faults of replies sorted into few kinds, so that they can be counted.

The reasons that `reply_checks` and `flower_link` give are sentences with numbers in them, for a
person; a metric needs names that stay the same.
"""

from __future__ import annotations

import re

__all__ = ["KINDS", "OTHER", "fault_kind"]

OTHER = "other"

#: Kind -> what its sentences have in common. The first that fits counts.
KINDS = {
    "malformed": r"^malformed|in a message",
    "site-failure": r"reported a failure",
    "tensors": r"tensors missing",
    "not-finite": r"not finite",
    "shape": r"^tensor \S+ is .* not ",
    "norm": r"update norm",
    "clips": r"training clips",
    "confusion": r"confusion_",
    "wrong-round": r"answers for",
}


def fault_kind(reason: str) -> str:
    """Kind of a fault: a key of `KINDS`, or ``other``."""
    for kind, pattern in KINDS.items():
        if re.search(pattern, reason):
            return kind
    return OTHER
