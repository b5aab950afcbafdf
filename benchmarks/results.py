"""Runs every benchmark and writes ``benchmarks/results.md``: the tables, with versions, machine and date.

python benchmarks/results.py [name ...]     (all but those on request, or those named; the others keep their last table)
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from strokelib.repro import write_text

HERE = Path(__file__).parent
PAGE = HERE / "results.md"
SCRIPTS = {
    "metrics": "Scores of a pair of masks",
    "inference": "Prediction on the CPU",
    "training": "The training loop's own cost",
    "loading": "Loading",
    "phantom": "Rendering embedded heads",
    "preparation": "Preparing a head CT",
    "perfusion": "Deconvolution of CT perfusion",
    "published_sizes": "Training at a published size",
    "published_sizes_adn": "Training at a published size: ADN",
    "published_sizes_ssl_nnunet": "Training at a published size: self-supervised nnU-Net",
    "published_sizes_papl": "Training at a published size: PAPL",
}
# Tables that are not what a script of their name prints without arguments.
COMMANDS = {
    "published_sizes_adn": ("published_sizes.py", "--steps", "1", "--what", "T", "ADN"),
    "published_sizes_ssl_nnunet": ("published_sizes.py", "--steps", "1", "--what", "pretraining", "finetuning"),
    "published_sizes_papl": ("published_sizes.py", "--steps", "1", "--what", "knowledge", "formal"),
}
ON_REQUEST = {"published_sizes", *COMMANDS}  # minutes a step on one core
PACKAGES = ("torch", "numpy", "scipy", "monai", "MedPy", "surface-distance", "SimpleITK")
HEAD = """# Benchmarks

Written by `make bench`. The peers take turns with strokelib in the same run; **only ratios mean something**, since the
machine may be shared. What each table measures stands at the top of its script in `benchmarks/`. Training at a
published size has no peer and is measured on request, by `python benchmarks/results.py published_sizes` (or
`published_sizes_adn`).
"""


def machine() -> str:
    """Processor, cores, Python and packages, in one line."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    name = found[1] if found else platform.processor() or platform.machine()
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in PACKAGES)
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def earlier() -> dict[str, str]:
    """Name -> section as the page has it."""
    if not PAGE.is_file():
        return {}
    parts = re.split(r"^<!-- (\w+) -->\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def main(names: list[str]) -> int:
    """Run the scripts and write the page; the exit status is that of the first that failed."""
    sections = earlier()
    for name in names:
        script, *given = COMMANDS.get(name, (f"{name}.py",))
        command = " ".join([f"benchmarks/{script}", *given])
        print(f"== {command}", flush=True)
        done = subprocess.run([sys.executable, HERE / script, *given], stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, flush=True)
        if done.returncode:
            return done.returncode
        stamp = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}; {machine()}"
        sections[name] = f"## {SCRIPTS[name]}\n\n`{command}`, {stamp}.\n\n{done.stdout.strip()}"
        body = "\n\n".join(f"<!-- {key} -->\n{sections[key]}" for key in SCRIPTS if key in sections)
        write_text(PAGE, HEAD + "\n" + body + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [name for name in SCRIPTS if name not in ON_REQUEST]))
