"""Seeds of one machine's work, each from what it is for."""

from __future__ import annotations

import hashlib


def seed_for(*purpose: str | int) -> int:
    """Give the seed for a purpose: 63 bits of a hash over its parts.

    ``seed_for(7, "loso", "casme3/s03", "weights")`` depends on nothing else, so that a fold has the
    same random numbers whichever fold came before it and in whichever process it runs.
    """
    text = "/".join(str(part).replace("/", "//") for part in purpose)
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
