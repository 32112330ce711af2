"""The plan of an experiment: everything that its results depend on, and its cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from fedpsyau_client.protocols.plan import DataPart, PlanPart
from fedpsyau_client.store.feature_store import list_partitions, open_feature_store
from fedpsyau_experiments.paper.catalogue import EXPERIMENTS, Experiment, Kind, Setting
from fedpsyau_experiments.paper.settings import ExperimentSettings
from fedpsyau_model import __version__
from fedpsyau_model.emotions import ClassScheme
from fedpsyau_model.errors import ExperimentDataError
from fedpsyau_model.settings import FederationSettings, agreement_differences

__all__ = ["Block", "Cell", "ExperimentPlan", "cell_key", "make_plan", "settings_of"]


class Block(PlanPart):
    """Clips that are tested together, under every setting."""

    name: str
    partitions: tuple[str, ...]
    classes: ClassScheme
    protocol: Literal["federation", "kfold", "loso"]


class PlannedSetting(PlanPart):
    """A setting as the catalogue has it."""

    name: str
    kind: Kind
    pretrained: bool
    changes: dict[str, Any]

    @classmethod
    def of(cls, setting: Setting) -> PlannedSetting:
        """Take over what the outcome depends on: not how it is labelled."""
        return cls(
            name=setting.name,
            kind=setting.kind,
            pretrained=setting.pretrained,
            changes=dict(setting.changes),
        )


class Cell(NamedTuple):
    """One setting with one seed on one block: the unit of work, and of what is kept."""

    number: int
    """From 1, in the order in which cells are listed."""
    block: Block
    setting: PlannedSetting
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell's file, without its ending."""
        return f"{self.number:04d}-{self.setting.name}-seed-{self.seed}"


class ExperimentPlan(PlanPart):
    """Content of ``plan.json``: equal plans have equal results, bit for bit, on one machine."""

    experiment: str
    version: str = __version__
    device: Literal["cpu", "cuda"] = "cpu"
    twin_scale: float | None = Field(None, description="Of the data, where they are the twin.")
    data: tuple[DataPart, ...]
    pretraining: tuple[DataPart, ...] = ()
    settings: ExperimentSettings
    blocks: tuple[Block, ...]
    compared: tuple[PlannedSetting, ...]

    @property
    def synthetic(self) -> bool:
        """Whether any data is made up."""
        return any(part.synthetic for part in (*self.data, *self.pretraining))

    @property
    def catalogued(self) -> Experiment:
        """What the experiment is, with the settings that are compared."""
        return EXPERIMENTS[self.experiment].only([each.name for each in self.compared])

    def cells(self) -> tuple[Cell, ...]:
        """All cells, seed by seed, so that a first picture is there early."""
        wanted = [
            (block, setting, seed)
            for seed in self.settings.experiment.seeds
            for block in self.blocks
            for setting in self.compared
        ]
        return tuple(Cell(number, *each) for number, each in enumerate(wanted, start=1))

    def plan_hash(self) -> str:
        """SHA-256 over the canonical JSON of the plan, 64 hex digits."""
        canonical = json.dumps(self._values(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def differences(self, other: ExperimentPlan) -> list[str]:
        """List ``key: here X, there Y`` for every value in which two plans differ.

        Of another experiment everything differs; then only that is told.
        """
        if self.experiment != other.experiment:
            return agreement_differences(
                {"experiment": self.experiment}, {"experiment": other.experiment}
            )
        return agreement_differences(self._values(), other._values())

    def _values(self) -> dict[str, Any]:
        """Every value that matters; lists by name, so that differences can be told."""
        values = self.as_dict()
        del values["settings"]["server"], values["settings"]["seed"]
        for key, name in (
            ("data", "partition"),
            ("pretraining", "partition"),
            ("blocks", "name"),
            ("compared", "name"),
        ):
            values[key] = {each[name]: each for each in values[key]}
        return values


def make_plan(
    experiment: Experiment,
    settings: ExperimentSettings,
    data: Path,
    *,
    sites: Sequence[str] = (),
    pretraining: Path | None = None,
    twin_scale: float | None = None,
    device: str = "cpu",
) -> ExperimentPlan:
    """Plan an experiment on the feature stores in `data`; their checksums are compared.

    sites: partitions to take; none for all. pretraining: folder of the stores for pre-training.

    Raises ExperimentDataError if the experiment cannot be done with these data, and what opening
    a store raises.
    """
    names = sorted(set(sites)) or list_partitions(data)
    parts = _parts(data, names)
    pretrains = any(setting.pretrained for setting in experiment.settings)
    if pretrains and pretraining is None:
        raise ExperimentDataError(
            f"{experiment.name} pre-trains the AU branch, on other people than those it tests. "
            "Give a folder of other feature stores with AU labels with --pretrain-data."
        )
    kept = _parts(pretraining, list_partitions(pretraining)) if pretrains and pretraining else ()
    _require_other_data(parts, kept)
    return ExperimentPlan(
        experiment=experiment.name,
        device="cuda" if device.startswith("cuda") else "cpu",
        twin_scale=twin_scale,
        data=parts,
        pretraining=kept,
        settings=settings,
        blocks=_blocks(experiment, settings, parts),
        compared=tuple(map(PlannedSetting.of, experiment.settings)),
    )


def settings_of(plan: ExperimentPlan, cell: Cell) -> FederationSettings:
    """Settings that a cell is trained with: the user's, the setting's changes, the seed."""
    values = plan.settings.as_dict()
    del values["experiment"]
    values["seed"] = cell.seed
    values["network"]["classes"] = cell.block.classes
    values["server"]["sites"] = list(cell.block.partitions)
    for key, value in cell.setting.changes.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    return FederationSettings.model_validate(values)


def cell_key(plan: ExperimentPlan, cell: Cell) -> str:
    """SHA-256 over all that a cell's result depends on: equal keys have equal results.

    Cells of two experiments may have the same key, whatever their settings are called.
    """
    values: dict[str, Any] = {
        "version": plan.version,
        "device": plan.device,
        "settings": settings_of(plan, cell).as_dict(),
        "kind": cell.setting.kind,
        "protocol": cell.block.protocol,
        "partitions": cell.block.partitions,
        "data": [part.as_dict() for part in plan.data if part.partition in cell.block.partitions],
    }
    if cell.setting.kind != "federation":
        section = plan.settings.experiment
        values |= {"epochs": section.epochs, "folds": section.folds}
        if cell.setting.pretrained:
            values["pretraining"] = [part.as_dict() for part in plan.pretraining]
            values["pretraining-epochs"] = section.pretraining_epochs
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _parts(data: Path, names: Sequence[str]) -> tuple[DataPart, ...]:
    if not names:
        raise ExperimentDataError(
            f"{data} holds no feature store. Give another folder, or leave --data out to take the "
            "synthetic twin."
        )
    stores = [open_feature_store(data / name).manifest for name in names]
    return tuple(
        DataPart(
            partition=each.partition,
            dataset=each.dataset,
            data_hash=each.data_hash,
            synthetic=each.synthetic,
        )
        for each in stores
    )


def _require_other_data(parts: Sequence[DataPart], kept: Sequence[DataPart]) -> None:
    """Refuse to pre-train on a store that is tested."""
    tested = {part.data_hash: part.partition for part in parts}
    for part in kept:
        if part.data_hash in tested:
            raise ExperimentDataError(
                f"The store {part.partition} for pre-training is {tested[part.data_hash]}, which "
                "is tested: the AU branch would know its people. Give other data with "
                "--pretrain-data."
            )


def _blocks(
    experiment: Experiment, settings: ExperimentSettings, parts: Sequence[DataPart]
) -> tuple[Block, ...]:
    names = tuple(part.partition for part in parts)
    classes = settings.network.classes
    if experiment.scope == "sites":
        if len(names) < 2:
            raise ExperimentDataError(
                f"{experiment.name} compares federations, which need at least two sites, and there "
                f"is one: {names[0]}. Give a folder with more, or divide a data set with "
                "`fedpsyau data partition`."
            )
        return (Block(name="sites", partitions=names, classes=classes, protocol="federation"),)
    if experiment.scope == "all data":
        return (Block(name="all data", partitions=names, classes=classes, protocol="kfold"),)
    chosen = settings.experiment
    return tuple(
        Block(
            name=dataset,
            partitions=tuple(part.partition for part in parts if part.dataset == dataset),
            classes="seven" if dataset in chosen.seven_classes else classes,
            protocol="loso" if dataset in chosen.loso else "kfold",
        )
        for dataset in sorted({part.dataset for part in parts})
    )
