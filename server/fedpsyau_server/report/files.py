"""The report as files in RUN/report: tables as CSV and JSON, pictures as PNG, and two pages."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import RunFolderError
from fedpsyau_model.file_content import csv_text, png_bytes
from fedpsyau_server.report.against import Against, compare_runs
from fedpsyau_server.report.html_page import html_page
from fedpsyau_server.report.plots import plot_confusion, plot_curves, plot_losses
from fedpsyau_server.report.rows import Row, round_rows, site_rows, summary_rows
from fedpsyau_server.report.tables import STAGES, RunTables, Scores, read_tables
from fedpsyau_server.report.terminal import SCORE_COLUMNS, notes, score_cells, title
from fedpsyau_server.run_folder import RunFolder


@dataclass(frozen=True)
class ReportFiles:
    """Where the files of a report are."""

    page: Path
    markdown: Path
    sites_csv: Path
    sites_json: Path
    rounds_csv: Path
    rounds_json: Path
    curves: Path
    confusion: Path
    losses: Path

    @classmethod
    def below(cls, folder: Path) -> ReportFiles:
        """Names of the files in a folder."""
        names = (
            "index.html",
            "index.md",
            "sites.csv",
            "sites.json",
            "rounds.csv",
            "rounds.json",
            "curves.png",
            "confusion.png",
            "loss.png",
        )
        return cls(*(folder / name for name in names))

    def paths(self) -> tuple[Path, ...]:
        """All of them, the page first."""
        return astuple(self)


def write_report(folder: RunFolder, against: RunFolder | None = None) -> ReportFiles:
    """Write the report of a run into its folder, replacing an older one file by file.

    against: another run of the same sites, to stand beside this one.

    Works on a run that is still going on, or has failed, as far as its whole rounds go. Raises
    RunFolderError if there is none, or if the files cannot be written; RunsDifferError if the runs
    cannot be compared; SiteCardError for a site card that cannot be used.
    """
    tables = read_tables(folder)
    other = compare_runs(tables, read_tables(against)) if against else None
    page = html_page(tables, other)
    files = ReportFiles.below(folder.path / "report")
    try:
        files.page.parent.mkdir(exist_ok=True)
        write_atomically(files.sites_csv, csv_text([*_kinds(tables)]))
        write_atomically(files.sites_json, _json(_sites_document(tables, other)))
        write_atomically(files.rounds_csv, csv_text(round_rows(tables)))
        write_atomically(files.rounds_json, _json(round_rows(tables)))
        for path, plot in (
            (files.curves, plot_curves),
            (files.confusion, plot_confusion),
            (files.losses, plot_losses),
        ):
            write_atomically(path, png_bytes(plot(tables)))
        write_atomically(files.markdown, _markdown(tables, files))
        write_atomically(files.page, page)
    except OSError as error:
        raise RunFolderError(
            f"The report {files.page.parent} cannot be written: {error.strerror or error}. Check "
            "space and permissions; the run itself is not touched."
        ) from None
    return files


def _kinds(tables: RunTables) -> list[Row]:
    """All rows of the sites' table; `row` tells sites from summaries."""
    sites = [{"row": "site"} | row for row in site_rows(tables)]
    summaries = [{"row": "summary"} | row | {"part": ""} for row in summary_rows(tables)]
    return sites + summaries


def _sites_document(tables: RunTables, other: Against | None) -> dict[str, Any]:
    config, last, worst = tables.folder.config, tables.last, tables.last.worst()
    settings = config.federation_settings()
    shared = settings.shared_priors()
    return {
        "run_id": config.run_id,
        "version": config.version,
        "agreement_hash": config.agreement_hash,
        "priors": {
            "whose": settings.network.priors,
            "shared": {"name": shared.name, "sha256": shared.fingerprint()},
        },
        "status": tables.folder.state.status,
        "round": last.number,
        "rounds": tables.planned,
        "synthetic": tables.synthetic,
        "classes": list(tables.classes),
        "sites": site_rows(tables),
        "confusion": {
            reply.site: {stage: reply.confusion[stage].tolist() for stage in STAGES}
            for site in tables.sites
            if (reply := tables.latest(site))
        },
        "last_round": {
            "sites_counted": sorted(last.replies),
            "mean_over_sites": _both(last.mean("received"), last.mean("trained")),
            "pooled": _both(last.pooled("received"), last.pooled("trained")),
            "pooled_confusion_received": last.pooled_confusion("received").tolist(),
            "pooled_confusion_trained": last.pooled_confusion("trained").tolist(),
            "worst_site": worst.site if worst else None,
        },
        "against": other and asdict(other),
    }


def _both(received: Scores, trained: Scores) -> dict[str, dict[str, float | None]]:
    return {
        "received": {"uf1": received.uf1, "uar": received.uar},
        "trained": {"uf1": trained.uf1, "uar": trained.uar},
    }


def _json(content: object) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _markdown(tables: RunTables, files: ReportFiles) -> str:
    config = tables.folder.config
    facts = [
        f"run {config.run_id}, started {config.started}",
        f"fedpsyau {config.version}, settings {config.agreement_hash[:12]} "
        f"(all of them in ../config.json), seed {config.federation_settings().seed}",
        tables.progress,
    ]
    headings = ["site", "round", "training clips", "held-out clips"]
    headings += [heading.replace("\n", " ") for _, heading in SCORE_COLUMNS]
    lines = [
        f"# {tables.folder.path.name}: {title(tables)}",
        "",
        *(f"- {fact}" for fact in facts),
        "",
        f"| {' | '.join(headings)} |",
        "|---" + "|--:" * (len(headings) - 1) + "|",
        *(_markdown_row(row, "") for row in site_rows(tables)),
        *(_markdown_row(row, "**") for row in summary_rows(tables)),
        "",
        *(f"{note}\n" for note in notes(tables)),
        f"![UF1 and UAR of every site, round by round]({files.curves.name})",
        "",
        f"![Confusion matrices of the last round]({files.confusion.name})",
        "",
        f"![Training loss, round by round]({files.losses.name})",
        "",
        f"The same numbers: [{files.sites_csv.name}]({files.sites_csv.name}), "
        f"[{files.sites_json.name}]({files.sites_json.name}), "
        f"[{files.rounds_csv.name}]({files.rounds_csv.name}), "
        f"[{files.rounds_json.name}]({files.rounds_json.name}).",
    ]
    return "\n".join(lines) + "\n"


def _markdown_row(row: Row, mark: str) -> str:
    counts = [row["round"], row["train_clips"], row["test_clips"]]
    cells = [
        f"{mark}{row['site']}{mark}",
        *("–" if count is None else str(count) for count in counts),
        *score_cells(row),
    ]
    return f"| {' | '.join(cells)} |"
