"""The report as one HTML page that needs nothing beside it: what its template is filled with.

Made from the run folder alone, so that the same run gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedpsyau_model.settings import brief
from fedpsyau_model.site_card import SiteCardDocument
from fedpsyau_model.web_page.line_charts import (
    Curve,
    DrawnPanel,
    Panel,
    draw_panels,
    shown_steps,
)
from fedpsyau_model.web_page.page import render_page
from fedpsyau_model.web_page.shown_priors import shown_priors
from fedpsyau_model.web_page.shown_settings import shown_settings
from fedpsyau_server.report.against import Against
from fedpsyau_server.report.events import enrolments
from fedpsyau_server.report.many_sites import QUARTILES, drawn_sites, draws_all
from fedpsyau_server.report.participation import MOST_INCIDENTS, PARTS, incidents, site_courses
from fedpsyau_server.report.provenance import model_hashes, record_hashes
from fedpsyau_server.report.rows import Row, site_rows, summary_rows
from fedpsyau_server.report.site_cards import CARDS_FOLDER, read_site_cards
from fedpsyau_server.report.tables import LOSS_PARTS, STAGES, Round, RunTables, Scores, Stage
from fedpsyau_server.report.terminal import kept_back_note, late_note

__all__ = ["html_page"]

#: Anchors and names of the page's sections.
_SECTIONS = (
    ("sites", "Sites"),
    ("rounds", "Round by round"),
    ("confusion", "Confusion"),
    ("participation", "Who took part"),
    ("priors", "Priors"),
    ("data", "Data"),
    ("settings", "Settings"),
    ("provenance", "Provenance"),
    ("reading", "How to read it"),
)

#: Looks of the four parts of the loss, and what they are.
_LOSS_PARTS = (
    ("loss_emotion", "trained", "emotion"),
    ("loss_au", "received", "AUs after the graph"),
    ("loss_au_aux", "third", "AUs before the graph"),
    ("loss_proximal", "fourth", "proximal term, weighted"),
)

#: Columns of scores by round that fit on a sheet of paper.
_COLUMNS = 9


@dataclass(frozen=True)
class _Course:
    """Scores of something over the rounds: a site, the mean over sites, or the pooled counts."""

    name: str
    scores: dict[Stage, list[Scores]]

    def values(self, stage: Stage, measure: str) -> list[float | None]:
        """One value for each round."""
        return [getattr(each, measure) for each in self.scores[stage]]


def html_page(tables: RunTables, against: Against | None = None) -> bytes:
    """Write the page of a run, in UTF-8, beside another run if there is one.

    Raises SiteCardError for a card that cannot be used.
    """
    config = tables.folder.config
    settings = config.federation_settings()
    courses = _courses(tables)
    return render_page(
        "fedpsyau_server.report",
        "page.html",
        {
            "sections": _SECTIONS,
            "name": tables.folder.path.resolve().name,
            "config": config,
            "status": tables.folder.state.status,
            "progress": tables.progress,
            "strategy": _strategy(tables),
            "seed": settings.seed,
            "synthetic": tables.synthetic,
            "planned": tables.planned,
            "last": tables.last,
            "classes": tables.classes,
            "notes": [note for note in (kept_back_note(tables), late_note(tables)) if note],
            "sites": site_rows(tables),
            "summaries": summary_rows(tables),
            "pooled": {stage: tables.last.pooled(stage) for stage in STAGES},
            "mean": {stage: tables.last.mean(stage) for stage in STAGES},
            "worst": tables.last.worst(),
            "clips": _clip_sums(tables.last),
            "against": against,
            "mini": _mini,
            "difference": _difference,
            "score_charts": [
                (name, _score_panels(tables, courses, measure))
                for measure, name in (("uf1", "UF1"), ("uar", "UAR"))
            ],
            "score_tables": [
                (name, _score_table(tables, courses, measure))
                for measure, name in (("uf1", "UF1"), ("uar", "UAR"))
            ],
            "worst_drawn": 0 if draws_all(tables) else len(drawn_sites(tables)),
            "loss_parts": [(look, name) for _, look, name in _LOSS_PARTS],
            "loss_panels": _loss_panels(tables),
            "part_panels": _part_panels(tables),
            "thinned": len(shown_steps(tables.round_numbers)) < len(tables.rounds),
            "pooled_confusion": {
                stage: tables.last.pooled_confusion(stage).tolist() for stage in STAGES
            },
            "site_confusion": _site_confusion(tables),
            "kinds": PARTS,
            "courses": site_courses(tables),
            "incidents": (found := incidents(tables))[:MOST_INCIDENTS],
            "more_incidents": max(0, len(found) - MOST_INCIDENTS),
            "priors": shown_priors(
                settings.shared_priors(), settings.network.priors, settings.network.intrinsic_edges
            ),
            "enrolments": enrolments(tables.folder),
            "cards": read_site_cards(tables.folder),
            "cards_folder": CARDS_FOLDER,
            "preparation": _preparation,
            "settings": shown_settings(settings.as_dict()),
            "models": model_hashes(tables.folder),
            "records": record_hashes(tables.folder),
        },
    )


def _preparation(card: SiteCardDocument) -> list[tuple[str, str]]:
    return [
        (step.replace("_", " "), brief(value if isinstance(value, str) else json.dumps(value)))
        for step, value in card.preprocessing.items()
    ]


def _strategy(tables: RunTables) -> str:
    strategy = tables.folder.config.federation_settings().strategy
    return f"{strategy.name}, θ {strategy.theta}" if strategy.name == "p-fedprox" else strategy.name


def _clip_sums(last: Round) -> dict[str, int]:
    replies = last.replies.values()
    return {
        "train": sum(each.train_clips for each in replies),
        "test": sum(each.test_clips for each in replies),
    }


def _difference(trained: float | None, received: float | None) -> float | None:
    return None if trained is None or received is None else trained - received


def _mini(row: Row, measure: str) -> dict[str, float | None]:
    """Where a row's scores lie on a line of 100 units."""
    return {
        stage: None if (value := row[f"{measure}_{stage}"]) is None else round(100 * value, 1)
        for stage in STAGES
    }


def _courses(tables: RunTables) -> list[_Course]:
    """Courses of the sites, then of their mean and of the pooled counts.

    Of very many sites, quartiles and the worst stand for all.
    """

    def course(name: str, scores: Callable[[Round, Stage], Scores]) -> _Course:
        return _Course(name, {s: [scores(each, s) for each in tables.rounds] for s in STAGES})

    def of_site(site: str) -> Callable[[Round, Stage], Scores]:
        def scores(each: Round, stage: Stage) -> Scores:
            reply = each.replies.get(site)
            return reply.scores(stage) if reply else Scores(None, None)

        return scores

    def below(share: float) -> Callable[[Round, Stage], Scores]:
        return lambda each, stage: each.quantile(share, stage)

    quartiles = () if draws_all(tables) else QUARTILES
    return [
        *(course(f"{name} of all sites", below(share)) for share, name in quartiles),
        *(course(site, of_site(site)) for site in drawn_sites(tables)),
        course("mean over sites", Round.mean),
        course("pooled counts", Round.pooled),
    ]


def _score_panels(tables: RunTables, courses: Sequence[_Course], measure: str) -> list[DrawnPanel]:
    mean = courses[-2].values("trained", measure)
    panels = [
        Panel(
            each.name,
            [
                Curve("received", "received", each.values("received", measure)),
                Curve("trained", "trained", each.values("trained", measure)),
            ],
            behind=mean if index < len(courses) - 2 else (),
        )
        for index, each in enumerate(courses)
    ]
    return draw_panels(panels, tables.round_numbers, "rounds", top=1.0)


def _score_table(
    tables: RunTables, courses: Sequence[_Course], measure: str
) -> list[dict[str, Any]]:
    """Scores by round for people who cannot see the curves, in parts that fit on paper."""
    shown = shown_steps(tables.round_numbers)
    columns = [
        (each.name, each.values("received", measure), each.values("trained", measure))
        for each in courses
    ]
    return [
        {
            "names": [name for name, _, _ in part],
            "rows": [
                (
                    tables.rounds[i].number,
                    [(received[i], trained[i]) for _, received, trained in part],
                )
                for i in shown
            ],
        }
        for part in (columns[k : k + _COLUMNS] for k in range(0, len(columns), _COLUMNS))
    ]


def _loss_panels(tables: RunTables) -> list[DrawnPanel]:
    """Total loss of every site; of very many, quartiles and the worst stand for all."""

    def of_site(site: str) -> Callable[[Round], float | None]:
        def loss(each: Round) -> float | None:
            reply = each.replies.get(site)
            return reply.losses["loss_total"] if reply else None

        return loss

    def below(share: float) -> Callable[[Round], float | None]:
        return lambda each: each.loss_quantile(share, "loss_total")

    quartiles = () if draws_all(tables) else QUARTILES
    courses = [
        *((f"{name} of all sites", below(share)) for share, name in quartiles),
        *((site, of_site(site)) for site in drawn_sites(tables)),
    ]
    panels = [
        Panel(name, [Curve("total loss", "trained", [loss(each) for each in tables.rounds])])
        for name, loss in courses
    ]
    return draw_panels(panels, tables.round_numbers, "rounds")


def _part_panels(tables: RunTables) -> list[DrawnPanel]:
    """The parts of the loss as means over the answering sites, each with a scale of its own."""
    assert {name for name, _, _ in _LOSS_PARTS} == set(LOSS_PARTS)
    drawn: list[DrawnPanel] = []
    for name, look, text in _LOSS_PARTS:
        means = [each.mean_loss(name) for each in tables.rounds]
        drawn += draw_panels(
            [Panel(text, [Curve(text, look, means)])], tables.round_numbers, "rounds"
        )
    return drawn


def _site_confusion(tables: RunTables) -> list[tuple[str, int, list[list[int]]]]:
    """Name, round and counts of the trained model of the drawn sites' last valid replies."""
    latest = [reply for site in drawn_sites(tables) if (reply := tables.latest(site))]
    return [
        (each.site, each.round, each.confusion["trained"].tolist())
        for each in latest
        if each.test_clips and "confusion" not in each.kept_back
    ]
