"""A file of priors: what `fedpsyau priors build` and `study` write and a site may use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fedpsyau_model import __version__
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import PriorsFileError
from fedpsyau_model.file_part import FilePart
from fedpsyau_model.input_files import read_input_text
from fedpsyau_model.settings import LONGEST_NAME, MOST_SMOOTHING, Matrix, PriorsSettings
from fedpsyau_priors import IntrinsicEdges, Priors

__all__ = ["PRIORS_NAME", "PriorsFile", "SourceSummary", "read_priors_file"]

#: Raised whenever an older reader would misread a newer file.
SCHEMA_VERSION: Final = 1

PRIORS_NAME = "priors.json"


class SourceSummary(FilePart):
    """What counts were made from; holds no path."""

    dataset: str
    kind: Literal["label table", "feature store"]
    clips: int = Field(ge=0)
    clips_with_aus: int = Field(ge=0)
    synthetic: bool = False


class StudySummary(FilePart):
    """What a matrix of coordinated pairs was made from; names no participant."""

    participants: int = Field(ge=1)
    pairs: int = Field(ge=0)
    excluded: int = Field(ge=0)
    untested: Literal["published", "zero"]


class PriorsFile(FilePart):
    """Content of a priors file. A part that is not there is the published one.

    cooccurrence: counts as they were found; `smoothing` is added where they are used.
    attention: their rows normalised, smoothed, for each region of the face; for people to read.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    fedpsyau_version: str = __version__
    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    aus: tuple[int, ...] = AUS
    sources: tuple[SourceSummary, ...] = ()
    smoothing: float = Field(0, ge=0, le=MOST_SMOOTHING)
    cooccurrence: tuple[tuple[int, ...], ...] = ()
    attention: dict[Literal["upper", "lower", "whole"], Matrix] = Field(default_factory=dict)
    study: StudySummary | None = None
    intrinsic: tuple[tuple[int, ...], ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.aus != AUS:
            raise ValueError(f"the AUs are {self.aus}, and this fedpsyau uses {AUS}")
        self.settings()
        return self

    def settings(self) -> PriorsSettings:
        """The same as section ``[priors]`` of a federation's settings."""
        return PriorsSettings.model_validate(
            {
                "name": self.name,
                "cooccurrence": self.cooccurrence,
                "smoothing": self.smoothing,
                "intrinsic": self.intrinsic,
            }
        )

    def priors(self, intrinsic_edges: IntrinsicEdges = "published") -> Priors:
        """The priors in this file, their edges altered by `intrinsic_edges`."""
        return self.settings().priors(intrinsic_edges)

    def to_json(self) -> str:
        """Text as it is written to disk: kebab-case keys, one row of a matrix a line."""
        return _json(self.model_dump(mode="json", by_alias=True), "") + "\n"

    def to_toml(self) -> str:
        """The section ``[priors]`` for federation.toml, by which sites share these priors."""
        lines = [
            '# To share these priors, put this section into federation.toml, and priors = "file"',
            "# into its section [network].",
            "[priors]",
            f"name = {json.dumps(self.name, ensure_ascii=False)}",
        ]
        if self.cooccurrence:
            lines += ["cooccurrence = [", *_toml_rows(self.cooccurrence), "]"]
            lines.append(f"smoothing = {self.smoothing:g}")
        if self.intrinsic:
            lines += ["intrinsic = [", *_toml_rows(self.intrinsic), "]"]
        return "\n".join(lines) + "\n"


def read_priors_file(file: Path) -> PriorsFile:
    """Read and check a file of priors. Raises PriorsFileError, which says what is wrong."""
    try:
        values = json.loads(read_input_text(file))
    except FileNotFoundError:
        raise PriorsFileError(
            f"There is no file of priors {file}. `fedpsyau priors build` writes one."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise PriorsFileError(
            f"The file of priors {file} cannot be read: {error}. {_CURE}"
        ) from None
    version = values.get("schema-version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise PriorsFileError(
            f"{file} gives the schema-version {version!r}, and this fedpsyau reads files of priors "
            f"of version {SCHEMA_VERSION}. {_CURE}"
        )
    try:
        return PriorsFile.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}"
            for problem in error.errors()[:_LISTED_PROBLEMS]
        )
        raise PriorsFileError(f"The file of priors {file} is wrong: {problems}. {_CURE}") from None


_LISTED_PROBLEMS = 5

_CURE = "Make it anew with `fedpsyau priors build` or `fedpsyau priors study`."


def _toml_rows(matrix: tuple[tuple[int, ...], ...]) -> list[str]:
    return [f"    [{', '.join(str(cell) for cell in row)}]," for row in matrix]


def _json(value: Any, indent: str) -> str:
    """JSON with an indent of 2 in which a list of plain values stays on one line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(key)}: {_json(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        lines = [inner + _json(item, inner) for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
