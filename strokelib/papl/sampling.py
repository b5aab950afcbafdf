"""Region mask sampling of stage 1: pairs of mirrored windows, all else removed, and whether infarct lies in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from strokelib.data.augment import NONE, Augmentation, augment
from strokelib.data.streams import SeededStream
from strokelib.errors import DataError, ParameterError
from strokelib.papl.slices import HeadSlices, check_keeps_alignment

VERSION = 1
# Published in pixels of a 256 x 256 slice, whose size is not stated: 0.9 mm is a field of 230 mm.
WIDTH_PX, HEIGHT_PX, PIXEL_MM = (10, 70), (10, 80), 0.9
WIDTH_MM = (WIDTH_PX[0] * PIXEL_MM, WIDTH_PX[1] * PIXEL_MM)
HEIGHT_MM = (HEIGHT_PX[0] * PIXEL_MM, HEIGHT_PX[1] * PIXEL_MM)
POSITIVE, NEGATIVE, BETWEEN = 1, 0, -1
REDRAWS = 100
_OF_A_SLICE = 1  # tells a slice's generator from a sample's


class Box(NamedTuple):
    """A window: first row, row after the last, first column, column after the last."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Region:
    """One sample of a slice.

    Args:
        row: Number of the slice.
        box: The window; its mirror window belongs to the sample too.
        share: Share of infarct in the two windows' pixels, 0 to 1.
        label: 1 where the pair is pathological, else 0.
        covering: Whether the window was laid about the whole infarct.
        dropped: Windows that were drawn before it and hold too little infarct for either label.
    """

    row: int
    box: Box
    share: float
    label: int
    covering: bool
    dropped: tuple[Box, ...]


class RegionBatch(NamedTuple):
    """Samples of stage 1.

    ``images`` (B, 1, H, W) float32, ``labels`` (B,) int64; for pictures ``share`` (B,) float32, ``boxes`` (B, 4) int64
    in the order of :class:`Box`, ``rows`` (B,) int64 (number of the slice) and ``covering`` (B,) bool. Share and boxes
    are those before any augmentation.
    """

    images: Tensor
    labels: Tensor
    share: Tensor
    boxes: Tensor
    rows: Tensor
    covering: Tensor


def paired_columns(box: Box, width: int) -> np.ndarray:
    """(W,) bool: columns of a window and of its mirror window; the rows of both are the same."""
    columns = np.zeros(width, bool)
    columns[box.left : box.right] = True
    return columns | columns[::-1]


def paired_mask(box: Box, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: a window and its mirror window."""
    mask = np.zeros(shape, bool)
    mask[box.top : box.bottom] = paired_columns(box, shape[1])
    return mask


def within_pair(values: np.ndarray, box: Box) -> np.ndarray:
    """What a window and its mirror window show of an array (H, W), each pixel once: (h, w')."""
    return values[box.top : box.bottom][:, paired_columns(box, values.shape[1])]


def infarct_share(lesion: np.ndarray, box: Box) -> float:
    """Share of infarct among the pixels of a window and its mirror window, each pixel counted once.

    Args:
        lesion: (H, W), 0 or 1.
        box: The window.
    """
    return float(within_pair(lesion, box).mean())


def label_of(share: float, positive_share: float = 0.05) -> int:
    """1 from ``positive_share`` on, 0 without any infarct, -1 between: such a window is dropped.

    Source: Sec. III.C.2, Sun et al. 2024.
    Deviation: the paper gives no threshold; a window with little infarct is neither one nor the other.
    """
    if share == 0:
        return NEGATIVE
    return POSITIVE if share >= positive_share else BETWEEN


def covering_box(lesion: np.ndarray, margin: int) -> Box:
    """The smallest window about all infarct of a slice, wider by a margin on every side as far as the image goes.

    Args:
        lesion: (H, W), not empty.
        margin: In pixels.
    """
    rows, columns = (np.flatnonzero(lesion.any(axis=axis)) for axis in (1, 0))
    height, width = lesion.shape
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    return Box(top, min(height, int(rows[-1]) + 1 + margin), left, min(width, int(columns[-1]) + 1 + margin))


class RegionSampler(SeededStream):
    """An endless stream of batches of region samples.

    Samples come slice by slice: numbers 8 n to 8 n + 7 of the stream are of one slice, whatever the batch. Each has a
    window whose width and height are drawn evenly, anywhere in the box about the slice's brain; the window and its
    mirror window are kept, the rest gets the z-value of the window's lower end in HU. A window that :func:`label_of`
    drops is drawn again. The first of the eight is laid about the whole infarct with a margin, where the slice has one,
    and is positive whatever its share.

    Source: Sec. III.C.2 and IV.B, Sun et al. 2024.
    Deviation: sizes are in mm, so that they mean the same on every grid, and end at the brain's box; the covering
        window may be larger than the published range, as a large infarct needs; the fill is that of clipped air, since
        0 would be mean tissue; slices are drawn with replacement.

    Args:
        slices: Of aligned heads.
        batch: Samples a batch.
        seed: Seed of the stream.
        width_mm: Least and largest width of a window.
        height_mm: Least and largest height of a window.
        samples: Samples of each slice.
        positive_share: Share of infarct from which on a pair is positive.
        margin_mm: About the infarct, in the covering window; assumed, 5 published pixels.
        lesion_share: Expected share of slices with infarct, or None for that of the data.
        augmentation: Changes to each sample, after the rest was removed; none by default.

    Raises:
        ParameterError: Sizes, shares or counts that are impossible, or an augmentation that breaks the alignment.
        DataError: No slice with brain, or a share that the data cannot give.
    """

    def __init__(
        self,
        slices: HeadSlices,
        batch: int,
        seed: int,
        *,
        width_mm: tuple[float, float] = WIDTH_MM,
        height_mm: tuple[float, float] = HEIGHT_MM,
        samples: int = 8,
        positive_share: float = 0.05,
        margin_mm: float = 5 * PIXEL_MM,
        lesion_share: float | None = None,
        augmentation: Augmentation = NONE,
    ) -> None:
        super().__init__(batch, seed)
        for name, (least, most) in (("width_mm", width_mm), ("height_mm", height_mm)):
            _check(name, 0 < least <= most, (least, most), "a rising range above 0")
        _check("samples", samples >= 1, samples, "1 or more")
        _check("positive_share", 0 < positive_share <= 1, positive_share, "above 0, at most 1")
        _check("margin_mm", margin_mm >= 0, margin_mm, "0 or more")
        _check("lesion_share", lesion_share is None or 0 <= lesion_share <= 1, lesion_share, "a share, or None")
        check_keeps_alignment(augmentation)
        self.slices, self.samples, self.positive_share = slices, samples, positive_share
        self.augmentation = augmentation
        self.width_mm, self.height_mm, self.margin_mm, self.lesion_share = width_mm, height_mm, margin_mm, lesion_share
        self.lesions, self.pixel_mm = slices.lesions.numpy(), slices.pixel_mm.numpy()
        self.ranges = [_box_of(brain) for brain in slices.brains.numpy()]
        shown = np.array([box is not None for box in self.ranges], bool)
        holds = slices.with_lesion.numpy() & shown
        self.shown, self.groups = np.flatnonzero(shown), (np.flatnonzero(shown & ~holds), np.flatnonzero(holds))
        self._latest = -1, -1
        share = lesion_share
        impossible = share is not None and any(
            p > 0 and not len(g) for p, g in zip((1 - share, share), self.groups, strict=True)
        )
        if impossible or not shown.any():
            found, wanted = f"{len(self.groups[1])} of {int(shown.sum())} with infarct", f"one, and a share of {share}"
            step = "give other cases, or lesion_share=None"
            raise DataError("slices with brain", found=found, wanted=wanted, next_step=step)

    def row_of(self, number: int) -> int:
        """The slice that sample ``number`` of the stream is of."""
        group = number // self.samples
        latest = self._latest
        if latest[0] != group:
            latest = self._latest = group, self._row(np.random.default_rng((self.seed, group, _OF_A_SLICE)))
        return latest[1]

    def _row(self, generator: np.random.Generator) -> int:
        if self.lesion_share is None:
            return int(generator.choice(self.shown))
        return int(generator.choice(self.groups[int(generator.random() < self.lesion_share)]))

    def region(self, number: int, generator: np.random.Generator) -> Region:
        """Where sample ``number`` of the stream comes from, drawn from its generator."""
        row = self.row_of(number)
        lesion, dropped = self.lesions[row], []
        whole = covering_box(lesion, round(self.margin_mm / self.pixel_mm[row])) if lesion.any() else None
        tries = 0 if whole and number % self.samples == 0 else REDRAWS
        for _ in range(tries):
            box = self._window(row, generator)
            share = infarct_share(lesion, box)
            label = label_of(share, self.positive_share)
            if label != BETWEEN:
                return Region(row, box, share, label, False, tuple(dropped))
            dropped.append(box)
        # Only a slice with infarct comes here: as the covering sample, or because no window of it had a label.
        return Region(row, whole, infarct_share(lesion, whole), POSITIVE, True, tuple(dropped))

    def _window(self, row: int, generator: np.random.Generator) -> Box:
        area, pixel = self.ranges[row], self.pixel_mm[row]
        height = _side(self.height_mm, pixel, area.bottom - area.top, generator)
        width = _side(self.width_mm, pixel, area.right - area.left, generator)
        top = int(generator.integers(area.top, area.bottom - height + 1))
        left = int(generator.integers(area.left, area.right - width + 1))
        return Box(top, top + height, left, left + width)

    def draw(self, first: int, generators: list[np.random.Generator]) -> RegionBatch:
        """The batch of these generators, the first of which is that of sample ``first``."""
        regions = [self.region(number, generator) for number, generator in enumerate(generators, first)]
        rows = torch.tensor([r.row for r in regions])
        images = self.slices.images[rows]
        kept = torch.from_numpy(np.stack([paired_mask(r.box, tuple(images.shape[2:])) for r in regions]))[:, None]
        images = torch.where(kept, images, self.slices.fill[rows][:, None, None, None])
        if self.augmentation != NONE:
            images, _ = augment(images, self.slices.lesions[rows], self.augmentation, generators)
        return RegionBatch(
            images,
            torch.tensor([r.label for r in regions]),
            torch.tensor([r.share for r in regions]),
            torch.tensor([r.box for r in regions]),
            rows,
            torch.tensor([r.covering for r in regions]),
        )


def _side(range_mm: tuple[float, float], pixel_mm: float, longest: int, generator: np.random.Generator) -> int:
    """A side in whole pixels, each length in the range with equal probability; never longer than the brain's box."""
    least, most = (max(1, round(mm / float(pixel_mm))) for mm in range_mm)
    return min(int(generator.integers(least, most + 1)), longest)


def _box_of(brain: np.ndarray) -> Box | None:
    return covering_box(brain, 0) if brain.any() else None


def _check(name: str, holds: bool, found: object, wanted: str) -> None:
    if not holds:
        raise ParameterError(f"{name} of regions", found=found, wanted=wanted, next_step="correct the recipe")
