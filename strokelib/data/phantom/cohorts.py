"""The embedded cohorts: keep rendered cases on disk, load a split.

A case is rendered once for all profiles into ``runs/cases/<cohort>/<grid>-v<VERSION>/<case>.safetensors``. Several
processes may ask for the same cases at the same time: each case is rendered by one of them, and a killed run goes on
where it stopped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import overload

import torch
from filelock import Timeout

from strokelib import settings
from strokelib.data.cases import Case, is_whole, load_case
from strokelib.data.phantom.embedded import GRIDS, VERSION, checked, checked_cohort, render, render_pair, rows, stripped
from strokelib.data.sharing import further_processes, in_turn, make_once
from strokelib.settings import Profile

__all__ = [
    "COUNTS",
    "GRIDS",
    "VERSION",
    "CaseFiles",
    "case_ids",
    "ensure_rendered",
    "load",
    "load_parts",
    "render",
    "render_pair",
    "stripped",
]
HEADS_A_WORKER = 16
SPLITS = ("train", "val", "test")
# Cases that smoke and demo use of train, val and test; paper uses all. The demo's show 400 heads: two slabs of a
# patient are one head, and the 94 scans of isles2018, all of the published split, are 63.
COUNTS: dict[str, dict[Profile, tuple[int, int, int]]] = {
    "aisd": {Profile.SMOKE: (8, 4, 6), Profile.DEMO: (96, 16, 52)},
    "xwhd": {Profile.SMOKE: (6, 3, 4), Profile.DEMO: (44, 8, 41)},
    "apis": {Profile.SMOKE: (4, 2, 2), Profile.DEMO: (12, 4, 4)},
    "icoais": {Profile.SMOKE: (4, 3, 3), Profile.DEMO: (12, 18, 12)},
    "center_tbi": {Profile.SMOKE: (4, 2, 2), Profile.DEMO: (14, 4, 0)},
    "isles2018": {Profile.SMOKE: (4, 2, 2), Profile.DEMO: (65, 6, 23)},
}


class CaseFiles(Sequence[Case]):
    """Rendered cases in a folder, read from disk when they are asked for.

    Args:
        folder: Where the files lie.
        ids: Names of the cases, in order.
    """

    def __init__(self, folder: Path, ids: Sequence[str]) -> None:
        self.folder, self.ids = folder, tuple(ids)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> CaseFiles: ...
    def __getitem__(self, index: int | slice) -> Case | CaseFiles:
        if isinstance(index, slice):
            return CaseFiles(self.folder, self.ids[index])
        return load_case(self.path(self.ids[index]))

    def path(self, case_id: str) -> Path:
        """The file of a case."""
        return self.folder / f"{case_id}.safetensors"


def case_ids(cohort: str, split: str, profile: Profile | str) -> tuple[str, ...]:
    """Names of the cases of a split that a profile uses: the first of the committed list.

    Raises:
        ParameterError: Unknown cohort, split or profile.
    """
    checked_cohort(cohort)
    profile = Profile(checked("profile", str(profile), [p.value for p in Profile], "give one of these profiles"))
    number = SPLITS.index(checked("split", split, SPLITS, "give one of these splits"))
    names = tuple(name for name, row in rows(cohort, settings.manifests_dir()).items() if row.split == split)
    return names if profile is Profile.PAPER else names[: COUNTS[cohort][profile][number]]


def load(
    cohort: str,
    split: str,
    profile: Profile | str,
    *,
    root: Path | None = None,
    limit: int | None = None,
    grid: str = "prepared",
    progress: bool = False,
) -> CaseFiles:
    """The cases of a split, rendered where they are not on disk yet.

    Args:
        cohort: Key of an embedded cohort.
        split: ``train``, ``val`` or ``test``.
        profile: ``smoke``, ``demo`` or ``paper``: how many cases.
        root: Folder of the runs, or None for :func:`strokelib.settings.runs_dir`.
        limit: At most so many cases.
        grid: ``prepared`` or ``native``.
        progress: Show a progress bar while rendering.

    Returns:
        A sequence that reads a case from disk when it is asked for.

    Raises:
        ParameterError: Unknown cohort, split, profile or grid; nothing falls back silently.
    """
    checked("grid", grid, GRIDS, "give one of these grids")
    folder = Path(root or settings.runs_dir()) / "cases" / cohort / f"{grid}-v{VERSION}"
    cases = CaseFiles(folder, case_ids(cohort, split, profile)[:limit])
    ensure_rendered(cases, grid, progress=progress)
    return cases


def load_parts(
    cohort: str, profile: Profile | str, *, root: Path | None = None, progress: bool = False, **limits: int | None
) -> tuple[CaseFiles, ...]:
    """Several splits at once, as :func:`load` gives them; what is missing of them all is rendered in one go.

    Args:
        cohort: Key of an embedded cohort.
        profile: ``smoke``, ``demo`` or ``paper``.
        root: Folder of the runs, or None for :func:`strokelib.settings.runs_dir`.
        progress: Show a progress bar while rendering.
        limits: Split to at most so many cases, None for all: ``train=120, val=20, test=None``.

    Returns:
        The splits in the order of ``limits``.
    """
    ids = [case_ids(cohort, part, profile)[:limit] for part, limit in limits.items()]
    folder = Path(root or settings.runs_dir()) / "cases" / cohort / f"prepared-v{VERSION}"
    ensure_rendered(CaseFiles(folder, [name for part in ids for name in part]), "prepared", progress=progress)
    return tuple(CaseFiles(folder, part) for part in ids)


def ensure_rendered(cases: CaseFiles, grid: str, *, progress: bool = False, workers: int = 0) -> None:
    """Render what is missing or damaged; cases that another process is rendering are waited for at the end.

    Args:
        cases: The cases wanted.
        grid: ``prepared`` or ``native``.
        progress: Show a progress bar.
        workers: Processes that render side by side; 0 for one a core where there is enough to do, at most eight.
    """
    from tqdm import tqdm

    pending = [name for name in cases.ids if not is_whole(cases.path(name))]
    workers = workers or min(8, os.cpu_count() or 1, 1 + len(pending) // HEADS_A_WORKER)
    label, job = f"rendering {cases.folder.parent.name}", {"folder": str(cases.folder), "grid": grid}
    with (
        further_processes(workers - 1, "strokelib.data.phantom.cohorts", job, pending),
        tqdm(total=len(pending), desc=label, unit="head", disable=not (progress and pending)) as bar,
    ):
        in_turn(pending, lambda name, patience: _render_once(name, grid, cases.path(name), patience), bar.update)


def _worker() -> None:
    """What a further process does: render what nobody else is rendering."""
    job = json.load(sys.stdin)
    torch.set_num_threads(1)
    for name in job["names"]:
        with suppress(Timeout):
            _render_once(name, job["grid"], CaseFiles(Path(job["folder"]), [name]).path(name), 0)


def _render_once(case_id: str, grid: str, path: Path, patience: int) -> None:
    """As :func:`strokelib.data.sharing.make_once`."""
    make_once(path, lambda: render(case_id, grid), patience)


if __name__ == "__main__":
    _worker()
