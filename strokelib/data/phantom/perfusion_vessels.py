"""Large arteries and veins of the standard brain, so that a maximum over time shows them, and small ones in the sulci.

Centre lines are a few points each, in the standard frame (RAS millimetres, about those of the MNI brain), placed by
hand after anatomical atlases; they move with a head's smooth deformation. Left and right are mirror images.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch

from strokelib.data.phantom.anatomy import BRAIN, Head
from strokelib.data.phantom.atlas import crop, maps
from strokelib.data.phantom.fields import Lattice, generator, smooth_field
from strokelib.data.phantom.knobs import KNOBS

Line = tuple[float, tuple[tuple[float, float, float], ...]]
# Radius in mm and points; lines off the midline stand for both sides.
ARTERIES: dict[str, Line] = {
    "internal carotid": (2.2, ((13, -2, -46), (15, 0, -34), (11, 2, -27), (14, 5, -22), (14, 1, -15))),
    "middle cerebral, trunk": (1.7, ((14, 1, -15), (23, 2, -15), (32, 3, -14), (38, 3, -11))),
    "middle cerebral, upper": (1.2, ((38, 3, -11), (43, 8, -1), (42, 2, 10), (47, -12, 20), (53, -28, 28))),
    "middle cerebral, front": (1.0, ((38, 3, -11), (43, 18, -4), (46, 26, 8), (47, 22, 24), (43, 14, 38))),
    "middle cerebral, lower": (1.2, ((38, 3, -11), (43, -8, -8), (47, -22, 2), (52, -40, 10), (48, -58, 18))),
    "anterior cerebral, first": (1.2, ((14, 1, -15), (8, 8, -15), (2, 12, -13))),
    "posterior cerebral": (
        1.3,
        ((0, -21, -16), (9, -18, -15), (18, -26, -12), (19, -38, -6), (14, -54, 1), (9, -72, 4)),
    ),
}
MIDLINE_ARTERIES: dict[str, Line] = {
    "anterior cerebral": (
        1.4,
        ((1, 12, -13), (1, 28, -8), (1, 38, 4), (1, 33, 20), (1, 16, 32), (1, -8, 38), (1, -26, 44)),
    ),
    "basilar": (1.9, ((0, -24, -46), (0, -25, -34), (0, -24, -26), (0, -21, -16))),
}
VEINS: dict[str, Line] = {
    "transverse sinus": (3.0, ((0, -97, -4), (22, -92, -10), (44, -78, -16), (58, -58, -20), (56, -44, -28))),
    "internal cerebral": (1.0, ((2, 2, 14), (2, -14, 15), (2, -32, 12), (0, -40, 6))),
    "middle cerebral vein": (1.1, ((36, 12, -14), (48, 12, -8), (54, -2, 2), (60, -22, 14))),
    "bridging vein, front": (1.1, ((30, 36, 44), (18, 36, 54), (3, 30, 63))),
    "bridging vein, middle": (1.2, ((48, -18, 54), (28, -16, 70), (3, -10, 76))),
    "bridging vein, back": (1.1, ((40, -60, 48), (22, -62, 60), (3, -58, 64))),
}
MIDLINE_VEINS: dict[str, Line] = {
    "superior sagittal sinus": (
        3.2,
        ((0, 66, 16), (0, 58, 38), (0, 42, 55), (0, 20, 69), (0, -10, 77), (0, -40, 76), (0, -66, 64), (0, -86, 44),
         (0, -98, 20), (0, -97, -4)),
    ),
    "straight sinus": (2.2, ((0, -40, 6), (0, -56, 6), (0, -76, 2), (0, -97, -4))),
}  # fmt: skip
EDGE_MM, PIAL_DEPTH_MM = 0.6, 26.0
MAPS = Lattice((76.0, 78.0, -56.0), 1.0, (142, 187, 153))


def distance_mm(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance of points (..., 3) from the line between two points, in mm."""
    along = end - start
    place = np.clip(((points - start) @ along) / max(float(along @ along), 1e-9), 0, 1)
    return np.linalg.norm(points - start - place[..., None] * along, axis=-1)


def _drawn(lines: dict[str, Line], both: bool) -> list[tuple[float, np.ndarray]]:
    found = [(radius, np.array(points, float)) for radius, points in lines.values()]
    return found + [(radius, points * [-1, 1, 1]) for radius, points in found] if both else found


@lru_cache(maxsize=1)
def vessel_maps() -> torch.Tensor:
    """Shares of arterial and venous blood, (2, D, H, W) float32 in 0 to 1 on :data:`MAPS`."""
    x, y, z = (axis.numpy().ravel() for axis in MAPS.axes())
    out = np.zeros((2, *MAPS.shape), np.float32)
    kinds = (
        _drawn(ARTERIES, True) + _drawn(MIDLINE_ARTERIES, False),
        _drawn(VEINS, True) + _drawn(MIDLINE_VEINS, False),
    )
    for share, lines in zip(out, kinds, strict=True):
        for radius, points in lines:
            for start, end in pairwise(points):
                low, high = np.minimum(start, end) - radius - 3, np.maximum(start, end) + radius + 3
                box = tuple(np.flatnonzero((a >= low[n]) & (a <= high[n])) for n, a in ((2, z), (1, y), (0, x)))
                if any(len(part) == 0 for part in box):
                    continue
                near = np.stack(np.meshgrid(z[box[0]], y[box[1]], x[box[2]], indexing="ij")[::-1], -1)
                filled = 1 / (1 + np.exp((distance_mm(near, start, end) - radius) / (0.5 * EDGE_MM)))
                place = tuple(slice(part[0], part[-1] + 1) for part in box)
                share[place] = np.maximum(share[place], filled)
    return torch.from_numpy(out)


def pial_map(head: Head) -> torch.Tensor:
    """Share of blood where there is fluid near the skull, (2, D, H, W) on ``BRAIN``: arteries and veins."""
    rng = generator(head.seed, "ctp-pial")
    fields = torch.stack([smooth_field(rng, BRAIN, spacing) for spacing in (5.0, 5.0)])
    outer = torch.sigmoid((PIAL_DEPTH_MM - crop(maps(head.anatomy).depth)) / 2.0)
    return KNOBS.ctp_pial_share * ((fields - 0.8) / 0.8).clamp(0.0, 1.0) * outer
