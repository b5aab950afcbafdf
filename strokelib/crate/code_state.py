"""Which code is at work: the commit of the checkout, and whether its files still are that commit's."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from strokelib.settings import project_root

UNKNOWN = "unknown"


@dataclass(frozen=True)
class CodeState:
    """The state of a checkout.

    Args:
        commit: Its 40 hexadecimal digits, or ``unknown`` outside of a checkout.
        changed: How many files differ from that commit, as text; ``unknown`` outside of a checkout.
    """

    commit: str
    changed: str


def _git(*words: str) -> str | None:
    """What git prints; None where there is no git or no checkout."""
    command = ["git", "-C", str(project_root()), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def code_state() -> CodeState:
    """The state of the checkout that this package was installed from."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return CodeState(UNKNOWN, UNKNOWN)
    return CodeState(commit.strip(), str(len(changes.splitlines())))
