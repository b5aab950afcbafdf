"""Files that nobody vouches for, read in a child process that may use little memory and little time.

The readers refuse what is wrong; this module is for what they cannot survive: a file that unpacks to gigabytes, a
library that crashes or never ends. The child is a new Python (never a fork, so threads and notebooks do not matter)
in an empty temporary folder, with a reduced environment, no standard input, and limits on address space, size of
files, CPU time and wall time. Whatever ends it becomes a :class:`DataError` that names the file.

It is no sandbox: the child has the user's rights, and the network is not needed but not cut off either. Memory is
limited where the system does so (:data:`LIMITS_MEMORY`: Linux); elsewhere the time limits alone hold, and on Windows
the wall time only.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from strokelib.data.cases import Volume
from strokelib.data.reading import HEADER_BYTES, announced, open_plain, read_dicom, read_nifti, said
from strokelib.data.series import Series, read_series
from strokelib.errors import DataError, ParameterError, StrokelibError

Kind = Literal["auto", "nifti", "dicom", "series"]
LIMITS_MEMORY = sys.platform.startswith("linux")
COMMAND = (sys.executable, "-P", "-m", "strokelib.data.guarded")
START_S = 60.0
_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL", "STROKELIB_RUN")
_RESULT = "result.npy"
_WANTED = "a file that can be read in the memory and time given"
_DYING_S = 10.0
_LOG = logging.getLogger(__name__)
_STEP = "check where the file comes from; raise memory_mb or timeout_s only if you trust it"


def read_guarded(
    path: str | os.PathLike,
    *,
    kind: Kind = "auto",
    memory_mb: int = 4096,
    timeout_s: float = 120,
    series: int | None = None,
) -> Volume | Series:
    """Read one file or folder in a child process; the result equals that of the reader called directly.

    Args:
        path: A .nii or .nii.gz file, or a folder or .zip of one DICOM series.
        kind: ``nifti`` (3-D), ``series`` (4-D), ``dicom``; ``auto`` decides by the name and the header's axes.
        memory_mb: Address space the child may use, in MB of 2**20 bytes, where the system limits it.
        timeout_s: CPU time and wall time for this file, in s; the child's start (about half a second) is not counted.
        series: DICOM series number, as in :func:`strokelib.data.reading.read_dicom`.

    Returns:
        A Series for kind ``series`` (or where ``auto`` finds one), else a Volume.

    Raises:
        DataError: What the reader refuses, with its words; or the child ran out of memory or time, or crashed.
        ParameterError: An unknown kind, or a limit that is not positive.
    """
    ((_, result),) = read_many([path], kind=kind, memory_mb=memory_mb, timeout_s=timeout_s, series=series)
    if isinstance(result, DataError):
        raise result
    return result


def read_many(
    paths: Iterable[str | os.PathLike],
    *,
    kind: Kind = "auto",
    memory_mb: int = 4096,
    timeout_s: float = 120,
    series: int | None = None,
) -> Iterator[tuple[Path, Volume | Series | DataError]]:
    """Read many files through one child, which is started again where a file has ended it.

    Files are read one by one as they are asked for, so that one result at a time lies in memory and on the disk.

    Args:
        paths: As in :func:`read_guarded`, and so are the others; they hold for each file.

    Returns:
        An iterator over path and result, in the order given; a refusal is yielded, not raised.

    Raises:
        ParameterError: As :func:`read_guarded`, before the first file is asked for.
    """
    if kind not in ("auto", *_READERS):
        raise ParameterError("kind", found=repr(kind), wanted=" or ".join(("auto", *_READERS)), next_step="correct it")
    if not (memory_mb > 0 and timeout_s > 0):
        found = f"memory_mb {memory_mb}, timeout_s {timeout_s}"
        raise ParameterError("limits", found=found, wanted="above 0", next_step="leave them at their defaults")
    return _each([Path(path) for path in paths], kind, memory_mb, timeout_s, series)


def _each(
    paths: list[Path], kind: str, memory_mb: int, timeout_s: float, series: int | None
) -> Iterator[tuple[Path, Volume | Series | DataError]]:
    child: _Child | None = None
    try:
        for path in paths:
            child = child or _Child(memory_mb)
            try:
                result: Volume | Series | DataError = child.read(path, kind, timeout_s, series)
            except DataError as error:
                result = error
            child = child if child.alive else None
            yield path, result
    finally:
        if child is not None:
            child.close()


class _Child:
    """The parent's end: one child, its temporary folder, and a thread that collects its answers."""

    def __init__(self, memory_mb: int) -> None:
        self.alive = True
        self._folder = tempfile.TemporaryDirectory(prefix="strokelib-guarded-", ignore_cleanup_errors=True)
        self._answers: queue.Queue[str | None] = queue.Queue()
        log = Path(self._folder.name, "stderr.txt")
        with open(log, "wb") as stderr:
            self._process = subprocess.Popen(
                [*COMMAND, str(memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=self._folder.name,
                env=_environment(self._folder.name),
                start_new_session=True,
                encoding="utf-8",
            )
        lines = itertools.chain(self._process.stdout, [""])
        self._collector = threading.Thread(target=lambda: [*map(self._answers.put, lines)], daemon=True)
        self._collector.start()
        if not self._answer(START_S):
            reasons = log.read_text("utf-8", "replace").strip().splitlines() or [f"no answer within {START_S:g} s"]
            self.close()
            raise DataError(
                "the child process for reading",
                found=f"it did not start: {reasons[-1]}",
                wanted="a Python that imports strokelib in the memory it may use",
                next_step="raise memory_mb, or install strokelib into this environment",
            )

    def _answer(self, timeout_s: float) -> str | None:
        """One line; empty where the child has ended; None where the time is over."""
        try:
            return self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def read(self, path: Path, kind: str, timeout_s: float, series: int | None) -> Volume | Series:
        """One file; DataError as the reader says, or where the child has ended: then ``alive`` is False."""
        request = {"path": os.path.abspath(path), "kind": kind, "timeout_s": timeout_s, "series": series}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._answer(timeout_s)
        except OSError:
            line = ""
        if not line:
            self.close(dying=line is not None)
            found = f"no result after {timeout_s:g} s" if line is None else f"the reader ended with {self._end()}"
            raise DataError(path.absolute().name, found=found, wanted=_WANTED, next_step=_STEP)
        answer = json.loads(line)
        if "error" in answer:
            raise DataError(answer["error"].pop("thing"), **answer["error"])
        file = Path(self._folder.name, _RESULT)
        array, affine = np.load(file, allow_pickle=False), np.array(answer["affine"], np.float64)
        file.unlink()
        if "step_s" in answer:
            return Series(array, affine, answer["step_s"], answer["step_known"])
        return Volume(array, affine)

    def _end(self) -> str:
        """How the child ended, in words."""
        status = self._process.returncode
        return f"exit status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"

    def close(self, *, dying: bool = False) -> None:
        """End the child and all it started, and remove its folder; a dying one may give its exit status first."""
        self.alive = False
        if dying:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_DYING_S)
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        self._collector.join()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._folder.cleanup()


def _environment(folder: str) -> dict[str, str]:
    """What the child may know: where programs and packages lie, and a home and temporary folder of its own."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    own = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "HOME"), folder)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return kept | own | threads | {"PYTHONPATH": os.pathsep.join(paths)}


def kind_of(path: str | os.PathLike) -> str:
    """``dicom`` for a folder or .zip, ``series`` for a NIfTI header of two frames or more, else ``nifti``."""
    path = Path(path)
    if path.is_dir() or path.suffix.lower() == ".zip":
        return "dicom"
    try:
        with open_plain(path) as file:
            head = announced(file.read(HEADER_BYTES))
    except (OSError, EOFError, zlib.error):
        return "nifti"
    return "series" if head is not None and math.prod(head[0][3:]) > 1 else "nifti"


def _limit(name: str, value: float) -> None:
    """Lower a limit of this process where the system has it."""
    try:
        import resource

        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = math.ceil(value) if hard == resource.RLIM_INFINITY else min(math.ceil(value), hard)
        resource.setrlimit(number, (value, hard))
    except (ImportError, AttributeError, ValueError, OSError) as error:
        _LOG.info("%s is not limited on this system: %r", name, error)


def _serve(request: dict[str, Any], memory_mb: int) -> dict[str, Any]:
    """Read one file and leave its array in the working directory, or say why not."""
    path, timeout_s = Path(request["path"]), request["timeout_s"]
    kind = kind_of(path) if request["kind"] == "auto" else request["kind"]
    try:
        read = _READERS[kind](path, timeout_s, request["series"])
        np.save(_RESULT, read.array, allow_pickle=False)
    except StrokelibError as error:
        return {"error": vars(error)}
    except MemoryError:
        found = f"more than {memory_mb} MB of memory needed"
        return {"error": {"thing": path.name, "found": found, "wanted": _WANTED, "next_step": _STEP}}
    except Exception as error:  # noqa: BLE001 (whatever a damaged file makes a library raise is the file's fault)
        found = said(error).replace(str(path), path.name)
        return {"error": {"thing": path.name, "found": found, "wanted": "an intact file", "next_step": "copy it again"}}
    more = {"step_s": read.step_s, "step_known": read.step_known} if isinstance(read, Series) else {}
    return {"affine": read.affine.tolist()} | more


_READERS: dict[str, Callable[[Path, float, int | None], Volume | Series]] = {
    "nifti": lambda path, timeout_s, series: read_nifti(path),
    "series": lambda path, timeout_s, series: read_series(path),
    "dicom": lambda path, timeout_s, series: read_dicom(path, series=series, timeout_s=timeout_s),
}


def main() -> None:
    """The child: requests come as lines of JSON, answers go back as such; readers see no input and print nowhere."""
    memory_mb = int(sys.argv[1])
    requests, answers = (os.fdopen(os.dup(n), mode, encoding="utf-8") for n, mode in ((0, "r"), (1, "w")))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    for name, value in (("RLIMIT_AS", memory_mb * 2**20), ("RLIMIT_FSIZE", memory_mb * 2**20), ("RLIMIT_CORE", 0)):
        _limit(name, value)
    alarm = getattr(signal, "alarm", lambda seconds: None)  # ends a reader whose parent is gone
    print("ready", file=answers, flush=True)
    for line in requests:
        request = json.loads(line)
        _limit("RLIMIT_CPU", time.process_time() + request["timeout_s"] + 1)
        alarm(math.ceil(request["timeout_s"] + _DYING_S))
        answer = _serve(request, memory_mb)
        alarm(0)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
