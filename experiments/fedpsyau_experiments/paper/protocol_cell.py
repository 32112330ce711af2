"""A cell by a protocol of one machine: the network, or a linear classifier in the same folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fedpsyau_client.protocols.clip_set import ClipSet, Indices, open_clip_set
from fedpsyau_client.protocols.fold_training import inner_split
from fedpsyau_client.protocols.folds import Fold
from fedpsyau_client.protocols.plan import Plan
from fedpsyau_client.protocols.pooled import pool
from fedpsyau_client.protocols.pretraining import pretrain
from fedpsyau_client.protocols.training_job import Options, planned, trained_run
from fedpsyau_experiments.paper.cell_result import SubjectCounts
from fedpsyau_experiments.paper.plan import Block
from fedpsyau_experiments.paper.settings import ExperimentSection
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.metrics import confusion_matrices, confusion_matrix, uf1
from fedpsyau_model.settings import FederationSettings
from fedpsyau_model.worker_crew import Progress

__all__ = ["STRENGTHS", "pretrained_branch", "protocol_options", "tested_linear", "tested_network"]

#: Told the share of the cell that is done, in [0, 1].
Tell = Callable[[float], None]

#: Inverse regularisation of the linear classifier, strongest first.
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def protocol_options(
    block: Block,
    section: ExperimentSection,
    settings: FederationSettings,
    data: Path,
    folder: Path,
    device: str,
    start: Path | None = None,
) -> Options:
    """Say what a cell asks of `fedpsyau train`; an interrupted one goes on in its folder."""
    if block.protocol == "federation":
        raise ValueError("a federation is no protocol of one machine")
    return Options(
        protocol=block.protocol,
        data=data,
        out=folder,
        settings=settings,
        epochs=section.epochs,
        partitions=block.partitions,
        folds=section.folds,
        start=start,
        resume=True,
        device=device,
    )


def pretrained_branch(
    settings: FederationSettings, data: Path, out: Path, epochs: int, device: str
) -> Path:
    """Pre-train the AU branch with a cell's settings, unless that has been done."""
    if not out.exists():
        pretrain(data, [], out, settings, epochs, device=device)
    return out


def tested_network(options: Options, tell: Tell) -> SubjectCounts:
    """Train and test the network fold by fold."""
    epochs = done = 0

    def begin(folds: Sequence[Fold], pending: Sequence[Fold]) -> None:
        nonlocal epochs, done
        epochs = len(folds) * options.epochs
        done = (len(folds) - len(pending)) * options.epochs

    def report(progress: Progress) -> None:
        nonlocal done
        done += not progress.done
        tell(done / epochs)

    with trained_run(options, begin, report) as run:
        pooled = pool(run.results())
    subjects = np.unique(pooled.subject)
    return SubjectCounts(
        subject=subjects.tolist(),
        part=_parts(pooled.clip, pooled.subject, subjects),
        confusion=pooled.confusion.tolist(),
        au_counts=None if pooled.aus is None else pooled.aus.sum(axis=0).tolist(),
    )


def tested_linear(options: Options) -> SubjectCounts:
    """Test a logistic regression on the standardised global flow, by the same folds.

    Its regularisation is chosen in every fold on a fifth of the training subjects, by UF1, the
    stronger of equals; then all training clips are fitted. Classes are weighted by their inverse
    frequency, as the network's loss weights them.
    """
    plan, folds = planned(options)
    index = open_clip_set(options.data, options.partitions, plan.network.classes, verify=False)
    flow = index.tensors().flow.flatten(1).numpy()
    classes = len(CLASS_NAMES[plan.network.classes])
    predicted = np.full(len(index), -1, dtype=np.int64)
    for fold in folds:
        model = _fitted(flow, index, fold.train, _chosen_strength(flow, index, fold, plan, classes))
        predicted[fold.test] = model.predict(flow[fold.test])
    tested = np.concatenate([fold.test for fold in folds])
    subjects, number = np.unique(index.subject[tested], return_inverse=True)
    counts = confusion_matrices(
        index.emotion[tested], predicted[tested], number, classes, len(subjects)
    )
    return SubjectCounts(
        subject=subjects.tolist(),
        part=_parts(index.clip[tested], index.subject[tested], subjects),
        confusion=counts.tolist(),
    )


def _chosen_strength(
    flow: np.ndarray, index: ClipSet, fold: Fold, plan: Plan, classes: int
) -> float:
    training, validation = inner_split(index, fold, plan)

    def score(strength: float) -> float:
        found = _fitted(flow, index, training, strength).predict(flow[validation])
        return uf1(confusion_matrix(index.emotion[validation], found, classes))

    return max(STRENGTHS, key=score)  # the first of equals


def _fitted(flow: np.ndarray, index: ClipSet, rows: Indices, strength: float) -> Pipeline:
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    )
    return model.fit(flow[rows], index.emotion[rows])


def _parts(clip: np.ndarray, subject: np.ndarray, subjects: np.ndarray) -> list[str]:
    """Store of each subject's first clip."""
    first = [int(np.argmax(subject == each)) for each in subjects]
    return [str(clip[row]).partition("/")[0] for row in first]
