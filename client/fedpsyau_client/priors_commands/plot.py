"""``fedpsyau priors plot``: the published priors as a picture."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_model.errors import OutputExistsError, OutputWriteError

#: File types that the plot can be saved as.
PLOT_TYPES: tuple[str, ...] = (".png", ".pdf", ".svg")


def plot(
    out: Annotated[
        Path, typer.Option(help=f"File to write, {', '.join(PLOT_TYPES)}.", metavar="FILE")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the file.")] = False,
) -> None:
    """Draw the intrinsic and the extrinsic prior side by side."""
    if out.suffix.lower() not in PLOT_TYPES:
        raise typer.BadParameter(
            f"{out} must end in one of {', '.join(PLOT_TYPES)}.", param_hint="--out"
        )
    if out.exists() and not replace:
        raise OutputExistsError(
            f"{out} is already there and was left as it is. Give another name, or --replace."
        )
    from fedpsyau_priors.plot import plot_priors

    unfinished = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        plot_priors().savefig(unfinished, format=out.suffix[1:].lower(), dpi=150)
        unfinished.replace(out)
    except OSError as error:
        raise OutputWriteError(
            f"{out} cannot be written: {error.strerror or error}. Check free space and "
            "permissions, or give another place."
        ) from error
    finally:
        with suppress(OSError):  # it is gone after a success, and never was where mkdir failed
            unfinished.unlink()
    typer.echo(f"Wrote {out}")
