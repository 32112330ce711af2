"""The clips of a site as a run uses them: divided by subject, as tensors on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fedpsyau_client.splits import split_by_subject
from fedpsyau_client.store.feature_store import FeatureStore
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.settings import FederationSettings

__all__ = ["SiteClips", "divide_clips"]


@dataclass(frozen=True)
class SiteClips:
    """A site's clips; no subject stands on two sides."""

    training: ClipTensors
    held_out: ClipTensors
    """For scores, and for the temperature of the model that the site keeps, which changes none."""
    held_out_subjects: int
    choosing: ClipTensors | None
    """What theta is chosen on, where the site chooses; not trained with either."""


def divide_clips(
    store: FeatureStore,
    settings: FederationSettings,
    generator: np.random.Generator,
    device: torch.device,
) -> SiteClips:
    """Divide a site's clips by subject, as the settings ask for.

    Raises TooFewSubjectsError if the subjects do not suffice for it.
    """
    rows, labels = store.labels(settings.network.classes)
    subjects = store.clips.subject[rows]
    outer = split_by_subject(subjects, settings.training.test_share, generator, labels)
    training, choosing = outer.train, None
    if settings.strategy.chooses_theta:
        inner = split_by_subject(
            subjects[training], settings.strategy.theta_share, generator, labels[training]
        )
        training, choosing = training[inner.train], training[inner.test]
    return SiteClips(
        training=_tensors(store, rows[training], labels[training]).to(device),
        held_out=_tensors(store, rows[outer.test], labels[outer.test]).to(device),
        held_out_subjects=len(np.unique(subjects[outer.test])),
        choosing=None
        if choosing is None
        else _tensors(store, rows[choosing], labels[choosing]).to(device),
    )


def _tensors(store: FeatureStore, rows: np.ndarray, labels: np.ndarray) -> ClipTensors:
    clips = store.clips
    return ClipTensors(
        flow=torch.from_numpy(store.flow[rows]),
        rois=torch.from_numpy(store.rois[rows]),
        emotion=torch.from_numpy(labels),
        au=torch.from_numpy(clips.aus[rows].astype(np.float32)),
        au_known=torch.from_numpy(store.au_known()[rows]),
    )
