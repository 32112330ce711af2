"""One HTML page in one file: no network, no script, nothing beside it.

A template of another package extends ``frame/frame.html``. Everything that it is given is text
and is escaped. The page's Content-Security-Policy forbids every request and every script, and
allows the one style sheet by its hash, so that no text of a run, however odd, could change that.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup

from fedpsyau_model import __version__

__all__ = ["HEAT_STEPS", "heat_step", "render_page", "score_cell"]

#: Shades of a table's cells, beside none; the style sheet has as many.
HEAT_STEPS = 20


def render_page(package: str, template: str, values: Mapping[str, Any]) -> bytes:
    """Fill a template of a package; returns the page in UTF-8. The same values, the same bytes.

    package: name of the package in whose folder the template lies. Raises
    jinja2.UndefinedError if the template names a value that is not given.
    """
    text = (
        _environment(package)
        .get_template(f"page/{template}")
        .render(style=Markup(_style()), policy=_policy(), page_version=__version__, **values)
    )
    return text.encode("utf-8", errors="replace")  # a lone surrogate has no bytes


def score_cell(value: float | None, sign: bool = False) -> Markup:
    """Write a number with three decimals, all of its digits in an attribute; a dash for nothing."""
    if value is None or math.isnan(value):
        return Markup('<span class="nothing" title="no value">–</span>')
    return Markup('<data value="{}">{}</data>').format(repr(float(value)), _rounded(value, sign))


def heat_step(share: float) -> int:
    """Shade of a share in [0, 1]: 0 (none) to `HEAT_STEPS`; what is not 0 has a shade."""
    return math.ceil(round(share * HEAT_STEPS, 9))


def _rounded(value: float, sign: bool) -> str:
    plus = "+" if sign and value >= 0.0005 else ""
    text = plus + f"{value:.3f}".replace("-0.000", "0.000")
    return text.replace("-", "\N{MINUS SIGN}")


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=PrefixLoader({"frame": PackageLoader(__package__, "."), "page": _loader(package)}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"score": score_cell, "heat": heat_step}
    return environment


def _loader(package: str) -> PackageLoader:
    return PackageLoader(package, ".")


@cache
def _style() -> str:
    return resources.files(__package__).joinpath("frame.css").read_text(encoding="utf-8")


@cache
def _policy() -> str:
    """Forbid everything but the style sheet of the page and pictures within it (its icon)."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
