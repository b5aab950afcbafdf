import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from strokelib import pipeline, processes, settings
from strokelib.errors import DataError, ParameterError, PipelineError

CLI = [sys.executable, "-m", "strokelib.cli"]


def _smoke():
    return settings.resolve("smoke")


def test_every_step_is_a_notebook_needs_earlier_steps_and_has_its_minutes():
    names = [step.name for step in pipeline.STEPS]
    on_disk = sorted(p.stem for p in (settings.project_root() / "notebooks").glob("*.ipynb"))
    assert sorted(names) == on_disk
    assert names == sorted(names)
    for number, step in enumerate(pipeline.STEPS):
        assert set(step.needs) <= set(names[:number])
        assert set(step.minutes) == {"smoke", "demo", "paper"}


def test_the_first_notebook_goes_first():
    assert max(pipeline.STEPS, key=lambda s: s.priority) is pipeline.STEPS[0]


def test_a_fingerprint_changes_with_code_seed_and_engine_but_not_with_outputs(tmp_path, monkeypatch):
    step = pipeline.STEPS[0]
    source = json.loads(pipeline.notebook_path(step.name).read_text("utf-8"))
    copy = tmp_path / "copy.ipynb"
    monkeypatch.setattr(pipeline, "notebook_path", lambda name: copy)

    def fingerprint(seed=0, engine="papermill"):
        copy.write_text(json.dumps(source))
        return pipeline.Run(settings.resolve("smoke", seed=seed), (step.name,), engine).fingerprint(step)

    first = fingerprint()
    for cell in source["cells"]:
        cell["outputs"] = [] if cell["cell_type"] == "code" else cell.get("outputs")
    assert fingerprint() == first
    assert fingerprint(seed=1) != first
    assert fingerprint(engine="nbval") != first
    next(c for c in source["cells"] if c["cell_type"] == "code")["source"] = "changed = 1"
    assert fingerprint() != first


def test_a_raised_version_of_a_module_is_part_of_the_fingerprint(monkeypatch):
    step, run = pipeline.STEPS[0], pipeline.Run(_smoke(), ("00_start_here",))
    before = run.fingerprint(step)
    assert re.search(r"data/phantom/\w+\.py=\d+", pipeline.numbers_version())
    monkeypatch.setattr(pipeline, "numbers_version", lambda: "data/phantom/cohorts.py=999")
    assert run.fingerprint(step) != before


def test_the_plan_of_an_empty_folder_lists_every_notebook_and_starts_none():
    text = pipeline.plan_text(_smoke())
    assert all(step.name in text for step in pipeline.STEPS)
    assert f"to run: {len(pipeline.STEPS)} notebooks" in text
    assert not (_smoke().work / "progress.jsonl").exists()


@pytest.mark.parametrize("only", ["77_nothing", "00_start_here,77_nothing", "../00_start_here"])
def test_an_unknown_notebook_in_only_is_refused(only):
    with pytest.raises(PipelineError, match="00_start_here"):
        pipeline.plan_text(_smoke(), only)


def test_a_folder_without_a_scan_or_with_another_data_set_is_refused_before_anything_is_written(tmp_path):
    s = settings.resolve("smoke", "aisd", data=tmp_path)
    with pytest.raises(DataError, match="no case of any known layout"):
        pipeline.reproduce(s)
    case = tmp_path / "train_000"
    case.mkdir()
    (case / "train_000_ncct.nii.gz").touch()
    with pytest.raises(ParameterError, match="give the cohort apis"):
        pipeline.reproduce(s)
    assert not s.work.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plan", "--profile", "quick"], 1, "found 'quick'"),
        (["reproduce", "--cohort", "nobody"], 1, "found 'nobody'"),
        (["reproduce", "--only", "nothing"], 1, "no such notebook"),
        (["reproduce", "--data", "/no/such/folder"], 1, "no such folder"),
        (["reproduce", "--seed", "many"], 2, "invalid int value"),
        (["reproduce", "--wrong"], 2, "unrecognized arguments"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(arguments, code, said):
    done = subprocess.run([*CLI, *arguments], capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def _started(mark):
    """Whether a process of notebook 00 of some run in this folder is there."""
    for process in processes.marked(mark):
        try:
            if process.environ().get(processes.MARK, "").endswith("/00_start_here"):
                return True
        except psutil.Error:
            continue
    return False


def _wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_a_killed_run_dies_whole_is_refused_no_lock_and_is_taken_up_again():
    """After SIGKILL its processes go and the stale lock is no hindrance; a second run beside it is refused."""
    s = _smoke()
    command = [*CLI, "reproduce", "--profile", "smoke", "--only", "00_start_here"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    mark = pipeline.mark_of(s)
    try:
        _wait_for(lambda: _started(mark), 240, "the notebook did not start")
        second = subprocess.run(command, capture_output=True, text=True)
        assert second.returncode == 1
        assert "another run" in second.stderr
        first.send_signal(signal.SIGKILL)
        first.wait()
        _wait_for(lambda: not processes.marked(mark), 60, "a process outlived its run")
        locks = s.work / ".snakemake" / "locks"  # whether Snakemake had time to remove its lock is chance: lay one down
        locks.mkdir(parents=True, exist_ok=True)
        (locks / "0.output.lock").write_text(f"{pipeline.Run(s, ('00_start_here',)).stamp('00_start_here')}\n")
        assert [step.name for step in pipeline.outstanding(pipeline.Run(s, ("00_start_here",)))] == ["00_start_here"]
        again = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        _wait_for(lambda: _started(mark), 240, "the notebook was not started again")
        again.kill()
        again.wait()
        _wait_for(lambda: not processes.marked(mark), 60, "a process outlived its run")
    finally:
        processes.kill_marked(mark)


def test_a_run_ends_when_the_make_that_started_it_is_killed(tmp_path):
    """As the Makefile does it: make, a shell between, and the run; make alone is killed."""
    mark = pipeline.mark_of(_smoke())
    command = f"STROKELIB_END_WITH=$$PPID {sys.executable} -m strokelib.cli reproduce --profile smoke; true"
    (tmp_path / "Makefile").write_text(f"go:\n\t@{command}\n")
    make = subprocess.Popen(["make", "-C", tmp_path, "go"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(lambda: _started(mark), 240, "the notebook did not start")
        make.kill()
        make.wait()
        _wait_for(lambda: not processes.marked(mark), 60, "a process outlived make")
    finally:
        processes.kill_marked(mark)
