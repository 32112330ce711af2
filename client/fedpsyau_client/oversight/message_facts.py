"""What the audit log says of a message: its kind, its values, its tensors, its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fedpsyau_model.exchange import MODEL_RECORD, VALUES_RECORD

if TYPE_CHECKING:
    from flwr.app import Message

__all__ = ["MessageFacts", "TensorFacts", "message_facts", "payload_hash"]

#: Characters of a text that are kept; longer ones are told by their hash.
_LONGEST_TEXT: Final = 300

#: Tensors that a list has at most; no network here comes near.
_MOST_TENSORS: Final = 5000


@dataclass(frozen=True)
class TensorFacts:
    """Names, types and shapes of the tensors in a model, and nothing of their values."""

    listed: tuple[tuple[str, str, tuple[int, ...]], ...]
    """(name, type as safetensors spells it, shape), sorted by name."""

    @property
    def digest(self) -> str:
        """Short hash of the list, equal for models of one network."""
        return hashlib.sha256(json.dumps(self.listed).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class MessageFacts:
    """One message, described without anything that it should not hold.

    kind: Flower's message type, or ``error``. run, round: as the message says them, if it does.
    values: the plain values; None if they cannot be told. tensors: None without a model that can
    be read. size: bytes of values and model. sha256: see `payload_hash`.
    """

    kind: str
    run: str | None
    round: int | None
    values: dict[str, Any] | None
    tensors: TensorFacts | None
    size: int
    sha256: str


def message_facts(message: Message) -> MessageFacts:
    """Describe a message of any kind, well-formed or not. Never raises for its content."""
    if message.has_error():
        values: dict[str, Any] = {"code": message.error.code, "reason": message.error.reason or ""}
        return _facts("error", values, b"")
    records = message.content
    given = records.config_records.get(VALUES_RECORD)
    arrays = records.array_records.get(MODEL_RECORD)
    model = b"".join(array.data for array in arrays.values()) if arrays else b""
    return _facts(message.metadata.message_type, dict(given or {}), model)


def payload_hash(values: Mapping[str, Any], model: bytes) -> str:
    """SHA-256 of a message: its values as JSON with sorted keys, a line feed, the model's bytes."""
    digest = hashlib.sha256(_json(values))
    digest.update(b"\n")
    digest.update(model)
    return digest.hexdigest()


def _facts(kind: str, values: dict[str, Any], model: bytes) -> MessageFacts:
    run, number = values.get("run_id"), values.get("round")
    return MessageFacts(
        kind=kind[:_LONGEST_TEXT],
        run=run[:_LONGEST_TEXT] if isinstance(run, str) else None,
        round=number if isinstance(number, int) else None,
        values={key[:_LONGEST_TEXT]: _shortened(value) for key, value in values.items()},
        tensors=_tensor_facts(model) if model else None,
        size=len(_json(values)) + len(model),
        sha256=payload_hash(values, model),
    )


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(values), sort_keys=True, separators=(",", ":"), default=_hex).encode()


def _hex(value: object) -> str:
    """Spell bytes, the one kind of value in a record that JSON does not have."""
    return bytes(value).hex() if isinstance(value, bytes) else repr(type(value))


def _shortened(value: Any) -> Any:
    """Make a value that JSON has, and that fits on a line."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=_hex, allow_nan=False)
    except ValueError:  # not finite
        return repr(value)[:_LONGEST_TEXT]
    if len(text) > _LONGEST_TEXT:
        return f"{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
    return text if isinstance(value, str) else json.loads(text)


def _tensor_facts(model: bytes) -> TensorFacts | None:
    """Read the header of a safetensors file; None if it is none."""
    length = int.from_bytes(model[:8], "little")
    if len(model) < 8 + length:
        return None
    try:
        header = json.loads(model[8 : 8 + length])
        listed = [
            (str(name)[:_LONGEST_TEXT], str(each["dtype"])[:8], tuple(map(int, each["shape"])))
            for name, each in header.items()
            if name != "__metadata__"
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return TensorFacts(tuple(sorted(listed))) if len(listed) <= _MOST_TENSORS else None
