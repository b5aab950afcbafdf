"""What the book is made of: chapters from the list of notebooks, links that lead inside it, docstrings as they are."""

import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from strokelib.errors import PipelineError
from strokelib.steps import STEPS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs" / "book"))

import docstrings
import names
import reference
import staging

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    return folder, staging.stage(ROOT, folder)


def test_every_notebook_stands_once_in_the_book_and_in_the_order_of_the_list(staged):
    pages = [name.removeprefix("notebooks/") for name in staged[1] if name.startswith("notebooks/")]
    assert pages == [step.name for step in STEPS]
    assert len(staged[1]) == len(set(staged[1]))


def test_the_front_page_is_the_readme_with_a_chapter_for_each_paper(staged):
    front = (staged[0] / "index.md").read_text("utf-8")
    assert front.startswith((ROOT / "README.md").read_text("utf-8")[:200])
    captions = re.findall(r":caption: (.+)", front)
    assert len(captions) == len(set(captions))
    for paper in ("papl", "adn", "ssl_nnunet", "pseudo_dwi"):
        block = front.split(f"({paper})\n\nnotebooks/")[1].split("```")[0]
        assert block.rstrip().endswith(f"docs/errata/{paper}")
        assert f"_{paper}_" in block


def test_every_page_of_docs_and_every_page_of_figures_is_in_the_book(staged):
    listed = set(staged[1]) | {"figures/tables"}
    tables = (staged[0] / "figures" / "tables.md").read_text("utf-8")
    for path in [*(ROOT / "docs").rglob("*.md"), *(ROOT / "figures").rglob("*.md")]:
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        if name.startswith("docs/book/"):
            assert name not in listed
        else:
            assert name in listed or f"\n{name.removeprefix('figures/')}\n" in tables, name


def test_staging_again_changes_no_file_and_takes_away_what_no_longer_belongs(staged):
    folder, pages = staged
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    (folder / "gone.md").write_text("# A page of a notebook that was removed\n")
    assert staging.stage(ROOT, folder) == pages
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["99_missing", "80_without_a_chapter"])
def test_a_notebook_without_a_file_or_a_chapter_is_named(monkeypatch, tmp_path, name):
    monkeypatch.setattr(staging, "STEPS", (*STEPS, replace(STEPS[0], name=name)))
    with pytest.raises(PipelineError, match=name):
        staging.stage(ROOT, tmp_path)


def test_links_to_the_readme_and_to_folders_lead_to_pages():
    text = "[a](../README.md#install) [b](../data_manifests) [c](metrics.md) [d](https://example.org) [e](#here)"
    made = (
        "[a](../index.md#install) [b](../data_manifests/README.md) [c](metrics.md) [d](https://example.org) [e](#here)"
    )
    assert staging._linked(text, "docs/page.md", ROOT) == made
    assert staging._linked("[a](README.md)", "CONTRIBUTING.md", ROOT) == "[a](index.md)"


def test_the_reference_has_every_public_module_once():
    pages = reference.pages(ROOT / "strokelib")
    found = re.findall(r"automodule:: (\S+)", "".join(pages.values()))
    modules = {
        reference.module_name(path, ROOT / "strokelib")
        for path in (ROOT / "strokelib").rglob("*.py")
        if path.name == "__init__.py" or not path.name.startswith("_")
    }
    assert sorted(found) == sorted(modules)
    assert set(re.findall(r":doc:`(\S+) <", pages["index.rst"])) == {n.removesuffix(".rst") for n in pages} - {"index"}


DOCSTRING = """Weight of a pair: 2 * a*b, |a| at most, with trailing_ names.

    w = a * b / |c|

It is **not** scaled; ``a * b | c`` stays, also ``over
two`` lines. See :func:`strokelib.stats.icc`.

Source: Eq. 9, Sun et al. 2024.
Deviation: one minus sign, as the
    text says.

Args:
    a: First |weight|.
    b: Second.

Returns:
    The weight.
"""
CONVERTED = """Weight of a pair: 2 \\* a\\*b, \\|a\\| at most, with trailing\\_ names.

::

    w = a * b / |c|

It is **not** scaled; ``a * b | c`` stays, also ``over
two`` lines. See :func:`strokelib.stats.icc`.

**Source.** Eq. 9, Sun et al. 2024.

**Deviation.** one minus sign, as the
text says.

Args:
    a: First \\|weight\\|.
    b: Second.

Returns:
    The weight.
"""


def test_a_docstring_keeps_its_formula_and_means_its_stars_and_bars():
    assert "\n".join(docstrings.converted(DOCSTRING.split("\n"))) == CONVERTED


def test_lists_tables_and_announced_blocks_of_a_docstring_stay_what_they_are():
    bullets = ["Rules:", "- one *", "  more", "* two", "", "Then."]
    assert docstrings.converted(bullets) == ["Rules:", "", "- one \\*", "  more", "* two", "", "Then."]
    table = ["===== ====", "a     b | c", "===== ====", ""]
    assert docstrings.converted(table) == table
    block = ["Thus::", "", "    @x", "    y | z", "", "End."]
    assert docstrings.converted(block) == block


def test_a_short_name_is_followed_to_where_it_is_defined():
    assert names.origin("strokelib.claims", "Claim") == "strokelib.claims.ledger.Claim"
    assert names.origin("strokelib.methods.adn_pictures", "Study") == "strokelib.methods.adn.Study"
    assert names.origin("strokelib.methods.papl_pictures", "Study") == "strokelib.methods.papl.Study"
    assert names.origin("strokelib.stats", "int") is None
    assert names.origin("numpy", "ndarray") is None


def test_mathjax_is_the_file_that_its_page_names():
    folder = ROOT / "docs" / "book" / "_static" / "mathjax"
    digest = hashlib.sha256((folder / "tex-svg.js").read_bytes()).hexdigest()
    assert digest in (folder / "README.md").read_text()
    assert "Apache License" in (folder / "LICENSE").read_text()
