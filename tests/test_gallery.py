"""The gallery shows every committed figure and table once, with a caption and a status that nobody typed."""

from __future__ import annotations

import json
import re

import pytest

from strokelib import gallery, pages, publish, repro, settings
from strokelib.errors import ManifestError, PipelineError

FIGURES = settings.project_root() / "figures"


def _save(folder, name, content=b"x", **facts):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    record = {"notebook": "42_papl_comparison", "cohort": "aisd", "data": "embedded", "profile": "demo", "seed": 0}
    record |= {"status": "1 seed", "sha256": {path.name: repro.sha256(path)}} | facts
    path.with_name(path.name + ".json").write_text(json.dumps(record))
    return path


def _notebook(folder, *cells):
    path = folder / "made_up.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": kind, "source": text} for kind, text in cells]}))
    return path


def test_the_committed_gallery_is_the_one_the_committed_figures_give():
    assert (FIGURES / "README.md").read_text("utf-8") == gallery.page(FIGURES)


def test_every_committed_figure_and_table_stands_in_the_gallery_once_and_every_link_leads_somewhere():
    page = (FIGURES / "README.md").read_text("utf-8")
    pictures = {path.relative_to(FIGURES).as_posix() for path in FIGURES.rglob("*.png")}
    shown = re.findall(r'<img src="([^"]+)"', page)
    assert sorted(shown) == sorted(pictures)
    linked = re.findall(r"\]\(([^)]+)\)", page)
    files = {p.relative_to(FIGURES).as_posix() for p in FIGURES.rglob("*") if p.suffix in {".png", ".csv", ".md"}}
    assert files - {"README.md"} <= set(linked)
    assert all((FIGURES / target).exists() for target in linked)


def test_a_picture_its_table_and_its_page_are_one_entry_with_the_status_and_cohort_of_the_sidecar(tmp_path):
    for name in ("papl/comparison.png", "papl/comparison.csv", "papl/comparison.md"):
        _save(tmp_path, name)
    page = gallery.page(tmp_path)
    assert page.count("\n### ") == 1
    assert '<img src="papl/comparison.png" width="420" alt="papl: comparison">' in page
    assert "**1 seed** · aisd (embedded), demo, seed 0 · [png](papl/comparison.png) · [md]" in page
    assert "## [42_papl_comparison](../notebooks/42_papl_comparison.ipynb)" in page


def test_a_papers_figure_is_called_what_the_ledger_calls_it_unless_its_sidecar_has_a_caption(tmp_path):
    _save(tmp_path, "papl/fig08_tsne.png")
    assert "### Figure 8 (papl)" in gallery.page(tmp_path)
    assert "t-SNE of stage-1 embeddings" in gallery.page(tmp_path)
    _save(tmp_path, "papl/fig08_tsne.png", caption="Six maps of samples")
    assert "\nSix maps of samples.\n" in gallery.page(tmp_path)


SHOWN = "A sentence of more than enough length about what is shown."


def test_a_caption_is_the_heading_and_the_first_words_above_the_code_that_saves_it(tmp_path):
    notebook = _notebook(
        tmp_path,
        ("markdown", "# Title\n\nWhy."),
        (
            "markdown",
            f"## 2 · What it gives\n\nSee [x](../docs/x.md). {SHOWN} Yes.",
        ),
        ("code", 'run.save_figure(figure, "papl/gain")'),
        ("markdown", "## The result\n\n| a | b |"),
        ("code", 'run.save_table(table, "papl/other")'),
    )
    wanted = f"What it gives. See x. {SHOWN}"
    assert gallery.said_in(notebook, "papl/gain") == wanted
    assert gallery.said_in(notebook, "papl/other") == ""
    assert gallery.said_in(notebook, "papl/nowhere") == ""


def test_a_file_without_its_sidecar_and_one_of_an_unknown_notebook_are_refused(tmp_path):
    path = _save(tmp_path, "papl/comparison.png", notebook="99_gone")
    with pytest.raises(ManifestError, match="99_gone"):
        gallery.page(tmp_path)
    path.write_bytes(b"retouched")
    with pytest.raises(ManifestError, match="sidecar does not describe"):
        gallery.page(tmp_path)


def test_lines_between_two_markers_are_replaced_and_nothing_else():
    text = "before\n<!-- list -->\nold\n<!-- /list -->\nafter"
    once = pages.replaced(text, "list", ["new"])
    assert once == "before\n<!-- list -->\n\nnew\n\n<!-- /list -->\nafter"
    assert pages.replaced(once, "list", ["new"]) == once


@pytest.mark.parametrize("text", ["none", "<!-- /list --> <!-- list -->", "<!-- list --><!-- list --><!-- /list -->"])
def test_a_page_without_its_two_markers_is_refused(text):
    with pytest.raises(PipelineError, match="two markers"):
        pages.replaced(text, "list", [])


def _checkout(tmp_path, monkeypatch):
    """Settings of the default demo run in a checkout of a README and one figure."""
    s = settings.resolve("demo")
    s = settings.Settings(s.profile, s.cohort, s.seed, s.data, s.runs, tmp_path / "figures")
    monkeypatch.setattr(publish, "default_settings", lambda given: given is s)
    _save(s.figures, "papl/fig08_tsne.png")
    markers = "<!-- scoreboard -->\n<!-- /scoreboard -->\n<!-- commands -->\n<!-- /commands -->\n"
    (tmp_path / "README.md").write_text(f"# A\n{markers}end\n")
    return s


def test_the_default_demo_run_writes_gallery_and_readme_once(tmp_path, monkeypatch):
    s = _checkout(tmp_path, monkeypatch)
    listed = {"doctor": ("say what is installed", "strokelib doctor")}
    assert publish.write_pages(s, listed) == ["figures/README.md", "README.md"]
    readme = (tmp_path / "README.md").read_text()
    assert "| `strokelib doctor` | say what is installed | `strokelib doctor` |" in readme
    assert "| Figure 8 | t-SNE" in readme
    assert readme.endswith("end\n")
    assert publish.write_pages(s, listed) == []


def test_no_other_run_writes_pages_into_the_checkout(tmp_path, monkeypatch):
    s = _checkout(tmp_path, monkeypatch)
    other = settings.Settings(s.profile, "xwhd", s.seed, s.data, s.runs, s.figures)
    assert publish.write_pages(other, {}) == []
    assert not (s.figures / "README.md").exists()
