import json
import signal
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from strokelib import repro, settings

mpl.use("Agg")
import matplotlib.pyplot as plt


def _notebook(path, *code, injected=None, outputs=()):
    cells = [
        {"cell_type": "code", "metadata": {}, "source": c, "outputs": list(outputs), "execution_count": 1} for c in code
    ]
    if injected:
        tagged = {"tags": ["injected-parameters"]}
        cells.insert(
            0, {"cell_type": "code", "metadata": tagged, "source": injected, "outputs": [], "execution_count": None}
        )
    cells.append({"cell_type": "markdown", "metadata": {}, "source": f"prose {len(outputs)}"})
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


BUILD_SLOWLY = """
import os, sys, time
from strokelib import repro
def build(partial):
    with open(sys.argv[2], "a") as file:
        file.write(f"{os.getpid()}\\n")
    for name in "abcde":
        (partial / name).write_text(name * 1000)
        time.sleep(0.05)
repro.once(sys.argv[1], build)
"""


def test_the_code_hash_ignores_outputs_prose_and_injected_cells_but_not_code(tmp_path):
    plain = repro.code_hash(_notebook(tmp_path / "a.ipynb", "x = 1"))
    output = {"output_type": "stream", "name": "stdout", "text": "1"}
    assert repro.code_hash(_notebook(tmp_path / "b.ipynb", "x = 1", injected="p = 2", outputs=[output])) == plain
    assert repro.code_hash(_notebook(tmp_path / "c.ipynb", "x = 2")) != plain


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")

    def fail():
        with repro.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_asked_for_by_four_processes_at_once_is_built_once(tmp_path):
    command = [sys.executable, "-c", BUILD_SLOWLY, str(tmp_path / "model"), str(tmp_path / "log")]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    assert len((tmp_path / "log").read_text().split()) == 1
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == list("abcde")
    assert all(p.read_text() == p.name * 1000 for p in (tmp_path / "model").iterdir())


def test_a_builder_killed_half_way_leaves_no_folder_and_the_next_one_resumes(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from strokelib import repro\n"
        "def build(partial):\n"
        "    (partial / 'first').write_text('1'); print('begun', flush=True); time.sleep(60)\n"
        "repro.once(sys.argv[1], build)\n"
    )
    target = tmp_path / "model"
    child = subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().strip() == "begun"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not target.exists()
    found = []
    repro.once(target, lambda partial: found.append((partial / "first").read_text()))
    assert found == ["1"]
    assert (target / "first").read_text() == "1"


def test_the_same_seed_gives_the_same_draws_in_python_numpy_and_torch():
    import random

    import torch

    def draw(seed):
        repro.seed_everything(seed)
        return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


@pytest.fixture
def session():
    return repro.Session(settings.resolve("smoke"), "00_start_here")


def _figure():
    figure, ax = plt.subplots()
    ax.plot([1, 2, 3])
    return figure


def test_the_same_figure_has_the_same_bytes_and_carries_footer_and_sidecar(session):
    name = session.save_figure(_figure(), "start_here/line", inputs={"cases": "abc"}, status="1 seed")
    first = (session.figures / name).read_bytes()
    session.save_figure(_figure(), "start_here/line", inputs={"cases": "abc"}, status="1 seed")
    assert (session.figures / name).read_bytes() == first
    record = json.loads((session.figures / f"{name}.json").read_text())
    assert record["sha256"] == {"line.png": repro.sha256(session.figures / name)}
    assert (record["profile"], record["cohort"], record["seed"], record["data"]) == ("smoke", "aisd", 0, "embedded")
    assert (record["status"], record["inputs"]) == ("1 seed", {"cases": "abc"})
    assert record["notebook_code_sha256"] == repro.code_hash(settings.project_root() / "notebooks/00_start_here.ipynb")
    assert {"torch", "numpy", "python", "strokelib"} <= set(record["versions"])
    assert "embedded cohort aisd" in session.footer()
    assert "not for clinical use" in session.footer()


def test_a_figure_of_other_cohorts_and_seeds_says_so(session, monkeypatch):
    said = []
    whole = repro.Session.footer
    monkeypatch.setattr(
        repro.Session, "footer", lambda self, *a, **how: said.append(whole(self, *a, **how)) or said[-1]
    )
    name = session.save_figure(_figure(), "start_here/several", cohort="aisd, xwhd", seed="0 to 4", status="1 seed")
    assert said == ["embedded cohort aisd, xwhd · profile smoke · seed 0 to 4 · status: 1 seed · not for clinical use"]
    record = json.loads((session.figures / f"{name}.json").read_text())
    assert (record["cohort"], record["seed"]) == ("aisd, xwhd", "0 to 4")


def test_saving_a_figure_leaves_the_figure_as_it_was(session):
    figure = _figure()
    session.save_figure(figure, "start_here/line")
    assert figure.texts == []


def test_a_table_is_saved_with_its_sidecar(session):
    name = session.save_table(pd.DataFrame({"method": ["U-Net"], "dice": [0.25]}), "start_here/table")
    assert (session.figures / name).read_text() == "method,dice\nU-Net,0.25\n"
    assert json.loads((session.figures / f"{name}.json").read_text())["notebook"] == "00_start_here"
