"""Run one notebook in processes of its own: through papermill, or checked by nbval.

Parameters are checked before a kernel starts; kernels talk over local sockets, so that kernels side by side never
take one another's port; all that a cell started ends with the run; the executed copy of a failed notebook is kept
with its traceback.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokelib import processes
from strokelib.errors import ParameterError, PipelineError
from strokelib.repro import write_text
from strokelib.settings import Settings, project_root

PARAMETER_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def notebook_path(name: str) -> Path:
    """The committed notebook called ``name``."""
    return project_root() / "notebooks" / f"{name}.ipynb"


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults of the one cell tagged ``parameters``, read without running it.

    Raises:
        ParameterError: There is not exactly one such cell, or it holds more than assignments of literals.
    """
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    tagged = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", ())]
    wanted = "one cell tagged 'parameters' that only assigns literals"
    if len(tagged) != 1:
        raise ParameterError(
            notebook.name, found=f"{len(tagged)} such cells", wanted=wanted, next_step="mend the notebook"
        )
    defaults = {}
    for statement in ast.parse(tagged[0]).body:
        try:
            (target,) = statement.targets
            defaults[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError) as error:
            found = ast.unparse(statement)
            raise ParameterError(notebook.name, found=found, wanted=wanted, next_step="mend the notebook") from error
    return defaults


def checked_parameters(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters given, if each is declared by the notebook and has its default's type.

    Raises:
        ParameterError: A name is malformed or not declared, or a value has another type than its default.
    """
    declared = declared_parameters(notebook)
    allowed = ", ".join(sorted(declared))
    for name, value in given.items():
        if not isinstance(name, str) or not PARAMETER_NAME.fullmatch(name):
            raise ParameterError(
                f"parameter name {name!r} of {notebook.name}",
                found="a malformed name",
                wanted="lower-case letters, digits and underscores",
                next_step=f"use one of: {allowed}",
            )
        if name not in declared:
            raise ParameterError(
                f"parameter {name} of {notebook.name}",
                found="not declared",
                wanted=allowed,
                next_step="check the spelling",
            )
        if type(value) is not type(declared[name]):
            raise ParameterError(
                f"parameter {name} of {notebook.name}",
                found=f"{value!r} ({type(value).__name__})",
                wanted=f"a value of type {type(declared[name]).__name__}, like {declared[name]!r}",
                next_step="give a value of that type",
            )
    return dict(given)


def _kernel_manager(base: type, folder: str) -> type:
    """A kernel manager class whose kernels talk over sockets in ``folder`` (TCP on Windows, which has none)."""
    from itertools import count

    from traitlets import default

    if os.name == "nt":
        return base
    numbers = count()

    class LocalSocketKernelManager(base):
        @default("transport")
        def _transport_default(self) -> str:
            return "ipc"

        @default("ip")
        def _ip_default(self) -> str:
            return f"{folder}/k{next(numbers)}"

    return LocalSocketKernelManager


def _by_papermill(source: Path, target: Path, parameters: dict[str, Any], sockets: str) -> int:
    import papermill
    from jupyter_client.manager import AsyncKernelManager

    try:
        papermill.execute_notebook(
            source,
            target,
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=source.parent,
            kernel_manager_class=_kernel_manager(AsyncKernelManager, sockets),
            request_save_on_cell_execute=True,
        )
    except Exception:  # noqa: BLE001 (whatever a cell raised is written down for the user, and the run fails)
        traceback.print_exc()
        return 1
    return 0


def _by_nbval(source: Path, sockets: str) -> int:
    import nbval.kernel
    import pytest
    from jupyter_client.manager import KernelManager

    nbval.kernel.KernelManager = _kernel_manager(KernelManager, sockets)
    flags = ["--nbval-lax", "--nbval-current-env", "-q", "--no-header", "-p", "no:cacheprovider", "--timeout=0"]
    return int(pytest.main([*flags, f"--rootdir={source.parent}", str(source)]))


def child_main(job: str) -> int:
    """What the child process does; ``job`` is JSON made by :func:`run_notebook`."""
    todo = json.loads(job)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # the kernelspec of this environment, not a user's older one
    with tempfile.TemporaryDirectory(prefix="sk-", ignore_cleanup_errors=True) as sockets:
        source = Path(todo["source"])
        if todo["engine"] == "nbval":
            return _by_nbval(source, sockets)
        return _by_papermill(source, Path(todo["target"]), todo["parameters"], sockets)


@dataclass(frozen=True)
class Result:
    """What came of one notebook."""

    name: str
    ok: bool
    seconds: float
    peak_mb: float
    artefacts: tuple[str, ...]
    log: str


def _environment(settings: Settings, threads: int) -> dict[str, str]:
    """What a notebook's processes see: the settings, a fixed number of threads, no progress bars, quiet debugger."""
    values = {
        "STROKELIB_PROFILE": settings.profile.value,
        "STROKELIB_COHORT": settings.cohort,
        "STROKELIB_RUNS": str(settings.runs),
        "STROKELIB_THREADS": os.environ.get("STROKELIB_THREADS", str(threads)),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore::DeprecationWarning"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",
        "STROKELIB_VIEWER": "static",  # no page is open: the still picture, and no widget's state in the executed copy
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    values |= {
        name: values["STROKELIB_THREADS"] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    return values | ({"STROKELIB_DATA": str(settings.data)} if settings.data else {})


def artefacts_of(settings: Settings, name: str) -> tuple[str, ...]:
    """Figures and tables that notebook ``name`` made under these settings, by their sidecars."""
    folder = settings.work / "figures"
    records = ((p, json.loads(p.read_text("utf-8"))) for p in sorted(folder.rglob("*.json")) if p.is_file())
    return tuple(
        p.relative_to(folder).as_posix().removesuffix(".json") for p, r in records if r.get("notebook") == name
    )


def run_notebook(
    name: str, settings: Settings, *, engine: str = "papermill", run: str = "", threads: int = 1
) -> Result:
    """Run one notebook and keep its executed copy in ``runs/<profile>/<cohort>/executed``.

    Args:
        name: The notebook's name without suffix.
        settings: Profile, cohort, seed, data and folders.
        engine: ``papermill`` executes with parameters; ``nbval`` runs the committed notebook and compares its tagged
            outputs.
        run: Name of the run that this notebook belongs to (default: that of the caller, else a new one); the
            notebook's processes carry ``run/name``.
        threads: Threads of torch, unless ``STROKELIB_THREADS`` says otherwise.

    Raises:
        ParameterError: A parameter is not one of the notebook's, or of another type; no kernel was started.
        PipelineError: There is no such notebook.
    """
    source = notebook_path(name)
    if not source.is_file():
        known = ", ".join(sorted(p.stem for p in source.parent.glob("[0-9]*.ipynb")))
        raise PipelineError(f"notebook {name}", found="no such file", wanted=known, next_step="check ONLY=")
    given = {"profile": settings.profile.value, "cohort": settings.cohort, "seed": settings.seed}
    parameters = checked_parameters(source, given)
    executed = settings.work / "executed" / source.name
    executed.parent.mkdir(parents=True, exist_ok=True)
    partial = executed.with_name(f".{name}.{os.getpid()}.ipynb")
    job = json.dumps({"engine": engine, "source": str(source), "target": str(partial), "parameters": parameters})
    mark = f"{run or os.environ.get(processes.MARK) or f'single-{os.getpid()}'}/{name}"
    begun = time.monotonic()
    with (
        processes.guarded(mark) as environment,
        processes.peak_memory(mark) as peak,
        tempfile.TemporaryFile(
            "w+", encoding="utf-8", errors="replace"
        ) as output,  # no pipe: a cell's children would hold it open
    ):
        command = [sys.executable, "-m", "strokelib.execution", job]
        env = environment | _environment(settings, threads)
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        output.seek(0)
        log = output.read()
    ok = done.returncode == 0
    if ok and partial.exists():
        os.replace(partial, executed)
    elif not ok:
        failed = settings.runs / "failed"
        failed.mkdir(parents=True, exist_ok=True)
        if partial.exists():
            shutil.move(partial, failed / source.name)
        write_text(failed / f"{name}.log", log)
    return Result(name, ok, time.monotonic() - begun, peak[0], artefacts_of(settings, name), log)


if __name__ == "__main__":
    sys.exit(child_main(sys.argv[1]))
