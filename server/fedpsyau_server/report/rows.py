"""The rows of the report's two tables, as plain values for the terminal, CSV, JSON and Markdown."""

from __future__ import annotations

from typing import Any

from fedpsyau_server.report.tables import LOSS_PARTS, Round, RunTables, Scores, SiteRound

#: A row: column name -> text, number, or None where there is nothing to say.
Row = dict[str, Any]


def site_rows(tables: RunTables) -> list[Row]:
    """One row a site: its last valid reply, and the round of it."""
    return [_site_row(tables, site) for site in tables.sites]


def summary_rows(tables: RunTables) -> list[Row]:
    """Rows ``mean over sites``, ``pooled counts`` and ``worst site`` of the last round.

    They are over the sites that answered in that round. The worst site is the one whose trained
    model has the lowest UF1; the row is left out if no site holds out any clip.
    """
    last, worst = tables.last, tables.last.worst()
    counted = f"{len(last.replies)} site{'s' if len(last.replies) != 1 else ''}"
    rows = [
        _summary_row(last, f"mean over {counted}", last.mean("received"), last.mean("trained")),
        _summary_row(last, "pooled counts", last.pooled("received"), last.pooled("trained")),
    ]
    if worst is not None:
        rows.append(_reply_row(worst) | {"site": f"worst site: {worst.site}"})
    return rows


def round_rows(tables: RunTables) -> list[Row]:
    """One row for every round and site, and a mean and a pooled row for every round."""
    rows: list[Row] = []
    for each in tables.rounds:
        rows += [_round_row(each, site) for site in tables.sites]
        for name, received, trained in (
            ("mean over sites", each.mean("received"), each.mean("trained")),
            ("pooled counts", each.pooled("received"), each.pooled("trained")),
        ):
            rows.append(
                {"round": each.number, "site": name, "part": "", "reason": ""}
                | _clip_sums(each)
                | _score_cells(received, trained)
                | _training_cells(None)
            )
    return rows


def _site_row(tables: RunTables, site: str) -> Row:
    reply = tables.latest(site)
    if reply is None:
        row: Row = {"site": site, "round": None, "train_clips": None, "test_clips": None}
        row |= {"kept_back": ""} | _score_cells(Scores(None, None), Scores(None, None))
    else:
        row = _reply_row(reply)
    return row | {"part": tables.last.part(site)}


def _reply_row(reply: SiteRound) -> Row:
    return {
        "site": reply.site,
        "round": reply.round,
        "train_clips": reply.train_clips,
        "test_clips": reply.test_clips,
        "kept_back": ", ".join(reply.kept_back),
    } | _score_cells(reply.scores("received"), reply.scores("trained"))


def _summary_row(last: Round, name: str, received: Scores, trained: Scores) -> Row:
    row = {"site": name, "round": last.number} | _clip_sums(last) | {"kept_back": ""}
    return row | _score_cells(received, trained)


def _round_row(each: Round, site: str) -> Row:
    reply = each.replies.get(site)
    row: Row = {
        "round": each.number,
        "site": site,
        "part": each.part(site),
        "reason": each.quarantined.get(site, ""),
        "train_clips": reply.train_clips if reply else None,
        "test_clips": reply.test_clips if reply else None,
    }
    scores = (
        (reply.scores("received"), reply.scores("trained"))
        if reply
        else (Scores(None, None), Scores(None, None))
    )
    return row | _score_cells(*scores) | _training_cells(reply)


def _clip_sums(each: Round) -> Row:
    return {
        "train_clips": sum(reply.train_clips for reply in each.replies.values()),
        "test_clips": sum(reply.test_clips for reply in each.replies.values()),
    }


def _score_cells(received: Scores, trained: Scores) -> Row:
    return {
        "uf1_received": received.uf1,
        "uf1_trained": trained.uf1,
        "uar_received": received.uar,
        "uar_trained": trained.uar,
    }


def _training_cells(reply: SiteRound | None) -> Row:
    names = ("loss_total", *LOSS_PARTS)
    return {name: reply.losses[name] if reply else None for name in names} | {
        "update_norm": reply.update_norm if reply else None,
        "train_seconds": reply.seconds if reply else None,
    }
