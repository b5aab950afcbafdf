"""The perfusion scans of a run: embedded ones with maps that are computed from them, or the user's own.

What :mod:`strokelib.data.scans` is for the CT alone. A scan is one :class:`Case` whose image is the CT without contrast
and whose channels are ``cbf`` (mL/100 g/min), ``cbv`` (mL/100 g), ``mtt_s``, ``tmax_s``, ``series`` (T, D, H, W) in HU
and ``dwi``. Embedded scans are kept in ``runs/cases/isles2018/ctp-<grid>-v<versions>/``.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import Timeout
from safetensors import safe_open

from strokelib import settings as places
from strokelib.data import perfusion
from strokelib.data.cases import Case, is_whole
from strokelib.data.phantom import embedded
from strokelib.data.phantom import perfusion as rendering
from strokelib.data.phantom.cohorts import COUNTS, SPLITS, CaseFiles, case_ids
from strokelib.data.phantom.embedded import checked
from strokelib.data.phantom.fields import one_thread
from strokelib.data.phantom.perfusion import PerfusionCase
from strokelib.data.phantom.perfusion_slab import COHORT
from strokelib.data.scans import own_parts
from strokelib.data.sharing import further_processes, in_turn, make_once
from strokelib.errors import DataError
from strokelib.settings import Profile, Settings

VERSION = 1
GRIDS = ("prepared", "published")
PARTS = (*SPLITS, "hidden")
MAPS = ("cbf", "cbv", "mtt_s", "tmax_s")
METHOD, FWHM_PX = "osvd", 2.5
TRUTH = ("core", "penumbra", "cbf", "tmax_s", "dwi_lesion")
SCANS_A_WORKER = 4


def load_ctp_parts(
    settings: Settings, *, grid: str = "prepared", progress: bool = False, **limits: int | None
) -> tuple[CaseFiles, ...]:
    """Several splits of perfusion scans at once; what is not there yet is made first.

    Args:
        settings: Profile, cohort (``isles2018``) and data of the run.
        grid: ``prepared`` (112 x 96 pixels of 2 mm) or ``published`` (256 x 256); of the user's scans also ``native``.
        progress: Show a progress bar.
        limits: Split (``train``, ``val``, ``test``, ``hidden``) to at most so many scans, None for all that the profile
            uses.

    Returns:
        The splits in the order of ``limits``; each reads a scan from disk when it is asked for. Scans of the user that
        lack a map are left out with a warning.

    Raises:
        ParameterError: Another cohort, an unknown split or grid.
        DataError: A split has no scan with all four maps.
    """
    step = "choose the cohort isles2018; no other one has perfusion"
    checked("cohort with perfusion", settings.cohort, (COHORT,), step)
    for split in limits:
        checked("split", split, PARTS, "give one of these splits")
    if settings.data is not None:
        found = own_parts(settings, grid, progress, limits)
        return tuple(_with_maps(part, split) for split, part in zip(limits, found, strict=True))
    checked("grid", grid, GRIDS, "give one of these grids")
    folder = settings.runs / "cases" / COHORT / f"ctp-{grid}-v{versions()}"
    parts = [CaseFiles(folder, scan_ids(split, settings.profile)[:limit]) for split, limit in limits.items()]
    ensure_made(CaseFiles(folder, [name for part in parts for name in part.ids]), grid, progress=progress)
    return tuple(parts)


def versions() -> str:
    """The versions of all that makes an embedded scan and its maps, for the name of their folder."""
    return ".".join(str(part.VERSION) for part in (embedded, rendering, perfusion)) + f".{VERSION}"


def scan_ids(split: str, profile: Profile | str) -> tuple[str, ...]:
    """Names of the embedded scans of a split that a profile uses; of ``hidden`` as many as of ``test``.

    Raises:
        ParameterError: Unknown split or profile.
    """
    if split != "hidden":
        return case_ids(COHORT, split, profile)
    profile = Profile(checked("profile", str(profile), [p.value for p in Profile], "give one of these profiles"))
    listed = embedded.rows(COHORT, places.manifests_dir())
    names = tuple(name for name, row in listed.items() if row.split == split)
    return names if profile is Profile.PAPER else names[: COUNTS[COHORT][profile][SPLITS.index("test")]]


def ctp_case(scan: PerfusionCase) -> Case:
    """An embedded perfusion scan as a case whose channels are what a perfusion program would show.

    Args:
        scan: As :func:`strokelib.data.phantom.perfusion.render_ctp` renders it.

    Returns:
        The scan's case with the channels ``cbf``, ``cbv``, ``mtt_s``, ``tmax_s`` (float32, estimated from the noisy
        series with the artery that was measured in it; 0 outside the brain and where there is no flow), ``series``
        (int16 HU) and ``dwi`` (float32, normal white matter near 1). Truth gains ``ctp_core``, ``ctp_penumbra``,
        ``ctp_cbf``, ``ctp_tmax_s`` and ``ctp_dwi_lesion``; facts gain ``step_s``, ``step_by`` and ``maps_by``.
    """
    brain = scan.case.brain
    with one_thread():
        quiet = perfusion.smoothed(scan.enhancement, brain, FWHM_PX)
        found = perfusion.perfusion_maps(quiet, scan.aif, scan.step_s, brain, METHOD)
    channels = {name: np.nan_to_num(getattr(found, name), nan=0.0).astype(np.float32) for name in MAPS}
    channels |= {"series": scan.series, "dwi": scan.dwi}
    truth = {f"ctp_{name}": scan.truth[name] for name in TRUTH}
    facts = {
        "step_s": scan.step_s,
        "step_by": "rendered",
        "maps_by": f"{METHOD}, measured artery, smoothed in plane by {FWHM_PX} px (FWHM)",
    }
    return replace(scan.case, channels=channels, truth=scan.case.truth | truth, facts=scan.case.facts | facts)


def ensure_made(scans: CaseFiles, grid: str, *, progress: bool = False, workers: int = 0) -> None:
    """Render and map what is missing or damaged; scans that another process is at work on are waited for at the end.

    Args:
        scans: The scans wanted.
        grid: ``prepared`` or ``published``.
        progress: Show a progress bar.
        workers: Processes side by side; 0 for one a core where there is enough to do, at most eight.
    """
    from tqdm import tqdm

    pending = [name for name in scans.ids if not is_whole(scans.path(name))]
    workers = workers or min(8, os.cpu_count() or 1, 1 + len(pending) // SCANS_A_WORKER)
    job = {"folder": str(scans.folder), "grid": grid}
    with (
        further_processes(workers - 1, "strokelib.data.ctp", job, pending),
        tqdm(total=len(pending), desc="perfusion scans", unit="scan", disable=not (progress and pending)) as bar,
    ):
        in_turn(pending, lambda name, patience: _make_once(name, grid, scans.path(name), patience), bar.update)


def _make_once(name: str, grid: str, path: Path, patience: int) -> None:
    """As :func:`strokelib.data.sharing.make_once`."""
    make_once(path, lambda: ctp_case(rendering.render_ctp(name, grid)), patience)


def _worker() -> None:
    """What a further process does: make what nobody else is making."""
    job = json.load(sys.stdin)
    for name in job["names"]:
        with suppress(Timeout):
            _make_once(name, job["grid"], CaseFiles(Path(job["folder"]), [name]).path(name), 0)


def _with_maps(part: CaseFiles, split: str) -> CaseFiles:
    """The scans of the user that have all four maps."""
    lacking = {name: lack for name in part.ids if (lack := _lacking(part.path(name)))}
    there = [name for name in part.ids if name not in lacking]
    if lacking:
        name, lack = next(iter(lacking.items()))
        said = f"{len(lacking)} of {len(part)} scans of {split} left out: {name} has no {', '.join(lack)}"
        if not there:
            step = "add the files CT_CBF, CT_CBV, CT_MTT and CT_Tmax, as docs/data.md says"
            raise DataError(f"{COHORT}, split {split}", found=said, wanted="the four maps", next_step=step)
        warnings.warn(said, stacklevel=3)
    return CaseFiles(part.folder, there)


def _lacking(path: Path) -> list[str]:
    with safe_open(path, framework="numpy") as file:
        names = set(file.keys())
    return [name for name in MAPS if f"channel.{name}" not in names]


if __name__ == "__main__":
    _worker()
