import base64
import io
import json

import nbformat
import numpy as np
import pytest
from PIL import Image

from strokelib import publish, settings
from strokelib.errors import PipelineError


def _executed(*outputs, source="print(1)"):
    cells = [
        nbformat.v4.new_markdown_cell("# title", id="title"),
        nbformat.v4.new_code_cell('profile = ""', id="parameters", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            'profile = "demo"', id="abcd", metadata={"tags": ["injected-parameters"], "papermill": {}}
        ),
        nbformat.v4.new_code_cell(
            source, id="look", metadata={"papermill": {"duration": 1}, "execution": {}}, execution_count=7
        ),
    ]
    cells[-1].outputs = list(outputs)
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"papermill": {"input_path": "x"}, "language_info": {"name": "python", "version": "3"}}
    )


def _stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def test_a_cleaned_copy_has_no_residue_keeps_its_cell_ids_and_counts_from_one():
    rich = nbformat.v4.new_output(
        "execute_result", data={"text/plain": "1", "text/html": "<b>1</b>"}, execution_count=7
    )
    notebook = publish.cleaned(_executed(_stream("1\n"), rich), "00")
    assert [c.id for c in notebook.cells] == ["title", "parameters", "look"]
    assert "papermill" not in json.dumps(notebook)
    assert [c.execution_count for c in notebook.cells if c.cell_type == "code"] == [1, 2]
    assert notebook.cells[-1].outputs[1].data == {"text/plain": "1"}
    assert notebook.cells[-1].outputs[1].execution_count == 2
    nbformat.validate(notebook)


def test_a_large_picture_is_stored_with_a_palette_and_looks_the_same():
    grey = np.random.default_rng(0).integers(0, 200, (300, 300, 1)).repeat(3, axis=2).astype(np.uint8)
    grey[:40] = (255, 160, 0)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    picture = nbformat.v4.new_output("display_data", data={"image/png": encoded})
    (output,) = publish.cleaned(_executed(picture), "00").cells[-1].outputs
    assert len(output.data["image/png"]) < 0.9 * len(encoded)
    with Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))) as opened:
        assert np.abs(np.asarray(opened.convert("RGB")).astype(int) - grey).max() <= 4


def test_pieces_of_one_stream_become_one_output_and_a_picture_between_them_keeps_them_apart():
    picture = nbformat.v4.new_output("display_data", data={"image/png": "aGk="})
    pieces = [_stream("1\n"), _stream("2\n"), picture, _stream("3\n")]
    outputs = publish.cleaned(_executed(*pieces), "00").cells[-1].outputs
    assert [o.get("text") for o in outputs] == ["1\n2\n", None, "3\n"]


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (_stream("careful", "stderr"), "stderr"),
        (nbformat.v4.new_output("error", ename="E", evalue="x", traceback=[]), "an error"),
        (_stream(f"saved to {settings.project_root()}/runs\n"), "an absolute path"),
    ],
)
def test_an_output_that_does_not_belong_on_a_page_is_refused(output, found):
    with pytest.raises(PipelineError, match=found):
        publish.cleaned(_executed(output), "00")


def _fill(s):
    folder = s.work / "figures" / "start_here"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"new")


@pytest.mark.parametrize(
    "chosen", [{"profile": "smoke"}, {"profile": "demo", "seed": 1}, {"profile": "demo", "cohort": "xwhd"}]
)
def test_only_the_default_demo_run_fills_the_committed_figures(chosen, tmp_path, monkeypatch):
    s = settings.resolve(**chosen)
    s = settings.Settings(s.profile, s.cohort, s.seed, s.data, s.runs, tmp_path / "figures")
    _fill(s)
    assert publish.copy_figures(s) == []
    assert not (tmp_path / "figures").exists()


def test_the_default_demo_run_copies_what_changed_and_leaves_equal_files_alone(tmp_path, monkeypatch):
    s = settings.resolve("demo")
    s = settings.Settings(s.profile, s.cohort, s.seed, s.data, s.runs, tmp_path / "figures")
    monkeypatch.setattr(publish, "default_settings", lambda given: given is s)
    _fill(s)
    assert publish.copy_figures(s) == ["start_here/a.png"]
    before = (tmp_path / "figures" / "start_here" / "a.png").stat().st_mtime_ns
    assert publish.copy_figures(s) == []
    assert (tmp_path / "figures" / "start_here" / "a.png").stat().st_mtime_ns == before


def test_a_notebook_without_an_executed_copy_of_its_present_code_is_refused():
    with pytest.raises(PipelineError, match="make reproduce"):
        publish.refresh_notebooks(settings.resolve("demo"))


def test_the_closing_table_names_time_memory_and_artefacts():
    record = {"name": "00_start_here", "seconds": 61.2, "peak_mb": 812.4, "artefacts": ["a.png", "b.csv"], "ran": True}
    lines = publish.report([record, record | {"name": "90", "ran": False, "artefacts": []}]).splitlines()
    assert lines[1].split() == ["00_start_here", "61", "s", "812", "MB", "a.png"]
    assert lines[2].strip() == "b.csv"
    assert lines[3].split() == ["90", "cached", "812", "MB", "none"]
