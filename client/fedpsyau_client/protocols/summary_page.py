"""A finished run of a protocol as one HTML page that needs nothing beside it.

Made from the summary alone, so that the same run gives the same bytes. It names folds, subjects
and clips by their numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedpsyau_client.protocols.fold_result import FoldResult
from fedpsyau_client.protocols.pooled import Score
from fedpsyau_model.action_units import AUS
from fedpsyau_model.metrics import f1_by_class, recall_by_class
from fedpsyau_model.web_page.line_charts import Curve, DrawnPanel, Panel, draw_panels
from fedpsyau_model.web_page.page import render_page
from fedpsyau_model.web_page.shown_priors import shown_priors
from fedpsyau_model.web_page.shown_settings import shown_settings

if TYPE_CHECKING:
    from fedpsyau_client.protocols.outputs import RunSummary

__all__ = ["summary_page"]

#: Anchors and names of the page's sections.
_SECTIONS = (
    ("scores", "Scores"),
    ("confusion", "Confusion"),
    ("training", "Training"),
    ("priors", "Priors"),
    ("settings", "Settings"),
    ("provenance", "Provenance"),
    ("reading", "How to read it"),
)


def summary_page(summary: RunSummary) -> bytes:
    """Write the page of a finished run, in UTF-8."""
    plan, scores, confusion = summary.plan, summary.scores, summary.confusion
    main: list[tuple[str, Score]] = [
        ("UF1", scores.uf1),
        ("UAR", scores.uar),
        ("accuracy", scores.accuracy),
    ]
    if scores.au_f1_mean is not None:
        main.append(("F1, mean over AUs", scores.au_f1_mean))
    return render_page(
        "fedpsyau_client.protocols",
        "summary_page.html",
        {
            "sections": _SECTIONS,
            "name": summary.path.resolve().name,
            "title": summary.title,
            "plan": plan,
            "plan_hash": plan.plan_hash(),
            "synthetic": any(part.synthetic for part in plan.data),
            "fold_count": len(summary.results),
            "clip_count": len(summary.pooled.clip),
            "subject_count": summary.pooled.subjects,
            "scores": main,
            "au_scores": [
                (f"AU{au}", each) for au, each in zip(AUS, scores.au_f1 or (), strict=False)
            ],
            "classes": summary.classes,
            "class_scores": list(
                zip(
                    summary.classes,
                    confusion.sum(axis=1).tolist(),
                    f1_by_class(confusion).tolist(),
                    recall_by_class(confusion).tolist(),
                    strict=True,
                )
            ),
            "confusion": confusion.tolist(),
            "panels": _panels(summary.results),
            "notes": summary.notes(),
            "priors": shown_priors(
                plan.shared_priors(), plan.network.priors, plan.network.intrinsic_edges
            ),
            "settings": shown_settings(_settings(summary)),
        },
    )


def _settings(summary: RunSummary) -> dict[str, object]:
    """Settings that a protocol's run depends on; not those of a federation's rounds."""
    values = summary.plan.as_dict()
    kept: dict[str, object] = {
        name: values[name] for name in ("network", "priors", "loss", "training")
    }
    values["training"]["epochs"] = summary.plan.epochs
    del values["loss"]["alpha4"]
    return kept | {"seed": summary.plan.seed}


def _panels(results: Sequence[FoldResult]) -> list[DrawnPanel]:
    """Courses over epochs: mean over folds, and the lowest and highest fold."""
    epochs = range(1, len(results[0].losses) + 1)
    drawn = draw_panels(
        [_panel("training loss", [[each[0] for each in result.losses] for result in results])],
        epochs,
        "epochs",
    )
    validated = [result.validation_uf1 for result in results if result.validation_uf1]
    if validated:
        panel = _panel("UF1 on validation subjects", validated)
        drawn += draw_panels([panel], epochs, "epochs", top=1.0)
    return drawn


def _panel(title: str, folds: Sequence[Sequence[float | None]]) -> Panel:
    def course(take: Callable[[list[float]], float]) -> list[float | None]:
        known = [[each for each in epoch if each is not None] for epoch in zip(*folds, strict=True)]
        return [float(take(epoch)) if epoch else None for epoch in known]

    curves = [Curve("mean over folds", "trained", course(np.mean))]
    if len(folds) > 1:
        curves.append(Curve("lowest fold", "third", course(min)))
        curves.append(Curve("highest fold", "received", course(max)))
    return Panel(title, curves)
