"""Reproducibility: seeds, device, locks, provenance, and the only place where a figure or a table is saved.

Determinism: on one machine, with one lock file and one number of threads, the same seed gives the same bytes on the
    CPU. On a GPU, or
across machines and versions, results agree within a tolerance only; spread over seeds is the honest measure there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from strokelib.errors import DataError
from strokelib.settings import Settings, project_root

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure

STAMPED_PACKAGES = ("strokelib", "torch", "numpy", "scipy", "matplotlib")
FIGURE_DPI = 150


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed onto ``path``, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}")
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write UTF-8 text atomically; the file is left alone where it already holds this text."""
    path = Path(path)
    if path.is_file() and path.read_bytes() == text.encode():
        return path
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())
    return path


def once(folder: str | os.PathLike, build: Callable[[Path], None]) -> Path:
    """Build a folder once, however many processes ask for it at the same time.

    ``build`` fills ``<folder>.partial``, which survives a kill so that the builder can resume in it; the finished
    folder appears by one rename. The lock is the operating system's and ends with the process that holds it.

    Args:
        folder: The folder wanted; its existence means that it is complete.
        build: Called with the partial folder by the one process that holds the lock.

    Returns:
        The finished folder.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if not folder.is_dir():
            partial = folder.with_name(folder.name + ".partial")
            partial.mkdir(exist_ok=True)
            build(partial)
            os.replace(partial, folder)
    return folder


def threads() -> int:
    """Threads a process may use for torch: ``STROKELIB_THREADS``, else 1 (results depend on it bit for bit)."""
    return max(1, int(os.environ.get("STROKELIB_THREADS") or 1))


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch, and ask torch for deterministic algorithms (a warning where there is none)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries called by notebooks may draw from the legacy generator)
    torch.manual_seed(seed)
    torch.set_num_threads(threads())
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs a tenth of a training step; no result reads it


def device() -> torch.device:
    """The GPU where there is one and ``STROKELIB_DEVICE`` does not say otherwise, else the CPU."""
    import torch

    wanted = os.environ.get("STROKELIB_DEVICE")
    return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))


def code_cells(notebook: str | os.PathLike) -> list[str]:
    """Sources of a notebook's code cells, without cells that an executor injected."""
    try:
        cells = json.loads(Path(notebook).read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(notebook, found=repr(error), wanted="a notebook", next_step="restore it from git") from error
    kept = (c for c in cells if c["cell_type"] == "code" and "injected-parameters" not in c["metadata"].get("tags", ()))
    return ["".join(c["source"]) for c in kept]


def code_hash(notebook: str | os.PathLike) -> str:
    """SHA-256 over a notebook's code cells; outputs, prose and metadata do not count."""
    return hashlib.sha256("\n\0\n".join(code_cells(notebook)).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in STAMPED_PACKAGES}


@dataclass(frozen=True)
class Session:
    """What a notebook works with: its settings, its name, and how it saves figures and tables.

    Args:
        settings: Profile, cohort, data and seed of the run.
        notebook: Its name.
        embedded: The embedded cohort that its figures and tables show whatever the run works on; empty for the run's.
    """

    settings: Settings
    notebook: str
    embedded: str = ""

    @property
    def figures(self) -> Path:
        """Folder of this run's figures and tables; the committed ``figures/`` is filled from it after a demo run."""
        return self.settings.work / "figures"

    def provenance(self, inputs: dict[str, str] | None = None, **facts: Any) -> dict[str, Any]:
        """What stands in an artefact's JSON sidecar."""
        s = self.shown
        source = project_root() / "notebooks" / f"{self.notebook}.ipynb"
        return {
            "notebook": self.notebook,
            "notebook_code_sha256": code_hash(source),
            "profile": s.profile.value,
            "cohort": s.cohort,
            "data": s.source,
            "seed": s.seed,
            "threads": threads(),
            "versions": versions(),
            "inputs": inputs or {},
            **facts,
        }

    @property
    def shown(self) -> Settings:
        """The settings of what figures and tables show."""
        return replace(self.settings, cohort=self.embedded, data=None) if self.embedded else self.settings

    def footer(self, status: str = "", *, cohort: str = "", seed: str = "") -> str:
        """The line below each figure: what it was made from, and its status where it has one.

        Args:
            status: Of the rows shown.
            cohort: Which cohorts it shows, where they are not the run's one.
            seed: Which seeds it shows, where they are not the run's one.
        """
        s = self.shown
        kind = "embedded cohort" if s.data is None else "user's data, cohort"
        of, seeds = cohort or s.cohort, seed or s.seed
        said = f" · status: {status}" if status else ""
        return f"{kind} {of} · profile {s.profile.value} · seed {seeds}{said} · not for clinical use"

    def _sidecar(self, path: Path, inputs: dict[str, str] | None, facts: dict[str, Any]) -> None:
        record = self.provenance(inputs, sha256={path.name: sha256(path)}, **facts)
        write_text(path.with_suffix(path.suffix + ".json"), json.dumps(record, indent=1, sort_keys=True) + "\n")

    def save_figure(self, figure: Figure, name: str, *, inputs: dict[str, str] | None = None, **facts: Any) -> str:
        """Save a figure as PNG with its footer and JSON sidecar; the same figure gives the same bytes.

        Args:
            figure: A matplotlib figure.
            name: Name below ``figures/`` without suffix, e.g. ``papl/fig05_salience``.
            inputs: Name -> SHA-256 (or cache key) of what the figure was drawn from.
            facts: Further plain values for the sidecar, e.g. ``status="1 seed"``; ``cohort`` and ``seed`` stand in
                place of the run's where a figure shows others.

        Returns:
            The file's name relative to the figures folder (no path of this machine).
        """
        target = self.figures / f"{name}.png"
        said = {name: str(facts[name]) for name in ("status", "cohort", "seed") if name in facts}
        label = figure.text(
            1.0,
            -0.005,
            self.footer(**said),
            ha="right",
            va="top",
            fontsize=6,
            color="0.4",
        )
        with atomic_path(target) as temporary:
            how = {"dpi": FIGURE_DPI, "bbox_inches": "tight", "pad_inches": 0.05, "metadata": {"Software": None}}
            figure.savefig(temporary, format="png", **how)
        label.remove()
        self._sidecar(target, inputs, facts)
        return f"{name}.png"

    def save_table(self, frame: pd.DataFrame, name: str, *, inputs: dict[str, str] | None = None, **facts: Any) -> str:
        """Save a table as CSV with its JSON sidecar; returns its name relative to the figures folder."""
        target = self.figures / f"{name}.csv"
        write_text(target, frame.to_csv(index=False, lineterminator="\n"))
        self._sidecar(target, inputs, facts)
        return f"{name}.csv"

    def save_page(self, text: str, name: str, *, inputs: dict[str, str] | None = None, **facts: Any) -> str:
        """Save a Markdown page with its JSON sidecar; returns its name relative to the figures folder."""
        target = self.figures / f"{name}.md"
        write_text(target, text)
        self._sidecar(target, inputs, facts)
        return f"{name}.md"


def start(settings: Settings, notebook: str, embedded: str = "") -> Session:
    """Begin a notebook: seed everything and quiet what would put noise into its outputs; ``embedded`` as in Session."""
    seed_everything(settings.seed)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    return Session(settings, notebook, embedded)
