"""Cases made by several processes that share the work by one lock a case; what a kill leaves is made next time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from strokelib.data.cases import Case, is_whole, save_case

T = TypeVar("T")


def make_once(path: Path, make: Callable[[], Case], patience: int) -> None:
    """Make a case's file unless it is there and whole.

    Args:
        path: Of the file; its lock lies in ``.locks`` beside it, and what a kill left of it is removed.
        make: Gives the case.
        patience: Where another process is at work: 0 raises filelock's Timeout, -1 waits.
    """
    locks = path.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{path.stem}.lock", timeout=patience):
        if is_whole(path):
            return
        for left_by_a_kill in path.parent.glob(f".{path.stem}.*.tmp{path.suffix}"):
            left_by_a_kill.unlink()
        save_case(make(), path)


@contextmanager
def further_processes(count: int, module: str, job: dict[str, Any], names: Sequence[str]) -> Iterator[None]:
    """Processes of their own that work from the list's end, each from another place, until the caller is through.

    If one fails, the caller does its work. No process is forked or made from the caller's main module, so this is safe
    in scripts, notebooks and threads.

    Args:
        count: How many; none for 0 or less, or where there is nothing to do.
        module: Run as ``python -m``; it reads the job with its ``names`` as JSON from its standard input.
        job: What the module needs to know.
        names: Cases in the caller's order.
    """
    children = []
    turned = list(names[::-1])
    for number in range(max(0, count) if names else 0):
        start = number * len(names) // count
        child = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE)
        child.stdin.write(json.dumps(job | {"names": turned[start:] + turned[:start]}).encode())
        child.stdin.close()
        children.append(child)
    try:
        yield
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def in_turn(cases: Sequence[T], work: Callable[[T, int], None], done: Callable[[], Any]) -> None:
    """Work on every case; those that another process is at work on come last, and are waited for then.

    Args:
        cases: In order.
        work: Called with a case and a patience in s (0, then -1 for as long as it takes); raises filelock's Timeout
            where another process holds the case's lock.
        done: Called after each case.
    """
    for patience in (0, -1):
        busy = []
        for case in cases:
            try:
                work(case, patience)
                done()
            except Timeout:
                busy.append(case)
        cases = busy
