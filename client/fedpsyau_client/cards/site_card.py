"""A site card: what a site has, on one page that may leave the site.

Counts only, small ones hidden (`small_counts`); no id of a clip or subject, no feature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from fedpsyau_client.cards.small_counts import Cell, MaskedCounts, mask_counts, mask_separately
from fedpsyau_client.store.feature_store import FeatureStore
from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import CLASS_NAMES, ClassScheme
from fedpsyau_model.site_card import SiteCardDocument

__all__ = ["NO_CLASS", "SiteCard", "card_json", "card_markdown", "cell_text", "make_card"]

#: Name of what the scheme drops, beside the classes.
NO_CLASS: Final = "no class"


@dataclass(frozen=True)
class SiteCard:
    """What the card says.

    classes: clips by class of `scheme`, with `NO_CLASS` where the scheme drops some.
    annotated: whether all clips were coded for AUs, some, or none.
    aus: clips in which an AU was seen, by AU.
    mask_below: the smallest count that is shown.
    """

    partition: str
    dataset: str
    synthetic: bool
    scheme: ClassScheme
    subjects: Cell
    classes: MaskedCounts
    annotated: Literal["all", "some", "none"]
    aus: dict[str, Cell]
    mask_below: int
    preprocessing: Mapping[str, Any]
    data_hash: str
    fedpsyau_version: str


def make_card(store: FeatureStore, scheme: ClassScheme = "three", mask_below: int = 5) -> SiteCard:
    """Count a store and hide counts below `mask_below` (at least 1)."""
    clips, manifest = store.clips, store.manifest
    classes = clips.class3 if scheme == "three" else clips.class7
    counts = {name: int((classes == name).sum()) for name in CLASS_NAMES[scheme]}
    if dropped := int((classes == "").sum()):
        counts[NO_CLASS] = dropped
    coded = int(clips.au_known.sum())
    shown = clips.aus.sum(axis=0, dtype=np.int64)
    return SiteCard(
        partition=manifest.partition,
        dataset=manifest.dataset,
        synthetic=manifest.synthetic,
        scheme=scheme,
        subjects=mask_separately({"subjects": manifest.counts.subjects}, mask_below)["subjects"],
        classes=mask_counts(counts, mask_below),
        annotated="all" if coded == len(clips) else "some" if coded else "none",
        aus=mask_separately(
            {f"AU{au}": int(count) for au, count in zip(AUS, shown, strict=True)}, mask_below
        ),
        mask_below=mask_below,
        preprocessing=manifest.preprocessing,
        data_hash=manifest.data_hash,
        fedpsyau_version=manifest.fedpsyau_version,
    )


def cell_text(cell: Cell, mask_below: int) -> str:
    """A count for people: a small one as ``<5``."""
    return f"<{mask_below}" if cell == "small" else str(cell)


def card_json(card: SiteCard) -> str:
    """Write the card as JSON text; a hidden count is a string."""
    total = card.classes.total
    return SiteCardDocument(
        partition=card.partition,
        dataset=card.dataset,
        synthetic=card.synthetic,
        clips=total.least if total.least == total.most else total.text,
        subjects=_json_cell(card.subjects, card.mask_below),
        class_scheme=card.scheme,
        classes=_json_cells(card.classes.cells, card.mask_below),
        au_annotated=card.annotated,
        aus=_json_cells(card.aus, card.mask_below),
        mask_below=card.mask_below,
        preprocessing=dict(card.preprocessing),
        data_hash=card.data_hash,
        fedpsyau_version=card.fedpsyau_version,
    ).text()


def card_markdown(card: SiteCard, picture: str) -> str:
    """Write the card as Markdown text. picture: address of its plot, from where the text lies."""
    masked = card.mask_below

    def table(head: tuple[str, str], cells: Mapping[str, Cell]) -> str:
        rows = "".join(f"| {name} | {cell_text(cell, masked)} |\n" for name, cell in cells.items())
        return f"| {head[0]} | {head[1]} |\n| --- | --: |\n{rows}"

    made_up = "**SYNTHETIC: made up by a program, nobody was recorded.**\n\n"
    steps = "".join(
        f"| {key.replace('_', ' ')} | {_plain(value)} |\n"
        for key, value in card.preprocessing.items()
    )
    return (
        f"# Site card: {card.partition}\n\n"
        f"{made_up if card.synthetic else ''}"
        f"Data set {card.dataset}: {card.classes.total.text} clips of "
        f"{cell_text(card.subjects, masked)} subjects. AU labels: {_AU_WORDS[card.annotated]}.\n\n"
        f"![Clips by class and action unit]({picture})\n\n"
        f"## Classes\n\n{table(('class', 'clips'), card.classes.cells)}\n"
        f"## Action units\n\n{table(('action unit', 'clips'), card.aus)}\n"
        f"Counts below {masked} are written <{masked}. *withheld* is a larger count from which, "
        "with the total, a small one could be worked out.\n\n"
        f"## Preparation\n\n| step | value |\n| --- | --- |\n{steps}\n"
        f"Data hash (SHA-256 over the checksums of the store's files): `{card.data_hash}`\n\n"
        f"Written by fedpsyau {card.fedpsyau_version}.\n"
    )


_AU_WORDS: Final = {"all": "on every clip", "some": "on some clips", "none": "none"}


def _json_cell(cell: Cell, mask_below: int) -> int | str:
    return cell if isinstance(cell, int) else cell_text(cell, mask_below)


def _json_cells(cells: Mapping[str, Cell], mask_below: int) -> dict[str, int | str]:
    return {name: _json_cell(cell, mask_below) for name, cell in cells.items()}


def _plain(value: Any) -> str:
    """A manifest's value in one table cell."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "\\|").replace("\n", " ")
