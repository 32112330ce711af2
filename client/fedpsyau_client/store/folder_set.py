"""Several folders that appear in a data folder together or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedpsyau_model.errors import OutputExistsError, OutputWriteError
from fedpsyau_model.private_folder import PrivateFolder

__all__ = ["assembled_folders"]

_ENDING = ".set-partial"


@contextmanager
def assembled_folders(
    out: Path,
    names: Sequence[str],
    why_kept: Callable[[Path], str],
    overwrite: bool = False,
) -> Iterator[Path]:
    """Give an empty folder; what is written to it under `names` moves to `out` at a good end.

    The folder lies beside `out` under a hidden name and goes away whatever happens. One that a
    killed process left behind is removed by the next call.
    overwrite: folders of these names that are in `out` are replaced, unless there is a reason to
        keep one.
    why_kept: gives that reason, such as "is no feature store", or "".

    Raises OutputExistsError if folders are there and may not be replaced, OutputWriteError if
    nothing can be written. Then `out` is as it was.
    """
    _check_existing(out, names, why_kept, overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with PrivateFolder(f".{out.name}.", _ENDING, out.parent) as temporary:
            stores = temporary.path / "stores"
            stores.mkdir()
            yield stores
            _move_all(stores, out, names, temporary.path / "replaced")
    except OSError as error:
        raise _write_error(out, error) from error


def _check_existing(
    out: Path, names: Sequence[str], why_kept: Callable[[Path], str], overwrite: bool
) -> None:
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out} is a file, not a folder. Give another place with --out.")
    present = [name for name in names if os.path.lexists(out / name)]
    if present and not overwrite:
        raise OutputExistsError(
            f"{out} already holds {', '.join(present)}, and they were left as they are. Give "
            "another folder with --out, or replace them with --overwrite."
        )
    for name in present:
        if reason := why_kept(out / name):
            raise OutputExistsError(
                f"{name} in {out} {reason}, and is never replaced by this command. Give another "
                "folder with --out, or move it away yourself."
            )


def _move_all(stores: Path, out: Path, names: Sequence[str], aside: Path) -> None:
    """Move every store into place; if one fails, those moved before go back."""
    if not out.exists():
        stores.rename(out)
        return
    aside.mkdir()
    undo: list[tuple[Path, Path]] = []
    try:
        for name in names:
            if os.path.lexists(out / name):
                _rename(out / name, aside / name, undo)
            _rename(stores / name, out / name, undo)
    except BaseException:
        for source, target in reversed(undo):
            target.rename(source)
        raise


def _rename(source: Path, target: Path, undo: list[tuple[Path, Path]]) -> None:
    undo.append((source, target))
    try:
        source.rename(target)
    except OSError:
        undo.pop()
        raise


def _write_error(out: Path, error: OSError) -> OutputWriteError:
    return OutputWriteError(
        f"The data folder {out} cannot be written: {error.strerror or error}. Nothing half-written "
        "was left there. Check free space and permissions, or give another place with --out."
    )
