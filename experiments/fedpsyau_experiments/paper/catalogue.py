"""What experiments there are: what each compares, against what, and after which table."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fedpsyau_model.errors import SettingsError

__all__ = ["EXPERIMENTS", "Experiment", "Kind", "Scope", "Setting"]

#: How a setting is trained: by all sites together, by a protocol of one machine, or as a linear
#: classifier on the global flow under that protocol.
Kind = Literal["federation", "protocol", "linear"]

#: What is tested as one: the sites of a federation; every data set alone; all data at once.
Scope = Literal["sites", "data sets", "all data"]


@dataclass(frozen=True)
class Setting:
    """One of the things that are compared."""

    name: str
    label: str
    """As it stands in tables and figures."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the federation by dotted key, over those of the user."""
    kind: Kind = "protocol"
    pretrained: bool = False


@dataclass(frozen=True)
class Experiment:
    """One table or figure."""

    name: str
    title: str
    source: str
    """Where the paper has it."""
    claim: str
    """What the paper says came out; empty if it says nothing."""
    scope: Scope
    settings: tuple[Setting, ...]
    reference: str
    """Name of the setting that the others are tested against."""
    figure: Literal["sites", "scores", "confusion"]
    small: Mapping[str, Any] = field(default_factory=dict)
    """Settings of this experiment's small size, over `SIZES`."""

    def setting(self, name: str) -> Setting:
        """Give the setting of this name."""
        return next(each for each in self.settings if each.name == name)

    def only(self, names: Collection[str]) -> Experiment:
        """Make the experiment of these settings and the reference; SettingsError for an unknown."""
        known = [each.name for each in self.settings]
        if unknown := sorted(set(names) - set(known)):
            raise SettingsError(
                f"{self.name} has no setting {', '.join(unknown)}. It has {', '.join(known)}."
            )
        wanted = {*names, self.reference}
        kept = tuple(each for each in self.settings if each.name in wanted)
        return dataclasses.replace(self, settings=kept)


#: What an experiment of many or slow settings is content with at its small size.
_TWO_SEEDS: Mapping[str, Any] = {"experiment.seeds": (0, 1)}


def _strategy(name: str, label: str, **changes: Any) -> Setting:
    """Make a setting of a federation under a strategy."""
    values = {"strategy.name": name} | {f"strategy.{key}": value for key, value in changes.items()}
    return Setting(
        label.lower().replace(" ", "-").replace("θ", "theta"), label, values, "federation"
    )


def _theta(theta: float | str) -> Setting:
    changes = {"strategy.name": "p-fedprox", "strategy.theta": theta}
    return Setting(f"theta-{theta}", f"θ {theta}", changes, "federation")


def _alpha4(alpha4: float) -> Setting:
    changes = {"strategy.name": "p-fedprox", "loss.alpha4": alpha4}
    return Setting(f"alpha4-{alpha4:g}", f"α4 {alpha4:g}", changes, "federation")


def _loss_weights(alpha1: float) -> Setting:
    """Weights of the emotion and, the same for both, of the AU terms; they add up to 1."""
    alpha2 = round(1 - alpha1, 1)
    return Setting(
        f"alpha1-{alpha1}",
        f"α1 {alpha1}, α2 = α3 = {alpha2}",
        {"loss.alpha1": alpha1, "loss.alpha2": alpha2, "loss.alpha3": alpha2},
    )


def _ablation(name: str, label: str, **changes: Any) -> Setting:
    return Setting(
        name, label, {f"network.{key.replace('_', '-')}": value for key, value in changes.items()}
    )


_COMPARED: Sequence[Setting] = (
    Setting(
        "p-fedprox",
        "P-FedProx, θ 0.9",
        {"strategy.name": "p-fedprox", "strategy.theta": 0.9},
        "federation",
    ),
    Setting(
        "p-fedprox-auto",
        "P-FedProx, θ auto",
        {"strategy.name": "p-fedprox", "strategy.theta": "auto"},
        "federation",
    ),
    _strategy("fedprox", "FedProx"),
    _strategy("fedavg", "FedAvg"),
    Setting(
        "fedavg-finetune",
        "FedAvg, fine-tuned",
        {"strategy.name": "fedavg-finetune"},
        "federation",
    ),
    _strategy("fedrep", "FedRep"),
    _strategy("fedas", "FedAS"),
    _strategy("mr-mtl", "MR-MTL"),
    _strategy("ditto", "Ditto"),
    _strategy("local", "Local"),
    _strategy("pooled", "Pooled"),
)

_ALL = (
    Experiment(
        name="federated-comparison",
        title="Federated algorithms, site by site",
        source="supplement section 8 and Fig. 6",
        claim="P-FedProx is above FedProx and FedAvg on the two CAS(ME)³ clients and above FedRep, "
        "and competitive with FedAS. The figure's values are not given as numbers.",
        scope="sites",
        settings=tuple(_COMPARED),
        reference="p-fedprox",
        figure="sites",
        small=_TWO_SEEDS,
    ),
    Experiment(
        name="theta",
        title="Weight θ of a site's own model in P-FedProx",
        source="supplement section 9.1 and Fig. 7",
        claim="θ 0.9 is best of 0.7, 0.8 and 0.9 for most clients. The figure's values are not "
        "given as numbers.",
        scope="sites",
        settings=(
            Setting("fedavg", "FedAvg (θ = n/N, α4 0)", {"strategy.name": "fedavg"}, "federation"),
            Setting("fedprox", "θ = n/N (FedProx)", {"strategy.name": "fedprox"}, "federation"),
            *(_theta(theta) for theta in (0.5, 0.7, 0.8, 0.9, 1.0, "auto")),
        ),
        reference="theta-0.9",
        figure="sites",
        small=_TWO_SEEDS,
    ),
    Experiment(
        name="alpha4",
        title="Weight α4 of the proximal term in P-FedProx",
        source="supplement section 9.2 and Fig. 8",
        claim="α4 0.001 is best for almost all clients. The figure's values are not given as "
        "numbers.",
        scope="sites",
        settings=tuple(_alpha4(alpha4) for alpha4 in (0.0, 0.0001, 0.001, 0.01, 0.1)),
        reference="alpha4-0.001",
        figure="sites",
    ),
    Experiment(
        name="loss-weights",
        title="Weights α1, α2 and α3 of the loss",
        source="supplement section 9.2 and Table 4",
        claim="0.8 is best. Sources disagree on what it weights: the text says α1 = 0.8 and "
        "α2 = α3 = 0.2, the table has 0.8 in the columns of α2 and α3. Both readings are run; each "
        "row of the table stands beside both, but for the setting that they share.",
        scope="data sets",
        settings=tuple(
            _loss_weights(alpha1) for alpha1 in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
        ),
        reference="alpha1-0.8",
        figure="scores",
        small=_TWO_SEEDS,
    ),
    Experiment(
        name="pretraining",
        title="AU branch pre-trained, or not",
        source="supplement section 9.3 and Table 5",
        claim="Pre-training on DISFA and CK helps on both data sets.",
        scope="data sets",
        settings=(
            Setting("without", "without pre-training"),
            Setting("with", "with pre-training", pretrained=True),
        ),
        reference="without",
        figure="scores",
    ),
    Experiment(
        name="confusion",
        title="Confusion of the emotions",
        source="supplement section 6 and Fig. 5; scores from Table 5, with pre-training",
        claim="On DFME happiness and surprise are recognised best and negative emotions are taken "
        "for each other, anger for disgust; on CAS(ME)³ the few positive clips are confounded. The "
        "figure's values are not given as numbers.",
        scope="data sets",
        settings=(Setting("with", "AU-GAT-DSI, pre-trained", pretrained=True),),
        reference="with",
        figure="confusion",
    ),
    Experiment(
        name="ablation",
        title="Parts of the network left out",
        source="design; the supplement has no such table",
        claim="",
        scope="all data",
        settings=(
            Setting("full", "AU-GAT-DSI"),
            _ablation("no-extrinsic", "without the extrinsic prior", extrinsic_prior=False),
            _ablation("no-intrinsic", "without the intrinsic prior", intrinsic_edges="complete"),
            _ablation(
                "no-priors",
                "without both priors",
                extrinsic_prior=False,
                intrinsic_edges="complete",
            ),
            _ablation("no-graph", "without the graph", graph=False),
            _ablation("no-au-branch", "without the AU branch", au_branch=False),
            _ablation("no-flow-stream", "without the global flow stream", global_stream=False),
            Setting("linear", "linear classifier on the global flow", kind="linear"),
        ),
        reference="full",
        figure="scores",
        small=_TWO_SEEDS,
    ),
)

#: By name, in the order in which they are listed.
EXPERIMENTS: Mapping[str, Experiment] = {each.name: each for each in _ALL}
