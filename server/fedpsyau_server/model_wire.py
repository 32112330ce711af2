"""Models on their way to the sites and back, in the precision that was agreed on.

What rounding takes from a model that goes to a site is kept in the run folder, in
``rounding/0007/SITE.safetensors`` for round 7, and added to the next one if the site answers: a
site that does not begins with nothing again. A round that is run anew after a crash finds the file
of the round before it, and so comes to the same bits.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import RunFolderError
from fedpsyau_model.exchange import (
    MalformedMessageError,
    Tensors,
    pack_tensors,
    unpack_tensors,
    without_others,
)
from fedpsyau_model.precision import (
    as_received,
    as_sent,
    as_trained,
    form_trained_sent,
    scale_name,
)
from fedpsyau_model.settings import Precision
from fedpsyau_server.fusion import Model
from fedpsyau_server.reply_checks import model_fault

__all__ = ["ModelWire", "UnusableModelError"]

#: Residuals that wait in memory for the disk; a server of many sites waits for it instead.
MOST_WAITING = 4


class UnusableModelError(Exception):
    """The model in a reply cannot be used; the text says why."""


class ModelWire:
    """Encodes what goes to the sites of a run, checks and decodes what comes back.

    What is kept of a model is written while it travels, and is on the disk before an answer to it
    is taken. Several threads may use one.
    """

    def __init__(self, run_folder: Path, precision: Precision) -> None:
        self._folder = run_folder / "rounding"
        self._precision = precision
        self._writer = ThreadPoolExecutor(1, "rounding")
        self._writing: dict[str, Future[None]] = {}
        self._packed: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def rounds_off(self) -> bool:
        """Whether what travels is anything but the model's own numbers."""
        return self._precision != "full"

    def pack(self, number: int, site: str, tensors: Tensors, *, goes_on: bool) -> bytes:
        """Pack what a site is sent in round `number`; the same bytes if it is asked again.

        goes_on: whether the round before had a valid reply of the site.

        Raises RunFolderError if what is to be added from that round cannot be read, or what was
        left before cannot be kept.
        """
        if not self.rounds_off:
            return pack_tensors(tensors)
        residual = self._residual(number - 1, site) if goes_on else {}
        encoded = as_sent(tensors, self._precision, residual)
        with self._lock:
            if self._packed.get(site) != number:  # asked again, it would only be written again
                self._packed[site] = number
                self._settle(site)
                self._writing[site] = self._writer.submit(
                    self._keep, number, site, encoded.residual
                )
            while len(self._writing) > MOST_WAITING:
                self._settle(next(iter(self._writing)))
        return pack_tensors(encoded.tensors)

    def read(
        self, site: str, reply: bytes, order: Callable[[], bytes], model: Model
    ) -> tuple[Model, Model]:
        """The model that a site received, and the one that it sent back.

        reply: as it travelled. order: gives what travelled to the site. model: what that was made
        of.

        Raises UnusableModelError, with the reason, for anything but a finite model of the agreed
        form; nothing is decoded before that is known. RunFolderError if what rounding took from
        the model sent could not be kept.
        """
        try:
            sent = unpack_tensors(reply)
        except MalformedMessageError as error:
            raise UnusableModelError(str(error)) from None
        if fault := model_fault(sent, form_trained_sent(model, self._precision)):
            raise UnusableModelError(fault + self._agreed())
        if not self.rounds_off:
            return model, sent
        with self._lock:
            self._settle(site)
        received = as_received(without_others(unpack_tensors(order()))[0], model)
        if fault := _scale_fault(sent, model):
            raise UnusableModelError(fault)
        trained = as_trained(sent, self._precision, received)
        if fault := model_fault(trained, model):
            raise UnusableModelError(f"decoded, {fault}")
        return received, trained

    def close(self) -> None:
        """Wait until nothing is written any more: whoever resumes the run has the folder alone."""
        self._writer.shutdown()

    def _settle(self, site: str) -> None:
        """Wait until what was to be kept for a site is on the disk, or could not be written."""
        if site in self._writing:
            self._writing.pop(site).result()

    def _agreed(self) -> str:
        return f' ([exchange] precision is "{self._precision}")' if self.rounds_off else ""

    def _residual_file(self, number: int, site: str) -> Path:
        return self._folder / f"{number:04d}" / f"{site}.safetensors"

    def _residual(self, number: int, site: str) -> Tensors:
        path = self._residual_file(number, site)
        try:
            return unpack_tensors(path.read_bytes())
        except (OSError, MalformedMessageError) as error:
            raise RunFolderError(
                f"{path} cannot be read: {error}. The run cannot go on with the same bits without "
                "it. Restore the run folder from a copy, or start a new run."
            ) from None

    def _keep(self, number: int, site: str, residual: Tensors) -> None:
        """Keep what this round takes; that of the round before stays, in case this one is rerun."""
        path = self._residual_file(number, site)
        try:
            if not path.parent.exists():
                path.parent.mkdir(parents=True)
                for folder in self._folder.glob("[0-9]*"):
                    if int(folder.name) not in (number - 1, number):
                        shutil.rmtree(folder, ignore_errors=True)
            write_atomically(path, pack_tensors(residual))
        except OSError as error:
            raise RunFolderError(
                f"{path} cannot be written: {error.strerror or error}. Free some space or correct "
                "the folder's owner; the last whole round is intact."
            ) from None


def _scale_fault(sent: Model, model: Model) -> str | None:
    for name in map(scale_name, model):
        if name in sent and np.any(sent[name] < 0):
            return f"tensor {name} holds values below 0"
    return None
