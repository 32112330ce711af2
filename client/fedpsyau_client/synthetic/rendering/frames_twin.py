"""The twin's sites as pictures with label tables, ready for ``fedpsyau data prepare``."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.store.folder_set import assembled_folders
from fedpsyau_client.synthetic.clip_motion import Difficulty, draw_clips
from fedpsyau_client.synthetic.partition_labels import PartitionLabels
from fedpsyau_client.synthetic.rendering.appearance import draw_camera, draw_look, skin
from fedpsyau_client.synthetic.rendering.base_face import base_face
from fedpsyau_client.synthetic.rendering.clip_frames import (
    TrueMotion,
    draw_pose,
    motion_of_clip,
    render_frames,
)
from fedpsyau_client.synthetic.rendering.clip_timing import ClipTiming, draw_timing
from fedpsyau_client.synthetic.rendering.face_shape import shape_head
from fedpsyau_client.synthetic.rendering.frames_folder import (
    CLIPS,
    LABELS,
    TRUTH,
    clip_path,
    label_csv,
    mark_as_synthetic,
    why_kept,
    write_clip,
    write_truth,
)
from fedpsyau_client.synthetic.twin import (
    Partition,
    Purpose,
    SiteDraws,
    draw_site,
    plan_with_labels,
    seed_sequence,
)
from fedpsyau_model.errors import OutputWriteError, SettingsError

__all__ = [
    "FRAMES_FOLDER",
    "RENDERED",
    "RenderedClip",
    "bytes_needed",
    "render_clips",
    "write_frames",
]

#: Folder below the data folder that holds the rendered sites.
FRAMES_FOLDER: Final = "frames"

#: How strongly rendered faces move. Neighbouring pulls add up where skin takes its surroundings
#: along, so that these are micro-expressions of mostly 1 to 3 pixels on a 224 crop. Noise of the
#: flow, its gain and misalignment are not drawn: camera, flow method and detector bring their own.
RENDERED: Final = Difficulty(
    intensity=0.8, saturation=1.3, blink=0.8, head_shift=0.15, head_gradient=0.002
)

#: Frames of a clip: onset and apex at least; more than a second of a fast camera is no clip.
_FEWEST_FRAMES: Final = 2
_MOST_FRAMES: Final = 200


#: What a picture, and a clip's true motion, take on disk.
_BYTES_OF_FRAME: Final = 115_000
_BYTES_OF_TRUTH: Final = 67_000


@dataclass(frozen=True, eq=False)
class RenderedClip:
    """One clip in the order of its site's labels.

    frames: pictures (H, W, 3) uint8, blue green red; each is made when it is taken.
    """

    number: int
    subject: int
    timing: ClipTiming
    truth: TrueMotion
    frames: Iterator[NDArray[np.uint8]]


def render_clips(
    name: str,
    drawn: SiteDraws,
    seed: int,
    frames_per_clip: int = _FEWEST_FRAMES,
    difficulty: Difficulty = RENDERED,
    adapt: Callable[[ClipTiming], ClipTiming] = lambda timing: timing,
) -> Iterator[RenderedClip]:
    """Render the clips of the site `name` one after the other.

    adapt: changes the course that was drawn for a clip.
    """
    who = drawn.labels.subject

    def generators(purpose: Purpose, count: int) -> list[np.random.Generator]:
        seeds = seed_sequence(seed, name, purpose).spawn(count)
        return [np.random.default_rng(each) for each in seeds]

    motion_generator = np.random.default_rng(seed_sequence(seed, name, "clips"))
    draws = draw_clips(drawn.labels, drawn.subjects, drawn.site, difficulty, motion_generator)
    camera = draw_camera(drawn.site, *generators("camera", 1))
    of_subject = generators("looks", int(who.max()) + 1)
    of_clip = generators("pictures", len(who))
    # Clips are ordered by subject, so that each subject's head is made once.
    for subject, clips in itertools.groupby(range(len(who)), key=lambda clip: int(who[clip])):
        look = draw_look(of_subject[subject])
        photograph = base_face(look.mirrored)
        head = shape_head(photograph, drawn.subjects.points[subject])
        texture = skin(photograph.image, look, of_subject[subject])
        for clip in clips:
            timing = adapt(draw_timing(frames_per_clip, of_clip[clip]))
            pose = draw_pose(of_clip[clip])
            motion = motion_of_clip(head, draws.part(slice(clip, clip + 1)), pose)
            frames = render_frames(texture, motion, timing, camera, of_clip[clip])
            yield RenderedClip(clip, subject, timing, motion.truth, frames)


def write_frames(
    out: Path,
    *,
    scale: float,
    seed: int = 0,
    sites: Sequence[str] = (),
    frames_per_clip: int = 7,
    casme3_labels: Path | None = None,
    overwrite: bool = False,
    begin: Callable[[Sequence[Partition]], None] = lambda partitions: None,
    progress: Callable[[int], None] = lambda clips: None,
) -> tuple[Partition, ...]:
    """Write sites of the twin as pictures under `out`/frames, all of them or none.

    scale, seed, casme3_labels, begin, progress: as for `write_twin`; with the same ones the labels
        are the same.
    sites: partitions to write; all seven if empty.
    overwrite: replace rendered sites that are there; anything else is never replaced.

    Raises SettingsError (scale, sites, frames_per_clip), LabelTableError, OutputExistsError,
    OutputWriteError. Whatever is raised, `out`/frames stays as it was.
    """
    if not _FEWEST_FRAMES <= frames_per_clip <= _MOST_FRAMES:
        raise SettingsError(
            f"--frames-per-clip is {frames_per_clip}; a clip has at least an onset and an apex "
            f"({_FEWEST_FRAMES} frames), and at most {_MOST_FRAMES}."
        )
    plan, real_labels = plan_with_labels(scale, seed, casme3_labels)
    plan = _chosen(plan, sites)
    _require_space(out, bytes_needed(plan, frames_per_clip))
    names = [partition.name for partition in plan]
    with assembled_folders(out / FRAMES_FOLDER, names, why_kept, overwrite) as folder:
        begin(plan)
        for partition in plan:
            drawn = draw_site(partition, seed, real_labels.get(partition.name))
            clips = render_clips(partition.name, drawn, seed, frames_per_clip)
            facts = {"seed": seed, "scale": scale, "frames-per-clip": frames_per_clip}
            _write_site(folder / partition.name, partition, drawn.labels, clips, facts, progress)
    return plan


def _chosen(plan: Sequence[Partition], sites: Sequence[str]) -> tuple[Partition, ...]:
    known = [partition.name for partition in plan]
    unknown = [name for name in sites if name not in known]
    if unknown:
        raise SettingsError(
            f"--sites names {', '.join(unknown)}, which the twin does not have. Its sites are "
            f"{', '.join(known)}."
        )
    return tuple(partition for partition in plan if not sites or partition.name in sites)


def bytes_needed(plan: Sequence[Partition], frames_per_clip: int) -> int:
    """Estimate what sites take on disk."""
    clips = sum(partition.clips for partition in plan)
    return clips * (frames_per_clip * _BYTES_OF_FRAME + _BYTES_OF_TRUTH)


def _require_space(out: Path, needed: int) -> None:
    """Raise OutputWriteError before hours of rendering that the disk cannot hold."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise OutputWriteError(
            f"These pictures would take about {needed / 1e9:.1f} GB, and {there} has "
            f"{free / 1e9:.1f} GB free. Make fewer with --scale, --sites or --frames-per-clip, or "
            "give another place with --out."
        )


def _write_site(
    folder: Path,
    partition: Partition,
    labels: PartitionLabels,
    clips: Iterable[RenderedClip],
    facts: Mapping[str, int | float],
    progress: Callable[[int], None],
) -> None:
    motions: list[TrueMotion] = []
    apexes: list[int] = []
    for clip in clips:
        write_clip(folder / CLIPS / clip_path(clip.number, clip.subject), clip.frames)
        motions.append(clip.truth)
        apexes.append(clip.timing.apex + 1)
        progress(1)
    mark_as_synthetic(folder, {"statistics-of": partition.source, **facts})
    table = label_csv(labels, apexes, int(facts["frames-per-clip"]))
    (folder / LABELS).write_text(table, encoding="utf-8")
    write_truth(folder / TRUTH, motions)
