"""How large what a site sends may be: derived from the model that was sent to it.

The SuperLink holds to it when a reply is announced, the ServerApp when it is fetched.
"""

from __future__ import annotations

__all__ = [
    "CHUNK",
    "LARGEST_REPLY_VARIABLE",
    "REPLY_REFUSED",
    "SMALL",
    "largest_reply",
    "most_objects",
]

#: Bytes of a tensor that Flower sends at a time (FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE).
CHUNK = 5 << 20

#: Bytes that a message without a model may have, and each part of one that holds no tensor.
SMALL = 1 << 16

#: Environment variable that tells the SuperLink how many bytes a reply may have.
LARGEST_REPLY_VARIABLE = "FEDPSYAU_LARGEST_REPLY"

#: Code of the error that stands in the place of a reply that the SuperLink did not take. Flower's
#: own codes are below 100, and ours are exit codes.
REPLY_REFUSED = 9413

#: Objects of a message beside its chunks: message, records, the array, and some room.
_FRAME = 12


def largest_reply(model_bytes: int) -> int:
    """Bytes that a reply may have in all, where the packed model that was sent has `model_bytes`.

    An honest reply has the model's size and a few hundred bytes. Twice that is taken in, so that
    a model with tensors too many is told apart from a flood.
    """
    return 2 * model_bytes + SMALL


def most_objects(size: int) -> int:
    """How many of Flower's objects a message of at most `size` bytes may consist of."""
    return size // CHUNK + _FRAME
