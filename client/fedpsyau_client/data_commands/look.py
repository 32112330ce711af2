"""``fedpsyau data look``: a picture from which one sees whether preparation is right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.command_line import print_notice
from fedpsyau_model.errors import OutputWriteError, SettingsError
from fedpsyau_model.file_content import png_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedpsyau_client.preparation.clip_features import PreparedPair


def look(
    clip: Annotated[
        Path,
        typer.Argument(help="A video, a folder of images, the onset image, or a feature store."),
    ],
    apex_image: Annotated[
        Path | None, typer.Argument(help="The apex image, where CLIP is the onset image.")
    ] = None,
    onset: Annotated[int | None, typer.Option(help="Frame number of the onset.")] = None,
    apex: Annotated[int | None, typer.Option(help="Frame number of the apex.")] = None,
    stored: Annotated[
        str | None,
        typer.Option("--clip", metavar="ID", help="Clip of a feature store, such as c00012."),
    ] = None,
    flow: Annotated[
        Literal["tvl1", "dis", "farneback"],
        typer.Option(help="Optical flow: the paper's tvl1, or a faster one."),
    ] = "tvl1",
    first_frame: Annotated[
        int, typer.Option(min=0, max=1, help="Number of a video's first frame.")
    ] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Picture to write (.png). Default: look-NAME.png, here.")
    ] = None,
) -> None:
    """Draw one clip: onset, apex, facial points by AU group, flow as colour, strain."""
    from fedpsyau_client.store.manifest import MANIFEST_NAME

    if (clip / MANIFEST_NAME).is_file():
        file = out or Path(f"look-{clip.absolute().name}-{stored}.png")
        _save(_draw_stored(clip, stored), file)
    else:
        if stored is not None:
            raise SettingsError(f"--clip {stored} names a clip of a feature store; {clip} is none.")
        from fedpsyau_client.look.clip_picture import draw_clip

        file = out or Path(f"look-{clip.absolute().stem}.png")
        pair = _prepare(clip, apex_image, onset, apex, flow, first_frame)
        _save(draw_clip(pair, f"{_frames_text(onset, apex)}, {flow}"), file)
        print_notice(f"{file} contains a face; keep it at the site.")
    typer.echo(file)


def _draw_stored(folder: Path, stored: str | None) -> Figure:
    from fedpsyau_client.look.stored_picture import draw_stored_clip
    from fedpsyau_client.store.feature_store import open_feature_store

    store = open_feature_store(folder)
    if stored is None:
        raise SettingsError(
            f"{folder} is a feature store of {len(store)} clips. Say which one with --clip, such "
            f"as --clip {store.clips.clip[0]}."
        )
    return draw_stored_clip(store, stored)


def _prepare(
    clip: Path,
    apex_image: Path | None,
    onset: int | None,
    apex: int | None,
    flow: Literal["tvl1", "dis", "farneback"],
    first_frame: int,
) -> PreparedPair:
    """Do with one clip what `fedpsyau data prepare` does with all."""
    from fedpsyau_client.preparation.clip_features import prepare_pair
    from fedpsyau_client.preparation.face_landmarks import FaceDetector
    from fedpsyau_client.preparation.frames import ImageFolder, open_clip, read_frames
    from fedpsyau_client.preparation.landmark_model import find_landmark_model
    from fedpsyau_client.preparation.native_logs import without_native_logs

    if apex_image is not None:
        frames = read_frames(ImageFolder(clip.parent, {0: (clip,), 1: (apex_image,)}), (0, 1))
    elif onset is None or apex is None:
        raise SettingsError(
            f"Between which frames of {clip}? Give --onset N and --apex N as the label table has "
            "them, or the onset and the apex image."
        )
    else:
        frames = read_frames(open_clip(clip, first_frame), (onset, apex))
    with without_native_logs(), FaceDetector(find_landmark_model()) as detector:
        face = detector.find(frames[0])
    return prepare_pair(frames[0], frames[1], face, flow)


def _frames_text(onset: int | None, apex: int | None) -> str:
    return "two images" if onset is None else f"frames {onset} to {apex}"


def _save(figure: Figure, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, png_bytes(figure, dpi=120))
    except OSError as error:
        raise OutputWriteError(
            f"The picture {file} cannot be written: {error.strerror or error}. Check free space "
            "and permissions, or give another file with --out."
        ) from error
