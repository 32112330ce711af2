"""Text that somebody else wrote, made fit for a log, a terminal and a record."""

from __future__ import annotations

__all__ = ["escaped", "printable"]

#: Characters that are enough for a reason, and not enough to fill a disk.
_LONGEST = 400


def escaped(text: str, but: str = "") -> str:
    """Spell out whatever is not printable: line ends, terminal escapes, right-to-left marks.

    but: characters that stay as they are.
    """
    return "".join(
        each if each.isprintable() or each in but else each.encode("unicode_escape").decode()
        for each in text
    )


def printable(text: str, longest: int = _LONGEST) -> str:
    """One line of at most about `longest` characters, without control characters.

    So a foreign text can neither forge a line of a log, nor fill it, nor steer a terminal.
    """
    head = text[:longest]
    shown = escaped(head)
    if len(shown) > longest:
        shown, head = shown[:longest], ""
    left = len(text) - len(head)
    return f"{shown}... ({len(text)} characters)" if left > 0 else shown
