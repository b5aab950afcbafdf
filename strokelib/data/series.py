"""Time series, as CT perfusion comes: a NIfTI file of four axes, or of five with one of length 1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from strokelib.data.cases import Volume
from strokelib.data.reading import MAX_VOXELS, check_affine, load_bytes, parse, stated_affine, to_lps, whole_voxels
from strokelib.errors import DataError

FALLBACK_S = 1.0
STEPS_S = (0.1, 10.0)


@dataclass(frozen=True)
class Series:
    """A series of volumes on one grid.

    Args:
        array: (T, D, H, W) in LPS order, as stored.
        affine: (4, 4), (x, y, z) index to RAS millimetres, of every frame.
        step_s: Time between two frames in s.
        step_known: Whether the file says so; else ``step_s`` is 1.
    """

    array: np.ndarray
    affine: np.ndarray
    step_s: float
    step_known: bool

    def frame(self, t: int) -> Volume:
        """One frame."""
        return Volume(self.array[t], self.affine)


def read_series(path: str | os.PathLike) -> Series:
    """Read a series of volumes and turn it to LPS order.

    Args:
        path: A .nii or .nii.gz file, (X, Y, Z, T), or (X, Y, Z, 1, T) or (X, Y, 1, Z, T) as some archives have it.

    Raises:
        DataError: The file is missing, damaged, not a series, or its affine is not usable.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path.absolute().name, found="no such file", wanted="a NIfTI file", next_step="check the path")
    image = parse(path, load_bytes(path))
    shape = tuple(image.shape)
    if len(shape) == 5 and 1 in shape[2:4]:
        shape = tuple(n for axis, n in enumerate(shape) if axis != (3 if shape[3] == 1 else 2))
    if len(shape) != 4 or min(shape) < 1 or shape[3] < 2 or np.prod(shape, dtype=float) > MAX_VOXELS:
        wanted = f"(X, Y, Z, T) with two frames or more, up to {MAX_VOXELS} voxels"
        step = "choose the perfusion series"
        raise DataError(path.absolute().name, found=f"shape {image.shape}", wanted=wanted, next_step=step)
    affine = stated_affine(path, image)
    check_affine(path, image.header, affine, allow_unplaced=False)
    voxels = whole_voxels(path, image, shape)
    frames = [to_lps(voxels[..., t], affine) for t in range(shape[3])]
    step, known = _step(image.header)
    return Series(np.stack([frame.array for frame in frames]), frames[0].affine, step, known)


def _step(header: nib.Nifti1Header) -> tuple[float, bool]:
    """Seconds between frames; some exports leave the field empty."""
    unit = {16: 1e-3, 24: 1e-6}.get(int(header["xyzt_units"]) & 0x38, 1.0)  # NIfTI codes of ms and us
    step = float(header["pixdim"][4]) * unit
    return (step, True) if STEPS_S[0] <= step <= STEPS_S[1] else (FALLBACK_S, False)
