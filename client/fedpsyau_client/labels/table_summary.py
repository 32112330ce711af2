"""What a label table holds, counted: clips by class, subject and action unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedpsyau_client.labels.au_notation import ActionUnitLabel
from fedpsyau_client.labels.class_rules import ClassRule, class_of
from fedpsyau_client.labels.clip_record import ClipRecord, LabelTable, Oddity
from fedpsyau_client.labels.oddity_kinds import ODDITY_KINDS
from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import CLASS_NAMES, ClassScheme

__all__ = ["DROPPED", "ActionUnitCount", "TableSummary", "oddities_by_kind", "summarise_table"]

#: Under this name counts have the clips that a class scheme leaves out.
DROPPED = "dropped"

_SCHEMES: tuple[ClassScheme, ...] = ("three", "seven")


@dataclass(frozen=True, slots=True)
class ActionUnitCount:
    """Clips that show a unit; of them, on one side of the face only, and uncertain ones."""

    clips: int
    one_sided: int
    uncertain: int


@dataclass(frozen=True, slots=True)
class TableSummary:
    """Counts of clips.

    classes: by scheme, each class in the network's order, then `DROPPED`.
    emotions: by the table's own word, most frequent first.
    subjects: by subject, most clips first; each with its three classes and `DROPPED`.
    coded: clips that were coded for action units. coded_aus: the units looked for, None for all.
    aus: by unit; the twelve of the network first, then all others that occur.
    """

    clips: int
    videos: int
    classes: Mapping[str, Mapping[str, int]]
    emotions: Mapping[str, int]
    subjects: Mapping[str, Mapping[str, int]]
    coded: int
    coded_aus: tuple[int, ...] | None
    aus: Mapping[int, ActionUnitCount]


def summarise_table(table: LabelTable, rule: ClassRule) -> TableSummary:
    """Count a table's clips under a class rule."""
    clips = table.clips
    return TableSummary(
        clips=len(clips),
        videos=len({(clip.subject, clip.filename) for clip in clips}),
        classes={scheme: _classes(clips, rule, scheme) for scheme in _SCHEMES},
        emotions=dict(Counter(clip.emotion_label for clip in clips).most_common()),
        subjects=_subjects(clips, rule),
        coded=sum(clip.aus is not None for clip in clips),
        coded_aus=table.coded_aus,
        aus=_action_units(clips),
    )


def oddities_by_kind(oddities: Iterable[Oddity]) -> dict[str, tuple[Oddity, ...]]:
    """Group oddities, gravest kinds first, each in the order of the table."""
    found = tuple(oddities)
    grouped = {kind: tuple(each for each in found if each.kind == kind) for kind in ODDITY_KINDS}
    return {kind: each for kind, each in grouped.items() if each}


def _classes(clips: Iterable[ClipRecord], rule: ClassRule, scheme: ClassScheme) -> dict[str, int]:
    counts = Counter(class_of(clip, rule, scheme) or DROPPED for clip in clips)
    return {name: counts[name] for name in (*CLASS_NAMES[scheme], DROPPED)}


def _subjects(clips: Iterable[ClipRecord], rule: ClassRule) -> dict[str, dict[str, int]]:
    by_subject: dict[str, list[ClipRecord]] = {}
    for clip in clips:
        by_subject.setdefault(clip.subject, []).append(clip)
    ordered = sorted(by_subject.items(), key=lambda item: -len(item[1]))
    return {subject: _classes(own, rule, "three") for subject, own in ordered}


def _action_units(clips: Iterable[ClipRecord]) -> dict[int, ActionUnitCount]:
    shown: Counter[int] = Counter()
    one_sided: Counter[int] = Counter()
    uncertain: Counter[int] = Counter()
    for clip in clips:
        units = clip.aus or ()
        shown.update({unit.au for unit in units})
        uncertain.update({unit.au for unit in units if not unit.certain})
        one_sided.update(_one_sided(units))
    others = sorted(au for au in shown if au not in AUS)
    return {au: ActionUnitCount(shown[au], one_sided[au], uncertain[au]) for au in (*AUS, *others)}


def _one_sided(units: Iterable[ActionUnitLabel]) -> set[int]:
    """Units of one clip that were seen on the left or the right only."""
    sides: dict[int, set[str]] = {}
    for unit in units:
        sides.setdefault(unit.au, set()).add(unit.side)
    return {au for au, seen in sides.items() if seen in ({"left"}, {"right"})}
