"""How well apex and onset are spotted in rendered sequences, and how often where nothing moves.

    python -m benchmarks.spotting [--sequences 10]

A synthetic face rests for 0.3 s, shows one expression of 0.4 s from onset to offset, and rests
again for 0.3 s, with the head drifting and a site's camera noise; frames are stored without loss,
or as MPEG-4. The same with the expression left out must give nothing. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fedpsyau_client.prediction.frame_stream import open_frame_stream
from fedpsyau_client.prediction.quiet_detector import QuietDetector, quiet_detector
from fedpsyau_client.prediction.windows import spot
from fedpsyau_client.preparation.landmark_model import find_landmark_model
from fedpsyau_client.synthetic.rendering.clip_timing import ClipTiming, with_rest
from fedpsyau_client.synthetic.rendering.frames_folder import write_clip
from fedpsyau_client.synthetic.rendering.frames_twin import RenderedClip, render_clips
from fedpsyau_client.synthetic.twin import draw_site, planned_partitions

REST_SECONDS, EXPRESSION_SECONDS = 0.3, 0.4

#: Frames a second, and whether they are compressed with loss.
RECORDINGS = ((30, False), (30, True), (100, False))


def sequences(count: int, fps: int, still: bool) -> Iterator[RenderedClip]:
    """Render one sequence of each of `count` synthetic sites."""
    rest = round(REST_SECONDS * fps)

    def adapt(timing: ClipTiming) -> ClipTiming:
        rested = with_rest(timing, rest, rest)
        return dataclasses.replace(rested, strength=0 * rested.strength) if still else rested

    partitions = planned_partitions(0.001)
    for seed in range(count):
        partition = partitions[seed % len(partitions)]
        frames = round(EXPRESSION_SECONDS * fps) + 1
        drawn = draw_site(partition, 2000 + seed)
        clips = render_clips(partition.name, drawn, 2000 + seed, frames, adapt=adapt)
        yield next(itertools.islice(clips, seed % 3, None))


def stored(clip: RenderedClip, folder: Path, fps: int, compressed: bool) -> Path:
    """Write a sequence; returns the video or the folder of images."""
    if not compressed:
        write_clip(folder / "frames", clip.frames)
        return folder / "frames"
    file = folder / "clip.mp4"
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = None
    for frame in clip.frames:
        writer = writer or cv2.VideoWriter(str(file), codec, fps, frame.shape[1::-1])
        writer.write(frame)
    assert writer is not None
    writer.release()
    return file


def measured(detector: QuietDetector, fps: int, compressed: bool, count: int) -> str:
    """Give one row of the table."""
    apex_errors, onset_errors, seconds, frames = [], [], 0.0, 0
    alarms = 0
    for still in (False, True):
        for clip in sequences(count, fps, still):
            with tempfile.TemporaryDirectory() as name:
                stream = open_frame_stream(stored(clip, Path(name), fps, compressed))
                started = time.process_time()
                found = spot(stream, detector, fps).found
                seconds += time.process_time() - started
                frames += len(stream.numbers)
            if still:
                alarms += found is not None
            elif found is not None:
                apex_errors.append(abs(found.apex - 1 - clip.timing.apex))
                onset_errors.append(found.onset - 1 - round(REST_SECONDS * fps))
    within = sum(error <= 2 for error in apex_errors)
    cells = [
        f"{fps}",
        "MPEG-4" if compressed else "PNG",
        f"{len(apex_errors)} of {count}",
        f"{np.mean(apex_errors):.1f}",
        f"{max(apex_errors)}",
        f"{within} of {len(apex_errors)}",
        f"{np.mean(onset_errors):+.1f}",
        f"{alarms} of {count}",
        f"{1000 * seconds / frames:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=10, help="of each kind")
    count = parser.parse_args().sequences
    heads = [
        *("frames/s", "stored as", "found", "mean apex error, frames", "largest"),
        *(
            "apex within 2 frames",
            "mean onset error, frames",
            "found in still faces",
            "CPU ms/frame",
        ),
    ]
    print(f"| {' | '.join(heads)} |\n|{'--:|' * len(heads)}", flush=True)
    with quiet_detector(find_landmark_model()) as detector:
        for fps, compressed in RECORDINGS:
            print(measured(detector, fps, compressed, count), flush=True)


if __name__ == "__main__":
    main()
