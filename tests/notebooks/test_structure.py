"""Every notebook follows the template, and its outputs belong on a page."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

from strokelib import pipeline, repro
from strokelib.execution import declared_parameters
from strokelib.publish import ALLOWED_OUTPUTS, MAX_NOTEBOOK_BYTES
from strokelib.settings import project_root

ROOT = project_root()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIXED = ("title", "card", "parameters", "setup", "question", "result", "checks", "deviations", "exercises")
TAGS = {"parameters", "nbval-check-output"}
TRAINS = re.compile(r"train_method\(")


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def _code(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def _lines(cell):
    return [line for line in cell.source.splitlines() if line.strip()]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == len(pipeline.STEPS) >= 2


def test_the_fixed_cells_are_there_in_order_and_ids_are_words(notebook):
    ids = [c.id for c in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", i) for i in ids)
    heads = [i for i in dict.fromkeys(i.split("-")[0] for i in ids) if i in FIXED]
    assert heads == list(FIXED)
    if any(TRAINS.search(c.source) for c in _code(notebook)):
        assert {"recipe", "run"} <= set(ids)


def test_the_card_names_what_the_notebook_needs_and_its_neighbours(path, notebook):
    card = next(c.source for c in notebook.cells if c.id == "card")
    step = pipeline.BY_NAME[path.stem]
    assert all(f"`{need}`" in card for need in step.needs)
    assert all(
        word in card for word in ("**Papers**", "**Needs**", "**Makes**", "**Time, memory**", "**Previous / next**")
    )


def test_the_parameters_are_the_same_three_everywhere_and_leave_the_profile_open(path):
    assert declared_parameters(path) == {"profile": "", "cohort": "", "seed": 0}


def test_tags_are_spelt_right_and_three_cells_or_more_are_compared(notebook):
    tags = [t for c in notebook.cells for t in c.metadata.get("tags", [])]
    assert set(tags) <= TAGS
    compared = [c for c in _code(notebook) if "nbval-check-output" in c.metadata.get("tags", [])]
    assert len(compared) >= 3
    for cell in compared:
        assert cell.execution_count is not None, cell.id
        assert any(o.output_type == "stream" and o.name == "stdout" and o.text.strip() for o in cell.outputs), cell.id


def test_code_is_short_and_does_not_outweigh_the_prose(notebook):
    lengths = {c.id: len(_lines(c)) for c in _code(notebook)}
    assert max(lengths.values()) <= 18, lengths
    assert sum(lengths.values()) <= 150
    words = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    assert words >= sum(len(c.source.split()) for c in _code(notebook))


def test_functions_are_defined_in_naive_cells_only_and_no_cell_asks_for_the_profile(notebook):
    for cell in _code(notebook):
        tree = ast.parse(cell.source)
        defined = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        assert not defined or cell.id.endswith(("-naive", "published")), cell.id
        tests = [ast.unparse(n.test) for n in ast.walk(tree) if isinstance(n, ast.If)]
        assert not any("smoke" in t or "profile" in t for t in tests), cell.id


def test_outputs_are_text_and_png_without_errors_paths_or_residue(path, notebook):
    text = path.read_text("utf-8")
    assert len(text.encode()) <= MAX_NOTEBOOK_BYTES
    assert "papermill" not in json.dumps(notebook.metadata)
    for cell in _code(notebook):
        assert set(cell.metadata) <= {"tags"}, cell.id
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            if output.output_type == "stream":
                assert output.name == "stdout", cell.id
                assert not re.search(r"(?<![\w.])/(home|work|root|tmp|Users)/", output.text), cell.id
            else:
                assert set(output.data) <= ALLOWED_OUTPUTS, cell.id


def test_every_cell_that_draws_shows_its_picture(notebook):
    drawing = [c for c in _code(notebook) if "plt.show()" in c.source]
    assert drawing
    for cell in drawing:
        assert any("image/png" in o.get("data", {}) for o in cell.outputs), cell.id


def test_the_committed_outputs_are_complete(notebook):
    counts = [c.execution_count for c in _code(notebook)]
    assert counts == list(range(1, len(counts) + 1))


FIGURES = sorted(p for p in (ROOT / "figures").rglob("*") if p.suffix in {".png", ".csv"})


@pytest.mark.parametrize("artefact", FIGURES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_committed_artefact_is_the_one_its_notebook_makes_today(artefact: Path):
    record = json.loads(artefact.with_suffix(artefact.suffix + ".json").read_text("utf-8"))
    assert record["sha256"] == {artefact.name: repro.sha256(artefact)}
    assert record["notebook_code_sha256"] == repro.code_hash(ROOT / "notebooks" / f"{record['notebook']}.ipynb")
    assert (record["profile"], record["data"]) == ("demo", "embedded")
    assert set(record["cohort"].split(", ")) <= {"aisd", "icoais", "isles2018", "xwhd"}


def test_there_are_committed_artefacts():
    assert len(FIGURES) >= 4
