import os
import signal
import subprocess
import sys
import threading
import time

import nbformat
import psutil
import pytest

from strokelib import execution, settings
from strokelib.errors import ParameterError, PipelineError

PARAMETERS = 'profile = ""\ncohort = ""\nseed = 0'


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write notebooks into a folder of the test's own, which then stands for notebooks/."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(execution, "notebook_path", lambda name: folder / f"{name}.ipynb")

    def write_one(name, *code, parameters=PARAMETERS, checked=()):
        cells = (
            [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters is not None else []
        )
        for number, source in enumerate(code):
            cells.append(nbformat.v4.new_code_cell(source))
            if number in checked:
                cells[-1].metadata["tags"] = ["nbval-check-output"]
                cells[-1].execution_count = number + 2
                cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=checked[number])]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")
        return folder / f"{name}.ipynb"

    return write_one


def _run(name, **more):
    return execution.run_notebook(name, settings.resolve("smoke"), run=f"test-{os.getpid()}", **more)


def test_a_notebook_runs_with_its_parameters_and_leaves_an_executed_copy(write):
    write("01_a", "print(profile, cohort, seed)")
    result = _run("01_a")
    assert result.ok, result.log
    executed = nbformat.read(settings.resolve("smoke").work / "executed" / "01_a.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "smoke aisd 0\n"
    assert result.peak_mb > 20
    assert result.seconds > 0


def test_a_failed_notebook_is_kept_with_its_traceback_and_leaves_no_executed_copy(write):
    write("01_a", "print('before')", "raise RuntimeError('on purpose')", "print('never')")
    result = _run("01_a")
    s = settings.resolve("smoke")
    assert not result.ok
    assert "on purpose" in result.log
    assert "on purpose" in (s.runs / "failed" / "01_a.log").read_text()
    kept = nbformat.read(s.runs / "failed" / "01_a.ipynb", as_version=4)
    assert any(o.get("ename") == "RuntimeError" for c in kept.cells if c.cell_type == "code" for o in c.outputs)
    assert list((s.work / "executed").iterdir()) == []


def test_a_killed_kernel_is_a_failure_and_not_a_hang(write):
    write("01_a", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    begun = time.monotonic()
    assert not _run("01_a").ok
    assert time.monotonic() - begun < 240


def test_what_a_cell_started_ends_with_its_notebook(write, tmp_path):
    sleeper = f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session={True})"
    write("01_a", f"import subprocess, sys\np = {sleeper}\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))")
    assert _run("01_a").ok
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_four_kernels_side_by_side_never_collide(write):
    for number in range(4):
        write(f"0{number}_n", f"print({number})", parameters=PARAMETERS)
    results = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: _run(f"0{n}_n")})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: r.ok for n, r in results.items()} == dict.fromkeys(range(4), True), [
        r.log for r in results.values() if not r.ok
    ]


def test_nbval_passes_equal_outputs_and_reports_a_changed_one(write):
    write("01_good", "print(6 * 7)", checked={0: "42\n"})
    write("02_bad", "print(6 * 7)", checked={0: "41\n"})
    assert _run("01_good", engine="nbval").ok
    bad = _run("02_bad", engine="nbval")
    assert not bad.ok
    assert "41" in bad.log


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"profil": "smoke"}, "not declared"),
        ({"profile": 3}, "3 \\(int\\)"),
        ({"seed": "0"}, "'0' \\(str\\)"),
        ({"seed": True}, "True \\(bool\\)"),
        ({"seed": 1.0}, "1.0 \\(float\\)"),
        ({"profile": None}, "NoneType"),
        ({"x = 1\nimport os": 1}, "malformed"),
        ({"__import__": 1}, "malformed"),
        ({"Profile": "smoke"}, "malformed"),
        ({"": "smoke"}, "malformed"),
    ],
)
def test_an_unknown_or_ill_typed_parameter_is_refused(write, given, found):
    with pytest.raises(ParameterError, match=found):
        execution.checked_parameters(write("01_a", "1"), given)


def test_parameters_are_refused_before_a_kernel_starts(write, monkeypatch):
    write("01_a", "1", parameters='profile = ""\ncohort = ""')
    monkeypatch.setattr(execution.subprocess, "run", lambda *a, **k: pytest.fail("a process was started"))
    with pytest.raises(ParameterError, match="seed"):
        _run("01_a")


@pytest.mark.parametrize("cell", [None, "profile = input()", "profile: str = ''", "import os", "a = b = ''"])
def test_a_parameters_cell_must_exist_and_assign_literals_only(write, cell):
    with pytest.raises(ParameterError, match="only assigns literals"):
        execution.declared_parameters(write("01_a", "1", parameters=cell))


def test_values_with_quotes_newlines_and_backslashes_arrive_unchanged(write, monkeypatch):
    wild = "a'b\"c\nimport os\\n" + "C:\\data\\new"
    write("01_a", "print(repr(note))", parameters=PARAMETERS + "\nnote = ''")
    original = execution.checked_parameters
    monkeypatch.setattr(execution, "checked_parameters", lambda nb, given: original(nb, {**given, "note": wild}))
    assert _run("01_a").ok
    executed = nbformat.read(settings.resolve("smoke").work / "executed" / "01_a.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text.strip() == repr(wild)


def test_an_unknown_notebook_is_refused_with_the_names_there_are(write):
    write("01_a", "1")
    with pytest.raises(PipelineError, match="01_a"):
        _run("77_nothing")


def test_a_running_notebook_ends_when_its_runner_is_killed(write, tmp_path):
    """SIGKILL to the process that runs a notebook ends kernel and cell within seconds."""
    path = write(
        "01_a", f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    )
    script = (
        "from pathlib import Path; from strokelib import execution, settings\n"
        f"execution.notebook_path = lambda name: Path({str(path)!r})\n"
        "execution.run_notebook('01_a', settings.resolve('smoke'), run='test-killed')\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", script])
    end = time.monotonic() + 240
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < end
        time.sleep(0.1)
    kernel = int((tmp_path / "pid").read_text())
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    end = time.monotonic() + 60
    while psutil.pid_exists(kernel) and psutil.Process(kernel).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the kernel outlived its runner"
        time.sleep(0.1)
