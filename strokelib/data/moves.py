"""Cut a box out of a volume, turned, zoomed, shifted and mirrored, with one interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strokelib.nn.alignment import rigid_matrix_3d, warp_3d

VERSION = 1


@dataclass(frozen=True)
class Move:
    """What is done to a box; the default does nothing.

    Args:
        angles_deg: Turns about the axes z, y, x through the box's middle, in millimetres, so that a turn stays a turn
            on voxels that are no cubes.
        zoom: Factor of size; above 1 enlarges.
        shift: Where the middle of the box reads, along z, y, x, as a fraction of the box's sides.
        mirror: Whether each axis z, y, x is reversed afterwards.
    """

    angles_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    zoom: float = 1.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mirror: tuple[bool, bool, bool] = (False, False, False)

    @property
    def interpolates(self) -> bool:
        """Whether more is done than to reverse axes."""
        return any(self.angles_deg) or self.zoom != 1 or any(self.shift)

    def linear(self, spacing: Sequence[float]) -> np.ndarray:
        """(3, 3), output -> input, between offsets (z, y, x) from the middle in voxels."""
        turn = rigid_matrix_3d(torch.tensor([self.angles_deg[::-1]]).double().deg2rad(), torch.zeros(1, 3).double())
        steps = np.asarray(spacing, float)
        return turn[0, :3, :3].numpy()[::-1, ::-1] * steps / steps[:, None] / self.zoom


STAY = Move()


def box_at(volume: Tensor, start: Sequence[int], size: Sequence[int], fill: Tensor | None = None) -> Tensor:
    """A box that may pass the volume's edges.

    Args:
        volume: (C, D, H, W).
        start: First voxel (z, y, x); it may be negative.
        size: Sides in voxels.
        fill: (C,) values outside the volume; 0 where None.

    Returns:
        (C, *size), a copy.
    """
    inside = [
        slice(min(max(a, 0), n), max(0, min(a + s, n))) for a, s, n in zip(start, size, volume.shape[1:], strict=True)
    ]
    part = volume[:, *inside]
    if part.shape[1:] == tuple(size):
        return part.clone()
    box = volume.new_zeros((len(volume), *size))
    if fill is not None:
        box += fill.view(-1, 1, 1, 1)
    if part.numel():
        place = [slice(i.start - a, i.stop - a) for i, a in zip(inside, start, strict=True)]
        box[:, *place] = part
    return box


def cut(
    images: Tensor,
    lesions: Tensor,
    start: Sequence[int],
    size: Sequence[int],
    *,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    move: Move = STAY,
    fill: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut a box and move it; a turned box reads what lies around it in the volume, not repeated borders.

    Args:
        images: (C, D, H, W) float32.
        lesions: (D, H, W), class numbers.
        start: First voxel (z, y, x) of the box before it is moved; it may be negative.
        size: Sides of the box in voxels.
        spacing: (dz, dy, dx) in mm.
        move: What is done to the box.
        fill: (C,) image values outside the volume; 0 where None. No lesion lies there.

    Returns:
        Images (C, *size), trilinear, and lesions (*size) int64: of the interpolated classes the one with most weight
        (0.5 is enough for a single class). Without a move both are exact copies.
    """
    if not move.interpolates:
        image, lesion = box_at(images, start, size, fill), box_at(lesions[None], start, size)[0].long()
    else:
        image, lesion = _warped(images, lesions, start, size, spacing, move, fill)
    axes = [axis for axis, reverse in enumerate(move.mirror) if reverse]
    return (image.flip([a + 1 for a in axes]), lesion.flip(axes)) if axes else (image, lesion)


def _warped(
    images: Tensor,
    lesions: Tensor,
    start: Sequence[int],
    size: Sequence[int],
    spacing: Sequence[float],
    move: Move,
    fill: Tensor | None,
) -> tuple[Tensor, Tensor]:
    half, linear = (np.array(size) - 1) / 2, move.linear(spacing)
    middle = np.array(start) + half + np.array(move.shift) * size
    reach = np.abs(linear) @ half
    low = np.floor(middle - reach).astype(int)
    sides = np.ceil(middle + reach).astype(int) + 1 - low
    # From the fill upwards: zeros stay zeros under interpolation, another constant comes back rounded.
    floor = (images.new_zeros(len(images)) if fill is None else fill).view(-1, 1, 1, 1)
    image, lesion = box_at(images, low, sides, fill) - floor, box_at(lesions[None], low, sides)
    classes = torch.arange(1, int(lesion.max()) + 1)
    matrix = np.eye(4)
    matrix[:3, :3] = linear[::-1, ::-1]
    matrix[:3, 3] = (middle - low - linear @ half)[::-1]
    both = torch.cat([image, (lesion == classes.view(-1, 1, 1, 1)).to(image.dtype)])[None]
    both = warp_3d(both, torch.from_numpy(matrix), tuple(size))[0]
    image, shares = both[: len(image)] + floor, both[len(image) :]
    if not len(classes):
        return image, torch.zeros(tuple(size), dtype=torch.long)
    most, which = shares.max(dim=0)
    return image, torch.where(most >= 1 - shares.sum(dim=0), which + 1, 0)
