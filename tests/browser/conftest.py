"""Headless Chromium for tests: tabs that write down what they log and ask for, and a local static server.

Without Chromium these tests are skipped with a sentence on how to install it; where STROKELIB_BROWSER=required
(continuous integration) they fail instead. STROKELIB_CHROMIUM names a browser that is not on the path.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 90_000  # a browser beside other work on few cores
HERE = {"127.0.0.1", "localhost"}
NO_REQUEST = {"data", "blob", "about", "chrome", "devtools"}


@dataclass
class Tab:
    """One tab and all that happened in it.

    Attributes:
        page: Playwright's page (sync API).
        console: Errors and warnings of the console, and exceptions nobody caught, as `type: text (address)`.
        requests: Every address asked for, web sockets included.
        foreign: Those of them that are not this machine; they were refused.
        failed: Requests that failed or were answered with 400 and above, as `status address`.
    """

    page: object
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def asked(self, address: str) -> bool:
        """Note an address; whether it is this machine's."""
        parts = urlsplit(address)
        if parts.scheme in NO_REQUEST:
            return True
        self.requests.append(address)
        if parts.hostname in HERE:
            return True
        self.foreign.append(address)
        return False

    def broke_off(self, why: str, address: str) -> None:
        """Note a request that failed; one that ended because its page was left is none."""
        if why != "net::ERR_ABORTED":
            self.failed.append(f"{why} {address}")

    def errors(self, allowed: tuple[str, ...] = ()) -> list[str]:
        """Errors of the console (warnings left out) in which none of the allowed fragments stands."""
        return [line for line in self.console if line.startswith("error") and not any(a in line for a in allowed)]


def _missing(what: str, install: str) -> None:
    """Skip, or fail where a browser is required."""
    message = f"{what}: found none, wanted one for the browser tests. Next step: {install}"
    if os.environ.get("STROKELIB_BROWSER") == "required":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _executable() -> str:
    named = os.environ.get("STROKELIB_CHROMIUM")
    found = named if named and Path(named).is_file() else next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        _missing("Chromium", "apt-get install -y chromium, or STROKELIB_CHROMIUM=<path of a Chromium or Chrome>")
    return found


@pytest.fixture(scope="module")
def chromium():
    """The browser, one a test file: Playwright's event loop must not outlive it."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("the Python package playwright", "pip install playwright (extra dev)")
    path = _executable()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


def _watched(context) -> Tab:
    tab = Tab(context.new_page())
    page = tab.page
    page.set_default_timeout(PATIENCE_MS)
    page.route("**/*", lambda route: route.continue_() if tab.asked(route.request.url) else route.abort())
    page.on("websocket", lambda socket: tab.asked(socket.url.replace("ws", "http", 1)))
    page.on("requestfailed", lambda request: tab.broke_off(request.failure or "", request.url))
    page.on("response", lambda got: tab.failed.append(f"{got.status} {got.url}") if got.status >= 400 else None)
    page.on("pageerror", lambda error: tab.console.append(f"error: {error}"))

    def said(message) -> None:
        if message.type in ("error", "warning"):
            tab.console.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    page.on("console", said)
    return tab


@pytest.fixture
def new_tab(chromium) -> Iterator[Callable[..., Tab]]:
    """`new_tab(width=1280, height=900, **options)` opens a tab of a fresh profile; options: new_context's."""
    contexts = []

    def opened(width: int = 1280, height: int = 900, **options) -> Tab:
        contexts.append(chromium.new_context(viewport={"width": width, "height": height}, **options))
        return _watched(contexts[-1])

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def tab(new_tab) -> Tab:
    """One tab of a desktop's size."""
    return new_tab()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        """A test's output is no access log."""


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], str]]:
    """`serve(folder)` serves a folder on 127.0.0.1 and returns its address, without a slash at the end."""
    servers = []

    def started(folder: Path) -> str:
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()
