"""How far registrations of embedded heads are from the truth, and how alike the two halves of a brain become.

Heads of anatomy A, from which the CT atlas' tissue comes, and of anatomy B are always told apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from strokelib import manifest
from strokelib.data.cases import Case, Volume
from strokelib.data.contralateral import (
    both_sides,
    contralateral_image,
    mirror_by_atlas,
    mirror_by_plane,
    refined_mirror,
    residual_asymmetry,
)
from strokelib.data.grids import Grid, sample_on
from strokelib.data.mr_to_ct import mr_brain_mask
from strokelib.data.phantom import embedded
from strokelib.data.phantom.mr import render_mr
from strokelib.data.registration import Registration, register_affine
from strokelib.data.skullstrip import skull_strip
from strokelib.errors import DataError
from strokelib.metrics import dice
from strokelib.recipe import Recipe, stated

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
OURS = "ours: the paper reports no registration error"
COHORTS = ("aisd", "apis", "icoais")
WAYS = ("scanner", "rigid", "affine")
MIRRORS = ("plane", "atlas, inverse back", "atlas, registered back")
EVERY_POINT = 7


@dataclass(frozen=True)
class RegistrationRecipe(Recipe):
    """How many heads of each anatomy the errors are measured on."""

    mr_heads: int = stated(20, demo=2, smoke=1, source=OURS)
    mirror_heads: int = stated(20, demo=2, smoke=1, source=OURS)
    seed: int = stated(0, source=OURS)


def chosen_heads(anatomy: str, count: int, cohorts: Sequence[str] = COHORTS) -> list[str]:
    """The first test heads with an infarct of one anatomy, the cohorts in turn.

    Args:
        anatomy: ``A`` or ``B``.
        count: How many; fewer where the cohorts hold fewer.
        cohorts: Cohorts with MR.

    Returns:
        Names of cases.
    """
    lists = []
    for cohort in cohorts:
        table = manifest.split(cohort)
        kept = table[(table["split"] == "test") & (table["anatomy"] == anatomy) & table["patient"].notna()]
        lists.append(kept["case"].tolist())
    turns = chain.from_iterable(zip_longest(*lists))
    return [name for name in turns if name is not None][:count]


def distances_mm(case: Case, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How far two transforms take the points of a brain apart.

    Args:
        case: For its brain; every seventh voxel is taken.
        found: (4, 4), RAS mm of the case to some other RAS mm.
        true: (4, 4), the same way as it really is.

    Returns:
        (N,) mm.
    """
    index = np.argwhere(case.brain)[::EVERY_POINT, ::-1]
    points = index @ case.image.affine[:3, :3].T + case.image.affine[:3, 3]
    gap = found - true
    return np.linalg.norm(points @ gap[:3, :3].T + gap[:3, 3], axis=1)


def _way(way: str, ct: Case, mr: Case, brains: tuple[np.ndarray, np.ndarray] | None, seed: int) -> Registration:
    """The registration of one way; ``scanner`` leaves the two as the scanners wrote them."""
    if way == "scanner":
        return Registration(np.eye(4), float("nan"), 0)
    return register_affine(ct.image, mr.image, fixed_mask=brains[0], moving_mask=brains[1], dof=way, seed=seed)


def mr_errors(
    case_ids: Sequence[str], ways: Sequence[str] = WAYS, *, known_brains: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Errors of the registration of MR to CT against the way that the rendering knows.

    The truth is rigid: one head in two poses. An affine may only lose against it what its freedom costs.

    Args:
        case_ids: Embedded cases of cohorts with MR.
        ways: Of ``scanner`` (no registration), ``rigid``, ``similarity``, ``affine``.
        known_brains: Take the true brain masks instead of finding them in both scans.
        seed: Seed of the sampling.

    Returns:
        One row a case and way: ``anatomy``, ``cohort``, ``modality``; ``mean_mm`` and ``p95_mm``, distances over brain
        points; ``mask_dice``, the MR's lesion brought over the found and over the true way; ``volume_change``, of that
        lesion from the MR's grid to the CT's, as a share; ``brain_change``, factor on volumes minus 1 that the matrix
        itself holds; ``seconds`` of the registration; ``failed`` (why there is none; errors are then NaN).
    """
    import pandas as pd

    rows = []
    for name in case_ids:
        ct, mr = embedded.render(name), render_mr(name)
        base = {"case": name, "anatomy": ct.facts["anatomy"], "cohort": ct.cohort, "modality": mr.facts["modality"]}
        true = np.linalg.inv(np.array(mr.facts["mr_to_ct"]))
        lesion, grid = Volume(mr.lesion, mr.image.affine), Grid.of(ct.image)
        reference = sample_on(lesion, grid, true, order=0).array
        brains, problem = ((ct.brain, mr.brain), "") if known_brains else _found_brains(ct, mr)
        for way in ways:
            started, row = time.perf_counter(), base | {"way": way}
            if problem and way != "scanner":
                rows.append(row | {"failed": problem})
                continue
            try:
                result = _way(way, ct, mr, brains, seed)
                apart = distances_mm(ct, result.matrix, true)
                row |= {"mean_mm": float(apart.mean()), "p95_mm": float(np.percentile(apart, 95)), "failed": ""}
                row |= _mask_errors(result.apply(lesion, ct.image, order=0), lesion, reference)
                row |= {"brain_change": 1 / abs(float(np.linalg.det(result.matrix[:3, :3]))) - 1}
            except DataError as error:
                row |= {"failed": str(error)}
            rows.append(row | {"seconds": time.perf_counter() - started})
    return pd.DataFrame(rows)


def _found_brains(ct: Case, mr: Case) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
    """Both brain masks as they would be found in a real pair, or why they are not."""
    try:
        return (skull_strip(ct.image)[0], mr_brain_mask(mr.image)), ""
    except DataError as error:
        return None, str(error)


def _mask_errors(moved: Volume, lesion: Volume, reference: np.ndarray) -> dict[str, float]:
    """Dice and change of volume of a mask; NaN where it is empty."""
    before_ml, after_ml = (float(v.array.sum()) * v.voxel_ml for v in (lesion, moved))
    if not before_ml:
        return {"mask_dice": float("nan"), "volume_change": float("nan")}
    return {"mask_dice": dice(moved.array, reference), "volume_change": after_ml / before_ml - 1}


def _mirrors(case: Case, seed: int) -> Iterable[tuple[str, Callable[[], np.ndarray]]]:
    """Each way's name and what computes its mirror; the second atlas way goes on from the first."""
    kept: list[np.ndarray] = []

    def by_atlas() -> np.ndarray:
        kept.append(mirror_by_atlas(case.image, case.brain, refine=False, seed=seed))
        return kept[-1]

    def back() -> np.ndarray:
        return refined_mirror(case.image, case.brain, kept[-1] if kept else by_atlas(), seed=seed)

    return zip(MIRRORS, (lambda: mirror_by_plane(case.image, case.brain), by_atlas, back), strict=True)


def mirror_errors(case_ids: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Residual asymmetry that is left by a plane mirror and by the affine ways through the atlas, on the same voxels.

    Only voxels that have a mirror image under all of a case's ways count, so that a way cannot gain by covering less;
    the infarct-free columns leave out the infarct and every place where some way mirrors it to.

    Args:
        case_ids: Embedded cases; their true brain masks are used.
        seed: Seed of the sampling.

    Returns:
        One row a case and way: ``anatomy``, ``cohort``, ``residual_hu``, ``residual_free_hu`` (without infarct),
        ``covered_share`` (of the brain that has a mirror image), ``compared_share`` (the voxels that count),
        ``seconds`` (``atlas, registered back`` goes on from the way before it) and ``failed``.
    """
    import pandas as pd

    rows = []
    for name in case_ids:
        case = embedded.render(name)
        rows += _mirror_rows(case, seed)
    return pd.DataFrame(rows)


def _mirror_rows(case: Case, seed: int) -> list[dict[str, object]]:
    rows, images = [], {}
    infarct = case.truth["lesion"].astype(bool)
    compared, touched = case.brain.copy(), infarct.copy()
    for way, find in _mirrors(case, seed):
        row = {"case": case.id, "anatomy": case.facts["anatomy"], "cohort": case.cohort, "way": way, "failed": ""}
        started = time.perf_counter()
        try:
            mirror = find()
        except DataError as error:
            row["failed"] = str(error)
        row["seconds"] = time.perf_counter() - started
        rows.append(row)
        if row["failed"]:
            continue
        images[way] = contralateral_image(case.image, case.brain, mirror)
        covered = both_sides(case.brain, images[way])
        compared &= covered
        touched |= sample_on(case.image.with_array(infarct), Grid.of(case.image), mirror, order=0).array
        row["covered_share"] = float(covered.sum() / case.brain.sum())
    for row in rows:
        if not row["failed"]:
            image = images[row["way"]]
            row["residual_hu"] = residual_asymmetry(case.image, image, compared)
            row["residual_free_hu"] = residual_asymmetry(case.image, image, compared & ~touched)
            row["compared_share"] = float(compared.sum() / case.brain.sum())
    return rows
