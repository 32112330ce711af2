"""What crosses the wire between server and sites: the closed schema of every message.

Server and sites agree on this file and on nothing else. A message is one pydantic model of plain
values below and, where a model travels, one byte string of named tensors (safetensors). A key that
is not listed here is refused on both sides, so nothing but weights, counts, losses and the words
of a refusal can leave a site (design section 7). Some parts of a report a site may keep to itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, Self, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedpsyau_model import __version__
from fedpsyau_model.errors import FedPsyAUError
from fedpsyau_model.settings import FederationSettings, agreement_differences

#: Raised by one whenever a message changes in a way that the other side must know.
SCHEMA_VERSION = 4

#: Names of the two records of a message: plain values, and the model's bytes.
VALUES_RECORD = "values"
MODEL_RECORD = "model"

#: Message types, as Flower spells them: category and action.
HELLO = "query.hello"
DISMISS = "query.dismiss"
TRAIN = "train.round"

Tensors = dict[str, np.ndarray]


class MalformedMessageError(FedPsyAUError):
    """A message does not follow the schema."""

    exit_code = 12


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def to_values(self) -> dict[str, Any]:
        """The message as a flat dictionary of str, int, float, bool and lists of them.

        What the sender keeps to itself is left out: a record has no word for nothing.
        """
        return self.model_dump(exclude_none=True)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read a message; MalformedMessageError names the keys that do not fit, not their values.

        Values are left out of the error because it may travel.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            keys = sorted(
                {".".join(map(str, each["loc"])) or each["msg"] for each in error.errors()}
            )
            raise MalformedMessageError(
                f"A {cls.__name__} message does not follow schema version {SCHEMA_VERSION}: "
                f"wrong or missing {', '.join(keys)}."
            ) from None


class Hello(_Message):
    """Server to a node that it does not know yet: who I am and what we would agree on."""

    run_id: str
    version: str
    schema_version: int
    agreement: str = Field(description="JSON of FederationSettings.agreement()")
    agreement_hash: str
    rounds: int = Field(ge=1, description="rounds that the run is to have")
    min_sites: int = Field(ge=1, description="valid replies without which no round counts")


class Introduction(_Message):
    """A site's answer to `Hello`."""

    partition: str
    instance: str = Field(description="random token of the site's state folder")
    version: str
    schema_version: int
    agreement_hash: str
    train_clips: int = Field(ge=0)
    test_clips: int = Field(ge=0)
    synthetic: bool
    refusal: str = Field(description="why the site does not take part; empty if it does")


class Dismissal(_Message):
    """Server to a site: your part ends here. It was refused, or the run is complete (code 0)."""

    reason: str
    exit_code: int


class Acknowledgement(_Message):
    """A site's answer to `Dismissal`."""

    partition: str


class TrainingOrder(_Message):
    """Server to a site: train the model that comes with this."""

    run_id: str
    round: int = Field(ge=1)
    rounds: int = Field(ge=1)
    sites: int = Field(ge=1, description="sites that this round's orders go to")
    all_clips: int = Field(ge=0, description="training clips of all sites whose models count")


#: What a site may keep to itself in a report.
OptionalPart = Literal["confusion", "losses", "seconds"]

#: The keys of each such part; they are there together or not at all.
OPTIONAL_PARTS: Final[Mapping[OptionalPart, tuple[str, ...]]] = {
    "confusion": ("confusion_received", "confusion_trained"),
    "losses": ("loss_total", "loss_emotion", "loss_au", "loss_au_aux", "loss_proximal"),
    "seconds": ("train_seconds",),
}


class TrainingReport(_Message):
    """A site's answer to `TrainingOrder`, next to its trained model.

    Confusion matrices are row-major, rows the true class, from the site's held-out subjects:
    of the received model before training, and of the trained one. A part of OPTIONAL_PARTS that
    the site keeps to itself is None.
    """

    partition: str
    run_id: str
    round: int = Field(ge=1)
    train_clips: int = Field(ge=1)
    test_clips: int = Field(ge=0)
    confusion_received: list[int] | None = None
    confusion_trained: list[int] | None = None
    loss_total: float | None = None
    loss_emotion: float | None = None
    loss_au: float | None = None
    loss_au_aux: float | None = None
    loss_proximal: float | None = None
    fisher_trace: float = Field(ge=0, description="fedas: weight of the model; else 0")
    theta: float = Field(
        ge=0, le=1, description="theta = auto: weight of the own model from now on; else 0"
    )
    train_seconds: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _has_whole_parts(self) -> Self:
        for part, keys in OPTIONAL_PARTS.items():
            if len({getattr(self, key) is None for key in keys}) > 1:
                raise ValueError(f"{part} is there in part only")
        return self

    @property
    def kept_back(self) -> tuple[OptionalPart, ...]:
        """Parts that the site keeps to itself."""
        return tuple(
            part for part, keys in OPTIONAL_PARTS.items() if getattr(self, keys[0]) is None
        )

    def without(self, parts: Collection[OptionalPart]) -> Self:
        """Leave some of the optional parts out."""
        return self.model_copy(update={key: None for part in parts for key in OPTIONAL_PARTS[part]})


Message = TypeVar("Message", bound=_Message)


def hello(settings: FederationSettings, run_id: str) -> Hello:
    """Make the server's greeting for one run."""
    return Hello(
        run_id=run_id,
        version=__version__,
        schema_version=SCHEMA_VERSION,
        agreement=json.dumps(settings.agreement(), sort_keys=True),
        agreement_hash=settings.agreement_hash(),
        rounds=settings.rounds.rounds,
        min_sites=min(settings.rounds.min_sites, len(settings.server.sites)),
    )


def disagreement(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], our_name: str, their_name: str
) -> str:
    """Say how two parties differ, with both sides' values; empty if they agree.

    ours, theirs: each with ``version``, ``schema_version``, ``agreement_hash`` and, where known,
    ``agreement`` (a dictionary), from which the settings that differ are named.
    """
    problems = [
        f"{label} ({our_name}: {ours[key]}, {their_name}: {theirs[key]})"
        for key, label in (("version", "package version"), ("schema_version", "message schema"))
        if ours[key] != theirs[key]
    ]
    if ours["agreement_hash"] != theirs["agreement_hash"]:
        problems.append(
            f"settings (hash at {our_name}: {ours['agreement_hash'][:12]}, "
            f"at {their_name}: {theirs['agreement_hash'][:12]}"
            + _settings_difference(ours.get("agreement"), theirs.get("agreement"))
            + ")"
        )
    return "; ".join(problems)


def _settings_difference(ours: Any, theirs: Any) -> str:
    if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        return ""
    return "; here is this side, there the other: " + ", ".join(agreement_differences(ours, theirs))


#: What comes before the name of a tensor of the others' mean, beside the personal model.
_OTHERS = "others/"


def with_others(model: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> Tensors:
    """Put a personal model and the mean of the other sites' models into one set of tensors."""
    return {**model, **{_OTHERS + name: tensor for name, tensor in others.items()}}


def without_others(tensors: Mapping[str, np.ndarray]) -> tuple[Tensors, Tensors]:
    """Take apart what `with_others` put together: model, others' mean (empty if there is none)."""
    model, others = {}, {}
    for name, tensor in tensors.items():
        if name.startswith(_OTHERS):
            others[name.removeprefix(_OTHERS)] = tensor
        else:
            model[name] = tensor
    return model, others


def pack_tensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Serialise named tensors, names sorted, so that equal models give equal bytes."""
    return safetensors.numpy.save(
        {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    )


def _require_unique_names(data: bytes) -> None:
    """Raise ValueError if a name stands twice in the header, of which one would be dropped."""
    length = int.from_bytes(data[:8], "little")
    json.loads(data[8 : 8 + length], object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError("a name stands twice in its header")
    return named


def unpack_tensors(data: bytes) -> Tensors:
    """Read what `pack_tensors` made; MalformedMessageError if it is anything else."""
    try:
        tensors = safetensors.numpy.load(data)
        _require_unique_names(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MalformedMessageError(f"A model in a message cannot be read: {error}.") from None
    # The library gives them in an order that differs from call to call; sums must not.
    return {name: tensors[name] for name in sorted(tensors)}
