"""Site cards that the coordinator has put into RUN/cards, for the page."""

from __future__ import annotations

from pydantic import ValidationError

from fedpsyau_model.errors import SiteCardError
from fedpsyau_model.input_files import read_input_text
from fedpsyau_model.site_card import CARD_ENDING, SiteCardDocument
from fedpsyau_server.run_folder import RunFolder

__all__ = ["CARDS_FOLDER", "read_site_cards"]

#: Folder of a run that holds site cards.
CARDS_FOLDER = "cards"

#: A card is one page; what is larger is something else.
_LARGEST_CARD = 2**20


def read_site_cards(folder: RunFolder) -> dict[str, SiteCardDocument]:
    """Cards by site, from RUN/cards/NAME-card.json; empty if there are none.

    Raises SiteCardError if one cannot be read, is no site card, or is not of a site of the run.
    """
    cards: dict[str, SiteCardDocument] = {}
    for path in sorted((folder.path / CARDS_FOLDER).glob(f"*{CARD_ENDING}")):
        try:
            card = SiteCardDocument.model_validate_json(
                read_input_text(path, largest=_LARGEST_CARD)
            )
        except (OSError, ValueError) as error:
            raise SiteCardError(
                f"{path} cannot be read as a site card: {_reason(error)}. Copy the file that "
                "`fedpsyau data card` wrote at the site again, or take it out of the folder."
            ) from None
        if card.partition not in folder.config.sites:
            raise SiteCardError(
                f"{path} is the card of {card.partition!r}, which is no site of this run; its "
                f"sites are {', '.join(folder.config.sites)}. Take it out of the folder."
            )
        if card.partition in cards:
            raise SiteCardError(
                f"{path} is a second card of {card.partition!r}. Keep the one that holds."
            )
        cards[card.partition] = card
    return cards


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
