"""The cases of a run: the embedded cohort, or the user's own scans where ``DATA`` names a folder.

Notebooks ask here and nowhere else, so that none of them changes when the data do.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

from strokelib.data.cases import Case
from strokelib.data.phantom import cohorts
from strokelib.data.phantom.cohorts import COUNTS, SPLITS, CaseFiles
from strokelib.data.preparing import PreparedFolder, default_out, prepare, sorted_cases
from strokelib.data.realcase import Choices
from strokelib.errors import DataError, ParameterError
from strokelib.settings import Profile, Settings


def load_parts(
    settings: Settings, *, grid: str = "prepared", progress: bool = False, **limits: int | None
) -> tuple[CaseFiles, ...]:
    """Several splits at once; what is not rendered or not prepared yet is made first.

    Args:
        settings: Profile, cohort and data of the run.
        grid: ``prepared``, ``published`` or ``native``.
        progress: Show a progress bar.
        limits: Split to at most so many cases, None for all that the profile uses: ``train=120, val=20, test=None``.

    Returns:
        The splits in the order of ``limits``; each reads a case from disk when it is asked for. Scans of the user that
        cannot be prepared are left out with a warning.

    Raises:
        ParameterError: An unknown split, or a folder that holds another data set.
        DataError: A split has no case.
    """
    for split in limits:
        if split not in SPLITS:
            wanted = " or ".join(SPLITS)
            raise ParameterError("split", found=repr(split), wanted=wanted, next_step="give one of these")
    if settings.data is None:
        if grid == "prepared":
            return cohorts.load_parts(
                settings.cohort, settings.profile, root=settings.runs, progress=progress, **limits
            )
        parts = limits.items()
        how = {"root": settings.runs, "grid": grid, "progress": progress}
        return tuple(cohorts.load(settings.cohort, part, settings.profile, limit=limit, **how) for part, limit in parts)
    return own_parts(settings, grid, progress, limits)


def own_parts(settings: Settings, grid: str, progress: bool, limits: dict[str, int | None]) -> tuple[CaseFiles, ...]:
    """The user's scans of several splits, ``hidden`` too (as many as of ``test``), prepared where they are not yet.

    Args:
        settings: With ``data``.
        grid: ``prepared``, ``published`` or ``native``.
        progress: Show a progress bar.
        limits: Split to at most so many cases, None for all that the profile uses.

    Raises:
        ParameterError: A folder that holds another data set.
        DataError: A split has no case.
    """
    known = sorted_cases(settings.data, settings.cohort)
    wanted: dict[str, list[str]] = {}
    for split, limit in limits.items():
        names = sorted((c.id for c in known if c.split == split), key=lambda n: hashlib.sha256(n.encode()).hexdigest())
        if settings.profile is not Profile.PAPER:
            used = "test" if split == "hidden" else split
            names = names[: COUNTS[settings.cohort][settings.profile][SPLITS.index(used)]]
        wanted[split] = names[:limit]
    every = [name for names in wanted.values() for name in names]
    out = default_out(settings.data, settings.cohort)
    made = prepare(settings.data, settings.cohort, out=out, choices=Choices(grid=grid), only=every, progress=progress)
    _tell(made)
    parts = []
    for split, names in wanted.items():
        there = [name for name in names if name not in made.problems]
        if not there:
            found = f"none of {len(names)} prepared" if names else "no case with a reference"
            step = "see what `strokelib check` says of the folder, or give a splits.csv in it"
            raise DataError(f"{settings.cohort}, split {split}", found=found, wanted="at least one", next_step=step)
        parts.append(CaseFiles(made.folder, there))
    return tuple(parts)


def _tell(made: PreparedFolder) -> None:
    if made.problems:
        first = next(iter(made.problems.values()))
        warnings.warn(f"{len(made.problems)} of {len(made.cases)} scans left out; the first: {first}", stacklevel=3)


def names_beside(settings: Settings, *others: str) -> tuple[str, ...]:
    """The run's cohort and embedded ones beside it; the user's own scans stand alone."""
    return tuple(dict.fromkeys((settings.cohort, *others))) if settings.data is None else (settings.cohort,)


def facts_of(cases: Sequence[Case]) -> dict[str, list[float]]:
    """Plain numbers of some cases: lesion volume in mL, brain volume in mL, HU of the brain (median), slices.

    Args:
        cases: Prepared cases.

    Returns:
        Columns of one value a case.
    """
    import numpy as np

    columns: dict[str, list[float]] = {"lesion_ml": [], "brain_ml": [], "brain_hu": [], "slices": []}
    for case in cases:
        brain = np.ones(case.image.array.shape, bool) if case.brain is None else case.brain
        columns["lesion_ml"].append(case.lesion_ml)
        columns["brain_ml"].append(float(brain.sum()) * case.image.voxel_ml)
        columns["brain_hu"].append(float(np.median(case.image.array[brain])))
        columns["slices"].append(float(brain.any(axis=(1, 2)).sum()))
    return columns
