"""Where left and right are, the head flipped about its mid-sagittal plane, and the part of the field worth showing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import aff2axcodes
from scipy import ndimage

from strokelib.data.cases import Volume
from strokelib.errors import DataError, ParameterError

OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}
MARGIN_MM = 16.0
BY_PLANE = "mirrored about the mid-sagittal plane"
BY_COLUMN = "mirrored about the middle column"


@dataclass(frozen=True)
class Directions:
    """Letters at the four sides of an axial slice.

    Args:
        left, right, top, bottom: Of the picture: ``R``, ``L``, ``A``, ``P`` (or ``S``, ``I`` of other planes).
    """

    left: str
    right: str
    top: str
    bottom: str

    @classmethod
    def of(cls, volume: Volume) -> Directions:
        """From the affine, whatever the order of the axes.

        Raises:
            DataError: The affine does not say where an axis leads.
        """
        x, y, _ = codes = aff2axcodes(volume.affine)
        if None in codes:
            found, wanted = "an affine with an axis that leads nowhere", "three axes"
            raise DataError("scan", found=found, wanted=wanted, next_step="mend the header")
        return cls(OPPOSITE[x], x, OPPOSITE[y], y)

    @property
    def flipped(self) -> Directions:
        """Of the mirror image."""
        return Directions(self.right, self.left, self.top, self.bottom)


def reflection(volume: Volume, brain: np.ndarray) -> np.ndarray:
    """(4, 4), index (z, y, x, 1) to the index of the same place on the other side of the mid-sagittal plane.

    Args:
        volume: Head CT.
        brain: (D, H, W) bool, not empty.

    Returns:
        Its own inverse.
    """
    from strokelib.data.midsagittal import find_midplane

    upright = find_midplane(volume, brain).matrix()
    in_mm = upright @ np.diag([-1.0, 1.0, 1.0, 1.0]) @ np.linalg.inv(upright)
    scale = np.diag([*volume.spacing[::-1], 1.0])
    in_xyz = np.linalg.inv(scale) @ in_mm @ scale
    turned = np.eye(4)[[2, 1, 0, 3]]
    return turned @ in_xyz @ turned


def mirrored(
    volume: Volume, brain: np.ndarray | None, mirror: bool | str, directions: Directions
) -> tuple[np.ndarray | None, str]:
    """The head flipped left to right, and the words for it.

    Args:
        volume: Head CT, axes at right angles.
        brain: (D, H, W) bool, or None.
        mirror: False for none; ``"column"`` about the middle column of the array; ``"plane"`` about the mid-sagittal
            plane, which is looked for in the brain; True for the plane where there is a brain, else the column.
        directions: Of the volume.

    Raises:
        ParameterError: Another word, or the plane without a brain.
        DataError: Left and right are not the last axis.
    """
    known = brain is not None and bool(brain.any())
    if mirror not in (True, False, "plane", "column") or not isinstance(mirror, bool | str):
        wanted = "True, False, 'plane' or 'column'"
        raise ParameterError("mirror", found=repr(mirror), wanted=wanted, next_step="choose one of these")
    if mirror is False:
        return None, ""
    if {directions.left, directions.right} != {"L", "R"}:
        found = f"columns from {directions.left} to {directions.right}"
        step = "reorient it with data.reading, or say mirror=False"
        raise DataError("scan", found=found, wanted="left and right along the last axis", next_step=step)
    if mirror == "plane" and not known:
        step = "give a Case with a brain mask, or say mirror='column'"
        raise ParameterError("mirror='plane'", found="no brain mask", wanted="one to find the plane in", next_step=step)
    array = np.asarray(volume.array)
    if mirror == "column" or not known:
        return array[..., ::-1], BY_COLUMN
    matrix = reflection(volume, brain)
    outside = float(np.nanmin(array))
    moved = ndimage.affine_transform(array.astype(np.float32), matrix[:3, :3], matrix[:3, 3], order=1, cval=outside)
    return moved, BY_PLANE


def head_box(brain: np.ndarray | None, spacing: tuple[float, float, float]) -> tuple[slice, slice]:
    """Rows and columns of the brain and 16 mm around it; the whole field where there is no brain."""
    if brain is None or not brain.any():
        return slice(None), slice(None)
    flat, box = brain.any(axis=0), []
    for axis, step in ((1, spacing[1]), (0, spacing[2])):
        found, margin = np.flatnonzero(flat.any(axis=axis)), round(MARGIN_MM / step)
        box.append(slice(max(0, int(found[0]) - margin), int(found[-1]) + 1 + margin))
    return box[0], box[1]
