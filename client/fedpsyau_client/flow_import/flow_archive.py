"""An ``.npz`` archive with flow, labels and subjects, or with flow and the names of clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedpsyau_client.flow_import.archive_arrays import (
    ArrayHeader,
    array_chunks,
    array_headers,
    read_array,
)
from fedpsyau_client.flow_import.flow_source import (
    FlowChunk,
    MissingFlow,
    clips_per_chunk,
    size_problem,
)
from fedpsyau_client.flow_import.image_matching import Match, match_names
from fedpsyau_client.labels.au_notation import ActionUnitLabel, parse_action_units
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.labels.datasets import DATASETS
from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import FlowSourceError, SettingsError

__all__ = ["FlowArchive", "parse_class_names"]

#: What arrays may be called, in lower case; the first that the archive has is taken.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "flow": ("flow", "flows"),
    "label": ("label", "labels", "emotion"),
    "subject": ("subject", "subjects"),
    "site": ("site", "sites"),
    "clip": ("clip", "clips", "filename"),
    "aus": ("aus", "au"),
}

#: A number that stands for no class.
_NO_CLASS: Final = -1

_LISTED: Final = 5

Column = npt.NDArray[Any]


class FlowArchive:
    """Flow arrays of N clips. Labels come with them, or from a label table by the clips' names."""

    def __init__(
        self,
        file: Path,
        dataset: str,
        class_names: Sequence[str] = (),
        table: Sequence[ClipRecord] | None = None,
    ) -> None:
        """Read everything but the flow.

        class_names: what label numbers mean, for labels that are numbers.
        table: the records of a label table, whose clips the array ``clip`` names; labels in the
            archive are not looked at then.

        Raises DataNotFoundError, FlowSourceError (what the archive holds cannot be used),
        SettingsError (numbers without class names).
        """
        self._file = file
        headers = array_headers(file)
        self._arrays = {
            field: next((name for name in names if name in headers), "")
            for field, names in _NAMES.items()
        }
        self._header = self._check_flow(headers)
        count = self._header.shape[0]
        columns = {
            field: self._column(field, headers)
            for field in ("label", "subject", "site", "clip", "aus")
            if self._arrays[field]
        }
        if table is None:
            self.records: Sequence[ClipRecord] = self._own_records(columns, dataset, class_names)
            self._matches: Sequence[Match] = range(count)
        else:
            self._require(columns, "clip", "to be matched with the label table")
            self.records = table
            self._matches = match_names(table, columns["clip"].tolist())

    @property
    def eight_bit(self) -> bool:
        """Whether the flow is stored in levels, 0 to 255."""
        return self._header.dtype == np.uint8

    @property
    def unclaimed(self) -> int:
        """How many entries belong to no clip of the label table, or not to one alone."""
        return self._header.shape[0] - sum(isinstance(match, int) for match in self._matches)

    def read(self) -> Iterator[FlowChunk | MissingFlow]:
        """Yield every clip once, missing ones first, then the others in the archive's order."""
        position_of: dict[int, int] = {}
        for position, match in enumerate(self._matches):
            if isinstance(match, int):
                position_of[match] = position
            else:
                yield MissingFlow(position, match)
        length = clips_per_chunk(self._header.shape[-1])
        start = 0
        for images in array_chunks(self._file, self._arrays["flow"], length):
            wanted = [row for row in range(len(images)) if start + row in position_of]
            if wanted:
                yield FlowChunk([position_of[start + row] for row in wanted], images[wanted])
            start += len(images)

    def _check_flow(self, headers: Mapping[str, ArrayHeader]) -> ArrayHeader:
        name = self._arrays["flow"]
        if not name:
            raise FlowSourceError(
                f"{self._file} holds no array flow; its arrays are {_listed(sorted(headers))}. "
                "Save the flow as flow, (clips, 3, height, width)."
            )
        header = headers[name]
        shape, dtype = header.shape, header.dtype
        if len(shape) != 4 or shape[1] != 3 or shape[0] == 0:
            raise FlowSourceError(
                f"{self._file}: flow has the shape {shape}; it must be (clips, 3, height, width) "
                "with at least one clip. Channels stand before height and width."
            )
        if problem := size_problem(shape[2], shape[3]):
            raise FlowSourceError(f"{self._file}: flow cannot be used: {problem}.")
        if dtype != np.uint8 and dtype.kind != "f":
            raise FlowSourceError(
                f"{self._file}: flow is of type {dtype}; it must be a float type, in pixels, or "
                "uint8, in levels that --encoding explains."
            )
        return header

    def _column(self, field: str, headers: Mapping[str, ArrayHeader]) -> Column:
        """Read one array beside the flow. Text comes as str."""
        name, count = self._arrays[field], self._header.shape[0]
        shape = headers[name].shape
        allowed = [(count,), (count, len(AUS))] if field == "aus" else [(count,)]
        if shape not in allowed:
            raise FlowSourceError(
                f"{self._file}: {name} has the shape {shape}, but flow has {count} clips, so it "
                f"must be {' or '.join(map(str, allowed))}."
            )
        values = read_array(self._file, name)
        if values.dtype.kind == "S":
            try:
                return np.char.decode(values, "utf-8")
            except UnicodeDecodeError:
                raise FlowSourceError(f"{self._file}: {name} is not UTF-8 text.") from None
        if values.dtype.kind not in "Uiufb":
            raise FlowSourceError(
                f"{self._file}: {name} is of type {values.dtype}; it must be text or numbers."
            )
        return values

    def _own_records(
        self, columns: Mapping[str, Column], dataset: str, class_names: Sequence[str]
    ) -> Sequence[ClipRecord]:
        for field in ("label", "subject"):
            self._require(columns, field, "unless a label table is given with --labels")
        words = self._label_words(columns["label"], class_names)
        emotions = self._emotions(words)
        subjects = _texts(columns["subject"])
        if not all(subjects):
            raise FlowSourceError(
                f"{self._file}: clip {subjects.index('') + 1} has no subject. Without it, clips of "
                "one person could stand on both sides of a split."
            )
        count = len(words)
        names = _texts(columns["clip"]) if "clip" in columns else [str(n + 1) for n in range(count)]
        sites = _texts(columns["site"]) if "site" in columns else [""] * count
        aus = self._action_units(columns.get("aus"), count)
        return [
            ClipRecord(
                row=row + 1,
                subject=subjects[row],
                filename=names[row],
                onset=None,
                apex=None,
                offset=None,
                emotion=emotions[row],
                emotion_label=words[row],
                aus=aus[row],
                dataset=dataset,
                site=sites[row],
            )
            for row in range(count)
        ]

    def _require(self, columns: Mapping[str, Column], field: str, purpose: str) -> None:
        if field not in columns:
            raise FlowSourceError(
                f"{self._file} holds no array {field}, which is needed {purpose}. Save it beside "
                "flow, one entry for each clip."
            )

    def _label_words(self, labels: Column, class_names: Sequence[str]) -> list[str]:
        if labels.dtype.kind == "U":
            return [word.strip().lower() for word in labels.tolist()]
        if not class_names:
            raise SettingsError(
                f"The labels in {self._file} are numbers, and nothing says what they mean. Name "
                "the classes from 0 on with --class-names negative,positive,surprise (or "
                "--class-names seven for "
                f"{','.join(CLASS_NAMES['seven'])}); orders differ between labs."
            )
        whole = np.asarray(labels, dtype=np.float64)
        fits = (whole == np.floor(whole)) & (whole >= _NO_CLASS) & (whole < len(class_names))
        if not fits.all():
            first = int(np.argmin(fits))
            raise FlowSourceError(
                f"{self._file}: clip {first + 1} has the label {labels[first]}; with "
                f"{len(class_names)} class names it must be a whole number from 0 to "
                f"{len(class_names) - 1}, or -1 for none."
            )
        return ["" if number < 0 else class_names[int(number)] for number in whole]

    def _emotions(self, words: Sequence[str]) -> list[str]:
        known = {word: DATASETS["csv"].emotion(word) for word in set(words) - {""}}
        unknown = sorted(word for word, emotion in known.items() if emotion is None)
        if unknown:
            raise FlowSourceError(
                f"{self._file} has the labels {_listed(unknown)}, which are unknown. Write one of "
                f"{', '.join(CLASS_NAMES['seven'])}; negative or positive where only that is "
                "known; others for what is none of them."
            )
        return [known.get(word) or "" for word in words]

    def _action_units(
        self, values: Column | None, count: int
    ) -> Sequence[tuple[ActionUnitLabel, ...] | None]:
        """Units of each clip; None where it was not coded."""
        if values is None:
            return [None] * count
        if values.ndim == 1 and values.dtype.kind == "U":
            return [self._written_units(number, text) for number, text in enumerate(values, 1)]
        if values.ndim == 1 or values.dtype.kind == "U":
            raise FlowSourceError(
                f"{self._file}: aus must be ({count}, {len(AUS)}) zeros and ones for the AUs "
                f"{', '.join(map(str, AUS))}, or ({count},) text such as 4+L10."
            )
        numbers = np.asarray(values, dtype=np.float64)
        uncoded = (np.isnan(numbers) | (numbers == _NO_CLASS)).all(axis=1)
        if not np.isin(numbers[~uncoded], (0, 1)).all():
            raise FlowSourceError(
                f"{self._file}: aus holds other numbers than 0 and 1. A clip that was not coded "
                "has -1 in its whole row."
            )
        shown = numbers == 1
        return [
            None if uncoded[row] else tuple(ActionUnitLabel(AUS[unit]) for unit in units)
            for row, units in enumerate(map(np.flatnonzero, shown))
        ]

    def _written_units(self, number: int, text: str) -> tuple[ActionUnitLabel, ...] | None:
        """Read text such as 4+L10. Empty is not coded, 0 or none is coded and shows none."""
        if not text.strip():
            return None
        units, unread = parse_action_units(text)
        if unread:
            raise FlowSourceError(
                f"{self._file}: the AUs of clip {number} are {text!r}, of which {_listed(unread)} "
                "cannot be read."
            )
        return units


def parse_class_names(text: str) -> tuple[str, ...]:
    """Read ``three``, ``seven``, or names from class 0 on, separated by commas."""
    if text in CLASS_NAMES:
        return CLASS_NAMES[text]
    return tuple(name.strip().lower() for name in text.split(","))


def _texts(values: Column) -> list[str]:
    """Names as text; a number that is whole is written without a point."""
    if values.dtype.kind == "f":
        return [str(int(value)) if value == np.floor(value) else str(value) for value in values]
    return [str(value).strip() for value in values.tolist()]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(map(repr, names[:_LISTED])) or "(none)") + more
