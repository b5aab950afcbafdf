"""One head for every method: a whole CT without contrast, and CT perfusion of some of its slices.

The methods of this book read two kinds of scans, and their cohorts are two kinds of patients. Here a head of a cohort
without perfusion gets a perfusion scan of its own infarct, as ``isles2018`` gets it. It lies straight, so that the
other side of a voxel is a voxel, and no method has to move its answer. Kept in ``runs/cases/<cohort>/``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from strokelib import manifest
from strokelib import settings as places
from strokelib.data import ctp
from strokelib.data.cases import Case, load_case
from strokelib.data.phantom import embedded
from strokelib.data.phantom.cohorts import case_ids
from strokelib.data.phantom.fields import one_thread
from strokelib.data.phantom.perfusion import render_ctp_plan
from strokelib.data.phantom.perfusion_slab import SlabRange, at_dwi
from strokelib.data.phantom.scanner import grid as make_grid
from strokelib.data.phantom.scanner import unposed
from strokelib.data.sharing import make_once
from strokelib.errors import DataError, ParameterError
from strokelib.settings import Settings

VERSION = 1
GRIDS = ("prepared", "published")
SLICES = 8


@dataclass(frozen=True)
class Perfused:
    """A head, and perfusion of its middle slices about the infarct.

    Args:
        whole: The CT without contrast.
        slab: Some of its slices, voxel for voxel the same CT, brain and reference, with the channels of
            :func:`strokelib.data.ctp.ctp_case`.
        levels: Which slices of the whole these are.
    """

    whole: Case
    slab: Case
    levels: slice


def perfused_heads(
    settings: Settings, n: int, *, least_ml: float = 5.0, slices: int = SLICES, grid: str = "prepared"
) -> list[Perfused]:
    """The first test heads of an embedded cohort whose infarct is not too small, made where they are not there yet.

    Args:
        settings: Its cohort and runs; data of the user are not looked at.
        n: How many.
        least_ml: Smallest volume of the patient's infarct mask.
        slices: Of the perfusion scan.
        grid: ``prepared`` or ``published``.

    Raises:
        ParameterError: Another grid, or fewer than one head or slice.
        DataError: The cohort has fewer such heads.
    """
    if grid not in GRIDS or n < 1 or slices < 1:
        found, wanted = f"grid {grid!r}, {n} heads of {slices} slices", f"{' or '.join(GRIDS)}, 1 or more of both"
        raise ParameterError("perfused heads", found=found, wanted=wanted, next_step="correct them")
    names = large_infarcts(settings, least_ml)
    if len(names) < n:
        found, step = f"{len(names)} of {least_ml:g} mL or more", "ask for fewer heads, or for smaller infarcts"
        raise DataError(f"test heads of {settings.cohort}", found=found, wanted=n, next_step=step)
    root = settings.runs / "cases" / settings.cohort
    version = f"{grid}-v{ctp.versions()}.{VERSION}"
    return [_head(name, grid, slices, root / f"straight-{version}", root / f"perfused-{version}") for name in names[:n]]


def large_infarcts(settings: Settings, least_ml: float) -> list[str]:
    """Names of the cohort's test heads whose patient's infarct mask has a volume or more, in order."""
    volume = manifest.read("infarcts").set_index("patient")["volume_ml"].astype(float)
    listed = embedded.rows(settings.cohort, places.manifests_dir())
    names = case_ids(settings.cohort, "test", settings.profile)
    return [name for name in names if listed[name].patient and volume[listed[name].patient] >= least_ml]


def _head(name: str, grid: str, slices: int, heads: Path, slabs: Path) -> Perfused:
    whole = _kept(heads / f"{name}.safetensors", lambda: straight_head(name, grid))
    slab = _kept(slabs / f"{name}-{slices}.safetensors", lambda: perfused_slab(whole, slices))
    first = slab.facts["first_slice"]
    return Perfused(whole, slab, slice(first, first + slices))


def _kept(path: Path, make: Callable[[], Case]) -> Case:
    make_once(path, make, -1)
    return load_case(path)


def straight_head(case_id: str, grid: str = "prepared") -> Case:
    """A head of a cohort, lying straight and centred: the mid-sagittal plane is the middle of the last axis."""
    with one_thread():
        return embedded.render_plan(_straight(case_id), grid)


def _straight(case_id: str) -> embedded.Plan:
    planned = embedded.plan(case_id)
    if planned.infarct is None:
        step = "choose a head with one"
        raise DataError(f"case {case_id}", found="no infarct", wanted="an infarct to perfuse", next_step=step)
    return replace(planned, pose=unposed(planned.pose), slab=None)


def perfused_slab(whole: Case, slices: int = SLICES) -> Case:
    """The slices of a straight head about its infarct, with perfusion.

    Args:
        whole: From :func:`straight_head`.
        slices: How many; less where the head has fewer.

    Returns:
        As :func:`strokelib.data.ctp.ctp_case`; facts gain ``first_slice``.
    """
    with one_thread():
        planned = _straight(whole.id)
        target = make_grid(whole.facts["grid"], planned.pose)
        depth, step = target.shape[0], target.affine[2, 2]
        first = first_slice(whole.lesion, whole.brain, min(slices, depth))
        low = float(target.affine[2, 3] + step * (first - 0.5))
        slab = SlabRange(low, low + step * min(slices, depth), 1)
        planned = replace(planned, slab=slab, later=at_dwi(planned.head.seed, planned.infarct))
        part = _slices_of(whole, slice(first, first + min(slices, depth)))
        scan = render_ctp_plan(planned, part, slab.cut(target))
    made = ctp.ctp_case(scan)
    return replace(made, facts=made.facts | {"first_slice": first})


def first_slice(lesion: np.ndarray, brain: np.ndarray, slices: int) -> int:
    """The lowest of some slices about the lesion's middle, moved to where there is brain.

    Args:
        lesion: (D, H, W) bool; the brain's middle where it is empty.
        brain: (D, H, W) bool.
        slices: How many.
    """
    shown = np.flatnonzero(brain.any(axis=(1, 2)))
    weights = (lesion if lesion.any() else brain).sum(axis=(1, 2))
    middle = float(np.average(np.arange(len(weights)), weights=weights))
    first = round(middle - (slices - 1) / 2)
    return int(np.clip(first, shown[0], max(shown[0], shown[-1] + 1 - slices)))


def _slices_of(case: Case, levels: slice) -> Case:
    affine = case.image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * levels.start
    image = replace(case.image, array=case.image.array[levels], affine=affine)
    truth = {name: np.ascontiguousarray(values[levels]) for name, values in case.truth.items()}
    return replace(case, image=image, lesion=case.lesion[levels], brain=case.brain[levels], truth=truth)


def on_whole(head: Perfused, values: np.ndarray) -> np.ndarray:
    """A map of the slab (d, H, W) as one of the whole head (D, H, W), 0 beyond.

    Raises:
        DataError: The map has another shape.
    """
    if np.shape(values) != head.slab.image.array.shape:
        found, wanted = np.shape(values), head.slab.image.array.shape
        raise DataError("map of the slab", found=found, wanted=wanted, next_step="give one value a voxel of the slab")
    out = np.zeros(head.whole.image.array.shape, np.asarray(values).dtype)
    out[head.levels] = values
    return out


def ids_of(heads: Sequence[Perfused]) -> list[str]:
    """Names of the heads."""
    return [head.whole.id for head in heads]
