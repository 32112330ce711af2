"""``fedpsyau data card``: one page on what a site has, small counts hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.emotions import ClassScheme
from fedpsyau_model.errors import OutputWriteError


def card(
    site: Annotated[Path, typer.Argument(help="A feature store.")],
    out: Annotated[
        Path, typer.Option(help="Folder for NAME-card.md, .png and .json; older ones go.")
    ] = Path("cards"),
    classes: Annotated[ClassScheme, typer.Option(help="Which classes are counted.")] = "three",
    mask_below: Annotated[
        int, typer.Option(min=1, help="Counts below this are hidden; 1 hides only zeros.")
    ] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the card as JSON too, instead of file names.")
    ] = False,
) -> None:
    """Write a site card: clips, subjects, classes and AUs, how they were prepared, checksum."""
    from fedpsyau_client.cards.site_card import card_json, card_markdown, make_card
    from fedpsyau_client.cards.site_card_plot import plot_card
    from fedpsyau_client.store.feature_store import open_feature_store
    from fedpsyau_model.file_content import png_bytes

    made = make_card(open_feature_store(site), classes, mask_below)
    stem = f"{made.partition}-card"
    files: dict[str, bytes | str] = {
        f"{stem}.md": card_markdown(made, f"{stem}.png"),
        f"{stem}.png": png_bytes(plot_card(made), dpi=130),
        f"{stem}.json": card_json(made),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(out / name, content)
    except OSError as error:
        raise OutputWriteError(
            f"The card cannot be written to {out}: {error.strerror or error}. Check free space and "
            "permissions, or give another folder with --out."
        ) from error
    if as_json:
        typer.echo(card_json(made), nl=False)
    else:
        typer.echo("\n".join(str(out / name) for name in files))
