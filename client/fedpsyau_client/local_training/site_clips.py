"""The clips of a site as a run uses them: divided by subject, as tensors on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fedpsyau_client.splits import split_by_subject
from fedpsyau_client.store.feature_store import FeatureStore
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.settings import FederationSettings

__all__ = ["DividedRows", "SiteClips", "divide_clips", "divide_rows"]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SiteClips:
    """A site's clips; no subject stands on two sides."""

    training: ClipTensors
    held_out: ClipTensors
    """For scores, and for the temperature of the model that the site keeps, which changes none."""
    held_out_subjects: int
    choosing: ClipTensors | None
    """What theta is chosen on, where the site chooses; not trained with either."""


@dataclass(frozen=True)
class DividedRows:
    """Which of a store's clips stand on which side; see `SiteClips`.

    label: of every clip of the store by row, where it has a class.
    """

    training: Indices
    held_out: Indices
    choosing: Indices | None
    label: Indices


def divide_clips(
    store: FeatureStore,
    settings: FederationSettings,
    generator: np.random.Generator,
    device: torch.device,
) -> SiteClips:
    """Divide a site's clips by subject, as the settings ask for.

    Raises TooFewSubjectsError if the subjects do not suffice for it.
    """
    rows = divide_rows(store, settings, generator)

    def clips(part: Indices) -> ClipTensors:
        return _tensors(store, part, rows.label[part]).to(device)

    return SiteClips(
        training=clips(rows.training),
        held_out=clips(rows.held_out),
        held_out_subjects=len(np.unique(store.clips.subject[rows.held_out])),
        choosing=None if rows.choosing is None else clips(rows.choosing),
    )


def divide_rows(
    store: FeatureStore, settings: FederationSettings, generator: np.random.Generator
) -> DividedRows:
    """Divide the rows of a store's clips that have a class, as `divide_clips` divides the clips."""
    rows, labels = store.labels(settings.network.classes)
    subjects = store.clips.subject[rows]
    outer = split_by_subject(subjects, settings.training.test_share, generator, labels)
    training, choosing = outer.train, None
    if settings.strategy.chooses_theta:
        inner = split_by_subject(
            subjects[training], settings.strategy.theta_share, generator, labels[training]
        )
        training, choosing = training[inner.train], training[inner.test]
    label = np.full(len(store.clips.subject), -1, dtype=np.int64)
    label[rows] = labels
    return DividedRows(
        training=rows[training],
        held_out=rows[outer.test],
        choosing=None if choosing is None else rows[choosing],
        label=label,
    )


def _tensors(store: FeatureStore, rows: Indices, labels: Indices) -> ClipTensors:
    clips = store.clips
    return ClipTensors(
        flow=torch.from_numpy(store.flow[rows]),
        rois=torch.from_numpy(store.rois[rows]),
        emotion=torch.from_numpy(labels),
        au=torch.from_numpy(clips.aus[rows].astype(np.float32)),
        au_known=torch.from_numpy(store.au_known()[rows]),
    )
