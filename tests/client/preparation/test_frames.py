"""Frames out of folders and videos: numbering, kinds of picture, and what is wrong with files."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from fedpsyau_client.preparation.frames import (
    count_frames,
    natural_key,
    open_clip,
    read_frames,
)
from fedpsyau_client.preparation.videos import VideoReader
from fedpsyau_model.errors import FrameMissingError, FrameSizeError, FrameUnreadableError


def shade(value, size=64):
    return np.full((size, size, 3), value, dtype=np.uint8)


def write_video(path, shades, size=(64, 64)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 30, size)
    assert writer.isOpened()
    for value in shades:
        writer.write(np.full((*size[::-1], 3), value, dtype=np.uint8))
    writer.release()
    return path


def read_shades(clip, numbers):
    return [int(frame[5, 5, 0]) for frame in read_frames(clip, numbers)]


def test_natural_order():
    names = ["img10.png", "img2.png", "Img1.png", "img2b.png", "9.png"]
    assert sorted(names, key=natural_key) == [
        "9.png",
        "Img1.png",
        "img2.png",
        "img2b.png",
        "img10.png",
    ]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["reg_img46.png", "reg_img9.png", "reg_img100.png"], [46, 9, 100]),
        (["006_05562.png", "006_05563.png"], [5562, 5563]),
        (["7.PNG", "0008.png", "notes.txt", "cover.png"], [7, 8]),
        (["图 3.png", "图 12.png"], [3, 12]),
        (["c.png", "a.png", "b.png"], [3, 1, 2]),
    ],
)
def test_numbers_of_images(tmp_path, write_png, names, numbers):
    """Each image is a shade that says its number; names are in the order of `numbers`."""
    images = [name for name in names if name.lower().endswith(".png")]
    for name, number in zip(images, [*numbers, 255], strict=False):
        write_png(tmp_path / name, shade(number % 200))
    clip = open_clip(tmp_path)
    assert read_shades(clip, numbers) == [number % 200 for number in numbers]
    assert read_shades(clip, numbers[::-1]) == [number % 200 for number in numbers[::-1]]


def test_images_without_numbers_count_from_the_first_frame(tmp_path, write_png):
    for value, name in ((10, "a.png"), (20, "b.png")):
        write_png(tmp_path / name, shade(value))
    assert read_shades(open_clip(tmp_path, first_frame=0), [0, 1]) == [10, 20]


def test_a_gap_is_no_harm_until_its_frame_is_asked_for(tmp_path, write_png):
    for number in (1, 2, 7, 8):
        write_png(tmp_path / f"img{number}.png", shade(number))
    clip = open_clip(tmp_path)
    assert count_frames(clip) == 4
    assert read_shades(clip, [2, 7]) == [2, 7]
    with pytest.raises(FrameMissingError, match=r"no frame 4.*4 frames from 1 to 8.*2 and 7"):
        read_frames(clip, [2, 4])


def test_two_images_of_one_number_are_not_chosen_from(tmp_path, write_png):
    for name in ("1.png", "01.png", "2.png"):
        write_png(tmp_path / name, shade(1))
    with pytest.raises(FrameMissingError, match=r"2 images could be frame 1: 01\.png, 1\.png"):
        read_frames(open_clip(tmp_path), [1, 2])


def test_a_folder_without_images_and_nothing_at_all(tmp_path):
    with pytest.raises(FrameUnreadableError, match="holds no image"):
        open_clip(tmp_path)
    with pytest.raises(FrameUnreadableError):
        open_clip(tmp_path / "none")


def test_colour_comes_as_rgb(tmp_path, write_png):
    picture = shade(0)
    picture[..., 0] = 200
    write_png(tmp_path / "1.png", picture)
    assert read_frames(open_clip(tmp_path), [1])[0][0, 0].tolist() == [200, 0, 0]
    write_png(tmp_path / "2.png", np.full((64, 70), 90, dtype=np.uint8))
    grey = read_frames(open_clip(tmp_path), [2])[0]
    assert grey.shape == (64, 70, 3)
    assert (grey == 90).all()
    (tmp_path / "3.png").write_bytes(
        cv2.imencode(".png", np.dstack([shade(5), np.full((64, 64), 9, np.uint8)]))[1]
    )
    assert read_frames(open_clip(tmp_path), [3])[0].shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1000, 1023], [250, 255]), ([4000, 2000], [250, 125]), ([65535, 256], [255, 1])],
)
def test_deep_images_are_brought_to_eight_bits_together(tmp_path, write_png, values, expected):
    for number, value in enumerate(values):
        write_png(tmp_path / f"{number}.png", np.full((64, 64), value, dtype=np.uint16))
    assert read_shades(open_clip(tmp_path), [0, 1]) == expected


@pytest.mark.parametrize("size", [(63, 200), (200, 63), (1, 1)])
def test_tiny_frames_are_refused(tmp_path, write_png, size):
    write_png(tmp_path / "1.png", np.zeros((*size, 3), dtype=np.uint8))
    with pytest.raises(FrameSizeError, match="at least 64"):
        read_frames(open_clip(tmp_path), [1])


def test_an_enormous_image_in_a_small_file_is_refused(tmp_path, write_png):
    write_png(tmp_path / "1.png", np.zeros((11_000, 10_000), dtype=np.uint8))
    with pytest.raises((FrameSizeError, FrameUnreadableError)):
        read_frames(open_clip(tmp_path), [1])


def test_opencv_is_told_before_it_is_loaded():
    """Then it refuses by the header, before 110 million pixels are decoded."""
    program = (
        "import fedpsyau_client.preparation.worker_pool, cv2, numpy as np\n"
        "content = cv2.imencode('.png', np.zeros((11_000, 10_000), np.uint8))[1]\n"
        "try:\n    assert cv2.imdecode(content, cv2.IMREAD_COLOR) is None\n"
        "except cv2.error as error:\n    assert 'PIXELS' in str(error), error"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_image_is_said(tmp_path, content):
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(FrameUnreadableError, match=r"1\.png cannot be read as an image"):
        read_frames(open_clip(tmp_path), [1])


def test_float_images_are_refused(tmp_path):
    (tmp_path / "1.tiff").write_bytes(cv2.imencode(".tiff", np.zeros((64, 64), np.float32))[1])
    with pytest.raises(FrameUnreadableError, match="8 or 16 bits"):
        read_frames(open_clip(tmp_path), [1])


@pytest.mark.parametrize("first", [0, 1])
def test_video_frames_count_from_the_first(tmp_path, first):
    clip = open_clip(write_video(tmp_path / "ein Vidéo 视频.avi", range(0, 200, 10)), first)
    assert count_frames(clip) == 20
    assert read_shades(clip, [first + 3, first + 19]) == [30, 190]
    assert read_shades(clip, [first + 19, first]) == [190, 0]
    with pytest.raises(FrameMissingError, match=f"no frame {first + 20}.*20 frames could be read"):
        read_frames(clip, [first, first + 20])
    with pytest.raises(FrameMissingError):
        read_frames(clip, [first - 1, first])


def test_clips_of_one_video_are_read_in_one_pass(tmp_path):
    """Shown by a file that is gone: what lies further on still comes, what lies before does not."""
    clip = open_clip(write_video(tmp_path / "clip.avi", range(0, 200, 10)))
    other = open_clip(write_video(tmp_path / "other.avi", range(1, 201, 10)))
    with VideoReader() as videos:
        assert [int(frame[0, 0, 0]) for frame in videos.read(clip, [3, 5])] == [20, 40]
        clip.path.unlink()
        assert [int(frame[0, 0, 0]) for frame in videos.read(clip, [6, 9])] == [50, 80]
        with pytest.raises(FrameUnreadableError):
            videos.read(clip, [9, 12])
        assert [int(frame[0, 0, 0]) for frame in videos.read(other, [9, 2])] == [81, 11]
        assert [int(frame[0, 0, 0]) for frame in videos.read(other, [9, 2])] == [81, 11]


def test_a_truncated_video_has_the_frames_that_can_be_read(tmp_path):
    whole = write_video(tmp_path / "whole.avi", range(50)).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 6 // 10])
    clip = open_clip(tmp_path / "cut.avi")
    count = count_frames(clip)
    assert 5 < count < 50
    assert read_shades(clip, [2, 3]) == [1, 2]
    with pytest.raises(FrameMissingError):
        read_frames(clip, [2, 50])


@pytest.mark.parametrize("content", [b"", b"no video", b"RIFF\0\0\0\0AVI LIST"])
def test_what_is_no_video_is_said(tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(FrameUnreadableError, match="cannot be opened as a video"):
        read_frames(open_clip(tmp_path / "clip.mp4"), [1])


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    """600 frames of 640 x 480 are 553 MB; two of them are kept."""
    video = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 30, (640, 480))
    for value in range(600):
        writer.write(np.full((480, 640, 3), value % 250, dtype=np.uint8))
    writer.release()
    program = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from fedpsyau_client.preparation.frames import open_clip, read_frames\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "clip = open_clip(Path(sys.argv[1]))\n"
        "read_frames(clip, [1, 2])\nbefore = peak()\n"
        "read_frames(clip, [1, 600])\nprint(peak() - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, video],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert int(result.stdout) < 50_000  # kB
