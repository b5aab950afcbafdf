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
from strokelib.data.phantom.infarcts import Infarct
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.painting import CHANNELS, TISSUES, Sampled, paint
from strokelib.data.phantom.protocols import Protocol
from strokelib.data.phantom.scanner import Grid, Pose, noise_of_slices
from strokelib.data.phantom.warp import NODES_A_WARP_NODE, warped_nodes

AIR_BEYOND_MM = 3.0
BRAIN_BEYOND_MM = 5.0
BRAIN_SHARE = 0.9


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
        most, best = self.shares[0].clone(), torch.ones(self.shares.shape[1:], dtype=torch.uint8)
        for n, share in enumerate(self.shares[1:], start=2):  # a third of the time of max(dim=0)
            best.masked_fill_(share > most, n)
            torch.maximum(most, share, out=most)
        return best * (most > 1 - self.shares.sum(0))

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
def _territories() -> tuple[torch.Tensor, np.ndarray]:
    volume, _ = shipped.territories()
    return torch.from_numpy(volume.array.astype(np.uint8)), np.linalg.inv(volume.affine)


def _territory_at(points: torch.Tensor) -> torch.Tensor:
    """Label of the nearest voxel of the territory atlas at points (3, h, w) in standard mm."""
    labels, to_voxel = _territories()
    matrix = torch.from_numpy(to_voxel).float()
    index = (matrix[:3, :3] @ points.flatten(1) + matrix[:3, 3:]).round_().int()
    sizes = labels.shape[::-1]
    inside = torch.ones(index.shape[1], dtype=torch.bool)
    for axis in range(3):
        inside &= (index[axis] >= 0) & (index[axis] < sizes[axis])
        index[axis].clamp_(0, sizes[axis] - 1)
    flat = (index[2] * sizes[1] + index[1]) * sizes[0] + index[0]
    return (labels.view(-1)[flat.long()] * inside).view(points.shape[1:])


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


def _maps_at(points: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Points (3, S, rows, columns) and the head's maps there, (13, S, rows, columns); the brain's are 0 outside it."""
    flat = points.flatten(1)
    out = torch.zeros(3 + len(levels.outside) + len(levels.brain), flat.shape[1])
    out[:3], out[3:7] = flat, LATTICE.sample(levels.outside, flat)
    inner = (out[3] > -BRAIN_BEYOND_MM).nonzero()[:, 0]
    out[7:].index_copy_(1, inner, BRAIN.sample(levels.brain, flat[:, inner]))
    return out.view(-1, *points.shape[1:])


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
        maps = _maps_at(nodes, levels)
        top, left = (side.start * stride * NODES_A_WARP_NODE for side in box)
        territory = _territory_at(nodes.mean(dim=1))
        values: torch.Tensor | None = None
        for sample in range(samples):
            fine = _finer(maps[:, sample : sample + 1], stride)[:, 0]
            fine = fine[..., : height - top, : width - left]
            shape, fine = fine.shape[1:], fine.flatten(1)
            painted = paint(Sampled(fine[:3], fine[3:7], fine[7:]), levels, infarct, edge)
            values = painted if values is None else values.add_(painted)
        values = (values if samples == 1 else values.div_(samples)).view(-1, *shape)
        territory = territory.repeat_interleave(stride, 0).repeat_interleave(stride, 1)[: shape[0], : shape[1]]
        territory = territory * (values[CHANNELS.index("inside")] >= 0.5)
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
