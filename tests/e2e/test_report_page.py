"""The report's page in a real browser: it asks for nothing, complains of nothing, and prints."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from headless_browser import NAMES, Browser, find_browser

from fedpsyau_client.synthetic.twin import write_twin
from fedpsyau_experiments.simulation import simulate
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.report.files import write_report

pytestmark = pytest.mark.e2e

SITES = ("casme3_c1", "dfme_c1")

#: Sheets of A4 that a run of two sites and two rounds may fill.
FEWEST_SHEETS, MOST_SHEETS = 4, 10

#: Whether each of the tables within collapsed parts can be seen.
SHOWN = (
    "[...document.querySelectorAll('details table')].map("
    "table => table.checkVisibility({contentVisibilityAuto: true}) && table.offsetHeight > 20)"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small simulation on the synthetic twin."""
    folder = tmp_path_factory.mktemp("report")
    write_twin(folder / "data", scale=0.01, seed=3)
    settings = FederationSettings.model_validate(
        {
            "network": {"au-branch": False},
            "training": {"epochs": 1, "batch-size": 16},
            "rounds": {"rounds": 2},
            "server": {"sites": SITES},
        }
    )
    return write_report(simulate(settings, folder / "data", folder / "run")).page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip(f"no Chromium is installed (looked for {', '.join(NAMES)})")
    with Browser(executable, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def visited() -> Iterator[tuple[str, list[str]]]:
    """Address of a web server on this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def foreign(browser: Browser, page: Path) -> list[str]:
    """What was asked for, beside the page itself and what is written in it."""
    return [url for url in browser.requests if url != page.as_uri() and not url.startswith("data:")]


def test_it_opens_without_a_request_and_without_a_word_on_the_console(
    browser: Browser, page: Path
) -> None:
    browser.emulate("screen")
    browser.open(page.as_uri())
    assert page.as_uri() in browser.requests  # the watch works
    assert foreign(browser, page) == []
    assert browser.complaints == []
    assert browser.evaluate("document.scripts.length") == 0
    assert browser.evaluate("document.title").endswith("(synthetic data)")
    # The one style sheet is let in by its hash.
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).position") == "sticky"


@pytest.mark.parametrize(
    ("planted", "asks"),
    [
        ('<img src="{}/a.png" alt="">', True),
        ('<link rel="stylesheet" href="{}/a.css">', True),
        ('<iframe src="{}/a.html" title="a"></iframe>', True),
        ("<script>console.log('hello')</script>", False),
        ('<p style="color: red">red</p>', False),
    ],
)
def test_the_policy_stops_what_the_page_must_not_do_and_the_watch_sees_it(
    browser: Browser,
    page: Path,
    tmp_path: Path,
    visited: tuple[str, list[str]],
    planted: str,
    asks: bool,
) -> None:
    address, asked = visited
    text = page.read_text(encoding="utf-8")
    altered = tmp_path / "altered.html"
    altered.write_text(text.replace("</main>", planted.format(address) + "</main>"))
    browser.open(altered.as_uri())
    assert browser.complaints
    assert asked == []
    if asks:  # without the policy it would have been asked for
        bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", altered.read_text())
        altered.write_text(bare)
        browser.open(altered.as_uri())
        assert len(asked) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_it_fits_every_window(browser: Browser, page: Path, width: int, scheme: str) -> None:
    browser.size(width, 900)
    browser.emulate("screen", scheme)
    browser.open(page.as_uri())
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []


def test_on_paper_everything_is_open_and_fits_the_sheet(browser: Browser, page: Path) -> None:
    browser.emulate("screen")
    browser.open(page.as_uri())
    assert not any(browser.evaluate(SHOWN))
    browser.emulate("print")
    browser.size(696, 1000)  # the width of A4 within the margins
    shown = browser.evaluate(SHOWN)
    assert shown
    assert all(shown)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 696
    sheets = len(re.findall(rb"/Type\s*/Page\b", browser.pdf()))
    assert FEWEST_SHEETS <= sheets <= MOST_SHEETS
