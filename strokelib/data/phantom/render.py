"""A head, an infarct, a pose and a grid make an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from strokelib.data.phantom.anatomy import CENTRE_MM, Head, Levels, build
from strokelib.data.phantom.atlas import LATTICE
from strokelib.data.phantom.fields import Lattice, generator, smooth_field
from strokelib.data.phantom.infarcts import COARSE, Infarct
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.painting import Painted, paint
from strokelib.data.phantom.scanner import Grid, Pose, noise

WARP = Lattice(corner=(96.0, 96.0, -78.0), step=6.0, shape=(33, 40, 33))
CHUNK_POINTS = 2_000_000
AIR_BEYOND_MM = 9.0
BRAIN_SHARE = 0.9


@dataclass(frozen=True)
class Scene:
    """One rendered image with its truth, all (D, H, W).

    Args:
        hu: int16 HU.
        brain: bool, voxels with at least 90 % inside the inner table (fluid counts as brain).
        lesion: bool, the infarct without fluid.
        tissue: uint8, index into ``painting.TISSUES``.
        infarct_hu: float16, painted change in HU, zero or negative.
    """

    hu: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray
    tissue: np.ndarray
    infarct_hu: np.ndarray


def world_to_standard(head: Head, pose: Pose) -> np.ndarray:
    """(4, 4) linear part of the map from the image's RAS mm to the standard brain's; the smooth warp comes on top."""
    linear = np.diag(1.0 / np.array(head.size)) @ pose.rotation().T
    out = np.eye(4)
    out[:3, :3] = linear
    out[:3, 3] = np.array(CENTRE_MM) - linear @ np.array(pose.shift_mm)
    return out


def displacement(head: Head) -> torch.Tensor:
    """(3, D, H, W) on :data:`WARP`: what is added to a standard point to find the atlas' point there, in mm."""
    k, rng = KNOBS, generator(head.seed, "warp")
    x = WARP.axes()[0]
    parts = []
    for axis in range(3):
        share = 1.0 - k.asymmetric_share if axis == 0 else k.asymmetric_share
        coarse = smooth_field(rng, WARP, k.warp_coarse_spacing_mm, asymmetric=share)
        fine = smooth_field(rng, WARP, k.warp_fine_spacing_mm, asymmetric=share)
        parts.append(k.warp_coarse_mm * coarse + k.warp_fine_mm * fine)
    middle = torch.exp(-((x / 15.0) ** 2))
    parts[0] = parts[0] * (1 - 0.7 * middle)
    parts[1] = parts[1] + 0.5 * head.torque_mm * torch.tanh(x / 20.0)
    return torch.stack(parts)


def warp_nodes(target: Grid, head: Head, pose: Pose, infarct: Infarct | None) -> torch.Tensor:
    """(D * samples, 3, rows, columns) standard RAS mm at each ``stride``-th pixel of every sub-slice."""
    depth, height, width = target.shape
    rows, columns = -(-(height - 1) // target.stride) + 1, -(-(width - 1) // target.stride) + 1
    j, i = torch.arange(rows) * float(target.stride), torch.arange(columns) * float(target.stride)
    below = ((torch.arange(target.samples) + 0.5) / target.samples - 0.5) * (
        target.slice_mm / np.linalg.norm(target.affine[:3, 2])
    )
    k = (torch.arange(depth)[:, None] + below[None]).reshape(-1)
    kk, jj, ii = torch.meshgrid(k.float(), j, i, indexing="ij")
    matrix = torch.from_numpy(world_to_standard(head, pose) @ target.affine).float()
    points = matrix[:3, :3] @ torch.stack((ii, jj, kk)).reshape(3, -1) + matrix[:3, 3:]
    moved = points + WARP.sample(displacement(head), points)
    if infarct is not None:
        moved = moved - COARSE.sample(infarct.push, points)
    return moved.reshape(3, -1, rows, columns).transpose(0, 1)


def render_scene(target: Grid, head: Head, pose: Pose, infarct: Infarct | None, *, noisy: bool = True) -> Scene:
    """Render one image.

    Args:
        target: The image's grid.
        head: The anatomy.
        pose: How the head lies.
        infarct: The acute infarct, or None.
        noisy: Whether noise is added.
    """
    levels = build(head, None if infarct is None else infarct.squeeze)
    edge = float(np.hypot(KNOBS.edge_mm, 0.16 * target.pixel_mm))
    _, height, width = target.shape
    step, samples = target.stride, target.samples
    parts = []
    for nodes in warp_nodes(target, head, pose, infarct).split(
        samples * max(1, CHUNK_POINTS // (samples * height * width))
    ):
        near = _near_head(nodes, levels, target)
        size = ((nodes.shape[2] - 1) * step + 1, (nodes.shape[3] - 1) * step + 1)
        points = F.interpolate(nodes, size=size, mode="bilinear", align_corners=True)[:, :, :height, :width]
        points = points.unflatten(0, (-1, samples)).permute(2, 1, 0, 3, 4).flatten(2)[:, :, near.flatten()]
        painted = paint(points.flatten(1), levels, infarct, edge)
        parts.append(tuple(_slice_means(values, near, samples, empty) for values, empty in _channels(painted)))
    hu, change, inside, mask, shares = (torch.cat(p, dim=-3) for p in zip(*parts, strict=True))
    if noisy:
        hu = hu + noise(head.seed, target, pose.pixel_mm)
    tissue = _largest_share(shares)
    lesion = (mask >= 0.5) & (inside >= BRAIN_SHARE) & ((tissue == 1) | (tissue == 2))
    return Scene(
        hu=hu.round().clamp(-1024, 3071).to(torch.int16).numpy(),
        brain=(inside >= BRAIN_SHARE).numpy(),
        lesion=lesion.numpy(),
        tissue=tissue.numpy(),
        infarct_hu=change.to(torch.float16).numpy(),
    )


def _largest_share(shares: torch.Tensor) -> torch.Tensor:
    """Index (uint8) of the tissue that fills most of each voxel; what no tissue fills is air, 0."""
    best = 1 - shares.sum(0)
    label = torch.zeros(best.shape, dtype=torch.uint8)
    for number, share in enumerate(shares, start=1):
        label[share > best] = number
        best = torch.maximum(best, share)
    return label


def _near_head(nodes: torch.Tensor, levels: Levels, target: Grid) -> torch.Tensor:
    """(D, H, W) bool: pixels of cells with a corner in the head or near it in any sub-slice; all others are air."""
    flat = nodes.transpose(0, 1).flatten(1)
    skin = LATTICE.sample(levels.outside[1:2], flat).reshape(-1, target.samples, *nodes.shape[2:]).amax(dim=1)
    cells = F.max_pool2d((skin > -AIR_BEYOND_MM).float(), 2, stride=1, padding=1)[:, 1:, 1:] > 0
    return cells.repeat_interleave(target.stride, 1).repeat_interleave(target.stride, 2)[
        :, : target.shape[1], : target.shape[2]
    ]


def _channels(painted: Painted) -> tuple[tuple[torch.Tensor, float], ...]:
    """What is kept of a block, and the value of each in air."""
    values = (painted.change_hu, painted.inside, painted.mask, painted.shares)
    return (painted.hu, KNOBS.air_hu), *((v, 0.0) for v in values)


def _slice_means(values: torch.Tensor, near: torch.Tensor, samples: int, empty: float) -> torch.Tensor:
    """Mean of values (..., samples * N) over the sub-slices, put at the N pixels of ``near``; ``empty`` elsewhere."""
    full = torch.full((*values.shape[:-1], near.numel()), empty)
    full[..., near.flatten()] = values.unflatten(-1, (samples, -1)).mean(dim=-2)
    return full.unflatten(-1, near.shape)
