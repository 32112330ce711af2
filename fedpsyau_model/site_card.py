"""A site card as a JSON file: what ``fedpsyau data card`` writes and a coordinator's report reads.

Counts only. A small count is a text such as ``<5``, or ``withheld``.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fedpsyau_model.emotions import ClassScheme

__all__ = ["CARD_ENDING", "ShownCount", "SiteCardDocument"]

#: Ending of the file's name, after the partition's.
CARD_ENDING = "-card.json"

#: A count, or what is told in the place of one that is hidden.
ShownCount = Annotated[int, Field(ge=0, strict=True)] | Annotated[str, Field(max_length=40)]

_Name = Annotated[str, Field(max_length=200)]
_Counts = Annotated[dict[_Name, ShownCount], Field(max_length=50)]


class SiteCardDocument(BaseModel):
    """Content of ``NAME-card.json``; keys are kebab-case in the file."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        validate_by_name=True,
        serialize_by_alias=True,
    )

    partition: _Name
    dataset: _Name
    synthetic: bool
    clips: ShownCount
    subjects: ShownCount
    class_scheme: ClassScheme
    classes: _Counts
    au_annotated: Literal["all", "some", "none"]
    aus: _Counts
    mask_below: int = Field(ge=1)
    preprocessing: dict[_Name, Any] = Field(max_length=50)
    data_hash: _Name
    fedpsyau_version: _Name

    def text(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(by_alias=True), indent=2) + "\n"
