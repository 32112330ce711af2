"""The events of a run as log lines: a sentence for people, and fields for collectors of logs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

__all__ = ["tell"]

log = logging.getLogger(__name__)

#: Event -> level, and the sentence that the event's values go into.
_SENTENCES = {
    "started": (logging.INFO, "the rounds go on after round {whole_rounds}"),
    "joined": (logging.INFO, "{site} joined ({clips} training clips)"),
    "here": (logging.INFO, "{site} is connected again"),
    "gone": (logging.WARNING, "{site} is no longer connected"),
    "refused": (logging.WARNING, "refused: {reason}"),
    "key-void": (
        logging.WARNING,
        "the key of {site} is void: it can no longer take part with it",
    ),
    "key-added": (logging.INFO, "{site} may connect with its new key"),
    "waiting": (
        logging.WARNING,
        "round {round} waits for {needed} of {sites}; without them the run ends in {seconds:.0f} s",
    ),
    "round-started": (logging.INFO, "round {round} with {count} sites"),
    "reply": (logging.INFO, "round {round}: {site} answered ({answered} of {expected})"),
    "lost": (logging.WARNING, "{site}: {reason}; it gets its order again if it comes back"),
    "lost-reply": (logging.WARNING, "round {round} goes on without {site}: {fault}"),
    "late": (logging.WARNING, "round {round}: {site} has not answered in time"),
    "quarantined": (logging.WARNING, "round {round}: {site} is not used: {reason}"),
    "round-done": (logging.INFO, "round {round} done in {seconds:.1f} s"),
}


def tell(event: Mapping[str, Any]) -> None:
    """Log one event of a run; those that are only for metrics stay unsaid."""
    kind = event["event"]
    if kind == "reply" and event.get("lost"):
        kind = "lost-reply"
    elif kind == "reply" and event["fault"]:
        kind, event = "quarantined", {**event, "event": "quarantined", "reason": event["fault"]}
    if kind not in _SENTENCES or (kind == "started" and event["whole_rounds"] == 0):
        return
    level, sentence = _SENTENCES[kind]
    sites = event.get("sites", ())
    values = {**event, "sites": ", ".join(sites), "count": len(sites)}
    fields = {name: value for name, value in event.items() if name not in ("time", "message")}
    log.log(level, sentence.format_map(values), extra={"fields": fields})
