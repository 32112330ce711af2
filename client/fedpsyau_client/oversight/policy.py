"""A site's policy: what it lets a server ask for, in a file of its own.

What is left out of ``policy.toml`` is not restricted. A server that asks for anything else is
refused: the difference is told at the site in full, and travels as the bare keys of the policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from fedpsyau_model.errors import PolicyRefusedError
from fedpsyau_model.exchange import OptionalPart
from fedpsyau_model.settings import (
    AGREED,
    FederationSettings,
    Settings,
    agreement_differences,
    agreement_hash,
    load_settings,
)

__all__ = [
    "ALL_METRICS",
    "POLICY_FILE",
    "Difference",
    "Metric",
    "Policy",
    "join_differences",
    "order_differences",
    "read_policy",
    "refusal",
    "short_refusal",
]

#: Name under which a policy is found in a kit's folder.
POLICY_FILE: Final = "policy.toml"

#: What may leave a site beside its model and the numbers of its clips. The last two are part of a
#: strategy: without them a site cannot take part in it.
Metric = Literal[OptionalPart, "fisher-trace", "theta"]
ALL_METRICS: Final[tuple[Metric, ...]] = ("confusion", "losses", "seconds", "fisher-trace", "theta")

_HASH = re.compile(r"[0-9a-f]{64}")


class Policy(Settings):
    """Content of ``policy.toml``."""

    agreement_hash: str | None = Field(
        None, description="The settings agreed on, as their hash; left out: whatever is proposed."
    )
    min_sites: int = Field(
        1, ge=1, description="Fewest sites that a round may have, by the server's word."
    )
    max_rounds: int | None = Field(None, ge=1, description="Most rounds that a run may have.")
    metrics: tuple[Metric, ...] = Field(
        ALL_METRICS, description="What may leave beside the model and the numbers of clips."
    )
    max_message_mib: int = Field(
        256, ge=1, description="Largest message of the server that is looked into, in MiB."
    )
    agreement: dict[str, Any] | None = Field(
        None, description="The settings of agreement-hash, to name what differs."
    )

    @field_validator("agreement_hash")
    @classmethod
    def _is_a_hash(cls, value: str | None) -> str | None:
        if value is not None and not _HASH.fullmatch(value):
            raise ValueError("64 hexadecimal digits are needed; `fedpsyau-client policy init`")
        return value

    @field_validator("agreement")
    @classmethod
    def _are_settings(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        if strange := sorted(value.keys() - set(AGREED)):
            raise ValueError(f"no part of an agreement: {', '.join(strange)}")
        try:
            return FederationSettings.model_validate(value).agreement()
        except ValidationError as error:
            keys = sorted({".".join(map(str, each["loc"])) for each in error.errors()})
            raise ValueError(f"no settings of this fedpsyau: {', '.join(keys)}") from None

    @model_validator(mode="after")
    def _fits_its_hash(self) -> Self:
        if self.agreement is None:
            return self
        found = agreement_hash(self.agreement)
        if self.agreement_hash != found:
            raise ValueError(
                f"agreement-hash is not that of section [agreement], which is {found}: one of them "
                "was edited"
            )
        return self

    @property
    def held_back(self) -> tuple[OptionalPart, ...]:
        """Parts of a report that stay at the site."""
        return tuple(part for part in get_args(OptionalPart) if part not in self.metrics)


@dataclass(frozen=True)
class Difference:
    """What the server asks for and the policy does not allow.

    key: of the policy; it is all that travels. text: both values, for the site's own eyes.
    """

    key: str
    text: str


def read_policy(file: Path) -> Policy:
    """Read a policy; SettingsError names what is wrong in it."""
    return load_settings(Policy, file, environment={})


def join_differences(
    policy: Policy, proposed: Mapping[str, Any], rounds: int, min_sites: int
) -> list[Difference]:
    """Compare what a server proposes for a run with the policy; empty if all is allowed.

    proposed: the agreement. rounds, min_sites: of the run.
    """
    found = [
        *_agreement_difference(policy, proposed),
        *_too_many(policy, rounds),
        *_too_few(policy, min_sites, "runs count with"),
    ]
    strategy = proposed.get("strategy", {})
    needed: dict[Metric, bool] = {
        "fisher-trace": strategy.get("name") == "fedas",
        "theta": strategy.get("name") == "p-fedprox" and strategy.get("theta") == "auto",
    }
    found += [
        Difference(
            "metrics",
            f"strategy {strategy.get('name')} needs {metric}, and metrics allows "
            f"{', '.join(policy.metrics) or 'none'}",
        )
        for metric, is_needed in needed.items()
        if is_needed and metric not in policy.metrics
    ]
    return found


def order_differences(policy: Policy, rounds: int, sites: int) -> list[Difference]:
    """Compare an order with the policy; empty if it is allowed.

    rounds: of the run. sites: that the round's orders go to.
    """
    return [*_too_many(policy, rounds), *_too_few(policy, sites, "this round has")]


def refusal(differences: Iterable[Difference]) -> PolicyRefusedError:
    """Make the error for what the policy does not allow, with every difference."""
    told = "; ".join(f"{each.key}: {each.text}" for each in differences)
    return PolicyRefusedError(
        f"The server asks for what this site's policy does not allow. {told}. Nothing was trained "
        "or sent. Agree with the coordinator on either side's change."
    )


def short_refusal(differences: Iterable[Difference]) -> str:
    """Say to the server what the policy does not allow, by the policy's keys alone."""
    keys = sorted({each.key for each in differences})
    return f"what this site's policy allows ({', '.join(keys)})" if keys else ""


def _agreement_difference(policy: Policy, proposed: Mapping[str, Any]) -> list[Difference]:
    found = agreement_hash(proposed)
    if policy.agreement_hash in (None, found):
        return []
    text = f"the server proposes settings {found}, and {policy.agreement_hash} was agreed on"
    if policy.agreement is not None:
        text += ": " + ", ".join(agreement_differences(policy.agreement, proposed))
    return [Difference("agreement-hash", text)]


def _too_many(policy: Policy, rounds: int) -> list[Difference]:
    if policy.max_rounds is None or rounds <= policy.max_rounds:
        return []
    return [Difference("max-rounds", f"the run has {rounds}, and {policy.max_rounds} are allowed")]


def _too_few(policy: Policy, sites: int, what: str) -> list[Difference]:
    if sites >= policy.min_sites:
        return []
    plural = "" if sites == 1 else "s"
    return [
        Difference(
            "min-sites", f"{what} {sites} site{plural}, and at least {policy.min_sites} are needed"
        )
    ]
