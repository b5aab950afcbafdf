"""What is installed, what is missing, how data and machine are: one page for a question or a bug report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement

from strokelib import __version__, manifest, repro, settings

DISTRIBUTION = "strokelib"
OLDEST_PYTHON = (3, 11)
LEAST_MEMORY_GB, LEAST_DISK_GB = 8, 10
GOOD, NOTE, BAD = "ok", "note", "PROBLEM"


@dataclass(frozen=True)
class Finding:
    """One line of the page.

    Args:
        word: ``ok``, ``note`` (something works less well or not at all, the rest does) or ``PROBLEM``.
        thing: What was looked at.
        said: What was found, and what to do where something is wrong.
    """

    word: str
    thing: str
    said: str


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements() -> dict[str, list[Requirement]]:
    """Group (``package``, ``workflow``, ``book``, ``dev``) -> what strokelib asks for, as its own metadata says."""
    found: dict[str, list[Requirement]] = {"package": []}
    for line in importlib.metadata.requires(DISTRIBUTION) or ():
        wanted = Requirement(line)
        extras = importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ()
        group = next((e for e in extras if wanted.marker and wanted.marker.evaluate({"extra": e})), "package")
        found.setdefault(group, []).append(wanted)
    return found


def packages() -> Iterator[Finding]:
    """One line a group whose packages are all there; one more for each that is missing or of another version."""
    for group, wanted in requirements().items():
        lacking = []
        for one in wanted:
            version = _version(one.name)
            if version is None or not one.specifier.contains(version, prereleases=True):
                lacking.append((one, version))
        count = len(wanted) - len(lacking)
        yield Finding(GOOD, group, f"{count} of {len(wanted)} packages")
        word = BAD if group == "package" else NOTE
        for one, version in lacking:
            asked = f"{one.name}{one.specifier}"
            extra = "" if group == "package" else f"[{group}]"
            step = f'pip install "{asked}", or install strokelib{extra} again'
            yield Finding(word, one.name, f"{version or 'not installed'}; wanted {asked}. Next step: {step}")


def machine() -> Iterator[Finding]:
    """Python, torch and its device, cores, memory, room on the disk."""
    import psutil
    import torch

    from strokelib.nn.precision import resolve_amp

    oldest = ".".join(map(str, OLDEST_PYTHON))
    word = GOOD if sys.version_info[:2] >= OLDEST_PYTHON else BAD
    yield Finding(word, "Python", f"{platform.python_version()} on {platform.system()} ({oldest} or newer)")
    device = repro.device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    form = resolve_amp("auto", device)
    yield Finding(GOOD, "torch", f"{torch.__version__}, computes on {device} ({name}), numbers in {form}")
    cores, memory = os.cpu_count() or 1, psutil.virtual_memory().total / 1e9
    word = GOOD if memory >= LEAST_MEMORY_GB else NOTE
    yield Finding(word, "machine", f"{cores} cores, {memory:.0f} GB of memory ({LEAST_MEMORY_GB} GB or more)")
    runs = settings.runs_dir()
    there = next(folder for folder in (runs, *runs.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    word = GOOD if free >= LEAST_DISK_GB else NOTE
    yield Finding(word, "disk", f"{free:.0f} GB free where runs are kept ({LEAST_DISK_GB} GB or more)")


def data() -> Iterator[Finding]:
    """Whether the shipped data and ledgers are whole."""
    problems = manifest.verify()
    if not problems:
        yield Finding(GOOD, "data", "shipped files and ledgers are whole")
    for problem in problems:
        yield Finding(BAD, "data", problem)


def examine() -> list[Finding]:
    """Everything that there is to say, in the order of the page."""
    return [Finding(GOOD, "strokelib", __version__), *machine(), *packages(), *data()]


def page(findings: list[Finding]) -> str:
    """The findings as text, one a line, and a last line that says how it stands."""
    width = max(len(one.thing) for one in findings)
    lines = [f"{one.word:<8}{one.thing:<{width}}  {one.said}" for one in findings]
    bad, notes = (sum(one.word == word for one in findings) for word in (BAD, NOTE))
    return "\n".join([*lines, f"doctor: {bad} problem(s), {notes} note(s)"])
