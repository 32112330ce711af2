"""Clips of one or more feature stores as one set: who they are, and what the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from fedpsyau_client.protocols.plan import DataPart
from fedpsyau_client.store.feature_store import FeatureStore, list_partitions, open_feature_store
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.emotions import ClassScheme
from fedpsyau_model.errors import DataNotFoundError, NoLabelledClipsError, SubjectOverlapError

Indices = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

#: Which clips are taken: those with a class of the scheme, or those with AU labels.
Labels = ClassScheme | Literal["aus"]


@dataclass(frozen=True, eq=False)
class ClipSet:
    """N clips, store by store, each store's in its own order.

    clip: (N,) ``partition/clip``, unique. subject: (N,) ``dataset/subject``: an id that occurs in
        two stores of one data set is one person, in stores of two data sets two persons.
    partition: (N,) name of each clip's store. emotion: (N,) class, or 0 where `labels` is "aus".
    """

    stores: tuple[FeatureStore, ...]
    rows: tuple[Indices, ...]
    clip: Texts
    subject: Texts
    partition: Texts
    emotion: Indices

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clip)

    @property
    def synthetic(self) -> bool:
        """Whether any clip comes from the synthetic twin."""
        return any(store.manifest.synthetic for store in self.stores)

    def parts(self) -> tuple[DataPart, ...]:
        """What the clips come from, for a plan."""
        return tuple(
            DataPart(
                partition=store.manifest.partition,
                dataset=store.manifest.dataset,
                data_hash=store.manifest.data_hash,
                synthetic=store.manifest.synthetic,
            )
            for store in self.stores
        )

    def tensors(self) -> ClipTensors:
        """Read all clips into memory, on the CPU."""
        pairs = list(zip(self.stores, self.rows, strict=True))
        aus = np.concatenate([store.clips.aus[rows] for store, rows in pairs])
        known = np.concatenate([store.au_known()[rows] for store, rows in pairs])
        return ClipTensors(
            flow=torch.from_numpy(np.concatenate([store.flow[rows] for store, rows in pairs])),
            rois=torch.from_numpy(np.concatenate([store.rois[rows] for store, rows in pairs])),
            emotion=torch.from_numpy(self.emotion),
            au=torch.from_numpy(aus.astype(np.float32)),
            au_known=torch.from_numpy(known),
        )


def open_clip_set(
    data: Path, partitions: Sequence[str], labels: Labels, verify: bool = True
) -> ClipSet:
    """Open stores and take their labelled clips; features are not read before `tensors`.

    partitions: names of stores below `data`; none for all that are there. Their order does not
        matter. verify: compare checksums.

    Raises what `open_feature_store` raises; DataNotFoundError if there is no store;
    NoLabelledClipsError if no clip has labels; SubjectOverlapError if a clip is in two stores.
    """
    names = sorted(set(partitions)) or list_partitions(data)
    if not names:
        raise DataNotFoundError(
            f"{data} holds no feature store. Give another folder with --data, or make the "
            "synthetic twin there with `fedpsyau data synth`."
        )
    stores = tuple(open_feature_store(data / name, verify) for name in names)
    taken = [_labelled(store, labels) for store in stores]
    rows = tuple(own for own, _ in taken)
    pairs = list(zip(stores, rows, strict=True))
    clips = ClipSet(
        stores=stores,
        rows=rows,
        clip=np.concatenate(
            [_prefixed(each.manifest.partition, each.clips.clip[own]) for each, own in pairs]
        ),
        subject=np.concatenate(
            [_prefixed(each.manifest.dataset, each.clips.subject[own]) for each, own in pairs]
        ),
        partition=np.repeat(np.array(names), [len(own) for own in rows]),
        emotion=np.concatenate([classes for _, classes in taken]),
    )
    if not len(clips):
        wanted = "AU labels" if labels == "aus" else f"a class of the {labels}-class scheme"
        raise NoLabelledClipsError(
            f"No clip of {', '.join(names)} has {wanted}, so there is nothing to learn from. Give "
            "other partitions with --partition."
        )
    _require_clips_once(clips)
    return clips


def require_disjoint_subjects(clips: ClipSet) -> None:
    """Raise SubjectOverlapError if a subject has clips in two stores."""
    pairs = np.unique(np.stack([clips.subject, clips.partition]), axis=1)
    subjects, counts = np.unique(pairs[0], return_counts=True)
    if not (counts > 1).any():
        return
    first = subjects[counts > 1][0]
    dataset, _, subject = str(first).rpartition("/")
    holders = ", ".join(pairs[1][pairs[0] == first])
    raise SubjectOverlapError(
        f"Subject {subject} of the data set {dataset} has clips in {holders} "
        f"({int((counts > 1).sum())} such subjects in all), so leaving one site out would test on "
        "a person who was trained on. Divide the data set by subject, or use --protocol loso."
    )


def _labelled(store: FeatureStore, labels: Labels) -> tuple[Indices, Indices]:
    """Rows of a store that have labels, and their classes."""
    if labels == "aus":
        rows = np.flatnonzero(store.clips.au_known).astype(np.int64)
        return rows, np.zeros(len(rows), dtype=np.int64)
    return store.labels(labels)


def _prefixed(prefix: str, ids: Texts) -> Texts:
    return np.char.add(f"{prefix}/", ids)


def _require_clips_once(clips: ClipSet) -> None:
    """Refuse a store together with a part of it: their clips would count twice."""
    dataset = np.concatenate(
        [
            np.full(len(rows), store.manifest.dataset)
            for store, rows in zip(clips.stores, clips.rows, strict=True)
        ]
    )
    own = np.char.partition(clips.clip, "/")[:, 2]
    keys, counts = np.unique(np.stack([dataset, own]), axis=1, return_counts=True)
    if (counts > 1).any():
        first = int(np.argmax(counts > 1))
        holders = clips.partition[(dataset == keys[0, first]) & (own == keys[1, first])]
        raise SubjectOverlapError(
            f"Clip {keys[1, first]} of the data set {keys[0, first]} is in {', '.join(holders)} "
            f"({int((counts > 1).sum())} such clips in all) and would count more than once. Name "
            "the stores to use with --partition, and leave the others out."
        )
