"""The whole network, and how one is built from settings and a seed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.facial_points import group_point_indices
from fedpsyau_model.network.au_features import AuFeatureExtractor, AuPredictor
from fedpsyau_model.network.graph_attention import AuRelations
from fedpsyau_model.network.inception import DualStreamInception
from fedpsyau_model.network.local_regions import LocalFeatureExtractor, SpatialStructureEncoder
from fedpsyau_model.randomness import seeded_randomness
from fedpsyau_model.settings import NetworkSettings
from fedpsyau_priors import PUBLISHED, GraphPriors, Priors, graph_priors, published_priors


class NetworkOutput(NamedTuple):
    """Logits for a batch of clips. The AU logits are None in a network without the AU branch."""

    emotion: Tensor
    """(B, C)"""
    au: Tensor | None
    """(B, 12), after the graph."""
    au_aux: Tensor | None
    """(B, 12), before the graph."""


class AuGatDsi(nn.Module):
    """AU-GAT-DSI (design section 3; FED-PsyAU, ICCV 2025): emotion and AUs of a micro-expression.

    Ablations leave their parts out altogether, so that their weights are neither trained nor sent.
    """

    def __init__(self, settings: NetworkSettings, priors: GraphPriors) -> None:
        super().__init__()
        self.settings = settings
        self.class_count = len(CLASS_NAMES[settings.classes])
        self.au_branch = AuBranch(settings, priors) if settings.au_branch else None
        self.inception = DualStreamInception(
            self.class_count,
            settings.dropout,
            au_stream=settings.au_branch,
            global_stream=settings.global_stream,
        )
        self.apply(_initialise_convolution)

    def forward(self, flow: Tensor, rois: Tensor, prior_weight: float) -> NetworkOutput:
        """Classify a batch of clips.

        flow: (B, 3, 28, 28), onset -> apex, as (u, v, strain), u and v in pixels of that grid.
        rois: (B, 65, 3, 5, 5), the same channels around each facial point, pixels of a 128 grid.
        prior_weight: rho in [0, 1], the dynamic weight of the extrinsic prior.

        Raises ValueError if prior_weight is outside [0, 1].
        """
        if not 0 <= prior_weight <= 1:
            raise ValueError(f"prior_weight must be in [0, 1], not {prior_weight}")
        if self.au_branch is None:
            return NetworkOutput(self.inception(None, flow), None, None)
        au_features, au, au_aux = self.au_branch(rois, prior_weight)
        return NetworkOutput(self.inception(au_features, flow), au, au_aux)


class AuBranch(nn.Module):
    """LRM and AFR: from the motion at facial points to the features and logits of the AUs."""

    def __init__(self, settings: NetworkSettings, priors: GraphPriors) -> None:
        super().__init__()
        beta = settings.beta if settings.extrinsic_prior else 0.0
        self.local_features = LocalFeatureExtractor()
        self.spatial_structure = SpatialStructureEncoder()
        self.au_features = AuFeatureExtractor(group_point_indices())
        self.auxiliary_predictor = AuPredictor(settings.dropout)
        self.relations = AuRelations(priors, beta, settings.dropout) if settings.graph else None
        self.predictor = AuPredictor(settings.dropout)

    def forward(self, rois: Tensor, prior_weight: float) -> tuple[Tensor, Tensor, Tensor]:
        """rois: (B, 65, 3, 5, 5). Returns AU features (B, 12, 25) and two AU logits (B, 12)."""
        features = self.au_features(self.spatial_structure(self.local_features(rois)))
        au_aux = self.auxiliary_predictor(features)
        if self.relations is not None:
            features = self.relations(features, prior_weight)
        return features, self.predictor(features), au_aux


def build_network(
    settings: NetworkSettings, generator_seed: int, priors: Priors | None = None
) -> AuGatDsi:
    """Build the network with fresh weights, on the CPU.

    priors: what the graphs know beforehand. They may be left out where the settings ask for the
        published ones; ValueError otherwise.

    The same settings and seed give the same weights, whatever the priors; torch's global random
    state is left as it was.
    """
    if priors is None:
        if settings.priors != PUBLISHED:
            raise ValueError(f"priors = {settings.priors!r}: the priors must be given")
        priors = published_priors(settings.intrinsic_edges)
    with seeded_randomness(generator_seed, torch.device("cpu")):
        return AuGatDsi(settings, graph_priors(priors))


def _initialise_convolution(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        # None has a bias: batch norm follows everywhere and would take it out again.
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
