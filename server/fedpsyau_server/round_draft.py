"""A round that is being written: models go to disk as they come, and none of them stays in memory.

    replies/SITE.safetensors   the trained model that a site sent
    models/SITE.safetensors    every site's personal model after the round
    newcomer.safetensors       what sites without a model are sent; gone when the round is whole

All of it is in a folder with a temporary name, which `RunFolder.new_round` makes, and renames or
deletes.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fedpsyau_model.atomic_files import link_atomically, write_parts_together
from fedpsyau_server.folder_errors import cannot_write
from fedpsyau_server.fusion import TOGETHER, Model, fusion_threads
from fedpsyau_server.packed_model import ModelFile, ModelInMemory, PackedModel, parts

__all__ = ["RoundDraft", "model_path"]


def model_path(folder: Path, site: str) -> Path:
    """Where a site's model is in a folder of models."""
    return folder / f"{site}.safetensors"


class RoundDraft:
    """The files of one round, as far as they are there.

    Raises RunFolderError whenever the disk does not take them.
    """

    def __init__(self, folder: Path, run: Path) -> None:
        """folder: the temporary one. run: the run folder, which errors name."""
        self._run = run
        self._folder = folder
        self._models = folder / "models"
        self._replies = folder / "replies"
        try:
            for each in (self._models, self._replies):
                each.mkdir()
        except OSError as error:
            raise cannot_write(run, error) from None

    def keep_reply(self, site: str, model: Model) -> ModelFile:
        """Write the trained model of a site."""
        return self._write_one(model_path(self._replies, site), ModelInMemory.of(model))

    def drop_reply(self, site: str) -> None:
        """Forget a trained model that is not to count."""
        model_path(self._replies, site).unlink()

    def keep_newcomer(self, model: PackedModel) -> ModelFile:
        """Write what sites without a model are sent in this round."""
        return self._write_one(self._newcomer, model)

    def write_models(self, models: Mapping[str, PackedModel]) -> None:
        """Write the personal models, each computed as it is written.

        A model that several sites have is written once; one that is on disk already is not written
        anew.
        """
        files: dict[int, Path] = {}
        new: list[PackedModel] = []
        for site, model in models.items():
            if id(model) in files:
                continue
            if isinstance(model, ModelFile):
                files[id(model)] = model.path
            else:
                files[id(model)] = model_path(self._models, site)
                new.append(model)
        groups = [new[first : first + TOGETHER] for first in range(0, len(new), TOGETHER)]
        with ThreadPoolExecutor(fusion_threads()) as pool:
            list(pool.map(lambda each: self._write({files[id(m)]: m for m in each}), groups))
        try:
            for site, model in models.items():
                path = model_path(self._models, site)
                if files[id(model)] != path:
                    link_atomically(files[id(model)], path)
            self._newcomer.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self._run, error) from None

    @property
    def _newcomer(self) -> Path:
        return model_path(self._folder, "newcomer")

    def _write_one(self, path: Path, model: PackedModel) -> ModelFile:
        self._write({path: model})
        return ModelFile(path, model.layout)

    def _write(self, models: Mapping[Path, PackedModel]) -> None:
        try:
            write_parts_together({path: parts(model) for path, model in models.items()})
        except OSError as error:
            raise cannot_write(self._run, error) from None
