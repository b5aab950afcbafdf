"""The browser fixtures themselves: a test that cannot see a fault would pass on any page."""

import pytest

PAGE = """<!doctype html><html><head><link rel="icon" href="data:,"></head><body><h1 id="top">Here</h1>
<script>console.error("a fault"); fetch("https://example.org/x").catch(() => 0); fetch("gone.txt");
throw new Error("nobody caught");</script>
</body></html>"""


@pytest.fixture
def address(serve, tmp_path):
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "good.html").write_text(PAGE.split("<script>")[0] + "</body></html>")
    return serve(tmp_path)


def test_a_tab_sees_console_errors_foreign_requests_and_missing_files(tab, address):
    tab.page.goto(f"{address}/index.html", wait_until="networkidle")
    assert any("a fault" in line for line in tab.errors())
    assert any("nobody caught" in line for line in tab.errors())
    assert not any("a fault" in line for line in tab.errors(allowed=("a fault",)))
    assert tab.foreign == ["https://example.org/x"]
    assert any(line.startswith("404") and line.endswith("gone.txt") for line in tab.failed)


def test_a_good_page_leaves_nothing_behind(tab, address):
    tab.page.goto(f"{address}/good.html", wait_until="networkidle")
    assert tab.page.inner_text("#top") == "Here"
    assert (tab.errors(), tab.foreign, tab.failed) == ([], [], [])
    assert tab.requests == [f"{address}/good.html"]


def test_a_tab_has_the_width_asked_for(new_tab, address):
    phone = new_tab(width=390, height=844, device_scale_factor=2)
    phone.page.goto(f"{address}/good.html")
    assert phone.page.evaluate("window.innerWidth") == 390
