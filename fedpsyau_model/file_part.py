"""The base of all that is written to JSON files: closed, frozen, kebab-case keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from fedpsyau_model.settings import kebab_case

__all__ = ["FilePart"]


class FilePart(BaseModel):
    """A JSON object of a file that this package writes and reads back.

    A key that is not declared is refused, and so are NaN and infinity.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=kebab_case,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
    )
