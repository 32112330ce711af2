"""Strategies: what each site starts the next round from.

All strategies share one round loop (`rounds.py`). Whether a strategy's local training has a
proximal term is part of what sites agree to: `StrategySettings.proximal`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fedpsyau_model.settings import StrategySettings
from fedpsyau_server.fusion import Contribution, Model, fuse_mean, fuse_personalised

#: Contributions of a round and the settings -> the next model of every contributing site.
Fusion = Callable[[Mapping[str, Contribution], StrategySettings], dict[str, Model]]


@dataclass(frozen=True)
class Strategy:
    """A way of training together; `source` is the paper that defines it."""

    fuse: Fusion
    source: str


def _personalised(
    contributions: Mapping[str, Contribution], settings: StrategySettings
) -> dict[str, Model]:
    return fuse_personalised(contributions, settings.theta)


def _mean(
    contributions: Mapping[str, Contribution], settings: StrategySettings
) -> dict[str, Model]:
    mean = fuse_mean(contributions)
    return dict.fromkeys(contributions, mean)


def _own(contributions: Mapping[str, Contribution], settings: StrategySettings) -> dict[str, Model]:
    return {site: dict(contribution.model) for site, contribution in contributions.items()}


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "p-fedprox": Strategy(_personalised, "Li et al., ICCV 2025"),
        "fedprox": Strategy(_mean, "Li et al., MLSys 2020"),
        "fedavg": Strategy(_mean, "McMahan et al., AISTATS 2017"),
        "local": Strategy(_own, "every site alone"),
    }
)


def next_models(
    settings: StrategySettings,
    current: Mapping[str, Model],
    contributions: Mapping[str, Contribution],
    answered: frozenset[str],
) -> dict[str, Model]:
    """Personal models after a round (design section 6).

    current: g_k of every site that has one. contributions: fresh and not yet stale w_k with n_k.
    answered: the sites among them whose w_k is of this round. A site that did not answer keeps its
    g_k; with no contribution at all nothing changes.
    """
    if not answered:
        return dict(current)
    fused = STRATEGIES[settings.name].fuse(contributions, settings)
    return dict(current) | {site: fused[site] for site in sorted(answered)}


def newcomer_model(
    settings: StrategySettings, contributions: Mapping[str, Contribution], initial: Model
) -> Model:
    """Model that a site without one starts from: the weighted mean of those that contribute.

    It is the initial model where nobody contributes yet, and under ``local``, where no site ever
    sees another's weights.
    """
    if settings.name == "local" or not contributions:
        return initial
    return fuse_mean(contributions)
