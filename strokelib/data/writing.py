"""Masks back to the user: on the grid, in the axis order and with the affine of the file they were found in."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np

from strokelib.data.cases import Volume
from strokelib.data.reading import read_nifti, save_image
from strokelib.errors import DataError

TOLERANCE_MM = 1e-3


def write_nifti_like(mask: Volume, like: str | os.PathLike, path: str | os.PathLike) -> Path:
    """Write a mask with the axes, affine and transform codes of an image file, so that it lies on it in any viewer.

    Args:
        mask: bool or labels on the grid that :func:`strokelib.data.reading.read_nifti` gave for that file.
        like: The image's .nii or .nii.gz file.
        path: File to write, .nii or .nii.gz; written whole or not at all, without free text in its header.

    Returns:
        The path.

    Raises:
        DataError: The image cannot be read, the mask lies on another grid, or the name has another suffix.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        wanted = "a .nii or .nii.gz file"
        raise DataError(path.name, found=f"the name {path.name!r}", wanted=wanted, next_step="choose another name")
    scan = read_nifti(like)
    apart = np.abs(scan.affine - mask.affine).max() if scan.array.shape == mask.array.shape else np.inf
    if apart > TOLERANCE_MM:
        found = f"a mask of {mask.array.shape} whose affine differs by {apart:.3g}"
        wanted = f"the grid of {Path(like).name}, {scan.array.shape}"
        raise DataError(f"mask for {Path(like).name}", found=found, wanted=wanted, next_step="bring it there first")
    source = nib.load(like)
    lps = nib.orientations.axcodes2ornt(("L", "P", "S"))
    back = nib.orientations.ornt_transform(lps, nib.io_orientation(source.affine))
    array = mask.array.astype(np.uint8) if mask.array.dtype == bool else mask.array
    placed = nib.orientations.apply_orientation(array.transpose(2, 1, 0), back)
    image = nib.Nifti1Image(np.ascontiguousarray(placed), source.affine)
    for kind in ("sform", "qform"):
        getattr(image, f"set_{kind}")(source.affine, code=max(1, int(source.header[f"{kind}_code"])))
    return save_image(image, path)
