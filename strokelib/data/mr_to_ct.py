"""Diffusion MR on the grid of the CT it belongs to, and readers' masks drawn on the MR along with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from strokelib.data.cases import Volume
from strokelib.data.morphology import largest, shrunk, within
from strokelib.data.registration import Dof, Registration, register_affine
from strokelib.errors import DataError

VERSION = 1
VOLUME_ML = (700.0, 2000.0)
BLANK_SHARE = 0.3
SMOOTHING_MM = 1.0
EROSION_MM = 4.0
CLOSING_MM = 10.0
RIM_MM = 2.0
BRIGHTEST_PERCENTILE = 95.0


@dataclass(frozen=True)
class RegisteredMR:
    """An MR volume on a CT's grid.

    Args:
        image: On the CT's grid, float32; 0 outside the MR's field.
        brain: (D, H, W) bool, the MR's brain mask on the CT's grid.
        mask: (D, H, W) bool, the reader's mask on the CT's grid, or None where none was given.
        registration: The way from the CT's millimetres to the MR's.
    """

    image: Volume
    brain: np.ndarray
    mask: np.ndarray | None
    registration: Registration


def mask_to_ct(mask: np.ndarray, mr: Volume, ct: Volume, registration: Registration) -> np.ndarray:
    """A reader's mask drawn on the MR, on the CT's grid, by nearest neighbour.

    Source: section 3.2 c, Seia et al. 2023.
    Deviation: none.

    Args:
        mask: (D, H, W) on the MR's grid; every value above 0 counts.
        mr: The MR, for its grid.
        ct: The CT, for its grid.
        registration: From the CT's millimetres to the MR's, as :func:`mr_to_ct` finds it.

    Returns:
        (D, H, W) bool on the CT's grid.

    Raises:
        DataError: The mask has another shape than the MR.
    """
    _fitting(mask, mr)
    return registration.apply(Volume(np.asarray(mask) > 0, mr.affine), ct, order=0).array


def mr_to_ct(
    ct: Volume,
    mr: Volume,
    ct_brain: np.ndarray,
    mr_brain: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    *,
    dof: Dof = "affine",
    seed: int = 0,
) -> RegisteredMR:
    """Register a DWI or an ADC map to its CT and bring it, and a mask drawn on it, onto the CT's grid.

    The image is interpolated once, straight from the MR's own voxels.

    Source: section 3.2 c, Seia et al. 2023.
    Deviation: SimpleITK instead of elastix, see :func:`strokelib.data.registration.register_affine`.

    Args:
        ct: In HU, any grid.
        mr: DWI or ADC map, any grid.
        ct_brain: (D, H, W) bool on the CT's grid.
        mr_brain: (D, H, W) bool on the MR's grid; found by :func:`mr_brain_mask` where None.
        mask: (D, H, W) on the MR's grid, a reader's mask.
        dof: ``affine`` as published, ``rigid`` where the MR is known to be free of distortion, or ``similarity``.
        seed: Seed of the sampling.

    Returns:
        Image, brain and mask on the CT's grid, and the registration.

    Raises:
        DataError: No brain in the MR, masks that do not fit, or a registration that is implausible.
    """
    if mask is not None:
        _fitting(mask, mr)
    if mr_brain is None:
        mr_brain = mr_brain_mask(mr)
    way = register_affine(ct, mr, fixed_mask=ct_brain, moving_mask=mr_brain, dof=dof, seed=seed)
    image = way.apply(mr.with_array(np.asarray(mr.array, np.float32)), ct, order=1, fill=0.0)
    moved = None if mask is None else mask_to_ct(mask, mr, ct, way)
    return RegisteredMR(image, mask_to_ct(mr_brain, mr, ct, way), moved, way)


def _fitting(mask: np.ndarray, mr: Volume) -> None:
    if mask.shape != mr.array.shape:
        found, step = f"shape {mask.shape}", "give the mask on the MR's own grid"
        raise DataError("mask", found=found, wanted=f"shape {mr.array.shape}", next_step=step)


def _whole(core: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """A brain with its ventricles and sulci: closed and filled slice by slice."""
    flat = (1e6, *spacing[1:])
    closed = shrunk(within(core, CLOSING_MM, flat), CLOSING_MM, flat) | core
    return np.stack([ndimage.binary_fill_holes(part) for part in closed])


def mr_brain_mask(mr: Volume) -> np.ndarray:
    """Brain mask of a diffusion-weighted image or an ADC map, from its own values.

    Where at least 30 % of the voxels hold one and the same lowest value (0 in an ADC map that the scanner or its donors
    have masked), the largest component of the others is taken, if its volume is that of a brain. Otherwise: Otsu's
    threshold of the lightly smoothed image, values above the 95th percentile cut so that an infarct does not shift it;
    eroded by 4 mm, largest component, grown back; closed by 10 mm and filled in each slice; grown by 2 mm, since fluid
    around the brain is as dark as the skull.

    Source: section 3.2 b, Seia et al. 2023.
    Deviation: SynthStrip is a network; this is a threshold with a check by volume.

    Args:
        mr: DWI (b = 1000 s/mm2) or ADC map, axes at right angles.

    Returns:
        (D, H, W) bool.

    Raises:
        DataError: Values that are not finite, or a mask outside 700-2000 mL.
    """
    from skimage.filters import threshold_otsu

    array, spacing = np.asarray(mr.array, np.float32), mr.spacing
    if not np.isfinite(array).all():
        step = "set them to 0"
        raise DataError("MR", found="values that are not finite", wanted="finite values", next_step=step)
    low, high = VOLUME_ML
    blank = array == array.min()
    if blank.mean() >= BLANK_SHARE:
        mask = _whole(largest(~blank), spacing)
        if low <= mask.sum() * mr.voxel_ml <= high:
            return mask
    smooth = ndimage.gaussian_filter(array, [0, *(SMOOTHING_MM / step for step in spacing[1:])])
    cut = np.minimum(smooth, np.percentile(smooth, BRIGHTEST_PERCENTILE))
    bright = cut > threshold_otsu(cut)
    core = largest(shrunk(bright, EROSION_MM, (1e6, *spacing[1:])))
    mask = _whole(within(core, EROSION_MM + 1.0, spacing) & bright, spacing)
    mask = within(mask, RIM_MM, spacing)
    volume_ml = float(mask.sum()) * mr.voxel_ml
    if not low <= volume_ml <= high:
        step = "give the MR's brain mask yourself"
        raise DataError(
            "MR brain mask", found=f"{volume_ml:.0f} mL", wanted=f"{low:.0f} to {high:.0f} mL", next_step=step
        )
    return mask
