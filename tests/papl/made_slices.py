"""Slices of made heads: each pixel says which scan, slice, row and column it is of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from strokelib.papl.examples import AlignedSlice
from strokelib.papl.slices import HeadSlices

FILL = -3.0


def head_slices(counts: Sequence[int] = (6, 9, 4), size: tuple[int, int] = (24, 20), pixel_mm: float = 4.0):
    """Scans of so many slices. The brain has a margin of 2 pixels and is one column wider on the left.

    Pixel (y, x) of slice z of scan s holds 100 s + 5 z + y / 100 + x / 10000 in the brain and ``FILL`` outside.
    """
    height, width = size
    y, x = np.mgrid[:height, :width]
    inside = (y >= 2) & (y < height - 2) & (x >= 1) & (x < width - 2)
    case = np.repeat(np.arange(len(counts)), counts)
    z = np.concatenate([np.arange(n) for n in counts])
    values = (100 * case + 5 * z)[:, None, None] + y / 100 + x / 10000
    images = np.where(inside, values, FILL).astype(np.float32)[:, None]
    n = len(case)
    return HeadSlices(
        images=torch.from_numpy(images),
        lesions=torch.zeros(n, height, width, dtype=torch.uint8),
        case=torch.from_numpy(case),
        z=torch.from_numpy(z + 3),
        index=torch.from_numpy(z),
        count=torch.from_numpy(np.repeat(counts, counts)),
        fill=torch.full((n,), FILL),
        deviation=torch.full((n,), 0.001),
        brains=torch.from_numpy(np.broadcast_to(inside, (n, *size)).copy()),
        pixel_mm=torch.full((n,), pixel_mm),
    )


def with_lesion(slices: HeadSlices, rows: Sequence[int], box: tuple[int, int, int, int]) -> HeadSlices:
    """The same slices with infarct in a window (top, bottom, left, right) of some of them."""
    top, bottom, left, right = box
    for row in rows:
        slices.lesions[row, top:bottom, left:right] = 1
    return slices


def scan_and_slice(images: torch.Tensor) -> list[tuple[int, int]]:
    """Which scan and slice each of some pictures (B, 1, H, W) is of, read from a pixel in the middle."""
    middle = images[:, 0, images.shape[2] // 2, images.shape[3] // 2]
    return [(int(v // 100), int(v % 100 // 5)) for v in middle.tolist()]


def infarct_slice() -> AlignedSlice:
    """A brain of 30 HU, an infarct of 6 HU less, a dark spot (8 HU less) on the other side, all windows of 9 pixels."""
    brain = np.zeros((100, 80), bool)
    brain[6:94, 6:74] = True
    image, lesion = np.full(brain.shape, 30.0, np.float32), np.zeros(brain.shape, bool)
    lesion[20:40, 12:28] = True
    image[lesion] -= 6
    image[70:79, 55:64] -= 8
    return AlignedSlice(image, brain, lesion, (2.0, 2.0), "head")
