"""Tissue maps of a head CT: grey matter, white matter, fluid.

Three sources give the same type. ``atlas`` needs nothing but the scan: the CT atlas' priors are brought onto the head
and an intensity mixture decides. ``truth`` is what an embedded head was painted from. ``user`` reads the maps that
SPM12 wrote (c1, c2, c3).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from strokelib.data.cases import Case, Volume
from strokelib.data.grids import Grid, box_of, crop, resample, sample_on
from strokelib.data.phantom.painting import TISSUES
from strokelib.data.registration import Registration
from strokelib.data.tissue_mixture import MixtureSettings, fit_mixture
from strokelib.data.tissue_priors import PriorSettings, align_atlas, priors_on
from strokelib.errors import DataError, ParameterError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

VERSION = 1
NAMES = ("grey", "white", "csf")
SOURCES = ("atlas", "truth", "user")
WORK_MM = 2.0
MARGIN_MM = 6.0
_TRUE_CLASS = {"grey matter": 0, "white matter": 1, "fluid": 2, "chronic infarct": 2}


@dataclass(frozen=True)
class TissueMaps:
    """Tissue probabilities on the grid of a CT.

    Args:
        grey: (D, H, W) float32 in 0 to 1. The three sum to 1 inside the brain and are 0 outside.
        white: The same.
        csf: The same: cerebrospinal fluid, in the ventricles and around the brain.
        affine: (4, 4), index to RAS millimetres: the CT's.
        report: ``source``; ``mean_hu`` and ``sd_hu`` of each tissue, weighted by its map; ``volumes_ml``, sums of the
            maps; and, by source, what else is known (``iterations``, ``seconds``, ``matrix``, ...).
    """

    grey: np.ndarray
    white: np.ndarray
    csf: np.ndarray
    affine: np.ndarray
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def maps(self) -> np.ndarray:
        """(3, D, H, W): grey, white, fluid."""
        return np.stack([self.grey, self.white, self.csf])

    def labels(self) -> np.ndarray:
        """The likeliest tissue: 0 outside the brain, 1 grey, 2 white, 3 fluid; (D, H, W) uint8."""
        maps = self.maps
        return np.where(maps.sum(axis=0) > 0, maps.argmax(axis=0) + 1, 0).astype(np.uint8)

    def without(self, mask: np.ndarray) -> TissueMaps:
        """The maps with 0 inside a mask (D, H, W), as ADN takes the reference infarct out of them."""
        keep = ~np.asarray(mask, bool)
        return replace(self, grey=self.grey * keep, white=self.white * keep, csf=self.csf * keep)


def maps_of(maps: np.ndarray, ct: Volume, brain: np.ndarray, report: dict[str, Any]) -> TissueMaps:
    """Tissue maps with the measures that every source reports.

    Args:
        maps: (3, D, H, W) that sum to 1 inside the brain.
        ct: In HU.
        brain: (D, H, W) bool.
        report: What the source knows beyond them.
    """
    maps = np.where(brain, maps, 0).astype(np.float32)
    hu = np.asarray(ct.array[brain], np.float64)
    measures: dict[str, dict[str, float]] = {"mean_hu": {}, "sd_hu": {}, "volumes_ml": {}}
    for name, part in zip(NAMES, maps, strict=True):
        weight = part[brain].astype(np.float64)
        total = max(float(weight.sum()), 1e-9)
        mean = float((weight * hu).sum() / total)
        measures["mean_hu"][name] = mean
        measures["sd_hu"][name] = float(np.sqrt((weight * (hu - mean) ** 2).sum() / total))
        measures["volumes_ml"][name] = float(weight.sum()) * ct.voxel_ml
    return TissueMaps(*maps, affine=ct.affine, report=report | measures)


def _checked(ct: Volume, brain: np.ndarray) -> np.ndarray:
    brain = np.asarray(brain, bool)
    if brain.shape != ct.array.shape or not brain.any():
        found = f"shape {brain.shape}, {int(brain.sum())} voxels"
        wanted = f"a mask of shape {ct.array.shape} that is not empty"
        raise DataError("brain mask", found=found, wanted=wanted, next_step="strip the skull first")
    return brain


def _working(ct: Volume, brain: np.ndarray) -> tuple[Volume, np.ndarray]:
    """The brain's box with voxels of 2 mm or more; new voxels average brain alone, so that no bone bleeds in."""
    box = box_of(brain, MARGIN_MM, ct.spacing)
    part, inside = crop(ct, box), brain[box]
    spacing = tuple(max(step, WORK_MM) for step in part.spacing)
    if np.allclose(spacing, part.spacing, rtol=1e-3):
        return part.with_array(part.array.astype(np.float32)), inside
    weight = inside.astype(np.float32)
    share = resample(part.with_array(weight), spacing)
    total = resample(part.with_array(np.where(inside, part.array, 0).astype(np.float32)), spacing)
    return total.with_array(total.array / np.maximum(share.array, 0.05)), share.array > 0.5


def _onto(maps: np.ndarray, small: Volume, inside: np.ndarray, ct: Volume, brain: np.ndarray) -> np.ndarray:
    """Maps of a working grid on the CT's, linear; beyond the working brain its nearest voxel counts."""
    nearest = ndimage.distance_transform_edt(
        ~inside, sampling=small.spacing, return_distances=False, return_indices=True
    )
    whole = np.pad(maps[:, *nearest], ((0, 0), (1, 1), (1, 1), (1, 1)), mode="edge")
    affine = small.affine.copy()
    affine[:3, 3] -= affine[:3, :3].sum(axis=1)
    box = box_of(brain, 0.0, ct.spacing)
    grid = Grid.of(crop(ct, box))
    out = np.zeros((3, *brain.shape), np.float32)
    out[:, *box] = np.stack([sample_on(Volume(part, affine), grid, fill=0.0).array for part in whole])
    return np.where(brain, out / np.maximum(out.sum(axis=0), 1e-6), 0)


def tissue_maps(
    ct: Volume,
    brain: np.ndarray,
    *,
    registration: Registration | None = None,
    priors: PriorSettings | None = None,
    mixture: MixtureSettings | None = None,
    seed: int = 0,
) -> TissueMaps:
    """Grey matter, white matter and fluid of a head CT.

    The CT atlas is registered to the head (12 degrees of freedom; a smooth warp after it is offered), its priors
    follow, and a mixture of intensities with these priors decides on a grid of 2 mm (the scan's own where that is
    coarser). An acute infarct belongs to the tissue it has struck: the mixture's dark class catches most of it; see
    :mod:`strokelib.methods.tissue_errors` for how much is taken for fluid.

    Source: section 2, Ni et al. 2022: R_GM, R_WM and R_CSF by SPM12 and the CT atlas of Rorden et al. 2012.
    Deviation: neither SPM12 nor MATLAB; the same atlas, but an affine registration that is fitted first and then left
        alone, where SPM12 fits registration, warp and mixture together; probabilities (the paper's maps are binary:
        take :meth:`TissueMaps.labels`).

    Args:
        ct: Head CT in HU.
        brain: (D, H, W) bool on its grid.
        registration: Of the atlas' brain to this one, where it is known already.
        priors: Warp and smoothing of the priors; defaults where None.
        mixture: Defaults where None.
        seed: Seed of the registration's sampling.

    Returns:
        The maps on the CT's grid. The same input gives the same bytes (``seconds`` in the report aside). The report
        adds ``class_hu`` and ``class_sd_hu`` (the mixture's classes), ``class_shares``, ``iterations``, ``seconds`` by
        step, ``matrix`` (4 x 4, head's RAS mm to the atlas') and ``overlap`` (Dice of the brains once registered).

    Raises:
        DataError: No brain, densities that are no brain in HU, or a registration that fails.
    """
    brain = _checked(ct, brain)
    clock, seconds = time.perf_counter(), {}

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = round(time.perf_counter() - clock, 3), time.perf_counter()

    small, inside = _working(ct, brain)
    lap("working grid")
    if registration is None:
        registration = align_atlas(small, inside, seed=seed)
    lap("registration")
    expected = priors_on(small, inside, registration, priors)
    lap("priors")
    fit = fit_mixture(small.array, expected, inside, small.spacing, mixture)
    lap("mixture")
    maps = _onto(fit.tissues, small, inside, ct, brain)
    lap("onto the scan")
    report = {
        "source": "atlas",
        "class_hu": fit.means_hu,
        "class_sd_hu": fit.sds_hu,
        "class_shares": fit.shares,
        "iterations": fit.iterations,
        "seconds": seconds,
        "matrix": registration.matrix.tolist(),
        "overlap": registration.overlap,
    }
    return maps_of(maps, ct, brain, report)


def true_maps(case: Case) -> TissueMaps:
    """The tissues an embedded head was painted from: 1 for the largest share of a voxel, 0 for the others.

    An acute infarct keeps the tissue it has struck; a chronic one counts as fluid. Brain voxels whose largest share is
    bone or soft tissue take their nearest neighbour's.

    Raises:
        DataError: The case knows no tissues or has no brain mask.
    """
    if "tissue" not in case.truth or case.brain is None:
        step = "take the maps from the atlas or from files"
        raise DataError(f"case {case.id}", found="no true tissues", wanted="an embedded case", next_step=step)
    table = np.full(len(TISSUES), -1)
    for name, number in _TRUE_CLASS.items():
        table[TISSUES.index(name)] = number
    number = table[case.truth["tissue"]]
    known = case.brain & (number >= 0)
    nearest = ndimage.distance_transform_edt(
        ~known, sampling=case.image.spacing, return_distances=False, return_indices=True
    )
    maps = np.stack([number[*nearest] == k for k in range(3)])
    report = {"source": "truth", "filled_voxels": int((case.brain & ~known).sum())}
    return maps_of(maps, case.image, case.brain, report)


def tissue_maps_from(
    source: str,
    case: Case,
    *,
    files: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    seed: int = 0,
) -> TissueMaps:
    """Tissue maps of a case from a source chosen by name.

    Args:
        source: ``atlas``, ``truth`` (embedded cases) or ``user`` (needs ``files``).
        case: With a brain mask.
        files: As :func:`strokelib.data.tissue_files.read_tissue_maps` takes them.
        seed: For ``atlas``.

    Raises:
        ParameterError: Another source, or ``user`` without files.
        DataError: No brain mask; and as the source's function.
    """
    if source not in SOURCES:
        wanted = " or ".join(SOURCES)
        raise ParameterError("tissue source", found=repr(source), wanted=wanted, next_step="give one of these")
    if case.brain is None:
        raise DataError(f"case {case.id}", found="no brain mask", wanted="a mask", next_step="strip the skull first")
    if source == "truth":
        return true_maps(case)
    if source == "atlas":
        return tissue_maps(case.image, case.brain, seed=seed)
    if files is None:
        raise ParameterError(
            "files", found="none", wanted="a folder or three files", next_step="say where c1, c2 and c3 lie"
        )
    from strokelib.data.tissue_files import read_tissue_maps

    return read_tissue_maps(files, case.image, case.brain)
