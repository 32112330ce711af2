"""Experiments: plans, cells in any order, what a finished one says."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from fedpsyau_client.protocols.plan import DataPart
from fedpsyau_experiments.experiment_command import app as experiment_app
from fedpsyau_experiments.experiment_command import command_of
from fedpsyau_experiments.paper.catalogue import EXPERIMENTS, Experiment
from fedpsyau_experiments.paper.cell_result import CellResult, SubjectCounts
from fedpsyau_experiments.paper.experiment_job import Options, run_experiment
from fedpsyau_experiments.paper.experiment_run import STEPS, ExperimentRun, Job, run_cells
from fedpsyau_experiments.paper.outcome import Outcome, summarise
from fedpsyau_experiments.paper.outputs import write_outputs
from fedpsyau_experiments.paper.plan import Cell, ExperimentPlan, make_plan, settings_of
from fedpsyau_experiments.paper.published import published
from fedpsyau_experiments.paper.settings import ExperimentSettings
from fedpsyau_experiments.paper.sizes import SIZES
from fedpsyau_model.command_line import new_app
from fedpsyau_model.errors import (
    DataNotFoundError,
    ExperimentDataError,
    OutputExistsError,
    RunFolderError,
    RunsDifferError,
    SettingsError,
)
from fedpsyau_model.settings import load_settings
from fedpsyau_model.worker_crew import Progress

SITES = ("casme3_c1", "dfme_c1")

#: As little as is still an experiment: no AU branch, one step a round.
TINY = {
    "network": {"au-branch": False},
    "training": {"epochs": 1, "batch-size": 32},
    "rounds": {"rounds": 1},
    "experiment": {"seeds": [0, 1], "epochs": 1, "folds": 2, "loso": [], "resamples": 200},
}


#: Two of the settings of alpha4.
SHORT = replace(EXPERIMENTS["alpha4"], settings=EXPERIMENTS["alpha4"].settings[0:3:2])


def settings(**sections: Any) -> ExperimentSettings:
    return ExperimentSettings.model_validate(TINY | sections)


def options(experiment: str | Experiment, twin: Path, out: Path, **more: Any) -> Options:
    values = {"settings": settings(), "data": twin, "sites": SITES}
    found = EXPERIMENTS[experiment] if isinstance(experiment, str) else experiment
    return Options(experiment=found, out=out, **(values | more))


def cells_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What the cells came to, but for the time that they took."""
    found = {file.name: json.loads(file.read_text()) for file in (folder / "cells").iterdir()}
    for each in found.values():
        del each["seconds"]
    return found


# Plans ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_setting_of_every_experiment_can_be_planned(name: str, twin: Path) -> None:
    experiment = EXPERIMENTS[name]
    assert experiment.setting(experiment.reference)
    base = load_settings(ExperimentSettings, base=SIZES["paper"], environment={})
    plan = make_plan(experiment, base, twin, pretraining=_other(twin))
    cells = plan.cells()
    assert len(cells) == len(experiment.settings) * len(plan.blocks) * 5
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        chosen = settings_of(plan, cell)
        assert chosen.seed == cell.seed
        assert chosen.network.classes == cell.block.classes
        for key, value in cell.setting.changes.items():
            section, _, key = key.partition(".")
            assert chosen.as_dict()[section][key] == value


def test_some_settings_are_compared_with_the_reference(twin: Path) -> None:
    ablation = EXPERIMENTS["ablation"]
    base = load_settings(ExperimentSettings, base=SIZES["paper"], environment={})
    plan = make_plan(ablation.only(["linear", "no-graph"]), base, twin)
    assert [each.name for each in plan.compared] == ["full", "no-graph", "linear"]
    assert [each.name for each in plan.catalogued.settings] == ["full", "no-graph", "linear"]
    assert len(plan.cells()) == 3 * 5
    with pytest.raises(SettingsError, match=r"no setting linaer, nothing\. It has full, "):
        ablation.only(["nothing", "linaer", "linear"])


def _other(twin: Path) -> Path:
    """A store that is none of those tested: the seventh, under another folder."""
    folder = twin.parent / "other"
    if not folder.exists():
        from fedpsyau_client.synthetic.twin import write_twin

        write_twin(folder, scale=0.001, seed=1)
    return folder


def test_data_sets_are_tested_as_in_the_paper(twin: Path) -> None:
    plan = make_plan(
        EXPERIMENTS["pretraining"], ExperimentSettings(), twin, pretraining=_other(twin)
    )
    assert [
        (each.name, each.classes, each.protocol, len(each.partitions)) for each in plan.blocks
    ] == [
        ("synthetic-casme3", "three", "loso", 2),
        ("synthetic-dfme", "seven", "kfold", 5),
    ]
    assert plan.settings.experiment.folds == 10


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("theta", {"sites": ["dfme_c1"]}, "at least two sites"),
        ("pretraining", {}, "--pretrain-data"),
    ],
)
def test_data_that_do_not_do_are_refused(
    name: str, more: dict[str, Any], told: str, twin: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExperimentDataError, match=told):
        run_experiment(options(name, twin, tmp_path / "out", **more))
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_pretrained_on_who_is_tested(twin: Path) -> None:
    with pytest.raises(ExperimentDataError, match="which is tested"):
        make_plan(EXPERIMENTS["pretraining"], settings(), twin, sites=SITES, pretraining=twin)


def test_a_seed_counts_once() -> None:
    with pytest.raises(SettingsError, match="count twice"):
        load_settings(ExperimentSettings, flags={"experiment.seeds": "1,2,1"}, environment={})


def test_a_file_wins_over_the_size_key_by_key(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text("[experiment]\nfolds = 7\n[rounds]\nkeep-rounds = 1\n")
    found = load_settings(ExperimentSettings, file, base=SIZES["small"], environment={})
    assert (found.experiment.folds, found.rounds.keep_rounds) == (7, 1)
    assert (found.experiment.seeds, found.rounds.rounds) == ((0, 1, 2), 3)


# Running -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four cells of `SHORT` with two seeds, run one after the other in this process."""
    folder = tmp_path_factory.mktemp("finished") / "alpha4"
    run_experiment(options(SHORT, twin, folder))
    return folder


def copy_cells(finished: Path, folder: Path, but: Sequence[int]) -> None:
    """Give an experiment all cells of a finished one but those with these numbers."""
    for file in (finished / "cells").iterdir():
        if int(file.name[:4]) not in but:
            (folder / "cells" / file.name).write_bytes(file.read_bytes())


def test_what_a_cell_counts_is_what_the_federation_reports(finished: Path, twin: Path) -> None:
    from fedpsyau_experiments.simulation import simulate

    plan = ExperimentRun.open(finished).plan
    cell = plan.cells()[1]
    run = simulate(settings_of(plan, cell), twin, finished.parent / "again")
    tested = SubjectCounts.model_validate(cells_of(finished)[f"{cell.name}.json"]["tested"])
    for site, record in run.rounds()[-1]["sites"].items():
        of_site = [
            each for each, part in zip(tested.confusion, tested.part, strict=True) if part == site
        ]
        assert np.sum(of_site, axis=0).tolist() == record["trained"]["confusion"]
        assert tested.received is not None
        assert tested.received[site] == record["received"]["confusion"]
    assert not (finished / "work").exists() or not list((finished / "work").iterdir())


def test_an_interrupted_experiment_goes_on_to_the_same_bits(
    finished: Path, twin: Path, tmp_path: Path
) -> None:
    asked = options(SHORT, twin, tmp_path / "run")

    def interrupt(progress: Progress) -> None:
        if progress.number == 2:  # in the middle of it, its federation having trained a site
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(asked, report=interrupt)
    assert len(cells_of(tmp_path / "run")) == 1
    assert not (tmp_path / "run" / "alpha4.json").exists()
    with pytest.raises(OutputExistsError, match="--resume"):
        run_experiment(asked)
    copy_cells(finished, tmp_path / "run", but=(1, 2, 4))
    begun: list[int] = []
    told: dict[int, int] = {}

    def report(progress: Progress) -> None:
        told[progress.number] = told.get(progress.number, 0) + progress.amount

    run_experiment(
        replace(asked, resume=True),
        begin=lambda cells, pending: begun.extend((len(cells), len(pending))),
        report=report,
    )
    assert begun == [4, 2]
    assert told == {2: STEPS, 4: STEPS}
    assert_same(tmp_path / "run", finished)


def assert_same(folder: Path, finished: Path) -> None:
    assert cells_of(folder) == cells_of(finished)
    for name in ("alpha4.json", "alpha4.csv", "alpha4.md", "alpha4.png"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_changed_plan_is_refused_with_the_difference(finished: Path, twin: Path) -> None:
    changed = settings(rounds={"rounds": 2})
    asked = options(SHORT, twin, finished, settings=changed, resume=True)
    with pytest.raises(RunsDifferError, match=r"settings\.rounds\.rounds: here 2, there 1"):
        run_experiment(asked)
    with pytest.raises(RunsDifferError, match="experiment: here theta, there alpha4"):
        run_experiment(options("theta", twin, finished, resume=True))


def test_what_another_experiment_did_is_taken_over_if_it_is_the_same(
    finished: Path, twin: Path, tmp_path: Path
) -> None:
    theirs = ExperimentRun.open(finished)
    asked = {"data": twin, "sites": SITES}
    plan = make_plan(EXPERIMENTS["theta"], settings(), **asked)
    run = ExperimentRun.make(tmp_path / "theta", lambda _: plan)
    assert run.take_over(theirs) == 2  # theta 0.9 and alpha4 0.001 are the defaults
    found = cells_of(run.path)
    assert sorted(found) == ["0006-theta-0.9-seed-0.json", "0014-theta-0.9-seed-1.json"]
    taken = found["0006-theta-0.9-seed-0.json"]
    assert (taken["setting"], taken["number"]) == ("theta-0.9", 6)
    assert taken["plan_hash"] == plan.plan_hash()
    assert taken["tested"] == cells_of(finished)["0002-alpha4-0.001-seed-0.json"]["tested"]
    assert run.take_over(theirs) == 0
    for changed in (settings(rounds={"rounds": 2}), settings(experiment={"seeds": [2]})):
        plan = make_plan(EXPERIMENTS["theta"], changed, **asked)
        run = ExperimentRun.make(tmp_path / plan.plan_hash(), lambda _, plan=plan: plan)
        assert run.take_over(theirs) == 0


def _copy(finished: Path, folder: Path) -> ExperimentRun:
    return ExperimentRun.make(folder, lambda _: ExperimentRun.open(finished).plan)


@pytest.mark.parametrize(
    "jobs", [1, pytest.param(2, marks=pytest.mark.slow)], ids=["one process", "two processes"]
)
def test_order_and_processes_do_not_change_a_bit(
    jobs: int, finished: Path, twin: Path, tmp_path: Path
) -> None:
    run = _copy(finished, tmp_path / "run")
    job = Job(plan=run.plan, path=run.path, data=twin, pretraining=None, device="cpu")
    again = [4, 2]  # of both seeds, whose cells differ
    run_cells(job, again, jobs, lambda progress: None)
    copy_cells(finished, run.path, but=again)
    write_outputs(summarise(run), run.path)
    assert_same(run.path, finished)
    whole = cells_of(finished)
    one, other = (
        whole[f"{name}-alpha4-0.001-seed-{seed}.json"] for name, seed in (("0002", 0), ("0004", 1))
    )
    assert one["tested"] != other["tested"]


def test_a_damaged_cell_is_told_and_a_missing_one_too(finished: Path, tmp_path: Path) -> None:
    run = _copy(finished, tmp_path / "run")
    with pytest.raises(RunFolderError, match="0001-alpha4-0-seed-0"):
        summarise(run)
    copy_cells(finished, run.path, but=())
    summarise(run)
    file = run.path / "cells" / "0002-alpha4-0.001-seed-0.json"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(RunFolderError, match=r"0002-alpha4-0\.001-seed-0"):
        summarise(run)


# What is said --------------------------------------------------------------------------------


def planned(name: str, synthetic: bool = True, **experiment: Any) -> ExperimentPlan:
    """A plan over two stores that are not there."""
    parts = tuple(
        DataPart(
            partition=f"site{k}",
            dataset="synthetic-dfme" if synthetic else "dfme",
            data_hash=str(k) * 64,
            synthetic=synthetic,
        )
        for k in (1, 2)
    )
    chosen = settings(experiment=TINY["experiment"] | experiment)
    real = EXPERIMENTS[name]
    from fedpsyau_experiments.paper.plan import PlannedSetting, _blocks

    return ExperimentPlan(
        experiment=name,
        data=parts,
        settings=chosen,
        blocks=_blocks(real, chosen, parts),
        compared=tuple(map(PlannedSetting.of, real.settings)),
    )


def written(plan: ExperimentPlan, folder: Path, right: dict[tuple[str, int], float]) -> Outcome:
    """An experiment whose cells are made up, with so large a share of right clips.

    There are 10 subjects at each site, with 4 clips of each class; what is wrong is taken for the
    class after it.
    """
    run = ExperimentRun.make(folder, lambda _: plan)
    for cell in plan.cells():
        run.write(cell, _result(plan, cell, right.get((cell.setting.name, cell.seed), 0.5)))
    outcome = summarise(run)
    write_outputs(outcome, folder)
    return outcome


def _result(plan: ExperimentPlan, cell: Cell, share: float) -> CellResult:
    classes = 3 if cell.block.classes == "three" else 7
    one = np.roll(np.eye(classes), 1, axis=1) * 4 * (1 - share) + np.eye(classes) * 4 * share
    federated = cell.setting.kind == "federation"
    total = (10 * one).astype(int).tolist()
    return CellResult(
        plan_hash=plan.plan_hash(),
        number=cell.number,
        block=cell.block.name,
        setting=cell.setting.name,
        seed=cell.seed,
        seconds=1,
        tested=SubjectCounts(
            subject=[f"d/{k}s{i}" for k in (1, 2) for i in range(10)],
            part=[f"site{k}" for k in (1, 2) for _ in range(10)],
            confusion=[one.astype(int).tolist()] * 20,
            received={"site1": total, "site2": total} if federated else None,
            theta={"site1": 0.5, "site2": 0.25 + 0.5 * cell.seed}
            if cell.setting.changes.get("strategy.theta") == "auto"
            else None,
            au_counts=None if federated else [[1, 1, 0]] * 12,
        ),
    )


def table(page: str, heading: str) -> dict[str, list[str]]:
    """Rows of the first table below a heading, by their first cell."""
    lines = page.split(f"{heading}\n")[1].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows: Sequence[str] = lines[first:]
    rows = rows[: next((i for i, line in enumerate(rows) if not line), len(rows))]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    return {row[0]: row[1:] for row in cells}


def test_the_page_of_a_federated_experiment(tmp_path: Path) -> None:
    right = {("theta-0.9", 0): 0.75, ("theta-0.9", 1): 0.5, ("fedavg", 0): 1.0, ("fedavg", 1): 1.0}
    right |= {("fedprox", 0): 0.75, ("fedprox", 1): 0.5}
    written(planned("theta", resamples=1000), tmp_path / "run", right)
    page = (tmp_path / "run" / "theta.md").read_text()
    assert page.splitlines()[0].endswith(", synthetic data")
    assert "numbers say nothing about real faces" in page
    assert "supplement section 9.1 and Fig. 7" in page
    assert "seeds 0, 1; reference of the tests: θ 0.9" in page
    # With a share of a right, UF1, UAR and accuracy are a: every class has as many false positives.
    scores = table(page, "tested on held-out subjects")
    assert scores["θ 0.9"] == ["0.6250 ± 0.1768"] * 5
    assert scores["FedAvg (θ = n/N, α4 0)"] == ["1.0000 ± 0.0000"] * 5
    tests = table(page, "### UF1 against the reference")
    assert "θ 0.9" not in tests
    # 1 - 0.75 and 1 - 0.5; all resamples of equal subjects are equal. 7 comparisons.
    assert tests["FedAvg (θ = n/N, α4 0)"] == [
        "+0.3750",
        "+0.3750 to +0.3750",
        f"{2 / 1001:.4f}",
        f"{7 * 2 / 1001:.4f}",
        "+0.3750 ± 0.1768",
        "0.5000",
        "1.0000",
    ]
    said = [line for line in page.splitlines() if line.startswith("- sites")]
    assert said == [
        f"- sites, {score}: {what}"
        for score in ("UF1", "UAR")
        for what in (
            "above θ 0.9 beyond chance in who was tested: FedAvg (θ = n/N, α4 0).",
            "below θ 0.9 beyond chance in who was tested: θ 0.5; θ 0.7; θ 0.8; θ 1.0; θ auto.",
            "1 of 7 settings cannot be told from θ 0.9, after Holm over subjects.",
        )
    ]
    by_site = table(page, "### UAR by site")
    assert by_site["setting"] == ["site1", "site2"]
    assert by_site["θ 0.9"] == ["0.6250 ± 0.1768"] * 2
    assert table(page, "### θ that the sites chose last")["θ auto"] == ["0.50, 0.50", "0.25, 0.75"]
    assert "it cannot be below 0.5000" in " ".join(page.split())
    assert "corrected over the 7 comparisons" in page


def test_the_page_beside_published_numbers(tmp_path: Path) -> None:
    written(planned("loss-weights"), tmp_path / "run", {("alpha1-0.8", 0): 1, ("alpha1-0.8", 1): 1})
    page = (tmp_path / "run" / "loss-weights.md").read_text()
    scores = table(page, "## synthetic-dfme, seven classes, in folds by subject")
    assert scores["setting"][-1] == "published UF1, UAR (real data)"
    assert scores["α1 0.8, α2 = α3 = 0.2"] == [
        *["1.0000 ± 0.0000"] * 3,
        "0.6667 ± 0.0000",
        "0.3853, 0.3978 (Table 4, row 0.8 read as α1)",
    ]
    assert scores["α1 0.1, α2 = α3 = 0.9"][-1] == (
        "0.3744, 0.3863 (Table 4, row 0.9 read as α2 = α3)"
    )
    assert "published ones, which are on real data" in page


def test_real_data_are_not_called_synthetic(tmp_path: Path) -> None:
    written(planned("loss-weights", synthetic=False), tmp_path / "run", {})
    assert "ynthetic" not in (tmp_path / "run" / "loss-weights.md").read_text()
    assert json.loads((tmp_path / "run" / "loss-weights.json").read_text())["synthetic"] is False


def test_the_other_files_hold_the_same_numbers(tmp_path: Path) -> None:
    right = {("theta-0.9", 0): 0.75, ("theta-0.9", 1): 0.5}
    outcome = written(planned("theta"), tmp_path / "run", right)
    document = json.loads((tmp_path / "run" / "theta.json").read_text())
    (block,) = document["blocks"]
    reference = next(each for each in block["settings"] if each["name"] == "theta-0.9")
    assert reference["uf1"]["values"] == [0.75, 0.5]
    assert reference["confusion"][0] == [100, 60, 0]
    assert document["plan_hash"] == outcome.plan.plan_hash()
    assert len(document["differences"]) == 2 * 7
    rows = list(csv.DictReader((tmp_path / "run" / "theta.csv").open()))
    assert len(rows) == 8 * 2 * (1 + 2)
    found = [
        row
        for row in rows
        if (row["setting"], row["seed"], row["part"]) == ("theta-0.9", "1", "site2")
    ]
    assert [float(row["uf1"]) for row in found] == [0.5]
    assert {row["synthetic"] for row in rows} == {"True"}
    assert (tmp_path / "run" / "theta.png").read_bytes().startswith(b"\x89PNG")


def test_settings_that_tested_other_clips_are_not_paired(tmp_path: Path) -> None:
    plan = planned("pretraining")
    run = ExperimentRun.make(tmp_path / "run", lambda _: plan)
    for cell in plan.cells():
        result = _result(plan, cell, 0.5)
        if cell.setting.name == "with":
            tested = result.tested.model_copy(
                update={"subject": [f"x{each}" for each in result.tested.subject]}
            )
            result = result.model_copy(update={"tested": tested})
        run.write(cell, result)
    with pytest.raises(ValueError, match="different clips"):
        summarise(run)


@pytest.mark.parametrize(
    ("experiment", "dataset", "setting", "expected"),
    [
        ("pretraining", "synthetic-dfme", "without", (0.3761, 0.3891)),
        ("pretraining", "casme3", "with", (0.6221, 0.6226)),
        ("confusion", "dfme", "with", (0.3853, 0.3978)),
        ("loss-weights", "dfme", "alpha1-0.7", (0.3715, 0.3857)),
        ("loss-weights", "dfme", "alpha1-0.3", (0.3715, 0.3857)),
        ("loss-weights", "dfme", "alpha1-0.2", (0.3853, 0.3978)),
        ("loss-weights", "casme3", "alpha1-0.8", None),
        ("theta", "sites", "theta-0.9", None),
        ("pretraining", "samm", "with", None),
    ],
)
def test_published_numbers(
    experiment: str, dataset: str, setting: str, expected: tuple[float, float] | None
) -> None:
    found = published(experiment, dataset, setting)
    assert (found and (found.uf1, found.uar)) == expected


# End to end ----------------------------------------------------------------------------------

_WITH_AUS = {"network": {"au-branch": True}}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        pytest.param("federated-comparison", {}, marks=pytest.mark.slow),
        pytest.param("theta", {}, marks=pytest.mark.slow),
        pytest.param("alpha4", {}, marks=pytest.mark.slow),
        pytest.param("loss-weights", _WITH_AUS, marks=pytest.mark.slow),
        pytest.param("pretraining", _WITH_AUS, marks=pytest.mark.slow),
        pytest.param("confusion", _WITH_AUS, marks=pytest.mark.slow),
        pytest.param("ablation", _WITH_AUS, marks=pytest.mark.slow),
    ],
)
def test_every_experiment_runs_to_its_end(
    name: str, more: dict[str, Any], twin: Path, tmp_path: Path
) -> None:
    outcome, files = run_experiment(
        options(
            name,
            twin,
            tmp_path / name,
            settings=settings(**more),
            sites=["casme3_c1"] if name == "confusion" else SITES,
            pretraining=_other_small(tmp_path) if name in ("pretraining", "confusion") else None,
        )
    )
    assert [file.name for file in files] == [
        f"{name}.{kind}" for kind in ("md", "json", "csv", "png")
    ]
    assert all(file.stat().st_size for file in files)
    for block in outcome.blocks:
        assert len(block.settings) == len(EXPERIMENTS[name].settings)
        for each in block.settings:
            assert 0 <= each.uf1.mean <= 1
            assert each.confusion.sum() == block.clips > 0


def _other_small(folder: Path) -> Path:
    """One small store of other people."""
    from fedpsyau_client.synthetic.twin import write_twin

    write_twin(folder / "all", scale=0.001, seed=1)
    (folder / "other").mkdir()
    (folder / "all" / "casme3_c2").rename(folder / "other" / "casme3_c2")
    return folder / "other"


# The command ---------------------------------------------------------------------------------


def invoke(
    *arguments: object, app: typer.Typer = experiment_app
) -> tuple[BaseException | None, str]:
    """What ended the command, and what it printed."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    return result.exception, result.output


def test_the_list_names_all() -> None:
    error, output = invoke("list")
    assert error is None
    for name in EXPERIMENTS:
        assert name in output


def test_the_command_takes_size_file_and_options(
    finished: Path, twin: Path, tmp_path: Path
) -> None:
    """Nothing is run: a finished experiment's cells are taken over."""
    short = new_app("Experiments.")
    short.callback()(lambda: None)
    short.command("alpha4")(command_of(SHORT))
    (tmp_path / "e.toml").write_text(
        "[network]\nau-branch = false\n[training]\nepochs = 1\nbatch-size = 32\n"
        "[rounds]\nrounds = 1\n[experiment]\nepochs = 1\nfolds = 2\nloso = []\nresamples = 200\n"
    )
    asked = (
        *("alpha4", "--out", tmp_path / "out", "--data", twin, "--sites", ",".join(SITES)),
        *("--config", tmp_path / "e.toml", "--seeds", "0,1", "--reuse", finished),
    )
    error, output = invoke(*asked, app=short)
    assert error is None, output
    assert "synthetic data" in output
    assert "alpha4.md" in output
    assert (tmp_path / "out" / "alpha4.csv").read_bytes() == (finished / "alpha4.csv").read_bytes()
    error, _ = invoke(*asked, app=short)
    assert isinstance(error, OutputExistsError)
    error, _ = invoke(*asked, "--resume", "--size", "paper", "--seeds", "0", app=short)
    assert isinstance(error, RunsDifferError)
    assert "settings.experiment.seeds: here [0], there [0, 1]" in str(error)


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        (("--data", "nowhere"), DataNotFoundError, "nowhere"),
        (("--data", "nowhere", "--scale", 2), SettingsError, "synthetic twin"),
        (("--scale", 0), SettingsError, "--scale is 0"),
        (("--device", "gpu"), SettingsError, "cuda:N"),
        (("--only", "theta-3"), SettingsError, "theta-0.9"),
        (("--seeds", "one"), SettingsError, "experiment.seeds"),
        (("--reuse", "nowhere"), RunFolderError, "fedpsyau experiment"),
    ],
)
def test_what_is_wrong_is_told(
    arguments: tuple[object, ...], kind: type[Exception], told: str, tmp_path: Path
) -> None:
    error, _ = invoke("theta", "--out", tmp_path / "out", *arguments)
    assert isinstance(error, kind), error
    assert told in str(error)
    assert not (tmp_path / "out").exists()
