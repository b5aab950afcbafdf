"""Process trees that die whole, and how much memory they take.

Every process of a run inherits the environment variable ``STROKELIB_RUN``; its value names the run and, after a
slash, the notebook. A watchdog holds the other end of a pipe from the run's first process: when that process ends in
any way, SIGKILL included, the pipe closes and the watchdog kills all that still carries the mark: kernels (which
start sessions of their own) and a cell's children.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

MARK = "STROKELIB_RUN"
PATIENCE_S = 10.0


def marked(mark: str) -> list[psutil.Process]:
    """Processes of this user that carry ``mark`` or a mark below it, without the caller and its parents."""
    own = psutil.Process()
    spared = {own.pid, *(p.pid for p in own.parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        try:
            value = process.environ().get(MARK, "")
        except (psutil.Error, OSError):
            continue
        if value == mark or value.startswith(mark + "/"):
            found.append(process)
    return found


def kill_marked(mark: str) -> int:
    """Kill what carries ``mark`` until nothing is left (at most ten seconds); returns how many it killed."""
    killed: set[int] = set()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        victims = [p for p in marked(mark) if p.status() != psutil.STATUS_ZOMBIE]
        if not victims:
            break
        for process in victims:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
            killed.add(process.pid)
        psutil.wait_procs(victims, timeout=1)
    return len(killed)


@contextmanager
def guarded(mark: str) -> Iterator[dict[str, str]]:
    """Yield an environment whose processes all end when this block, or this process, ends.

    Args:
        mark: Name of the run, or ``run/notebook``.
    """
    environment = os.environ | {MARK: mark}
    bare = {k: v for k, v in os.environ.items() if k != MARK}
    watchdog = subprocess.Popen(
        [sys.executable, "-m", "strokelib.processes", mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=bare,
    )
    try:
        yield environment
    finally:
        kill_marked(mark)
        watchdog.stdin.close()
        watchdog.wait(timeout=PATIENCE_S + 5)


@contextmanager
def peak_memory(mark: str, interval_s: float = 0.5) -> Iterator[list[float]]:
    """Yield a one-element list that holds, at the end, the peak of the summed memory (MB) of what carries ``mark``.

    Shared pages count once where the system can tell (proportional set size on Linux), else resident sizes are summed.
    """
    peak = [0.0]
    stop = threading.Event()

    def memory(process: psutil.Process) -> float:
        try:
            info = process.memory_full_info()
            return getattr(info, "pss", 0) or info.rss
        except (psutil.Error, OSError):
            return 0.0

    def watch() -> None:
        while not stop.wait(interval_s):
            peak[0] = max(peak[0], sum(map(memory, marked(mark))) / 2**20)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def end_with(pid: int, mark: str) -> None:
    """End this process, and all that carries ``mark``, as soon as process ``pid`` is gone (the make above it)."""
    try:
        other = psutil.Process(pid)
    except psutil.NoSuchProcess:
        other = None

    def watch() -> None:
        while other is not None and other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
        kill_marked(mark)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """The watchdog: wait until the pipe from the run closes, then kill what is left of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    kill_marked(sys.argv[1])


if __name__ == "__main__":
    main()
