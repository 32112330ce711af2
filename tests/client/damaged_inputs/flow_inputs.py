"""Flow that others computed: folders of images, and archives of arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from damaged_inputs.array_damage import ARRAY_DAMAGE, write_arrays
from damaged_inputs.cases import Reader
from damaged_inputs.file_damage import FILE_DAMAGE, PLACE_DAMAGE, Damage
from fedpsyau_client.flow_import.flow_archive import FlowArchive
from fedpsyau_client.flow_import.flow_encoding import Channels, Encoding
from fedpsyau_client.flow_import.flow_source import FlowSource
from fedpsyau_client.flow_import.image_folder import ImageFolder
from fedpsyau_client.flow_import.importing import FlowImport, import_flow
from fedpsyau_client.labels.readers import read_label_table

_CLIPS = 3


def flow_readers(cases: int) -> tuple[Reader, ...]:
    images = {
        **{f"an image: {name}": _one_image(damage) for name, damage in FILE_DAMAGE.items()},
        **{name: _one_image(damage) for name, damage in _IMAGE_DAMAGE.items()},
        **{f"all images: {name}": _all_images(damage) for name, damage in _IMAGE_DAMAGE.items()},
        **{f"its table: {name}": _table(damage) for name, damage in FILE_DAMAGE.items()},
        **_FOLDER_DAMAGE,
    }
    return (
        Reader("flow images", cases, _write_images, _read_images, images),
        Reader("flow archive", cases, _write_archive, import_archive, _ARCHIVE_DAMAGE),
    )


_ARCHIVE_DAMAGE = {**FILE_DAMAGE, **ARRAY_DAMAGE}


def _write_images(folder: Path, rng: np.random.Generator) -> Path:
    images = folder / "flow"
    images.mkdir()
    rows = ["subject,filename,onset,apex,offset,au,emotion"]
    size = int(rng.choice([28, 28, 64, 130]))
    for number in range(_CLIPS):
        picture = rng.integers(100, 156, (size, size, 3)).astype(np.uint8)
        (images / f"s{number}_EP01.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        rows.append(f"s{number},EP01,1,5,9,4+12,fear")
    (folder / "labels.csv").write_text("\n".join(rows))
    return images


def _read_images(images: Path, out: Path) -> None:
    table = read_label_table(images.parent / "labels.csv", "csv").clips
    _import(ImageFolder(images, table), out)


def _write_archive(folder: Path, rng: np.random.Generator) -> Path:
    return write_arrays(
        folder / "flow.npz",
        {
            "flow": np.abs(rng.normal(size=(_CLIPS, 3, 28, 28))).astype(np.float32),
            "label": np.array(["fear", "negative", "surprise"]),
            "subject": np.array(["s1", "s1", "s2"]),
            "clip": np.array(["a", "b", "c"]),
            "aus": np.array([[0, 1] * 6, [0] * 12, [1] * 12]),
        },
    )


def import_archive(file: Path, out: Path, overwrite: bool = False) -> None:
    _import(FlowArchive(file, "lab_a"), out, overwrite)


def _import(source: FlowSource, out: Path, overwrite: bool = False) -> None:
    encoding = Encoding("minmax") if source.eight_bit else Encoding("pixels")
    settings = FlowImport("csv", Channels(0, 1, 2), encoding)
    import_flow(source, settings, out, partition="lab_a", max_failures=0.5, overwrite=overwrite)


def _one_image(damage: Damage) -> Damage:
    def harm(images: Path, rng: np.random.Generator) -> Path:
        damage(images / "s1_EP01.png", rng)
        return images

    return harm


def _all_images(damage: Damage) -> Damage:
    def harm(images: Path, rng: np.random.Generator) -> Path:
        for file in sorted(images.iterdir()):
            damage(file, rng)
        return images

    return harm


def _table(damage: Damage) -> Damage:
    def harm(images: Path, rng: np.random.Generator) -> Path:
        damage(images.parent / "labels.csv", rng)
        return images

    return harm


def _picture(make: Callable[[np.random.Generator], np.ndarray], ending: str = ".png") -> Damage:
    """Put another picture in an image's place, under the same name."""

    def damage(file: Path, rng: np.random.Generator) -> Path:
        file.write_bytes(cv2.imencode(ending, make(rng))[1].tobytes())
        return file

    return damage


_IMAGE_DAMAGE: dict[str, Damage] = {
    "grey": _picture(lambda rng: np.full((28, 28), 128, np.uint8)),
    "16 bits": _picture(lambda rng: np.full((28, 28, 3), 30_000, np.uint16)),
    "transparent": _picture(lambda rng: np.full((28, 28, 4), 128, np.uint8)),
    "one pixel": _picture(lambda rng: np.full((1, 1, 3), 128, np.uint8)),
    "too small": _picture(lambda rng: np.full((27, 27, 3), 128, np.uint8)),
    "not square": _picture(lambda rng: np.full((28, 300, 3), 128, np.uint8)),
    "too large": _picture(lambda rng: np.full((2100, 2100, 3), 128, np.uint8)),
    "another size": _picture(lambda rng: np.full((56, 56, 3), 128, np.uint8)),
    "all one level": _picture(lambda rng: np.full((28, 28, 3), rng.integers(256), np.uint8)),
    "a JPEG by its content": _picture(lambda rng: np.full((28, 28, 3), 128, np.uint8), ".jpg"),
    "a bitmap by its content": _picture(lambda rng: np.full((28, 28, 3), 128, np.uint8), ".bmp"),
    "floats": _picture(lambda rng: np.full((28, 28, 3), np.nan, np.float32), ".tiff"),
}


def _twins(images: Path, rng: np.random.Generator) -> Path:
    """Two images that could be one clip's."""
    for file in sorted(images.iterdir()):
        (images / "again").mkdir(exist_ok=True)
        (images / "again" / file.name).write_bytes(file.read_bytes())
    return images


def _loop(images: Path, rng: np.random.Generator) -> Path:
    (images / "loop").symlink_to(images, target_is_directory=True)
    (images / "loop2").symlink_to("loop2")
    return images


def _in_the_folder_s_place(name: str) -> Damage:
    def damage(images: Path, rng: np.random.Generator) -> Path:
        images.rename(images.with_name("moved"))
        images.touch()
        return PLACE_DAMAGE[name](images, rng)

    return damage


def _output_in_the_way(images: Path, rng: np.random.Generator) -> Path:
    """Something else than a data folder lies where stores are to go."""
    out = images.parent.parent / "out"
    if rng.random() < 0.5:
        out.symlink_to("nowhere/at/all")
    else:
        out.symlink_to("out")
    return images


_FOLDER_DAMAGE: dict[str, Damage] = {
    "twins": _twins,
    "a loop of links": _loop,
    "no images": lambda images, rng: [file.unlink() for file in images.iterdir()] and images,
    "output in the way": _output_in_the_way,
    **{
        f"the folder: {name}": _in_the_folder_s_place(name)
        for name in PLACE_DAMAGE
        if name not in ("a link to its folder",)
    },
}
