"""Damaged inputs by the hundred, seeded: each works or fails with a type, and the rest goes on."""

import os
from collections import Counter

import cv2
import numpy as np
import pytest

from fedpsyau_client.preparation.preparation import Preparation, prepare
from fedpsyau_client.store.feature_store import open_feature_store

HEADER = "subject,filename,onset,apex,offset,emotion,au"


def png(picture, ending=".png"):
    return cv2.imencode(ending, picture)[1].tobytes()


def video(folder, frames):
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(folder), cv2.VideoWriter_fourcc(*"MJPG"), 30, size)
    for frame in frames:
        writer.write(frame)
    writer.release()
    return folder.read_bytes()


class Damage:
    """Writes clips of one face in ever different states. Every method is one kind of state."""

    def __init__(self, face, generator, scratch):
        self.face = face
        self.draw = generator
        self.video = video(scratch / "whole.avi", [self.face] * 10)

    def frames(self, folder, onset, apex=None, name="img{}.png"):
        folder.mkdir(parents=True)
        (folder / name.format(5)).write_bytes(onset)
        (folder / name.format(9)).write_bytes(onset if apex is None else apex)

    def noisy(self, scale=3.0):
        noise = self.draw.normal(0, scale, self.face.shape)
        return np.clip(self.face + noise, 0, 255).astype(np.uint8)

    def whole(self, place):
        self.frames(place, png(self.noisy()), png(self.noisy()))

    def truncated(self, place):
        content = png(self.face, self.draw.choice([".png", ".jpg", ".bmp", ".tiff"]))
        cut = content[: self.draw.integers(len(content))]
        self.frames(place, cut, name="img{}" + str(self.draw.choice([".png", ".jpg"])))

    def flipped_bytes(self, place):
        content = bytearray(png(self.face, str(self.draw.choice([".png", ".jpg"]))))
        for position in self.draw.integers(len(content), size=self.draw.integers(1, 40)):
            content[position] = self.draw.integers(256)
        self.frames(place, bytes(content))

    def empty(self, place):
        self.frames(place, b"")

    def nonsense(self, place):
        self.frames(place, self.draw.bytes(int(self.draw.integers(1, 3000))))

    def wrong_ending(self, place):
        self.frames(place, png(self.face, ".jpg"), png(self.face, ".bmp"), name="{}.png")

    def no_face(self, place):
        shape = (*self.draw.integers(64, 150, size=2), 3)
        self.frames(place, png(self.draw.integers(0, 256, shape).astype(np.uint8)))

    def two_faces(self, place):
        self.frames(place, png(np.concatenate([self.face, self.face], axis=1)))

    def tiny(self, place):
        size = tuple(int(side) for side in self.draw.integers(1, 90, size=2))
        self.frames(place, png(cv2.resize(self.face, size)))

    def huge(self, place):
        scale = float(self.draw.uniform(4, 8))
        self.frames(place, png(cv2.resize(self.face, None, fx=scale, fy=scale), ".jpg"))

    def strip(self, place):
        size = (64, 4000) if self.draw.integers(2) else (4000, 64)
        self.frames(place, png(np.zeros((*size, 3), np.uint8)))

    def grey(self, place):
        self.frames(place, png(cv2.cvtColor(self.noisy(), cv2.COLOR_BGR2GRAY)))

    def deep(self, place):
        factor = int(self.draw.choice([1, 4, 16, 257]))
        self.frames(place, png(self.face.astype(np.uint16) * factor))

    def transparent(self, place):
        alpha = self.draw.integers(0, 256, self.face.shape[:2]).astype(np.uint8)
        self.frames(place, png(np.dstack([self.face, alpha])))

    def different_sizes(self, place):
        self.frames(place, png(self.face), png(self.face[: -int(self.draw.integers(1, 50))]))

    def turned(self, place):
        turn = int(self.draw.choice([cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE]))
        self.frames(place, png(cv2.rotate(self.face, turn)))

    def odd_name(self, place):
        name = str(
            self.draw.choice(["%s {}.png", "ä 图 {}.png", "{}  .png", "[{}].png", "-{}.png"])
        )
        self.frames(place, png(self.face), name=name.replace("{}", "{0}"))

    def apex_missing(self, place):
        self.frames(place, png(self.face))
        (place / "img9.png").unlink()

    def folder_as_image(self, place):
        self.frames(place, png(self.face))
        (place / "img9.png").unlink()
        (place / "img9.png").mkdir()

    def dangling_link(self, place):
        self.frames(place, png(self.face))
        (place / "img9.png").unlink()
        (place / "img9.png").symlink_to(place / "gone.png")

    def loop(self, place):
        self.frames(place, png(self.face))
        (place / "again").symlink_to(place, target_is_directory=True)

    def pipe(self, place):
        self.frames(place, png(self.face))
        (place / "img9.png").unlink()
        os.mkfifo(place / "img9.png")

    def nothing(self, place):
        place.mkdir(parents=True)

    def absent(self, place):
        pass

    def whole_video(self, place):
        self.write(place, self.video)

    def truncated_video(self, place):
        self.write(place, self.video[: self.draw.integers(len(self.video))])

    def flipped_video(self, place):
        content = bytearray(self.video)
        for position in self.draw.integers(len(content), size=self.draw.integers(1, 200)):
            content[position] = self.draw.integers(256)
        self.write(place, bytes(content))

    def no_video(self, place):
        self.write(place, self.draw.bytes(int(self.draw.integers(0, 3000))))

    def image_as_video(self, place):
        self.write(place, png(self.face))

    def write(self, place, content):
        ending = str(self.draw.choice([".avi", ".mp4", ".mkv", ".mov"]))
        place.with_suffix(ending).write_bytes(content)


KINDS = tuple(
    name
    for name, value in vars(Damage).items()
    if callable(value) and name[0] != "_" and name not in ("frames", "noisy", "write")
)


def check(count, seed, face, tmp_path):
    generator = np.random.default_rng(seed)
    damage = Damage(face, generator, tmp_path)
    clips = tmp_path / "clips" / "Ωmega"
    clips.mkdir(parents=True)
    rows = [HEADER]
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    for number, kind in enumerate(kinds):
        name = f"clip{number}"
        getattr(damage, kind)(clips / name)
        rows.append(f"Ωmega,{name},5,9,12,fear,4")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(rows) + "\n", encoding="utf-8")
    report = prepare(
        Preparation(
            dataset="csv",
            labels=labels,
            clips=tmp_path / "clips",
            out=tmp_path / "out",
            partition="damaged",
            flow="dis",
            max_failures=1.0,
            workers=2,
        )
    )
    failed = {int(failure.clip[1:]) - 1: failure for failure in report.failures}
    reasons = {number: type(failure.error).__name__ for number, failure in failed.items()}
    unforeseen = [
        (kinds[number], str(failed[number].error))
        for number, name in reasons.items()
        if name in ("ClipError", "WorkerDiedError")
    ]
    assert unforeseen == []
    store = open_feature_store(tmp_path / "out" / "damaged")
    assert len(store) == count - len(failed)
    by_kind = {kind: Counter() for kind in KINDS}
    for number, kind in enumerate(kinds):
        by_kind[kind][reasons.get(number, "well")] += 1
    return by_kind


#: What must come of every input of a kind.
CERTAIN = {
    "whole": "well",
    "grey": "well",
    "transparent": "well",
    "deep": "well",
    "huge": "well",
    "wrong_ending": "well",
    "odd_name": "well",
    "loop": "well",
    "whole_video": "well",
    "empty": "FrameUnreadableError",
    "nonsense": "FrameUnreadableError",
    "no_face": "NoFaceError",
    "two_faces": "SeveralFacesError",
    "strip": "NoFaceError",
    "different_sizes": "FrameSizeError",
    "apex_missing": "FrameMissingError",
    "folder_as_image": "FrameMissingError",
    "dangling_link": "FrameMissingError",
    "pipe": "FrameMissingError",
    "nothing": "ClipNotFoundError",
    "absent": "ClipNotFoundError",
    "no_video": "FrameUnreadableError",
}


@pytest.fixture
def face(astronaut):
    return np.ascontiguousarray(astronaut[20:220, 125:325, ::-1])


@pytest.mark.parametrize(
    "count", [2 * len(KINDS), pytest.param(1000, marks=pytest.mark.slow, id="a-thousand")]
)
def test_each_works_or_fails_with_a_type(face, tmp_path, count):
    by_kind = check(count, 7, face, tmp_path)
    for kind, expected in CERTAIN.items():
        assert set(by_kind[kind]) == {expected}, (kind, by_kind[kind])
