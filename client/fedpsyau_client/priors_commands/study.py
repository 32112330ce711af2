"""``fedpsyau priors study``: from the responses of a psychology study to an intrinsic prior."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from fedpsyau_client.own_priors.study_responses import StudyResponses
    from fedpsyau_priors import Pair, TypeStatistics

_TYPES = {"coordinated": True, "uncoordinated": False}


def study(
    responses: Annotated[
        Path,
        typer.Argument(
            metavar="RESPONSES",
            help="Table with the columns participant, first, second, judged, score and, if it is "
            "known, expected.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    exclusions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Pairs that anatomy excludes: a table with the columns first, second, reason.",
        ),
    ] = None,
    untested: Annotated[
        Literal["published", "zero"],
        typer.Option(help="What the matrix says of pairs that the study did not ask about."),
    ] = "published",
    ddof: Annotated[
        int, typer.Option(min=0, max=1, help="1: SD of a sample; 0: of these participants alone.")
    ] = 1,
    name: Annotated[str, typer.Option(help="What to call these priors.")] = "study",
    replace: Annotated[bool, typer.Option("--replace", help="Replace an earlier result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Evaluate a study in which participants judged which action units go together.

    Writes accuracy and scores by type of pair, the pairs that more than two thirds chose, the
    matrix of coordinated pairs, and a priors file and a section for federation.toml with it.
    """
    from fedpsyau_client.own_priors.study_responses import read_exclusions, read_study_responses
    from fedpsyau_client.priors_commands.result_folder import check_name, write_results

    check_name(name)
    read = read_study_responses(responses)
    excluded = read_exclusions(exclusions) if exclusions else {}
    files, results = _evaluate(read, excluded, untested, ddof, name)
    write_results(out, files, replace)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    _print(results)
    typer.echo(f"Wrote {', '.join(files)} into {out}")


def _evaluate(
    read: StudyResponses,
    excluded: Mapping[Pair, str],
    untested: Literal["published", "zero"],
    ddof: int,
    name: str,
) -> tuple[dict[str, str | bytes], dict[str, Any]]:
    """Files to write, and what they say as plain values."""
    from fedpsyau_client.own_priors.matrix_csv import format_matrix
    from fedpsyau_client.own_priors.priors_file import PRIORS_NAME, PriorsFile, StudySummary
    from fedpsyau_model.file_content import png_bytes
    from fedpsyau_priors import CHOSEN, coordinated_matrix, published_intrinsic
    from fedpsyau_priors.plot_study import (
        plot_chosen_pairs,
        plot_coordinated_matrix,
        plot_statistics,
    )

    statistics = _statistics(read, ddof)
    pairs = _pair_rows(read, excluded)
    coordinated = [each["pair"] for each in pairs if each["chosen"] == "coordinated"]
    base = published_intrinsic() if untested == "published" else None
    matrix = coordinated_matrix(read.pairs, coordinated, excluded, base)
    participants = len(read.judged)
    made = PriorsFile(
        name=name,
        study=StudySummary(
            participants=participants,
            pairs=len(read.pairs),
            excluded=len(excluded),
            untested=untested,
        ),
        intrinsic=tuple(tuple(row) for row in matrix.tolist()),
    )
    results = {
        "participants": participants,
        "ddof": ddof,
        "statistics": {kind: each._asdict() for kind, each in statistics.items()},
        "pairs": [each | {"pair": list(each["pair"])} for each in pairs],
        "excluded": [{"pair": list(pair), "reason": reason} for pair, reason in excluded.items()],
        "untested": untested,
        "intrinsic": matrix.tolist(),
    }
    files: dict[str, str | bytes] = {
        "study.json": json.dumps(results, indent=2) + "\n",
        "pairs.csv": _pairs_csv(pairs),
        "intrinsic.csv": format_matrix(matrix),
        PRIORS_NAME: made.to_json(),
        "priors.toml": made.to_toml(),
        "pairs.png": png_bytes(plot_chosen_pairs(_headed(pairs), participants, float(CHOSEN))),
        "intrinsic.png": png_bytes(plot_coordinated_matrix(matrix, read.pairs, list(excluded))),
    }
    if statistics:
        files["statistics.csv"] = _statistics_csv(statistics)
        files["statistics.png"] = png_bytes(plot_statistics(statistics))
    return files, results


def _statistics(read: StudyResponses, ddof: int) -> dict[str, TypeStatistics]:
    """Table 2; empty where the responses don't say what was expected."""
    from fedpsyau_priors import type_statistics

    if read.expected is None:
        return {}
    found = {
        kind: type_statistics(read.judged, read.scores, read.expected, coordinated, ddof)
        for kind, coordinated in _TYPES.items()
    }
    return {kind: each for kind, each in found.items() if each is not None}


def _pair_rows(read: StudyResponses, excluded: Mapping[Pair, str]) -> list[dict[str, Any]]:
    """What became of every pair. `chosen` is what more than two thirds called it, or ""."""
    from fedpsyau_priors import chosen

    participants = len(read.judged)
    votes = read.judged.sum(axis=0)
    as_coordinated = chosen(votes, participants)
    as_uncoordinated = chosen(participants - votes, participants)
    expected = [""] * len(read.pairs)
    if read.expected is not None:
        expected = ["coordinated" if each else "uncoordinated" for each in read.expected]
    return [
        {
            "pair": pair,
            "expected": expected[place],
            "judged_coordinated": int(votes[place]),
            "judged_uncoordinated": participants - int(votes[place]),
            "chosen": (
                "coordinated"
                if as_coordinated[place]
                else "uncoordinated"
                if as_uncoordinated[place]
                else ""
            ),
            "excluded": excluded.get(pair, ""),
        }
        for place, pair in enumerate(read.pairs)
    ]


def _headed(pairs: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[Pair, int]]]:
    """Chosen pairs with their votes, as Fig. 2 lists them: those judged as was expected.

    Where nothing is known of what was expected, all chosen pairs.
    """
    return {
        f"judged {kind}{', as expected' if pairs and pairs[0]['expected'] else ''}": [
            (each["pair"], each[f"judged_{kind}"])
            for each in pairs
            if each["chosen"] == kind and each["expected"] in ("", kind)
        ]
        for kind in _TYPES
    }


def _pairs_csv(pairs: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [name for name in pairs[0] if name != "pair"]
    writer.writerow(["first", "second", *columns])
    writer.writerows([*each["pair"], *(each[name] for name in columns)] for each in pairs)
    return text.getvalue()


def _statistics_csv(statistics: Mapping[str, TypeStatistics]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, (kind, each) in enumerate(statistics.items()):
        if number == 0:
            writer.writerow(["type", *each._fields])
        writer.writerow([kind, *each])
    return text.getvalue()


def _print(results: Mapping[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(
        title=f"{results['participants']} participants, SD with ddof {results['ddof']}",
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    table.add_column("pairs")
    for column in ("number", "accuracy M", "accuracy SD", "score M", "score SD"):
        table.add_column(column, justify="right")
    for kind, each in results["statistics"].items():
        numbers = [each[key] for key in ("accuracy_mean", "accuracy_sd", "score_mean", "score_sd")]
        cells = ["–" if number is None else f"{number:.3f}" for number in numbers]
        table.add_row(kind, str(each["pairs"]), *cells)
    if results["statistics"]:
        console.print(table)
    for kind in _TYPES:
        names = [
            f"AU{each['pair'][0]}-AU{each['pair'][1]} ({each[f'judged_{kind}']})"
            for each in results["pairs"]
            if each["chosen"] == kind
        ]
        found = ", ".join(names) or "none"
        console.print(f"Judged {kind} by more than two thirds: {found}", highlight=False)
    for each in results["pairs"]:
        if each["chosen"] and each["expected"] and each["chosen"] != each["expected"]:
            console.print(
                f"* AU{each['pair'][0]}-AU{each['pair'][1]} was expected to be "
                f"{each['expected']}, and is {each['chosen']} in the participants' eyes, which "
                "the matrix follows.",
                style="yellow",
                highlight=False,
            )
