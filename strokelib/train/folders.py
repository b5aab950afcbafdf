"""The folder of a run: one process at a time, nothing left behind by a kill, and clear words when the disk refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from strokelib.errors import CheckpointError, PipelineError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The last one is what safetensors itself writes before it renames.
LEFTOVERS = (".history.*.tmp.csv", ".cases.*.tmp.csv", "checkpoints/.step_*.tmp.*", "checkpoints/.tmp??????")


@contextmanager
def writing(out: Path, what: str, kind: type[PipelineError] | type[CheckpointError] = PipelineError) -> Iterator[None]:
    """Turn what the operating system says against writing into a typed error that names the run.

    Args:
        out: Folder of the run.
        what: What is written, in words.
        kind: The error's type.
    """
    try:
        yield
    except Timeout:  # an OSError too, and no fault of the disk
        raise
    except (OSError, SafetensorError) as error:
        code = error.errno if isinstance(error, OSError) else None
        said = os.strerror(code) if code else str(error).splitlines()[0]
        cure = "free some space" if code in FULL or "No space" in said or "too large" in said else "make it writable"
        kept = max((p.stem for p in (out / "checkpoints").glob("step_*.json")), default=None)
        goes = f"the run goes on from {kept}, which is kept" if kept else "it has no checkpoint yet and starts anew"
        raise kind(
            f"{what} of run {out.name}",
            found=said,
            wanted="a folder that can be written and has room",
            next_step=f"{cure} and call again: {goes}",
        ) from error


@contextmanager
def only_process(out: Path) -> Iterator[None]:
    """Hold the run's folder alone; what a killed process left half written is removed.

    The lock is the operating system's: it ends with the process that holds it.

    Raises:
        PipelineError: Another process is training in it, or it cannot be written.
    """
    lock = FileLock(out / ".lock", timeout=0)
    try:
        with writing(out, "folder"):
            out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout as error:
        raise PipelineError(
            f"run {out.name}",
            found="another process is training in it",
            wanted="one process a run",
            next_step="wait for it to end",
        ) from error
    try:
        with writing(out, "folder"):
            for pattern in LEFTOVERS:
                for path in out.glob(pattern):
                    path.unlink()
        yield
    finally:
        lock.release()
