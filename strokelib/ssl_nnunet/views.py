"""Pairs of views of a head: a slab, a base crop of it, two crops of that, one of them of the other side at times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from strokelib.data.augment3d import Augmentation3d, Chance, change_intensities
from strokelib.data.moves import box_at
from strokelib.data.streams import SeededStream
from strokelib.data.volumes import Volumes
from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.heads import Head

VERSION = 1
BASES = ("crop", "slab")
PLACES = ("same", "own")
# Kinds: section 3.4.1; how often and how far: assumed, near the public code, in units of the normalised image.
VIEW_AUGMENTATION = Augmentation3d(
    mirror=(0.8, 0.8, 0.8),
    moved=0.0,
    gamma=Chance(0.8, 0.4),
    contrast=Chance(1.0, 0.25),
    brightness=Chance(0.8, 0.4),
    blur_mm=Chance(0.8, 2.0),
    coarse=Chance(),
    noise=Chance(1.0, 0.3),
)


@dataclass(frozen=True)
class Box:
    """A box of a head in voxels; it may pass the head's edges.

    Args:
        start: First voxel (z, y, x).
        sides: Voxels along z, y, x.
    """

    start: tuple[int, int, int]
    sides: tuple[int, int, int]


@dataclass(frozen=True)
class Pair:
    """Where the two views of a pair come from.

    Args:
        scan: Number of the head.
        slab: Its slices.
        base: What both views are cut from.
        views: The two boxes.
        contralateral: Whether each view reads the contralateral image.
    """

    scan: int
    slab: Box
    base: Box
    views: tuple[Box, Box]
    contralateral: tuple[bool, bool]


class Views(NamedTuple):
    """Two views (B, C, d, h, w) float32 each, and (B,) bool: whether one of them shows the other side."""

    first: Tensor
    second: Tensor
    symmetric: Tensor


def overlap(box1: Box, box2: Box) -> tuple[int, int, int]:
    """Voxels along z, y, x that two boxes share; the boxes have no voxel in common where one of them is 0."""
    low = np.maximum(box1.start, box2.start)
    high = np.minimum(np.add(box1.start, box1.sides), np.add(box2.start, box2.sides))
    return tuple(int(n) for n in (high - low).clip(0))


@cache
def _weights(n_new: int, n_old: int) -> Tensor:
    """(n_new, n_old) linear interpolation between the centres of voxels; the outer edges of both fields coincide."""
    places = ((torch.arange(n_new, dtype=torch.float64) + 0.5) * n_old / n_new - 0.5).clamp(0, n_old - 1)
    return (1 - (places[:, None] - torch.arange(n_old)).abs()).clamp_min(0).float()


def view_of(images: Tensor, box: Box, size: Sequence[int], fill: Tensor) -> Tensor:
    """What a box shows, at another size in plane.

    Args:
        images: (C, D, H, W) float32.
        box: Its depth must be that of ``size``.
        size: Sides (d, h, w) of the view.
        fill: (C,) values outside the volume.

    Returns:
        (C, d, h, w), a copy where the box has this size, otherwise linear in plane.
    """
    part = box_at(images, box.start, box.sides, fill)
    if box.sides == tuple(size):
        return part
    # From the fill upwards: the background must come back to the last bit.
    floor = fill.view(-1, 1, 1, 1)
    rows, columns = _weights(size[1], box.sides[1]), _weights(size[2], box.sides[2])
    return rows @ ((part - floor) @ columns.T) + floor


class ViewSampler(SeededStream):
    """An endless stream of batches of pairs of views.

    A head is drawn with equal probability, then a slab of slices of its box. Where less than ``brain_share`` of the
    slab is brain it is drawn again with a probability equal to its share of background, at most ``redraws`` times.
    A base crop of ``base_crop`` times the view's sides in plane, never longer than the box unless the view is, is cut
    out of the slab. Each view is a crop of it of ``scale`` times the view's sides, never longer than the base, brought
    to the view's size; the view's slices are some of the slab's, not interpolated. With the probability ``symmetry``
    one of the two, either with equal chance, reads the contralateral image. Each view then undergoes augmentation of
    its own. What lies outside the box is background, half of it on each side.

    Source: sections 3.4.1 and 3.7.3, Seia et al. 2023.
    Deviation: views come from a common base crop, as in the public code: two patches of the slab need share nothing in
        plane (``base="slab"`` draws them so). The public code takes the view's own side as the base wherever the base
        would not fit, and one set of slices for both views; here the base ends at the box, and slices are drawn for
        each view. Its two-channel views share the first one's second channel; here each has its own, and that of the
        contralateral image is the difference with the other sign.

    Args:
        heads: Volumes of :class:`strokelib.ssl_nnunet.heads.Head`.
        size: Sides (d, h, w) of a view in voxels.
        batch: Pairs a batch.
        seed: Seed of the stream.
        slab: Slices of a slab; a head with fewer is padded with background.
        base: ``crop``, or ``slab``: both views are crops of the whole slab.
        base_crop: Smallest and largest side of the base crop in sides of the view, drawn for y and x apart.
        scale: Smallest and largest side of the crop that becomes a view, in sides of the view, drawn for y and x apart.
        symmetry: Probability that a pair is a symmetric one; 0 needs no contralateral images.
        other_place: Of a symmetric pair's views: the ``same`` box, as printed, or each its ``own`` box in the same
            base, as in the public code.
        brain_share: Share of brain from which on a slab is taken at once.
        redraws: How often a slab is drawn again at most.
        augmentation: Changes to each view; the scale is that of the crops, so nothing may be moved here.

    Raises:
        ParameterError: Sizes, ranges or probabilities that are impossible, or an augmentation that moves.
        DataError: Symmetric pairs are asked for and the heads hold no contralateral image.
    """

    def __init__(
        self,
        heads: Volumes,
        size: Sequence[int],
        batch: int,
        seed: int,
        *,
        slab: int,
        base: str = "crop",
        base_crop: tuple[float, float] = (1.4, 1.8),
        scale: tuple[float, float] = (0.8, 1.2),
        symmetry: float = 0.0,
        other_place: str = "same",
        brain_share: float = 0.4,
        redraws: int = 10,
        augmentation: Augmentation3d = VIEW_AUGMENTATION,
    ) -> None:
        super().__init__(batch, seed)
        _check("base", base in BASES, repr(base), " or ".join(BASES))
        _check("other_place", other_place in PLACES, repr(other_place), " or ".join(PLACES))
        _check("size", len(size) == 3 and min(size) >= 1, tuple(size), "three sides of 1 voxel or more")
        _check("slab", slab >= size[0], slab, f"at least the {size[0]} slices of a view")
        _check("base_crop", 1 <= base_crop[0] <= base_crop[1], base_crop, "a rising range from 1")
        _check("scale", 1 / min(size) <= scale[0] <= scale[1], scale, "a rising range that leaves a voxel")
        _check("symmetry", 0 <= symmetry <= 1, symmetry, "a probability")
        _check("brain_share", 0 <= brain_share <= 1, brain_share, "a share from 0 to 1")
        _check("redraws", redraws >= 0, redraws, "0 or more")
        _check("augmentation", not augmentation.moved, f"moved {augmentation.moved:g}", "0: scale is the crops' range")
        if symmetry > 0 and heads[0].contralateral is None:
            found, step = "no contralateral image", "give contralateral=True to heads_of, or symmetry=0"
            raise DataError("heads", found=found, wanted="one in each head", next_step=step)
        self.heads, self.size, self.slab, self.base, self.other_place = heads, tuple(size), slab, base, other_place
        self.base_crop, self.scale, self.symmetry = base_crop, scale, symmetry
        self.brain_share, self.redraws, self.augmentation = brain_share, redraws, augmentation

    def place(self, generator: np.random.Generator) -> tuple[Head, Pair]:
        """A head, and where the views of a pair come from."""
        scan = int(generator.integers(len(self.heads)))
        head = self.heads[scan]
        slab = self._slab(head, generator)
        base = slab if self.base == "slab" else self._base(slab, generator)
        first = self._view(base, generator)
        symmetric = bool(generator.random() < self.symmetry)
        second = first if symmetric and self.other_place == "same" else self._view(base, generator)
        turn = bool(generator.random() < 0.5)
        return head, Pair(scan, slab, base, (first, second), (symmetric and turn, symmetric and not turn))

    def _slab(self, head: Head, generator: np.random.Generator) -> Box:
        depth, *plane = head.brain.shape
        sides = [max(n, side) for n, side in zip(plane, self.size[1:], strict=True)]
        for left in reversed(range(self.redraws + 1)):
            start = _start(0, depth, self.slab, generator)
            share = head.areas[max(0, start) : start + self.slab].sum() / (self.slab * plane[0] * plane[1])
            if share >= self.brain_share or left == 0 or generator.random() >= 1 - share:
                break
        starts = [(n - side) // 2 for n, side in zip(plane, sides, strict=True)]
        return Box((start, *starts), (self.slab, *sides))

    def _base(self, slab: Box, generator: np.random.Generator) -> Box:
        """The slab's slices and a part of its plane."""
        factors = generator.uniform(*self.base_crop, 2)
        sides = [min(round(f * s), n) for f, s, n in zip(factors, self.size[1:], slab.sides[1:], strict=True)]
        free = zip(slab.start[1:], slab.sides[1:], sides, strict=True)
        starts = [_start(low, length, side, generator) for low, length, side in free]
        return Box((slab.start[0], *starts), (self.slab, *sides))

    def _view(self, base: Box, generator: np.random.Generator) -> Box:
        factors = (1.0, *generator.uniform(*self.scale, 2))
        sides = [min(round(f * s), n) for f, s, n in zip(factors, self.size, base.sides, strict=True)]
        free = zip(base.start, base.sides, sides, strict=True)
        starts = [_start(low, length, side, generator) for low, length, side in free]
        return Box(tuple(starts), tuple(sides))

    def draw(self, first: int, generators: list[np.random.Generator]) -> Views:
        """The batch of these generators; ``first`` plays no part."""
        seen, symmetric = [], []
        for generator in generators:
            head, pair = self.place(generator)
            symmetric.append(any(pair.contralateral))
            mirrored = generator.random((2, 3)) < self.augmentation.mirror
            for box, other, mirror in zip(pair.views, pair.contralateral, mirrored, strict=True):
                images = head.contralateral if other else head.images
                view = view_of(images, box, self.size, head.fill).flip([a + 1 for a in np.flatnonzero(mirror)])
                seen.append(change_intensities(view, self.augmentation, generator, head.spacing, head.fill))
        return Views(torch.stack(seen[::2]), torch.stack(seen[1::2]), torch.tensor(symmetric))


def _start(low: int, length: int, side: int, generator: np.random.Generator) -> int:
    """First voxel of a side anywhere in a stretch; in its middle where it is longer."""
    free = length - side
    return low + (int(generator.integers(free + 1)) if free >= 0 else free // 2)


def _check(name: str, holds: bool, found: object, wanted: str) -> None:
    if not holds:
        raise ParameterError(f"{name} of views", found=found, wanted=wanted, next_step="correct the recipe")
