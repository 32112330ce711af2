"""Writing ``policy.toml``, so that nobody has to work out a hash by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedpsyau_client.oversight.policy import Policy
from fedpsyau_model.errors import SettingsError
from fedpsyau_model.exchange import Hello
from fedpsyau_model.input_files import read_input_text
from fedpsyau_model.settings import agreement_hash, load_settings

__all__ = ["CLOSED", "agreed_policy", "policy_text", "read_proposal"]

#: A policy that no server can meet: what it proposes is heard, kept and refused.
CLOSED = Policy.model_validate({"agreement-hash": "0" * 64})


def agreed_policy(
    agreement: Mapping[str, Any], rounds: int, min_sites: int, metrics: Sequence[str]
) -> Policy:
    """Make the policy that allows one set of settings and nothing else.

    agreement: as `FederationSettings.agreement` gives it. rounds: most that a run may have.
    min_sites: fewest that a round may have. metrics: what may leave.

    Raises SettingsError for a metric that is none.
    """
    values = {
        "agreement-hash": agreement_hash(agreement),
        "min-sites": min_sites,
        "max-rounds": rounds,
        "metrics": list(metrics),
        "agreement": dict(agreement),
    }
    return load_settings(Policy, flags=values, environment={})


def read_proposal(file: Path) -> tuple[dict[str, Any], int, int]:
    """Read what the server last proposed: agreement, rounds, fewest sites.

    Raises SettingsError if it has not been greeted yet, or the file is not as the client wrote it.
    """
    try:
        values = json.loads(read_input_text(file))
        agreement = values.pop("agreement")
        hello = Hello.from_values(values | {"agreement": json.dumps(agreement)})
    except FileNotFoundError:
        raise SettingsError(
            f"No server has proposed anything to this site yet: there is no {file}. "
            "`fedpsyau-client preflight --greet` hears a proposal without taking part; or give the "
            "settings' file with --config."
        ) from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise SettingsError(f"The proposal {file} cannot be read: {error}.") from None
    return agreement, hello.rounds, hello.min_sites


def policy_text(policy: Policy) -> str:
    """The policy as TOML, each key with what it means; keys without a value are left out."""
    values = policy.as_dict()
    agreement = values.pop("agreement")
    lines = ["# What this site lets a server ask for. What is left out is not restricted.", ""]
    for name, field in Policy.model_fields.items():
        key = field.alias or name
        if values.get(key) is not None:
            lines += [f"# {field.description}", f"{key} = {_toml(values[key])}", ""]
    if agreement:
        lines += [
            "# The settings that agreement-hash stands for, to be read and to name what differs.",
            "[agreement]",
            *_table("agreement", agreement),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    """Lines of a table: plain values first, then its sections."""
    plain = [
        f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict)
    ]
    for key, value in values.items():
        if isinstance(value, dict):
            plain += ["", f"[{name}.{key}]", *_table(f"{name}.{key}", value)]
    return plain


def _toml(value: Any) -> str:
    """A value as TOML; strings, numbers, truth values and lists of them are spelled as in JSON."""
    return json.dumps(value)
