"""``fedpsyau predict``: what a model makes of one video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedpsyau_model.command_line import new_app, print_notice

if TYPE_CHECKING:
    from fedpsyau_client.prediction.prediction_file import Prediction
    from fedpsyau_client.prediction.recognition import Question, Recognition

app = new_app("Ask a model about one video. No lie detection, no decision about a person.")


@app.command()
def predict(
    video: Annotated[Path, typer.Argument(help="A video, or a folder of its frames.")],
    model: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="A site's personal.safetensors, or a model of `fedpsyau train --keep-models`.",
        ),
    ],
    onset: Annotated[
        int | None, typer.Option(help="Frame number of the onset. Default: spotted.")
    ] = None,
    apex: Annotated[
        int | None, typer.Option(help="Frame number of the apex. Default: spotted.")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=1, max=10_000, help="Frames a second. Default: what the video says."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Probability below which the answer is unsure.")
    ] = 0.5,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="New folder for prediction.json, report.html and annotated.mp4.",
        ),
    ] = None,
    no_video: Annotated[
        bool, typer.Option("--no-video", help="Leave the annotated copy of the video out.")
    ] = False,
    flow: Annotated[
        Literal["tvl1", "dis", "farneback"] | None,
        typer.Option(help="Optical flow, for models that do not know theirs. Default: the model's"),
    ] = None,
    first_frame: Annotated[
        int, typer.Option(min=0, max=1, help="Number of a video's first frame.")
    ] = 1,
    device: Annotated[str, typer.Option(help="Where the network runs: cpu or cuda:N.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print prediction.json.")] = False,
) -> None:
    """Find a micro-expression in a video, and say what a model makes of it, or that it is unsure.

    It is no lie detector, and no decision about a person may rest on it. Nothing leaves this
    machine.
    """
    from fedpsyau_client.prediction.recognition import Question

    question = Question(
        video=video,
        onset=onset,
        apex=apex,
        fps=fps,
        first_frame=first_frame,
        flow=flow,
        confidence=confidence,
        device=device,
    )
    recognition = _answer(question, model, out, video=not no_video)
    if as_json:
        typer.echo(recognition.prediction.model_dump_json(by_alias=True, indent=2))
    else:
        _print(recognition.prediction)
    if out is not None:
        if not as_json:
            typer.echo(out / "report.html")
        print_notice(f"{out} contains a face; keep it where the video is kept.")


def _answer(question: Question, model: Path, out: Path | None, video: bool) -> Recognition:
    import torch

    from fedpsyau_client.prediction.output_folder import require_free, write_output
    from fedpsyau_client.prediction.quiet_detector import quiet_detector
    from fedpsyau_client.prediction.recogniser_file import read_recogniser
    from fedpsyau_client.prediction.recognition import recognise
    from fedpsyau_client.preparation.landmark_model import find_landmark_model
    from fedpsyau_model.devices import require_device

    if out is not None:
        require_free(out)
    require_device(question.device)
    torch.set_num_threads(1)  # another number of threads may change the last bits
    recogniser = read_recogniser(model)
    with _progress("looking") as looked, quiet_detector(find_landmark_model()) as detector:
        recognition = recognise(question, recogniser, detector, looked)
    if out is not None:
        with _progress("writing") as written:
            write_output(out, recognition, video, written)
    return recognition


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """Count frames on the terminal, if stderr is one, as long as the block runs."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), TextColumn("frame {task.completed}")
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda frames: bar.update(task, completed=frames)


def _print(prediction: Prediction) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_client.prediction.report import explanation, headline

    typer.echo(headline(prediction))
    typer.echo(explanation(prediction))
    console = Console()
    for heading, values in (
        ("class", prediction.emotion and prediction.emotion.probabilities),
        ("action unit", prediction.action_units),
    ):
        if values:
            table = Table(box=box.SIMPLE_HEAD, show_edge=False)
            table.add_column(heading)
            table.add_column("probability", justify="right")
            for name, value in values.items():
                table.add_row(name, f"{value:.2f}")
            console.print(table)
    for note in (*prediction.notes, prediction.not_for):
        console.print(note, style="dim", markup=False)
