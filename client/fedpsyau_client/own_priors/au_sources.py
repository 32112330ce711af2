"""Where AU labels come from: label tables and feature stores, read alike.

What is kept of a source is its name and the AU sets of its clips: no path, no subject, no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedpsyau_client.labels.datasets import DATASETS
from fedpsyau_client.labels.readers import read_label_table
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_client.store.manifest import MANIFEST_NAME
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import NoPriorError, SettingsError
from fedpsyau_priors import AuFrequency

__all__ = ["AuSource", "au_matrix", "frequencies", "read_au_source", "read_au_sources"]


@dataclass(frozen=True, slots=True)
class AuSource:
    """AU labels of one label table or feature store.

    dataset: name of the data set. partition: name of the feature store, "" for a label table.
    clips: how many there are, coded for AUs or not.
    au_sets: the AUs (FACS numbers) of every clip that was coded; empty where it shows none.
    coded: the AUs that the source can tell of; None where it tells of every AU.
    synthetic: made up by the synthetic twin.
    """

    dataset: str
    partition: str
    clips: int
    au_sets: tuple[frozenset[int], ...]
    coded: frozenset[int] | None = None
    synthetic: bool = False

    @property
    def kind(self) -> Literal["label table", "feature store"]:
        """What it was read from."""
        return "feature store" if self.partition else "label table"


def read_au_sources(texts: Sequence[str]) -> tuple[AuSource, ...]:
    """Read several sources, as `read_au_source` does.

    Raises NoPriorError if not one clip of them all was coded for action units, SettingsError if
    one source is given twice, as its clips would be counted twice.
    """
    for text, count in Counter(texts).items():
        if count > 1:
            raise SettingsError(
                f"--from {text} is given {count} times and would be counted as often. Give it once."
            )
    sources = tuple(read_au_source(text) for text in texts)
    if not any(source.au_sets for source in sources):
        raise NoPriorError(
            "None of the clips was coded for action units, so that nothing can be counted. Give "
            "a label table or a feature store that has AU labels."
        )
    return sources


def read_au_source(text: str) -> AuSource:
    """Read ``DATASET=FILE`` (a label table) or the folder of a feature store.

    ``DATASET:NAME=FILE`` gives the data set a name of its own, which plain CSV tables need; up to
    64 characters.

    Raises SettingsError if `text` is neither, and what reading a table or a store raises.
    """
    if (Path(text) / MANIFEST_NAME).is_file():
        return _of_store(Path(text))
    reader, separator, file = text.partition("=")
    known, _, name = reader.partition(":")
    dataset = next((each for each in DATASETS if each == known), None)
    if dataset is None or not (separator and file and name.isprintable() and len(name) <= 64):
        raise SettingsError(
            f"--from {text} cannot be read. Write DATASET=FILE for a label table, such as "
            "casme3=labels.xlsx or csv:NAME=clips.csv, or the folder of a feature store, such as "
            f"data/dfme_c1. DATASET is one of {', '.join(DATASETS)}."
        )
    table = read_label_table(Path(file), dataset)
    coded = [clip.aus for clip in table.clips if clip.aus is not None]
    sets = tuple(frozenset(unit.au for unit in units) for units in coded)
    told = None if table.coded_aus is None else frozenset(table.coded_aus)
    return AuSource(name or dataset, "", len(table.clips), sets, told)


def au_matrix(sources: Iterable[AuSource]) -> npt.NDArray[np.uint8]:
    """All coded clips of all sources: (N, 12) 1 where the AU is there, in the order of `AUS`.

    Raises NoPriorError if a source cannot tell of one of the twelve: it would count as absent.
    """
    sources = tuple(sources)
    for source in sources:
        if source.coded is not None and (unknown := sorted(set(AUS) - source.coded)):
            raise NoPriorError(
                f"{source.dataset} was never coded for {', '.join(f'AU{au}' for au in unknown)}, "
                "so that co-occurrences with them cannot be counted. Leave it out."
            )
    rows = [[au in shown for au in AUS] for source in sources for shown in source.au_sets]
    return np.array(rows, dtype=np.uint8).reshape(len(rows), len(AUS))


def frequencies(sources: Iterable[AuSource]) -> tuple[AuFrequency, ...]:
    """How many clips of every data set show each AU; sources of one data set are added up."""
    by_dataset: dict[str, list[AuSource]] = {}
    for source in sources:
        by_dataset.setdefault(source.dataset, []).append(source)
    return tuple(
        AuFrequency(
            dataset=dataset,
            clips=sum(len(source.au_sets) for source in together),
            counts=Counter(au for source in together for shown in source.au_sets for au in shown),
            coded=_coded_by_all(together),
        )
        for dataset, together in by_dataset.items()
    )


def _coded_by_all(sources: Iterable[AuSource]) -> frozenset[int] | None:
    limited = [source.coded for source in sources if source.coded is not None]
    return frozenset.intersection(*limited) if limited else None


def _of_store(folder: Path) -> AuSource:
    store = open_feature_store(folder)
    aus = np.array(AUS)
    shown = store.clips.aus[store.clips.au_known].astype(np.bool_)
    return AuSource(
        dataset=store.manifest.dataset,
        partition=store.manifest.partition,
        clips=len(store.clips),
        au_sets=tuple(frozenset(aus[row].tolist()) for row in shown),
        coded=frozenset(store.manifest.coded_aus),
        synthetic=store.manifest.synthetic,
    )
