"""Reading an HTML page in tests: strict about its form, and giving its tables and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

#: Elements without an end tag.
VOID = {"meta", "link", "br", "img", "input", "hr"}

#: Elements whose end tag HTML lets one leave out, in an order in which ours must not nest.
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


@dataclass(eq=False)
class Element:
    """An element with its attributes, and what is in it, in order."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text within, blanks made single."""
        return " ".join("".join(self._texts()).split())

    def all(self, tag: str) -> list[Element]:
        """Every element of a name within, in order."""
        return [each for each in self.elements() if each.tag == tag]

    def elements(self) -> Iterator[Element]:
        """Every element within, in order."""
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.elements()

    def numbers(self) -> list[float]:
        """Full values of the numbers within, in order."""
        return [float(each.attributes["value"]) for each in self.all("data")]

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._texts()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> at {self.getpos()} repeats an attribute"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> at {self.getpos()} closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_page(page: bytes) -> Element:
    """Read a page; fails where tags do not balance."""
    text = page.decode("utf-8")
    assert text.startswith("<!doctype html>\n")
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert [each.tag for each in reader.open] == [""]
    return reader.root


def check_form(root: Element) -> None:
    """Fail unless the page can be used by people who do not see it, and refers to nothing."""
    (html,) = root.all("html")
    assert html.attributes["lang"] == "en"
    assert len(root.all("h1")) == len(root.all("main")) == 1
    assert len(root.all("head")[0].all("title")) == 1
    ids = [each.attributes["id"] for each in root.elements() if "id" in each.attributes]
    assert len(set(ids)) == len(ids)
    levels = [int(each.tag[1]) for each in root.elements() if each.tag in _HEADINGS]
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))
    for table in root.all("table"):
        assert table.children
        assert [each.tag for each in table.all("caption")] == ["caption"]
        assert table.all("th")
        widths = {_width(row) + _spanned(row, table) for row in table.all("tr")}
        assert len(widths) == 1, (table.all("caption")[0].text, widths)
    for picture in root.all("svg"):
        assert picture.attributes.get("aria-hidden") == "true" or (
            picture.attributes["role"] == "img" and picture.attributes["aria-label"].strip()
        )
    for each in root.elements():
        assert each.tag not in ("script", "iframe", "object", "embed", "form", "img")
        assert not {name for name in each.attributes if name.startswith("on") or name == "style"}
        assert "src" not in each.attributes
        for name in ("aria-labelledby", "href"):
            target = each.attributes.get(name, "data:")
            assert target.startswith("data:") or target.removeprefix("#") in ids, target


def _width(row: Element) -> int:
    return sum(int(cell.attributes.get("colspan", 1)) for cell in row.all("td") + row.all("th"))


def _spanned(row: Element, table: Element) -> int:
    """Cells that reach into the second row of a head from the first."""
    rows = table.all("tr")
    if len(rows) < 2 or row is not rows[1]:
        return 0
    return sum(cell.attributes.get("rowspan") == "2" for cell in rows[0].all("th"))
