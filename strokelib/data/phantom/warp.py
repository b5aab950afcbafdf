"""From the pixels of an image to the standard frame: the pose, the head's size, and one smooth deformation a head."""

from __future__ import annotations

import numpy as np
import torch

from strokelib.data.phantom.anatomy import CENTRE_MM, Head
from strokelib.data.phantom.atlas import LATTICE, maps
from strokelib.data.phantom.fields import Lattice, generator, smooth_field
from strokelib.data.phantom.infarcts import COARSE, Infarct
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.scanner import Grid, Pose

WARP = Lattice(corner=(96.0, 96.0, -78.0), step=6.0, shape=(33, 40, 33))
NODES_A_WARP_NODE = 3


def world_to_standard(head: Head, pose: Pose) -> np.ndarray:
    """(4, 4) linear part of the map from the image's RAS mm to the standard brain's; the smooth warp comes on top."""
    linear = np.diag(1.0 / np.array(head.size)) @ pose.rotation().T
    out = np.eye(4)
    out[:3, :3] = linear
    out[:3, 3] = np.array(CENTRE_MM) - linear @ np.array(pose.shift_mm)
    return out


def displacement(head: Head) -> torch.Tensor:
    """(3, D, H, W) on :data:`WARP`: what is added to a standard point to find the atlas' point there, in mm.

    The fine part ends below the skull, whose tables are smooth.
    """
    k, rng = KNOBS, generator(head.seed, "warp")
    x, y, z = WARP.axes()
    points = torch.stack([a.expand(WARP.shape).reshape(-1) for a in (x, y, z)])
    depth = LATTICE.sample(maps(head.anatomy).depth[None], points).view(WARP.shape)
    within = ((depth - k.skull_stiff_mm) / k.skull_stiff_mm).clamp(0, 1)
    parts = []
    for axis in range(3):
        share = 1.0 - k.asymmetric_share if axis == 0 else k.asymmetric_share
        coarse = smooth_field(rng, WARP, k.warp_coarse_spacing_mm, asymmetric=share)
        fine = smooth_field(rng, WARP, k.warp_fine_spacing_mm, asymmetric=share)
        parts.append(k.warp_coarse_mm * coarse + k.warp_fine_mm * fine * within)
    middle = torch.exp(-((x / 15.0) ** 2))
    parts[0] = parts[0] * (1 - 0.7 * middle)
    parts[1] = parts[1] + 0.5 * head.torque_mm * torch.tanh(x / 20.0)
    return torch.stack(parts)


def standard_points(
    linear: np.ndarray, moves: torch.Tensor, infarct: Infarct | None, image_points: torch.Tensor
) -> torch.Tensor:
    """Standard RAS mm (3, N) of the image's points.

    Args:
        linear: (4, 4), from the image's coordinates (mm or voxels) to standard mm.
        moves: What :func:`displacement` gave.
        infarct: The swollen infarct that pushes tissue outwards, or None.
        image_points: (3, N).
    """
    matrix = torch.from_numpy(linear).float()
    points = matrix[:3, :3] @ image_points + matrix[:3, 3:]
    moved = points + WARP.sample(moves, points)
    return moved if infarct is None else moved - COARSE.sample(infarct.push, points)


def warped_nodes(target: Grid, head: Head, pose: Pose, infarct: Infarct | None) -> torch.Tensor:
    """(3, D * samples, rows, columns) standard RAS mm of every sub-slice, at each ``3 * stride``-th pixel.

    The deformation is evaluated at every third node of the maps alone and interpolated between: it is smooth over more.
    """
    depth, height, width = target.shape
    rows, columns = (-(-(n - 1) // target.stride) + 1 for n in (height, width))
    coarse = [-(-(n - 1) // NODES_A_WARP_NODE) + 1 for n in (rows, columns)]
    step = float(target.stride * NODES_A_WARP_NODE)
    below = (torch.arange(target.samples) + 0.5) / target.samples - 0.5
    below = below * float(target.slice_mm / np.linalg.norm(target.affine[:3, 2]))
    k = (torch.arange(depth)[:, None] + below[None]).reshape(-1)
    kk, jj, ii = torch.meshgrid(k, torch.arange(coarse[0]) * step, torch.arange(coarse[1]) * step, indexing="ij")
    voxels = torch.stack((ii, jj, kk)).reshape(3, -1)
    points = standard_points(world_to_standard(head, pose) @ target.affine, displacement(head), infarct, voxels)
    return points.view(3, len(k), *coarse)
