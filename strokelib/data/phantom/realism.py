"""How close embedded heads are to real ones: the same measurements on both, and infarcts against their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from strokelib.data import shipped
from strokelib.data.cases import Case, Volume
from strokelib.data.phantom import embedded
from strokelib.errors import DataError
from strokelib.recipe import Recipe, stated

if TYPE_CHECKING:
    import pandas as pd

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
PATCH = 24
FLUID_HU = 18.0
DEEP_MM = 22.0
SMOOTH_MM = 3.0


@dataclass(frozen=True)
class RealismRecipe(Recipe):
    """What is measured, in which profile."""

    grid: str = stated("native", smoke="prepared", source="ours: the grid of the twelve heads")
    tests: int = stated(200, demo=60, smoke=6, source="ours: test heads of each cohort whose ventricles are measured")


def hu_percentiles(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """The :data:`PERCENTILES` of density in a brain, in HU."""
    return np.percentile(volume.array[brain], PERCENTILES)


def grey_white_hu(volume: Volume, brain: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Density of white and grey matter: two normal distributions fitted to the smoothed brain without fluid and bone.

    Args:
        volume: CT in HU.
        brain: (D, H, W) bool.
        seed: Of the voxels taken.

    Returns:
        White and grey matter in HU. Neither needs a label, so real and embedded scans are measured alike; where the two
        are not apart, neither are the numbers.
    """
    from sklearn.mixture import GaussianMixture

    _, dy, dx = volume.spacing
    smooth = ndimage.gaussian_filter(volume.array.astype(np.float32), (0, 1.2 / dy, 1.2 / dx))
    deep = ndimage.distance_transform_edt(brain, sampling=volume.spacing) > 6
    values = smooth[deep & (smooth > FLUID_HU) & (smooth < 60)]
    chosen = np.random.default_rng(seed).choice(values, min(len(values), 40_000), replace=False)
    model = GaussianMixture(2, means_init=[[26.0], [35.0]], random_state=seed).fit(chosen[:, None])
    white, grey = sorted(float(m) for m in model.means_[:, 0])
    return white, grey


def central_fluid_ml(volume: Volume, brain: np.ndarray) -> float:
    """Fluid more than 22 mm below the brain's surface in mL: nearly all of it is in the ventricles."""
    _, dy, dx = volume.spacing
    smooth = ndimage.gaussian_filter(volume.array.astype(np.float32), (0, 1.0 / dy, 1.0 / dx))
    deep = ndimage.distance_transform_edt(brain, sampling=volume.spacing) > DEEP_MM
    return float((deep & (smooth < FLUID_HU)).sum()) * volume.voxel_ml


def noise_spectrum(volume: Volume, brain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Noise power spectrum in axial slices, from flat patches of brain.

    Patches of 24 x 24 pixels wholly inside the brain, the quarter with the least spread (they hold the least anatomy),
    each without its plane trend.

    Args:
        volume: CT in HU on its native pixels.
        brain: (D, H, W) bool.

    Returns:
        Spatial frequency in cycles/mm, and power in HU^2 mm^2, both (11,).

    Raises:
        DataError: No patch fits into the brain.
    """
    _, dy, dx = volume.spacing
    patches = []
    for z in range(len(brain)):
        for y in range(0, brain.shape[1] - PATCH, PATCH // 2):
            for x in range(0, brain.shape[2] - PATCH, PATCH // 2):
                place = (z, slice(y, y + PATCH), slice(x, x + PATCH))
                if brain[place].all():
                    patches.append(volume.array[place].astype(np.float64))
    if not patches:
        raise DataError("noise spectrum", found="no patch", wanted="a brain of 24 x 24 pixels", next_step="check it")
    stack = np.stack(patches)
    grid = np.stack([np.ones(PATCH**2), *(g.ravel() for g in np.mgrid[:PATCH, :PATCH])], axis=1)
    flat = stack.reshape(len(stack), -1).T
    rest = (flat - grid @ np.linalg.lstsq(grid, flat, rcond=None)[0]).T.reshape(stack.shape)
    spread = rest.std(axis=(1, 2))
    rest = rest[spread <= np.quantile(spread, 0.25)]
    power = (np.abs(np.fft.fft2(rest)) ** 2).mean(axis=0) * dx * dy / PATCH**2
    radius = np.hypot(np.fft.fftfreq(PATCH, dy)[:, None], np.fft.fftfreq(PATCH, dx)[None])
    edges = np.linspace(0, 0.5 / dx, 12)
    which = np.digitize(radius, edges) - 1
    return (edges[:-1] + edges[1:]) / 2, np.array([power[which == n].mean() for n in range(11)])


def infarct_facts(cases: Sequence[Case]) -> pd.DataFrame:
    """Rendered infarcts against the masks they came from.

    Args:
        cases: Embedded cases with an infarct.

    Returns:
        One row a case: ``case``, ``anatomy``, ``mask_ml`` (the mask, scaled to the head's size), ``lesion_ml`` (as
        rendered), ``mask_side`` and ``lesion_side``, ``mask_artery`` and ``lesion_artery`` (the territory that holds
        most of it: ACA, MCA, PCA or VB).
    """
    import pandas as pd

    names = shipped.territories()[1]
    rows = []
    for case in cases:
        size = float(np.prod(case.facts["head"]["size"]))
        rows.append(
            {
                "case": case.id,
                "anatomy": case.facts["anatomy"],
                "mask_ml": case.facts["mask_ml"] * size,
                "lesion_ml": float(case.truth["lesion"].sum()) * case.image.voxel_ml,
                "mask_side": case.facts["side"],
                "lesion_side": _side(case),
                "mask_artery": _main_artery(_mask_labels(case.patient), names),
                "lesion_artery": _main_artery(case.truth["territory"][case.truth["lesion"]], names),
            }
        )
    return pd.DataFrame(rows)


def _mask_labels(patient: str) -> np.ndarray:
    """Territory labels under a patient's mask; masks and atlas share one grid."""
    return shipped.territories()[0].array[shipped.infarct(patient).array]


def _main_artery(labels: np.ndarray, names: pd.DataFrame) -> str:
    majors = names["major"].reindex(labels[labels > 0]).to_numpy()
    majors = majors[majors != "LV"]
    if not len(majors):
        return "none"
    found, counts = np.unique(majors.astype(str), return_counts=True)
    return str(found[counts.argmax()])


def _side(case: Case) -> str:
    """``left``, ``right`` or ``both`` (less than 90 % on one side of the known plane), or ``none``."""
    index = np.argwhere(case.truth["lesion"])[:, ::-1]
    if not len(index):
        return "none"
    *normal, distance = case.facts["midline_plane"]
    points = index @ case.image.affine[:3, :3].T + case.image.affine[:3, 3]
    right = float((points @ np.array(normal) > distance).mean())
    return "right" if right >= 0.9 else "left" if right <= 0.1 else "both"


def cohort_facts(case_ids: Sequence[str]) -> pd.DataFrame:
    """What is known of each patient of a cohort without rendering: covariates, course, side.

    Args:
        case_ids: Embedded cases.

    Returns:
        One row a case: ``case``, ``age``, ``sex``, ``nihss``, ``prior_stroke`` (missing stays missing),
        ``onset_hours``, ``side``, ``mask_ml``, ``anatomy``, ``label``.
    """
    import pandas as pd

    rows = []
    for name in case_ids:
        planned = embedded.plan(name)
        infarct = planned.infarct
        rows.append(
            {"case": name}
            | planned.covariates
            | {
                "onset_hours": infarct.onset_hours if infarct else None,
                "side": infarct.side if infarct else None,
                "mask_ml": infarct.volume_ml if infarct else 0.0,
                "anatomy": planned.row.anatomy,
                "label": planned.row.label,
            }
        )
    return pd.DataFrame(rows)
