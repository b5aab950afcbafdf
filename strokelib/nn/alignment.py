"""Mirror, midline and rigid warps. Tensors only; nothing here touches the disk.

Conventions, named once:

* An image coordinate counts voxel **centres**: the first centre is 0, the last ``n - 1``; x runs along the last
  axis, y along the one before it (downwards), z along the first spatial one. In ``grid_sample``'s units this is
  ``align_corners=False``: -1 and 1 are the outer **edges** of the first and last voxel, ``u = (2 x + 1) / n - 1``.
* A warp takes an **output -> input** matrix: ``out(p) = in(M p)``. PAPL's Eqs 1-5 describe where a point goes
  (input -> output); :func:`align_matrix_2d` returns that forward map, and :func:`warp_2d` takes the forward map and
  inverts it.
* A field ends at its outer edges: up to half a voxel beyond the last centre a warp finds that voxel's value, beyond the
  edge it finds ``fill``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from strokelib.errors import ParameterError

EDGE_SLACK = 1e-5  # of half a field: what float32 may lose on an edge


def mirror(x: Tensor) -> Tensor:
    """The left-right mirror image: the last axis reversed.

    Source: "x x T", Eq. 19, Sun et al. 2024; X' in Eq. 2, Ni et al. 2022.
    Deviation: none (right multiplication by the exchange matrix is a reversal of the last axis).

    Args:
        x: (..., W).

    Returns:
        (..., W), same values.
    """
    return x.flip(-1)


def midline_from_points(top: Tensor, bottom: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and tilt of the mid-sagittal line of a slice, from its two end points.

    ``centre = ((x_t + x_d) / 2, (y_t + y_d) / 2)``, ``dx = x_d - x_t``, ``dy = y_d - y_t``, ``alpha = atan2(dx, dy)``.

    Source: Eqs 1-4, Sun et al. 2024.
    Deviation: atan2 in place of arctan(dx / dy), which has no value for a horizontal line (dy = 0) and loses the
        quadrant.

    Args:
        top: (..., 2), (x, y) of the upper end in voxels.
        bottom: (..., 2), (x, y) of the lower end in voxels.

    Returns:
        Centre (..., 2) in voxels, and alpha (...) in radians, in (-pi, pi]; 0 for a vertical line with its top
        above its bottom.
    """
    difference = bottom - top
    return (top + bottom) / 2, torch.atan2(difference[..., 0], difference[..., 1])


def midline_shift(centre: Tensor, width: int) -> Tensor:
    """Horizontal way from the line's centre to the image's vertical axis: ``d = x_i - x_c``, ``x_i = (width - 1) / 2``.

    Source: Eq. 5, Sun et al. 2024.
    Deviation: x_i counts voxel centres, so that the axis lies between the middle columns where the width is even.

    Args:
        centre: (..., 2), (x, y) in voxels.
        width: Columns of the image.

    Returns:
        (...) in voxels; positive moves to the right.
    """
    return (width - 1) / 2 - centre[..., 0]


def align_matrix_2d(centre: Tensor, alpha: Tensor, width: int) -> Tensor:
    """Forward map that turns the mid-sagittal line upright about its centre and moves it to the image's vertical axis.

    ``p' = R(alpha) (p - centre) + (x_c + d, y_c)``, ``R(a) = [[cos a, -sin a], [sin a, cos a]]`` in (x right, y
    down); x_c + d = x_i.

    Source: Eqs 1-5, Sun et al. 2024.
    Deviation: the paper names rotation and shift but no matrix; the sign is fixed by the first row of R(alpha) (dx,
        dy) being 0, and
    only the horizontal shift of Eq. 5 is applied although the text speaks of the image's centre.

    Args:
        centre: (..., 2), (x, y) in voxels.
        alpha: (...) in radians.
        width: Columns of the image.

    Returns:
        (..., 3, 3), input -> output, on (x, y, 1).
    """
    cos, sin = torch.cos(alpha), torch.sin(alpha)
    rotation = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    goal = torch.stack([centre[..., 0] + midline_shift(centre, width), centre[..., 1]], -1)
    shift = goal - (rotation @ centre[..., None])[..., 0]
    return _homogeneous(rotation, shift)


def _homogeneous(linear: Tensor, shift: Tensor) -> Tensor:
    """(..., n, n) and (..., n) to (..., n + 1, n + 1)."""
    n = linear.shape[-1]
    last = torch.zeros(*linear.shape[:-2], 1, n + 1, dtype=linear.dtype, device=linear.device)
    last[..., -1] = 1
    return torch.cat([torch.cat([linear, shift[..., None]], -1), last], -2)


def rigid_matrix_3d(angles: Tensor, shift: Tensor) -> Tensor:
    """Rigid matrix about the origin: ``p -> R p + shift`` with ``R = R_z R_y R_x``.

    With output -> input use, as ``affine_grid`` has it, ``X(p) = I(R p + t)``; :func:`invert_rigid` gives the exact
    way back.

    Args:
        angles: (B, 3), turns about x, y, z in radians; about z is the in-plane turn of an axial slice, about y the
            roll.
        shift: (B, 3), along x, y, z in mm.

    Returns:
        (B, 4, 4) on (x, y, z, 1) in mm.
    """
    cos, sin = torch.cos(angles), torch.sin(angles)
    one, zero = torch.ones_like(cos[:, 0]), torch.zeros_like(cos[:, 0])
    (cx, cy, cz), (sx, sy, sz) = cos.unbind(1), sin.unbind(1)
    about_x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], 1).view(-1, 3, 3)
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], 1).view(-1, 3, 3)
    about_z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], 1).view(-1, 3, 3)
    return _homogeneous(about_z @ about_y @ about_x, shift)


def invert_rigid(matrix: Tensor) -> Tensor:
    """Exact inverse of rigid matrices of any dimension: ``R^T`` and ``-R^T t``, with no linear solve.

    Source: T^-1 in Eq. 4, Ni et al. 2022.
    Deviation: none (the inverse of the rigid map, not of the resampling: values at the border are interpolated twice).

    Args:
        matrix: (..., n + 1, n + 1) with an orthonormal (n, n) block.

    Returns:
        (..., n + 1, n + 1).
    """
    turned = matrix[..., :-1, :-1].transpose(-1, -2)
    return _homogeneous(turned, -(turned @ matrix[..., :-1, -1:])[..., 0])


def _to_units(matrix: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Rows of an output -> input matrix, (B, n, n + 1), from voxels x, y(, z) to ``grid_sample``'s units."""
    counts = torch.tensor(sizes[::-1], dtype=matrix.dtype, device=matrix.device)[:, None]
    rows = matrix[:, :-1] * (2 / counts)
    rows[..., -1] += 1 / counts[:, 0] - 1
    return rows


def _sample(x: Tensor, grid: Tensor, mode: str, fill: float) -> Tensor:
    """Values at points in ``grid_sample``'s units; points (B, ..., n) in the order x, y(, z)."""
    if mode not in ("bilinear", "nearest"):
        raise ParameterError("mode", found=mode, wanted="bilinear or nearest", next_step="use nearest for masks")
    seen = functional.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False)
    outside = (grid.abs() > 1 + EDGE_SLACK).any(-1)[:, None]
    return seen.masked_fill(outside, fill)


def _points(rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Where every output voxel reads, (B, *sizes, n): one outer sum an axis, faster than a matrix product a voxel."""
    points = rows[:, :, -1].view(len(rows), *[1] * len(sizes), -1)
    for axis, n in enumerate(reversed(sizes)):
        steps = torch.arange(n, dtype=rows.dtype, device=rows.device)
        along = steps.view(-1, *[1] * (axis + 1)) * rows[:, :, axis].view(len(rows), *[1] * len(sizes), -1)
        points = points + along
    return points


def warp_2d(image: Tensor, matrix: Tensor, mode: str = "bilinear", *, fill: float = 0.0) -> Tensor:
    """Move slices by a forward map, e.g. that of :func:`align_matrix_2d`: ``out(p') = in(matrix^-1 p')``.

    Args:
        image: (B, C, H, W).
        matrix: (B, 3, 3) or (3, 3), rigid, input -> output on (x, y, 1) in voxels of equal width and height.
        mode: ``bilinear`` for images, ``nearest`` for masks.
        fill: Value outside the image.

    Returns:
        (B, C, H, W).
    """
    sizes = tuple(image.shape[2:])
    rows = _to_units(invert_rigid(matrix.double()).expand(len(image), 3, 3), sizes)
    return _sample(image, _points(rows.to(image), sizes), mode, fill)


def warp_3d(
    volume: Tensor,
    matrix: Tensor,
    shape: tuple[int, int, int] | None = None,
    mode: str = "bilinear",
    *,
    fill: float = 0.0,
) -> Tensor:
    """Resample volumes: ``out(i) = in(matrix i)`` with i = (x, y, z, 1) in voxels.

    Args:
        volume: (B, C, D, H, W).
        matrix: (B, 4, 4) or (4, 4), any affine, **output -> input**, in voxels; :func:`voxel_matrix` makes one from
            millimetres.
        shape: (D', H', W') of the output; the input's where None.
        mode: ``bilinear`` (trilinear here) or ``nearest``.
        fill: Value outside the volume.

    Returns:
        (B, C, D', H', W').
    """
    rows = _to_units(matrix.expand(len(volume), 4, 4), tuple(volume.shape[2:]))
    return _sample(volume, _points(rows.to(volume), tuple(shape or volume.shape[2:])), mode, fill)


def voxel_matrix(matrix_mm: Tensor, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Tensor:
    """Turn a matrix in millimetres about the volume's centre into one in voxels of the same grid.

    Rotating in ``grid_sample``'s own units would shear wherever voxels or fields are not cubes.

    Args:
        matrix_mm: (B, 4, 4), output -> input, on (x, y, z, 1) in mm from the centre of the field.
        spacing: (dz, dy, dx) in mm.
        shape: (D, H, W).

    Returns:
        (B, 4, 4), output -> input in voxels.
    """
    to_mm = torch.eye(4, dtype=matrix_mm.dtype, device=matrix_mm.device)
    for axis, (step, n) in enumerate(zip(spacing[::-1], shape[::-1], strict=True)):
        to_mm[axis, axis], to_mm[axis, 3] = step, -step * (n - 1) / 2
    return torch.linalg.inv(to_mm) @ matrix_mm @ to_mm
