"""Does an explanation point at the lesion? Its share in there, beside that of the volume and of the other side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokelib.errors import DataError


@dataclass(frozen=True)
class Pointing:
    """Where the attributions of one head lie. All shares are of the brain, NaN where nothing has a size.

    Args:
        lesion: Share of the sum of absolute attributions in the lesion.
        other_side: Share in the mirror image of the lesion, where it does not meet the lesion itself.
        volume: Share of the voxels that the lesion holds: what a map without any preference has.
        hit: Whether the voxel with the largest size is one of the lesion (the pointing game); 1 or 0.
    """

    lesion: float
    other_side: float
    volume: float
    hit: float

    @property
    def gain(self) -> float:
        """How many times more a voxel of the lesion gets than a voxel of the brain does on average."""
        return self.lesion / self.volume


def pointing(size: np.ndarray, lesion: np.ndarray, other_side: np.ndarray, brain: np.ndarray) -> Pointing:
    """Where the absolute attributions of a head lie.

    Source: Sec. 3.3, Zhang et al. 2018 (the pointing game); share of the sum: Sec. 5.3, Wang et al. 2020 (Score-CAM).
    Deviation: the largest voxel counts as it is, without a margin around the object.

    Args:
        size: (D, H, W), 0 or above.
        lesion: (D, H, W) bool.
        other_side: Its mirror image.
        brain: (D, H, W) bool; nothing outside counts.

    Raises:
        DataError: Shapes differ, or the brain holds no lesion.
    """
    shapes = {np.shape(one) for one in (size, lesion, other_side, brain)}
    if len(shapes) > 1 or not (lesion & brain).any():
        found = f"shapes {sorted(shapes)}, {int((lesion & brain).sum()) if len(shapes) == 1 else 0} voxels of lesion"
        raise DataError("attributions", found=found, wanted="one shape, and a lesion", next_step="take another head")
    inside, opposite = lesion & brain, other_side & brain & ~lesion
    volume = float(inside.sum() / brain.sum())
    total = float(size[brain].sum())
    if total <= 0:
        return Pointing(np.nan, np.nan, volume, np.nan)
    largest = np.unravel_index(np.where(brain, size, -1.0).argmax(), size.shape)
    shares = [float(size[part].sum()) / total for part in (inside, opposite)]
    return Pointing(shares[0], shares[1], volume, float(inside[largest]))
