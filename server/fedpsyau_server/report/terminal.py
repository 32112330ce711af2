"""The report's tables on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.report.rows import Row, round_rows, site_rows, summary_rows
from fedpsyau_server.report.tables import RunTables, read_tables
from fedpsyau_server.run_folder import RunFolder

#: Columns of scores: key of a row and heading.
SCORE_COLUMNS = (
    ("uf1_received", "UF1\nreceived"),
    ("uf1_trained", "UF1\ntrained"),
    ("uar_received", "UAR\nreceived"),
    ("uar_trained", "UAR\ntrained"),
)


def print_sites_table(folder: RunFolder, console: Console) -> None:
    """Print a row for every site, then the mean over sites, the pooled score and the worst site.

    Raises RunFolderError if the run has no whole round yet.
    """
    tables = read_tables(folder)
    table = _new_table(title(tables), "site", "round", "training\nclips", "held-out\nclips")
    for row in site_rows(tables):
        late = row["part"] != "answered"
        table.add_row(*_site_cells(row), style="dim" if late else None)
    table.add_section()
    for row in summary_rows(tables):
        table.add_row(*_site_cells(row), style="bold")
    console.print(table)
    for note in notes(tables):
        console.print(note, style="dim", highlight=False, markup=False)
    console.print(tables.progress, highlight=False)


def print_rounds_table(folder: RunFolder, console: Console) -> None:
    """Print a row for every round and site. Raises RunFolderError without a whole round."""
    tables = read_tables(folder)
    table = _new_table("Round by round", "round", "site", "part", "loss")
    for row in round_rows(tables):
        table.add_row(
            str(row["round"]),
            row["site"],
            row["part"],
            number(row["loss_total"]),
            *(number(row[key]) for key, _ in SCORE_COLUMNS),
            style="bold" if not row["part"] else None,
            end_section=row["site"] == "pooled counts",
        )
    console.print(table)


def title(tables: RunTables) -> str:
    """Heading of the sites' table: strategy, rounds, and synthetic data said so."""
    strategy = tables.folder.config.federation_settings().strategy.name
    heading = f"{strategy} after round {tables.last.number} of {tables.planned}"
    return f"{heading}, SYNTHETIC DATA" if tables.synthetic else heading


def notes(tables: RunTables) -> list[str]:
    """Say what a reader must know to read the sites' table."""
    found = [
        "Scores are on each site's held-out subjects: of the model as received, before the round's "
        "training, and of the trained one. The mean counts every site the same; the pooled scores "
        "come from the sum of all confusion counts."
    ]
    found.append(_priors_note(tables.folder.config.federation_settings()))
    found += [note for note in (kept_back_note(tables), late_note(tables)) if note]
    return found


def kept_back_note(tables: RunTables) -> str:
    """Say what sites do not share by their own policies; empty if all share everything."""
    kept_back = [
        f"{reply.site} ({', '.join(reply.kept_back)})"
        for reply in tables.last.replies.values()
        if reply.kept_back
    ]
    if not kept_back:
        return ""
    return (
        f"Not shared, by these sites' own policies: {', '.join(kept_back)}. Summaries are over "
        "what is shared."
    )


def late_note(tables: RunTables) -> str:
    """Say which sites the summaries leave out, and why; empty if none."""
    late = [site for site in tables.sites if tables.last.part(site) != "answered"]
    if not late:
        return ""
    reasons = ", ".join(f"{site} ({_why_late(tables, site)})" for site in late)
    return (
        "Not in the summaries, because they gave no valid reply in round "
        f"{tables.last.number}: {reasons}."
    )


def number(value: float | None) -> str:
    """Three decimals; a dash for nothing."""
    return "–" if value is None else f"{value:.3f}"


def _priors_note(settings: FederationSettings) -> str:
    shared = settings.shared_priors()
    named = f"{shared.name} (sha256 {shared.fingerprint()[:12]})"
    if settings.network.priors == "site":
        return f"Priors: each site's own where it has a file of them, else {named}."
    return f"Priors: {named}."


def _why_late(tables: RunTables, site: str) -> str:
    part = tables.last.part(site)
    return f"{part}: {tables.last.quarantined[site]}" if part == "quarantined" else part


def _new_table(heading: str, *first_columns: str) -> Table:
    table = Table(
        title=heading, box=box.SIMPLE_HEAD, show_edge=False, padding=0, title_style="bold"
    )
    for column in first_columns:
        table.add_column(column, justify="left" if column in ("site", "part") else "right")
    for _, column in SCORE_COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _site_cells(row: Row) -> list[str]:
    counts = [row["round"], row["train_clips"], row["test_clips"]]
    return [
        row["site"],
        *("–" if count is None else str(count) for count in counts),
        *score_cells(row),
    ]


def score_cells(row: Row) -> list[str]:
    """The scores of a row of the sites' table; ``not shared`` where the site's policy says so."""
    if "confusion" in row["kept_back"]:
        return ["not shared"] * len(SCORE_COLUMNS)
    return [number(row[key]) for key, _ in SCORE_COLUMNS]
