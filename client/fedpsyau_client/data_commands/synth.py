"""``fedpsyau data synth``: write the synthetic twin."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedpsyau_client.data_commands.data_folder import DATA_VARIABLE, default_data_folder
from fedpsyau_client.data_commands.store_table import print_stores
from fedpsyau_model.errors import SettingsError

if TYPE_CHECKING:
    from fedpsyau_client.synthetic.twin import Partition

#: Share of the paper's clips if none is given; rendered ones take about 0.8 MB each.
_SCALE = 1.0
_SCALE_OF_FRAMES = 0.01


def synth(
    out: Annotated[
        Path | None,
        typer.Option(help=f"Data folder to write to. Default: {DATA_VARIABLE}, else ./data."),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Share of the paper's clips; 0.1 makes about 800. "
            f"[default: {_SCALE:g}; with --frames {_SCALE_OF_FRAMES:g}, which makes 40 a site]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bits.")] = 0,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="casme3=FILE",
            help="Take subjects, AUs and emotions of the casme3 partitions from the label table "
            "of CAS(ME)3 part A (.xlsx).",
        ),
    ] = None,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames",
            help="Write pictures of faces and label tables instead, for `fedpsyau data prepare`; "
            "they go to the folder `frames` in the data folder.",
        ),
    ] = False,
    sites: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="With --frames: only these partitions, such as dfme_c1,casme3_c1.",
        ),
    ] = None,
    frames_per_clip: Annotated[
        int | None,
        typer.Option(
            help="With --frames: pictures of a clip, from onset to offset. [default: 7]",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace synthetic partitions that are there.")
    ] = False,
) -> None:
    """Write the synthetic twin: the paper's seven partitions, made up.

    They come as feature stores, or with --frames as pictures that go through the whole preparation.
    """
    folder = out or default_data_folder()
    options: dict[str, Any] = {
        "seed": seed,
        "casme3_labels": _label_tables(labels or []).get("casme3"),
        "overwrite": overwrite,
    }
    if frames:
        chosen = [name.strip() for name in (sites or "").split(",") if name.strip()]
        options |= {"scale": _SCALE_OF_FRAMES if scale is None else scale, "sites": chosen}
        if frames_per_clip is not None:
            options["frames_per_clip"] = frames_per_clip
        _synth_frames(folder, options)
    elif sites is not None or frames_per_clip is not None:
        raise SettingsError(
            "--sites and --frames-per-clip are for rendered faces. Add --frames, or leave them out."
        )
    else:
        _synth_stores(folder, options | {"scale": _SCALE if scale is None else scale})


def _synth_stores(folder: Path, options: dict[str, Any]) -> None:
    from fedpsyau_client.store.feature_store import open_feature_store
    from fedpsyau_client.store.store_summary import summarise
    from fedpsyau_client.synthetic.twin import write_twin

    with _progress_bar("synthetic clips") as (begin, progress):
        manifests = write_twin(folder, begin=begin, progress=progress, **options)
    stores = [
        open_feature_store(folder / manifest.partition, verify=False) for manifest in manifests
    ]
    print_stores(map(summarise, stores), f"Synthetic feature stores in {folder}")


def _synth_frames(folder: Path, options: dict[str, Any]) -> None:
    from rich.console import Console

    from fedpsyau_client.preparation.clip_labels import SYNTHETIC_FRAMES
    from fedpsyau_client.synthetic.rendering.frames_folder import CLIPS, LABELS
    from fedpsyau_client.synthetic.rendering.frames_twin import FRAMES_FOLDER, write_frames

    with _progress_bar("rendered clips") as (begin, progress):
        sites = write_frames(folder, begin=begin, progress=progress, **options)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"Synthetic faces in {folder / FRAMES_FOLDER}:")
    for site in sites:
        console.print(f"  {site.name}  {site.clips} clips of {site.subjects} subjects")
    place = folder / FRAMES_FOLDER / sites[0].name
    command = [
        *("fedpsyau", "data", "prepare", "--dataset", SYNTHETIC_FRAMES),
        *("--partition", sites[0].name),
        *("--labels", str(place / LABELS), "--clips", str(place / CLIPS)),
        *("--out", str(folder / "prepared")),
    ]
    console.print("Prepare them like clips of your own, for example:")
    console.print(f"  {shlex.join(command)}", markup=False)


@contextmanager
def _progress_bar(
    what: str,
) -> Iterator[tuple[Callable[[Sequence[Partition]], None], Callable[[int], None]]]:
    """Show a bar on stderr; gives the functions that set its total and advance it."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def begin(partitions: Sequence[Partition]) -> None:
            bar.update(task, total=sum(partition.clips for partition in partitions))

        yield begin, lambda clips: bar.advance(task, clips)


def _label_tables(texts: list[str]) -> dict[str, Path]:
    """Read options ``casme3=FILE``. Raises SettingsError for anything else."""
    tables: dict[str, Path] = {}
    for text in texts:
        dataset, separator, file = text.partition("=")
        if dataset != "casme3" or not separator or not file:
            raise SettingsError(
                f"--labels {text} cannot be read. Write --labels casme3=FILE, with the label "
                "table of CAS(ME)3 part A; tables of other data sets are not used."
            )
        tables[dataset] = Path(file)
    return tables
