"""The built book: nothing fetched, every link good, and in a browser formulae and pictures drawn, on a phone, too."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from strokelib.steps import STEPS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(1800)  # the first test waits for the whole book
PHONE = {"width": 390, "height": 844, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
PAGES = ["index", *(f"notebooks/{step.name}" for step in STEPS), "docs/metrics", "docs/errata/papl", "docs/glossary"]
PAGES += ["docs/teaching", "docs/reviewing", "figures/scoreboard", "figures/tables", "api/index", "api/strokelib.stats"]


class Page:
    """Ids, links and resources of one page."""

    def __init__(self, text):
        self.ids = set(re.findall(r'\b(?:id|name)="([^"]+)"', text))
        self.links = [unescape(found) for found in re.findall(r'<a\b[^>]*?\bhref="([^"]+)"', text)]
        tags = re.findall(r'<(?:script|link|img|iframe|source|video)\b[^>]*?\b(?:src|href)="([^"]+)"[^>]*>', text)
        self.resources = [unescape(found) for found in tags]


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The whole book, built once from this checkout, with warnings as errors; STROKELIB_BOOK names a built one."""
    if os.environ.get("STROKELIB_BOOK"):
        return Path(os.environ["STROKELIB_BOOK"]).resolve()
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, str(ROOT / "docs" / "book" / "build.py"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1700)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return out / "html"


@pytest.fixture(scope="module")
def pages(book):
    found = [path for path in sorted(book.rglob("*.html")) if "_static" not in path.relative_to(book).parts]
    return {path: Page(path.read_text("utf-8")) for path in found}


@pytest.fixture(scope="module")
def address(book, serve):
    return serve(book)


def test_no_page_and_no_style_asks_for_anything_on_a_network(book, pages):
    assert len(pages) > len(STEPS) + 30
    foreign = {(p.name, r) for p, page in pages.items() for r in page.resources if re.match(r"(\w+:)?//", r)}
    assert foreign == set()
    for style in book.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", style.read_text("utf-8"), flags=re.DOTALL)
        assert not re.findall(r"(?:url\(\s*['\"]?|@import\s+['\"])(?:\w+:)?//[^)'\"]+", text), style.name


def test_every_link_anchor_and_resource_of_the_book_exists(book, pages):
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.resources]:
            parts = urlsplit(link)
            if parts.scheme or link in ("", "#"):
                continue
            target, anchor = urldefrag(unquote(f"{parts.path}#{parts.fragment}" if parts.fragment else parts.path))
            found = (path.parent / target).resolve() if target else path
            if not found.exists() or not found.is_relative_to(book):
                broken.append(f"{path.relative_to(book)}: {link}: no such file")
            elif anchor and found in pages and anchor not in pages[found].ids:
                broken.append(f"{path.relative_to(book)}: {link}: no such place")
    assert broken == []


def test_every_notebook_is_a_page_that_can_also_be_downloaded_and_is_in_the_sidebar(book, pages):
    front = pages[book / "index.html"].links
    for step in STEPS:
        assert f"notebooks/{step.name}.html" in front
        assert any(link.endswith(f"{step.name}.ipynb") for link in pages[book / f"notebooks/{step.name}.html"].links)


def test_the_reference_shows_signatures_sources_and_deviations(book):
    text = re.sub(r"<[^>]+>", "", (book / "api" / "strokelib.papl.html").read_text("utf-8"))
    assert "inter_sample_loss(" in text
    assert "Source. Eq" in text
    assert "Deviation." in text
    assert "{func}" not in text


def test_no_signature_shows_the_full_path_of_a_type(book):
    raw = []
    for path in (book / "api").glob("*.html"):
        for line in re.findall(r'<dt class="sig .*?</dt>', path.read_text("utf-8"), flags=re.DOTALL):
            said = unescape(re.sub(r"<[^>]+>", "", line))
            raw += [f"{path.name}: {said}"] if "~" in said or "<factory>" in said else []
    assert raw == []


def test_the_pages_are_drawn_without_an_error_and_without_a_network(new_tab, address):
    tab = new_tab()
    formulae = pictures = 0
    for name in PAGES:
        tab.page.goto(f"{address}/{name}.html", wait_until="load")
        tab.page.evaluate("async () => { if (window.MathJax && MathJax.startup) await MathJax.startup.promise; }")
        drawn = tab.page.evaluate(DRAWN)
        assert drawn["formulae"] == drawn["drawn"], f"{name}: {drawn}"
        assert drawn["errors"] == 0, name
        assert drawn["blank"] == [], name
        formulae, pictures = formulae + drawn["formulae"], pictures + drawn["pictures"]
    assert formulae > 100
    assert pictures > 50
    assert (tab.errors(), tab.foreign, tab.failed) == ([], [], [])


DRAWN = """async () => {
  const pictures = [...document.querySelectorAll(".bd-article img")];
  await Promise.all(pictures.map(p => p.decode().catch(() => null)));
  const drawn = [...document.querySelectorAll(".bd-article mjx-container")].filter(c => {
    const svg = c.querySelector("svg"); return svg && svg.getBoundingClientRect().height > 0; });
  return { formulae: document.querySelectorAll(".bd-article .math").length, drawn: drawn.length,
    errors: document.querySelectorAll("mjx-merror, [data-mjx-error]").length, pictures: pictures.length,
    blank: pictures.filter(p => !(p.naturalWidth > 0)).map(p => p.src) };
}"""


def test_a_phone_s_page_does_not_scroll_sideways_and_its_words_are_large_enough(new_tab, address):
    tab = new_tab(**PHONE)
    for name in PAGES:
        tab.page.goto(f"{address}/{name}.html", wait_until="load")
        tab.page.evaluate("async () => { if (window.MathJax && MathJax.startup) await MathJax.startup.promise; }")
        wide, size, edge = tab.page.evaluate(
            """() => [document.documentElement.scrollWidth,
                parseFloat(getComputedStyle(document.querySelector(".bd-article p")).fontSize),
                document.querySelector(".bd-article p").getBoundingClientRect().right]"""
        )
        assert wide <= 390, name
        assert size >= 14, name
        assert edge <= 390, name
    assert (tab.errors(), tab.foreign, tab.failed) == ([], [], [])


def test_a_word_is_found_and_the_first_hit_leads_to_a_page_that_holds_it(tab, address):
    tab.page.goto(f"{address}/search.html?q=infarct", wait_until="load")
    hits = tab.page.locator("#search-results ul.search > li")
    hits.nth(5).wait_for(timeout=60_000)  # the hits are shown one after the other
    hits.first.locator("a").first.click()
    tab.page.wait_for_load_state("load")
    assert "infarct" in tab.page.inner_text(".bd-article").lower()
    assert (tab.errors(), tab.foreign, tab.failed) == ([], [], [])


def test_a_word_that_is_nowhere_is_not_found(tab, address):
    tab.page.goto(f"{address}/search.html?q=qwertzuiopq", wait_until="load")
    tab.page.get_by_text("did not match any documents").first.wait_for(timeout=60_000)


def test_a_book_opened_from_the_disk_draws_its_formulae(new_tab, book):
    tab = new_tab()
    tab.page.unroute_all()
    tab.page.goto((book / "notebooks" / "04_metrics_by_hand.html").as_uri(), wait_until="load")
    tab.page.evaluate("async () => { await MathJax.startup.promise; }")
    drawn = tab.page.evaluate(DRAWN)
    assert drawn["formulae"] == drawn["drawn"] > 0
    assert drawn["blank"] == []


def test_the_book_command_is_in_the_makefile_and_its_folder_is_not_committed():
    assert "docs/book/build.py" in (ROOT / "Makefile").read_text()
    done = subprocess.run(["git", "check-ignore", "runs/book/html/index.html"], cwd=ROOT, capture_output=True)
    assert done.returncode in (0, 128)  # 128: no git checkout
