"""Preparing clips: clips per second, and what it costs beyond the bare optical flow.

Frames are a photograph of a face, warped by a pixel or so, as PNG of 640 x 480. The bare flow is
OpenCV's call alone on the same aligned crops, in one thread of one process. Memory is that of one
process which prepares a clip out of every minute of a video of ten. Run on an idle machine:

    python -m benchmarks.prepare
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.preparation.alignment import align, aligned_crop
from fedpsyau_client.preparation.clip_job import ClipJob, prepare_clip
from fedpsyau_client.preparation.face_landmarks import FaceDetector
from fedpsyau_client.preparation.landmark_model import find_landmark_model
from fedpsyau_client.preparation.optical_flow import FlowMethod, dense_flow
from fedpsyau_client.preparation.preparation import Preparation, prepare
from fedpsyau_client.preparation.videos import VideoReader

FLOWS: tuple[FlowMethod, ...] = ("tvl1", "dis")

#: Onset and apex as the label table has them.
ONSET, APEX = 1, 5

#: The video through whose length memory should not grow, and its size.
MINUTES, FPS, SIZE = 10, 30, (320, 240)


def main() -> None:
    """Print clips per second and ratios."""
    arguments = _arguments()
    cv2.setNumThreads(1)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, FaceDetector(find_landmark_model()) as detector:
        clips, labels = _write_clips(Path(folder), max(arguments.clips, arguments.fast_clips))
        for flow in FLOWS:
            count = arguments.clips if flow == "tvl1" else arguments.fast_clips
            one, bare = _one_clip(clips, Path(folder) / f"{flow}.npz", flow, detector, count)
            figures[f"{flow} bare flow, ms"] = 1000 * bare
            figures[f"{flow} whole clip in one process, ms"] = 1000 * one
            figures[f"{flow} whole clip / bare flow"] = one / bare
            table = _write_table(labels, count)
            for workers in (1, 2):
                out = Path(folder) / f"{flow}{workers}"
                seconds = _command(clips, table, out, flow, workers)
                name = f"{flow} {workers} worker{'s' if workers > 1 else ''}"
                figures[f"{name}, clips/s"] = count / seconds
                figures[f"{name}, seconds per clip x workers / bare flow"] = (
                    seconds * workers / count / bare
                )
        print(
            f"compared: {arguments.clips} clips by TV-L1, {arguments.fast_clips} by DIS, with one "
            "worker and with two, and with OpenCV's flow alone"
        )
        for name, value in figures.items():
            print(f"{name}: {value:.2f}")
        growth = _memory_growth(Path(folder))
    two, one_worker = (figures[f"tvl1 {many}, clips/s"] for many in ("2 workers", "1 worker"))
    print(f"prepare_two_worker_ratio: {two / one_worker:.3f}")
    print(f"prepare_vs_bare_tvl1: {figures['tvl1 whole clip / bare flow']:.3f}")
    print(f"prepare_rss_growth_mb: {growth:.1f}")


def _one_clip(
    clips: Path, result: Path, flow: FlowMethod, detector: FaceDetector, count: int
) -> tuple[float, float]:
    """Median seconds of a whole clip from disk to disk, and of the bare flow of the same clips."""
    whole, bare = [], []
    for number in range(min(count, 12)):
        folder = clips / f"subject/clip{number}"
        job = ClipJob(folder, ONSET, APEX, 1, flow, None, result)
        prepare_clip(job, detector)  # The first one loads the model.
        whole.append(_seconds(lambda job=job: prepare_clip(job, detector)))  # type: ignore[misc]
        onset, apex = (
            np.asarray(cv2.imread(str(folder / f"{frame}.png"))) for frame in (ONSET, APEX)
        )
        matrix = align(detector.find(np.ascontiguousarray(onset[..., ::-1])))
        greys = [
            cv2.cvtColor(aligned_crop(frame, matrix), cv2.COLOR_BGR2GRAY) for frame in (onset, apex)
        ]
        bare.append(_seconds(lambda greys=greys: dense_flow(*greys, flow)))  # type: ignore[misc]
    return float(np.median(whole)), float(np.median(bare))


def _command(clips: Path, labels: Path, out: Path, flow: FlowMethod, workers: int) -> float:
    """Seconds of the whole command, from its first worker's start to the store."""
    plan = Preparation("csv", labels, clips, out, "bench", flow=flow, workers=workers)
    return _seconds(lambda: prepare(plan))


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _write_clips(folder: Path, count: int) -> tuple[Path, Path]:
    """Write folders of two frames. Returns the folder of clips and that of label tables."""
    face = _photograph()
    generator = np.random.default_rng(0)
    for number in range(count):
        clip = folder / "clips" / "subject" / f"clip{number}"
        clip.mkdir(parents=True)
        u, v = generator.uniform(-1.5, 1.5, 2)
        warped = cv2.warpAffine(
            face,
            np.array([[1, 0, u], [0, 1, v]]),
            face.shape[1::-1],
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for frame, image in ((ONSET, face), (APEX, warped)):
            noisy = np.clip(image + generator.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
            (clip / f"{frame}.png").write_bytes(cv2.imencode(".png", noisy)[1].tobytes())
    return folder / "clips", folder


def _write_table(folder: Path, count: int) -> Path:
    rows = [f"subject,clip{number},{ONSET},{APEX},fear" for number in range(count)]
    file = folder / f"labels{count}.csv"
    file.write_text("\n".join(["subject,filename,onset,apex,emotion", *rows]) + "\n")
    return file


def _memory_growth(folder: Path) -> float:
    """How much higher memory's peak is after all minutes of a video than after the first, MB."""
    video = folder / "long.mp4"
    face = cv2.resize(_photograph(), SIZE, interpolation=cv2.INTER_AREA)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE)
    frames = [np.roll(face, shift, axis=1) for shift in range(3)]
    for number in range(MINUTES * 60 * FPS):
        writer.write(frames[number % len(frames)])
    writer.release()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peaks = pool.apply(_peaks, (video, folder / "long.npz"))
    print(
        f"video of {MINUTES} minutes: peak memory after each, MB: "
        f"{', '.join(f'{peak:.0f}' for peak in peaks)}"
    )
    return peaks[-1] - peaks[0]


def _peaks(video: Path, result: Path) -> list[float]:
    """Prepare a clip at the end of every minute; peak memory after each, MB."""
    peaks = []
    with FaceDetector(find_landmark_model()) as detector, VideoReader() as reader:
        for minute in range(1, MINUTES + 1):
            apex = minute * 60 * FPS - 1
            job = ClipJob(video, apex - APEX + ONSET, apex, 1, "dis", None, result)
            prepare_clip(job, detector, reader)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return peaks


def _photograph() -> NDArray[np.uint8]:
    """Head and shoulders on 640 x 480, the face a third of its height: Eileen Collins, by NASA."""
    from skimage import data

    part = data.astronaut()[:330, 10:450, ::-1]
    return np.asarray(cv2.resize(part, (640, 480), interpolation=cv2.INTER_CUBIC))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=273, help="clips for TV-L1")
    parser.add_argument("--fast-clips", type=int, default=200, help="clips for DIS")
    return parser.parse_args()


if __name__ == "__main__":
    main()
