"""AISD's pictures: the CT as 8-bit PNG files, where somebody has no DICOM files.

A window has been applied, and which one is stated nowhere; nor is the size of a pixel or the distance of slices. Both
are assumed here, so volumes, distances and HU of such cases are no measurements. Take the DICOM files where you can.
"""

from __future__ import annotations

import os

import numpy as np

from strokelib.data.aisd import read_pictures
from strokelib.data.cases import Volume
from strokelib.errors import ParameterError

VERSION = 1
WINDOW_HU = (0.0, 80.0)  # assumed; users of ADN's weights found that it fits
SPACING_MM = (5.0, 0.45, 0.45)  # assumed: 5 mm as the data set says, pixels as scanners for heads have them
AIR_HU, BONE_HU = -1000, 1000
NOTE = "8-bit pictures: HU rest on an assumed window of 0 to 80, mm on assumed voxels of 5 x 0.45 x 0.45 mm"


def picture_volume(
    folder: str | os.PathLike,
    *,
    window_hu: tuple[float, float] = WINDOW_HU,
    spacing: tuple[float, float, float] = SPACING_MM,
) -> Volume:
    """A head CT from its pictures, with HU as far as the window leaves them.

    Black is air and white is bone: what lay beyond the window's ends is lost, and these two stand for it.

    Args:
        folder: With 000.png, 001.png, ... from below, nose up and the patient's right at the left.
        window_hu: Densities that 0 and 255 stand for.
        spacing: (dz, dy, dx) in mm.

    Returns:
        (D, H, W) int16 in LPS order, centred on 0.

    Raises:
        DataError: No picture, a gap in the numbers, a damaged one, several sizes, colours.
        ParameterError: A window or a spacing that is not positive.
    """
    low, high = window_hu
    if not low < high or min(spacing) <= 0:
        found, wanted = f"window {window_hu}, spacing {spacing}", "a rising window in HU and positive mm"
        raise ParameterError("pictures", found=found, wanted=wanted, next_step="correct them")
    grey = read_pictures(folder, largest=255)
    values = np.rint(low + grey.astype(np.float32) / 255 * (high - low)).astype(np.int16)
    values[grey == 0], values[grey == 255] = AIR_HU, BONE_HU
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(grey.shape[::-1]) - 1) / 2)
    return Volume(values, affine)
