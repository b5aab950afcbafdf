"""A head, an infarct, a pose and a grid make an image, slice by slice.

All maps of a head are smooth, so they are read where the image's pixels are about as far apart as the maps' own voxels
and interpolated in plane between these nodes; tissue edges are made after that, at every pixel of every sub-slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from strokelib.data import shipped
from strokelib.data.phantom.anatomy import BRAIN, Head, Levels, build
from strokelib.data.phantom.atlas import LATTICE
from strokelib.data.phantom.fields import chosen
from strokelib.data.phantom.infarcts import Infarct
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.painting import CHANNELS, TISSUES, Sampled, paint
from strokelib.data.phantom.protocols import Protocol
from strokelib.data.phantom.scanner import Grid, Pose, noise_of_slices
from strokelib.data.phantom.warp import NODES_A_WARP_NODE, warped_nodes

AIR_BEYOND_MM = 3.0
BRAIN_BEYOND_MM = 5.0
BRAIN_SHARE = 0.9
INFARCT_BEYOND_MM = 8.0
CHRONIC_BEYOND_MM = 11.0


@dataclass(frozen=True)
class Slab:
    """What lies in the voxels of one slice: means over its thickness, without noise.

    Args:
        place: Slice, rows and columns of the image; everything outside is air.
        values: (11, h, w) float32, named by :data:`strokelib.data.phantom.painting.CHANNELS`.
        territory: (h, w) uint8, label of the arterial territory, 0 outside the brain and the atlas' territories.
    """

    place: tuple[int, slice, slice]
    values: torch.Tensor
    territory: torch.Tensor

    def __getitem__(self, name: str) -> torch.Tensor:
        """One channel (h, w)."""
        return self.values[CHANNELS.index(name)]

    @property
    def shares(self) -> torch.Tensor:
        """(6, h, w): share of each tissue of ``TISSUES[1:]``."""
        return self.values[-len(TISSUES) + 1 :]

    @property
    def tissue(self) -> torch.Tensor:
        """(h, w) uint8: index of the tissue that fills most of each voxel; what none fills is air, 0."""
        shares = self.shares
        most, total, best = shares[0].clone(), shares[0].clone(), torch.ones_like(shares[0])
        more = torch.empty_like(best)  # as float32: to compare into bool takes five times as long
        for n, share in enumerate(shares[1:], start=2):
            torch.maximum(best, torch.gt(share, most, out=more).mul_(n), out=best)
            torch.maximum(most, share, out=most)
            total += share
        return best.mul_(torch.gt(most, torch.sub(1, total, out=total), out=more)).to(torch.uint8)

    @property
    def brain(self) -> torch.Tensor:
        """(h, w) bool: voxels with at least 90 % inside the inner table (fluid counts as brain)."""
        return self["inside"] >= BRAIN_SHARE


@dataclass(frozen=True)
class Scene:
    """One rendered CT with its truth, all (D, H, W).

    Args:
        hu: int16 HU.
        brain: bool, voxels with at least 90 % inside the inner table (fluid counts as brain).
        lesion: bool, the infarct without fluid.
        label: bool, what the cohort's reader draws of it.
        tissue: uint8, index into ``painting.TISSUES``.
        territory: uint8, label of the arterial territory.
        infarct_hu: float16, painted change in HU, zero or negative.
    """

    hu: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray
    label: np.ndarray
    tissue: np.ndarray
    territory: np.ndarray
    infarct_hu: np.ndarray


@lru_cache(maxsize=1)
def _territories() -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of the territory atlas with one empty voxel more on each side, and the matrix from mm to its voxels."""
    volume, _ = shipped.territories()
    labels = F.pad(torch.from_numpy(volume.array.astype(np.uint8)), (1,) * 6)
    return labels, torch.from_numpy(np.linalg.inv(volume.affine)).float()


def _territory_at(points: torch.Tensor) -> torch.Tensor:
    """Label of the nearest voxel of the territory atlas at points (3, h, w) in standard mm."""
    labels, matrix = _territories()
    depth, height, width = labels.shape
    index = (matrix[:3, :3] @ points.flatten(1) + matrix[:3, 3:]).round_()
    for at, size in zip(index, (width, height, depth), strict=True):
        at.clamp_(-1, size - 2)
    flat = (index[2] + 1) * (height * width) + (index[1] + 1) * width + (index[0] + 1)  # below 2^24: exact
    return labels.view(-1).index_select(0, flat.int()).view(points.shape[1:])


def _box(near: torch.Tensor) -> tuple[slice, slice] | None:
    """Rows and columns that hold all nodes near the head, one more on each side."""
    sides = []
    for axis in (0, 1):
        used = near.any(dim=1 - axis).nonzero()[:, 0]
        if not len(used):
            return None
        sides.append(slice(max(0, int(used[0]) - 1), min(near.shape[axis], int(used[-1]) + 2)))
    return sides[0], sides[1]


def _finer(values: torch.Tensor, times: int) -> torch.Tensor:
    """Maps (C, S, rows, columns) interpolated in plane, so that each interval holds ``times`` ones."""
    if times == 1:
        return values
    if times == 2:  # four times as quick as F.interpolate
        *lead, rows, columns = values.shape
        out = values.new_empty(*lead, 2 * rows - 1, 2 * columns - 1)
        out[..., ::2, ::2] = values
        torch.lerp(values[..., :-1], values[..., 1:], 0.5, out=out[..., ::2, 1::2])
        torch.lerp(out[..., :-1:2, :], out[..., 2::2, :], 0.5, out=out[..., 1::2, :])
        return out
    size = [(n - 1) * times + 1 for n in values.shape[2:]]
    return F.interpolate(values, size=size, mode="bilinear", align_corners=True)


def _brain_nodes(nodes: torch.Tensor, inner: torch.Tensor, levels: Levels, infarct: Infarct | None) -> torch.Tensor:
    """Nodes (S, rows, columns) whose pixels must be painted as brain: those inside, and all about an infarct."""
    used = inner
    if infarct is not None:
        used = used | infarct.lattice.near(nodes, INFARCT_BEYOND_MM)
    for *centre, radius in levels.chronic:
        distance = (nodes - nodes.new_tensor(centre).view(3, 1, 1, 1)).pow_(2).sum(0).sqrt_()
        used = used | (distance < 1.5 * radius + CHRONIC_BEYOND_MM)
    return used


def _brain_at(nodes: torch.Tensor, inner: torch.Tensor, levels: Levels) -> torch.Tensor:
    """The brain's maps (6, S, rows, columns) at nodes (3, S, rows, columns); 0 where a node is not ``inner``."""
    index = chosen(inner.numpy())
    out = torch.zeros(len(levels.brain), inner.numel())
    out.index_copy_(1, index, BRAIN.sample(levels.brain, nodes.flatten(1).index_select(1, index)))
    return out.view(-1, *inner.shape)


def _pixels(values: torch.Tensor, stride: int, within: tuple[slice, slice], shape: tuple[int, int]) -> torch.Tensor:
    """Maps (C, rows, columns) of one sub-slice at the pixels between the nodes ``within``, and no others.

    Args:
        values: At all nodes of the slice's box.
        stride: Distance of two nodes in pixels.
        within: Rows and columns of nodes.
        shape: Pixels of the box, which may end before the last node.
    """
    rows, columns = pixels = _pixel_box(within, stride, shape)
    if stride > 2:  # F.interpolate rounds by the distance from the first node: a part would not be the whole's
        return _finer(values[:, None], stride)[:, 0, rows, columns]
    part = _finer(values[:, None, within[0], within[1]], stride)[:, 0]
    return part[:, : pixels[0].stop - rows.start, : pixels[1].stop - columns.start]


def _pixel_box(within: tuple[slice, slice], stride: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of pixels from the first to the last of some nodes."""
    rows, columns = (
        slice(side.start * stride, min((side.stop - 1) * stride + 1, n)) for side, n in zip(within, shape, strict=True)
    )
    return rows, columns


def painted_slices(target: Grid, head: Head, pose: Pose, infarct: Infarct | None) -> Iterator[Slab]:
    """Paint a head on a grid, without noise; slices that show air alone are left out.

    Args:
        target: The image's grid.
        head: The anatomy.
        pose: How the head lies.
        infarct: The acute infarct, or None.
    """
    edge = float(np.hypot(KNOBS.edge_mm, 0.16 * target.pixel_mm))
    levels = build(head, None if infarct is None else infarct.squeeze, edge)
    _, height, width = target.shape
    samples, stride = target.samples, target.stride
    coarse = warped_nodes(target, head, pose, infarct)
    near = LATTICE.sample(levels.outside[1:2], coarse.flatten(1)).view(coarse.shape[1:]) > -AIR_BEYOND_MM
    for k in range(target.shape[0]):
        part = slice(k * samples, (k + 1) * samples)
        box = _box(near[part].any(dim=0))
        if box is None:
            continue
        nodes = _finer(coarse[:, part, box[0], box[1]], NODES_A_WARP_NODE)
        outside = LATTICE.sample(levels.outside, nodes.flatten(1)).view(-1, *nodes.shape[1:])
        top, left = (side.start * stride * NODES_A_WARP_NODE for side in box)
        whole = tuple(slice(0, n) for n in nodes.shape[2:])
        rows, columns = _pixel_box(whole, stride, (height - top, width - left))
        shape = (rows.stop, columns.stop)
        inner = outside[0] > -BRAIN_BEYOND_MM
        within = _box(_brain_nodes(nodes, inner, levels, infarct).any(dim=0))
        brain = None if within is None else _brain_at(nodes, inner, levels)
        place = None if within is None else _pixel_box(within, stride, shape)
        values: torch.Tensor | None = None
        for sample in range(samples):
            seen = Sampled(_pixels(outside[:, sample], stride, whole, shape))
            if within is not None:
                points = _pixels(nodes[:, sample], stride, whole, shape)
                seen = Sampled(seen.outside, place, points, _pixels(brain[:, sample], stride, within, shape))
            painted = paint(seen, levels, infarct, edge)
            values = painted if values is None else values.add_(painted)
        values = values if samples == 1 else values.div_(samples)
        territory = torch.zeros(shape, dtype=torch.uint8)
        if within is not None:
            labels = _territory_at(nodes[:, :, within[0], within[1]].mean(dim=1))
            labels = labels.repeat_interleave(stride, 0).repeat_interleave(stride, 1)
            there = territory[place]
            there.copy_(labels[: there.shape[0], : there.shape[1]])
            there *= values[CHANNELS.index("inside")][place] >= 0.5
        yield Slab((k, slice(top, top + shape[0]), slice(left, left + shape[1])), values, territory)


def render_scene(
    target: Grid, head: Head, pose: Pose, infarct: Infarct | None, protocol: Protocol, *, noisy: bool = True
) -> Scene:
    """Render one CT image.

    Args:
        target: The image's grid.
        head: The anatomy.
        pose: How the head lies.
        infarct: The acute infarct, or None.
        protocol: The cohort's scanner, for the noise.
        noisy: Whether noise is added where the head is; the air around it has none.
    """
    shape = target.shape
    hu = np.full(shape, KNOBS.air_hu, np.int16)
    brain, lesion, label = (np.zeros(shape, bool) for _ in range(3))
    tissue, territory = (np.zeros(shape, np.uint8) for _ in range(2))
    change = np.zeros(shape, np.float16)
    slices = noise_of_slices(head.seed, target, pose, protocol) if noisy else None
    for slab in painted_slices(target, head, pose, infarct):
        place, values = slab.place, slab["hu"]
        if slices is not None:
            values = values + slices(place)
        hu[place] = values.round_().clamp_(-1024, 3071).to(torch.int16).numpy()
        brain[place], tissue[place] = slab.brain.numpy(), slab.tissue.numpy()
        territory[place] = slab.territory.numpy()
        if infarct is not None and bool(slab["mask"].any() | slab["label"].any()):
            solid = brain[place] & ((tissue[place] == 1) | (tissue[place] == 2))
            lesion[place] = (slab["mask"] >= 0.5).numpy() & solid
            label[place] = (slab["label"] >= 0.5).numpy() & solid
            change[place] = slab["change"].to(torch.float16).numpy()
    return Scene(hu, brain, lesion, label, tissue, territory, change)
