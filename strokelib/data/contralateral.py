"""The other half of the brain in the place of this one: contralateral image, difference image, residual asymmetry.

A contralateral image holds at each point what lies at the mirrored point. What "mirrored" means is the question: a
plane mirror takes the two halves for congruent, a way through a template and an affine back allows them to differ in
size and shear. Either way is one (4, 4) matrix from a scan's millimetres to its own, so the scan is interpolated once.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

from strokelib.data import shipped
from strokelib.data.cases import Volume
from strokelib.data.grids import AIR_HU, Grid, rectify, sample_on
from strokelib.data.midsagittal import find_midplane, midplane_transform
from strokelib.data.registration import register_affine
from strokelib.errors import DataError, ParameterError

VERSION = 1
CLIP_HU = (-100.0, 400.0)
FLIP = np.diag([-1.0, 1.0, 1.0, 1.0])
Sign = Literal["contralateral_minus_ct", "ct_minus_contralateral"]
SIGNS = ("contralateral_minus_ct", "ct_minus_contralateral")


@cache
def atlas_brain() -> tuple[Volume, np.ndarray]:
    """The stripped CT atlas in HU and its brain: every voxel above 0 HU, so without the fringe of mixed voxels.

    Returns:
        (91, 109, 91) float32 in HU, 2 mm voxels, MNI space, and a bool mask of the same shape.
    """
    atlas = shipped.ct_atlas("scct_stripped")
    hu = shipped.cormack_to_hu(atlas.array)
    return Volume(hu, atlas.affine), hu > 0


def _checked(name: str, volume: Volume, mask: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask, bool)
    if mask.shape != volume.array.shape or not mask.any():
        found = f"shape {mask.shape}, {int(mask.sum())} voxels"
        wanted = f"a mask of shape {volume.array.shape} that is not empty"
        raise DataError(name, found=found, wanted=wanted, next_step="strip the skull first")
    return mask


def mirror_by_plane(ct: Volume, brain: np.ndarray, *, roll: bool = True) -> np.ndarray:
    """Mirror about the mid-sagittal plane: where each point's mirror image lies.

    Args:
        ct: Head CT in HU, axes at right angles.
        brain: (D, H, W) bool.
        roll: Look for a roll of the plane as well.

    Returns:
        (4, 4), RAS mm of the CT to RAS mm of the CT; a reflection, its own inverse.

    Raises:
        DataError: Empty or unfitting mask, or axes that are not at right angles.
    """
    brain = _checked("brain mask", ct, brain)
    if rectify(ct) is not ct:
        raise DataError("CT", found="a sheared grid", wanted="axes at right angles", next_step="use rectify() first")
    upright = midplane_transform(ct, find_midplane(ct, brain, roll=roll)).matrix
    return upright @ FLIP @ np.linalg.inv(upright)


def mirror_by_atlas(ct: Volume, brain: np.ndarray, *, refine: bool = True, seed: int = 0) -> np.ndarray:
    """Mirror by way of the CT atlas: affine to the atlas, left-right flip there, affine back.

    With T from the CT to the atlas and F the flip, the mirrored point of p is T^-1 F T p; ``refine`` then registers
    the mirrored brain to the CT once more, which lets one half stretch to fit the other.

    Source: section 3.2 d, Seia et al. 2023.
    Deviation: SimpleITK in place of elastix; the shipped atlas is Rorden's, at 2 mm; the transforms are composed.

    Args:
        ct: Head CT in HU, any grid.
        brain: (D, H, W) bool.
        refine: Register the mirrored brain back to the CT, as published; False takes the inverse of the way there.
        seed: Seed of the sampling.

    Returns:
        (4, 4), RAS mm of the CT to RAS mm of the CT.

    Raises:
        DataError: Empty or unfitting mask, or a registration that is implausible.
    """
    brain = _checked("brain mask", ct, brain)
    atlas, atlas_mask = atlas_brain()
    there = register_affine(ct, atlas, fixed_mask=brain, moving_mask=atlas_mask, seed=seed).matrix
    mirror = np.linalg.inv(there) @ FLIP @ there
    return refined_mirror(ct, brain, mirror, seed=seed) if refine else mirror


def refined_mirror(ct: Volume, brain: np.ndarray, mirror: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """A mirror improved by registering the mirrored brain to the brain itself, affine and masked.

    Source: section 3.2 d, Seia et al. 2023.
    Deviation: SimpleITK in place of elastix.

    Args:
        ct: Head CT in HU, any grid.
        brain: (D, H, W) bool.
        mirror: (4, 4), where the search starts.
        seed: Seed of the sampling.

    Returns:
        (4, 4), RAS mm of the CT to RAS mm of the CT.

    Raises:
        DataError: As :func:`strokelib.data.registration.register_affine`.
    """
    return register_affine(ct, ct, fixed_mask=brain, moving_mask=brain, start=mirror, seed=seed).matrix


def contralateral_image(ct: Volume, brain: np.ndarray, mirror: np.ndarray) -> Volume:
    """The mirrored brain on the scan's own grid; one linear interpolation.

    A voxel whose mirror image is not brain holds -1024 HU; so does everything outside the brain. Voxels of the
    brain's edge mix brain with brain only: their values are divided by the share of brain they were mixed from.

    Source: section 3.2 d, Seia et al. 2023.
    Deviation: none in the image; see :func:`mirror_by_atlas` for the way.

    Args:
        ct: Head CT in HU.
        brain: (D, H, W) bool.
        mirror: (4, 4) of :func:`mirror_by_atlas` or :func:`mirror_by_plane`.

    Returns:
        float32 on the CT's grid.

    Raises:
        DataError: Empty or unfitting mask.
    """
    brain = _checked("brain mask", ct, brain)
    grid = Grid.of(ct)
    weighted = ct.with_array(np.where(brain, ct.array, 0).astype(np.float32))
    share = sample_on(ct.with_array(brain.astype(np.float32)), grid, mirror, fill=0.0).array
    values = sample_on(weighted, grid, mirror, fill=0.0).array / np.maximum(share, 0.5)
    return ct.with_array(np.where(brain & (share >= 0.5), values, np.float32(AIR_HU)).astype(np.float32))


def clipped(volume: Volume, limits_hu: tuple[float, float] = CLIP_HU) -> Volume:
    """HU cut to a range, float32.

    Source: section 3.2 e, Seia et al. 2023.
    Deviation: none.
    """
    return volume.with_array(np.clip(volume.array, *limits_hu).astype(np.float32))


def both_sides(brain: np.ndarray, contralateral: Volume) -> np.ndarray:
    """(D, H, W) bool: voxels of the brain whose mirror image is brain too."""
    return np.asarray(brain, bool) & (contralateral.array != AIR_HU)


def difference_image(
    ct: Volume,
    contralateral: Volume,
    brain: np.ndarray,
    *,
    sign: Sign = "contralateral_minus_ct",
    limits_hu: tuple[float, float] = CLIP_HU,
) -> Volume:
    """Difference between the halves: contralateral - CT, both cut to [-100, 400] HU first; 0 where either has no brain.

    Positive where the CT is darker than the other side, as at an infarct.

    Source: appendix A, Seia et al. 2023.
    Deviation: none by default; section 3.7.4 of the paper words it the other way round, which
        ``sign="ct_minus_contralateral"`` gives.

    Args:
        ct: In HU.
        contralateral: Of :func:`contralateral_image`.
        brain: (D, H, W) bool.
        sign: Which is taken from which.
        limits_hu: Range to which both are cut.

    Returns:
        float32, in HU.

    Raises:
        ParameterError: Another sign.
        DataError: Shapes that differ, or an empty mask.
    """
    if sign not in SIGNS:
        raise ParameterError("sign", found=repr(sign), wanted=" or ".join(SIGNS), next_step="give one of these")
    brain = _checked("brain mask", ct, brain)
    _checked("contralateral image", contralateral, brain)
    difference = clipped(contralateral, limits_hu).array - clipped(ct, limits_hu).array
    difference = difference if sign == SIGNS[0] else -difference
    return ct.with_array(np.where(both_sides(brain, contralateral), difference, np.float32(0)))


def residual_asymmetry(image: Volume, contralateral: Volume, mask: np.ndarray) -> float:
    """Mean absolute difference between an image and its contralateral image, in HU.

    (1 / N) sum |contralateral - image| over the N voxels of the mask whose mirror image is brain too, both cut to
    [-100, 400] HU. Noise alone gives a floor above 0, and interpolation lowers it: compare ways on the same scan only.

    Args:
        image: CT in HU.
        contralateral: Of :func:`contralateral_image`.
        mask: (D, H, W) bool, the voxels that count.

    Returns:
        HU, 0 or more.

    Raises:
        DataError: Shapes that differ, or no voxel left.
    """
    mask = both_sides(_checked("mask", image, mask), contralateral)
    if not mask.any():
        step = "look at the mirror; the brain's halves do not meet"
        raise DataError("mask", found="no voxel with a mirror image", wanted="one at least", next_step=step)
    return float(np.abs(clipped(contralateral).array - clipped(image).array)[mask].mean(dtype=np.float64))
