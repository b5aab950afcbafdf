"""Small heads whose pixels are known, for the tests of the viewer."""

import numpy as np

from strokelib.data.cases import Case, Volume

SPACING = (5.0, 2.0, 1.0)
LPS = np.diag([-1.0, -2.0, 5.0, 1.0])


def ramp(shape=(3, 6, 10)):
    """A volume whose value is 10 HU times the column, in LPS order, 5 x 2 x 1 mm."""
    return Volume(np.broadcast_to(np.arange(shape[2]) * 10, shape).astype(np.int16).copy(), LPS)


def square(shape=(3, 6, 10), z=1, rows=slice(1, 4), columns=slice(2, 5)):
    """A mask with one rectangle on one slice."""
    mask = np.zeros(shape, bool)
    mask[z, rows, columns] = True
    return mask


def head(turn_deg=12.0, shift_mm=6.0, shape=(16, 80, 72), spacing=(5.0, 2.5, 2.5)):
    """A head equal to its mirror image about a plane that is turned and shifted, with a dark lesion at one side."""
    z, y, x = np.indices(shape).astype(float)
    mm = [(v - (n - 1) / 2) * s for v, n, s in zip((z, y, x), shape, spacing, strict=True)]
    turn = np.deg2rad(turn_deg)
    across = np.cos(turn) * (mm[2] - shift_mm) + np.sin(turn) * mm[1]
    along = -np.sin(turn) * (mm[2] - shift_mm) + np.cos(turn) * mm[1]
    radius = np.sqrt((mm[0] / 60) ** 2 + (along / 78) ** 2 + (across / 62) ** 2)
    brain = radius < 1
    hu = np.where(brain, 32.0 + 6 * np.cos(along / 9) + 5 * np.cos(np.abs(across) / 7), -1000.0)
    hu[np.hypot(np.abs(across) - 12, along + 10) < 7] = 8.0
    hu[~brain & (radius < 1.12)] = 900.0
    sides = {
        side: brain & (np.sqrt((across - side * 32) ** 2 + (along - 5) ** 2 + mm[0] ** 2) < 12) for side in (-1, 1)
    }
    hu[sides[1]] -= 12
    dz, dy, dx = spacing
    volume = Volume(hu.astype(np.float32), np.diag([-dx, -dy, dz, 1.0]))
    case = Case("made-1", "made", "aisd", "test", volume, lesion=sides[1], brain=brain)
    return case, sides[-1]
