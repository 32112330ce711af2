"""Text that somebody else wrote, made fit for a log, a terminal and a record."""

from __future__ import annotations

__all__ = ["printable"]

#: Characters that are enough for a reason, and not enough to fill a disk.
_LONGEST = 400


def printable(text: str, longest: int = _LONGEST) -> str:
    """One line of at most about `longest` characters, without control characters.

    Whatever is not printable (line ends, terminal escapes, right-to-left marks, lone surrogates)
    is written as an escape, so that a foreign text can neither forge a line of a log nor steer a
    terminal.
    """
    head = text[:longest]
    shown = "".join(each if each.isprintable() else _escape(each) for each in head)
    if len(shown) > longest:
        shown, head = shown[:longest], ""
    left = len(text) - len(head)
    return f"{shown}... ({len(text)} characters)" if left > 0 else shown


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
