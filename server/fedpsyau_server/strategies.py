"""Strategies: what each site starts the next round from.

Models are packed models, read piece by piece and, where they are fused, computed as they are read:
a strategy holds no more of them in memory than a mean over all.

All strategies share one round loop (`rounds.py`). What a strategy does at the site is in
`fedpsyau_client.local_training.procedures`; what travels, in `fedpsyau_model.travelling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fedpsyau_model.settings import AUTO, StrategySettings
from fedpsyau_server.fusion import (
    Contribution,
    fisher_weights,
    fuse_mean,
    fuse_personalised,
)
from fedpsyau_server.packed_model import PackedModel

#: Contributions of a round and the settings -> the next model of every contributing site.
Fusion = Callable[[Mapping[str, Contribution], StrategySettings], dict[str, PackedModel]]


@dataclass(frozen=True)
class Strategy:
    """A way of training together; `source` is the paper that defines it."""

    fuse: Fusion
    source: str


def _personalised(
    contributions: Mapping[str, Contribution], settings: StrategySettings
) -> dict[str, PackedModel]:
    if settings.theta == AUTO:
        chosen = {site: contribution.theta for site, contribution in contributions.items()}
        return fuse_personalised(contributions, chosen)
    return fuse_personalised(contributions, settings.theta)


def _mean(
    contributions: Mapping[str, Contribution], settings: StrategySettings
) -> dict[str, PackedModel]:
    mean = fuse_mean(contributions)
    return dict.fromkeys(contributions, mean)


def _fisher_mean(
    contributions: Mapping[str, Contribution], settings: StrategySettings
) -> dict[str, PackedModel]:
    mean = fuse_mean(contributions, fisher_weights(contributions))
    return dict.fromkeys(contributions, mean)


def _own(
    contributions: Mapping[str, Contribution], settings: StrategySettings
) -> dict[str, PackedModel]:
    return {site: contribution.model for site, contribution in contributions.items()}


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "p-fedprox": Strategy(_personalised, "Li et al., ICCV 2025"),
        "fedprox": Strategy(_mean, "Li et al., MLSys 2020"),
        "fedavg": Strategy(_mean, "McMahan et al., AISTATS 2017"),
        "fedavg-finetune": Strategy(_mean, "Wang et al., 2019"),
        "fedrep": Strategy(_mean, "Collins et al., ICML 2021"),
        "fedas": Strategy(_fisher_mean, "Yang et al., CVPR 2024"),
        "mr-mtl": Strategy(_mean, "Liu et al., NeurIPS 2022"),
        "ditto": Strategy(_mean, "Li et al., ICML 2021"),
        "local": Strategy(_own, "every site alone"),
        "pooled": Strategy(_mean, "all clips in one place"),
    }
)


def next_models(
    settings: StrategySettings,
    current: Mapping[str, PackedModel],
    contributions: Mapping[str, Contribution],
    answered: frozenset[str],
) -> dict[str, PackedModel]:
    """Personal models after a round (design section 6).

    current: g_k of every site that has one. contributions: fresh and not yet stale w_k with n_k.
    answered: the sites among them whose w_k is of this round. A site that did not answer keeps its
    g_k; with no contribution at all nothing changes.
    """
    if not answered:
        return dict(current)
    fused = STRATEGIES[settings.name].fuse(contributions, settings)
    return dict(current) | {site: fused[site] for site in sorted(answered)}


def others_means(contributions: Mapping[str, Contribution]) -> dict[str, PackedModel]:
    """For every contributing site the mean of the others, from which it can choose its theta.

    A site that is the only one has no others and is left out.
    """
    if len(contributions) < 2:
        return {}
    return fuse_personalised(contributions, 0.0)


def newcomer_model(
    settings: StrategySettings, contributions: Mapping[str, Contribution], initial: PackedModel
) -> PackedModel:
    """Model that a site without one starts from: the weighted mean of those that contribute.

    It is the initial model where nobody contributes yet, and under ``local``, where no site ever
    sees another's weights.
    """
    if settings.name == "local" or not contributions:
        return initial
    return fuse_mean(contributions)
