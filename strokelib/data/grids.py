"""Grids: where voxels lie, how a volume moves from one grid to another, and how it comes back.

A voxel is a box, and a field is the sum of its boxes. :func:`resample` keeps the centre of the field; wherever the
field is a whole number of new voxels, as with every explicit change of the number of voxels, the outer **edges** of
the two fields coincide (the centres of the first voxels do not: a corner-aligned convention would give other sizes
and shift edges by half a voxel).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from strokelib.data.cases import Volume
from strokelib.data.linear import resize_linear
from strokelib.errors import ParameterError
from strokelib.nn.alignment import warp_3d

AIR_HU = -1024.0


@dataclass(frozen=True)
class Grid:
    """A grid without values.

    Args:
        shape: (D, H, W).
        affine: (4, 4), index (x, y, z, 1) to millimetres.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @classmethod
    def of(cls, volume: Volume) -> Grid:
        """The grid a volume lies on."""
        return cls(tuple(volume.array.shape), volume.affine)

    @classmethod
    def centred(cls, shape: tuple[int, int, int], spacing: tuple[float, float, float], centre: np.ndarray) -> Grid:
        """An upright LPS grid around a point.

        Args:
            shape: (D, H, W).
            spacing: (dz, dy, dx) in mm.
            centre: (x, y, z) in RAS millimetres of the middle of the field.
        """
        linear = np.diag([-spacing[2], -spacing[1], spacing[0]])
        affine = np.eye(4)
        affine[:3, :3] = linear
        affine[:3, 3] = np.asarray(centre, float) - linear @ ((np.array(shape[::-1]) - 1) / 2)
        return cls(tuple(shape), affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(dz, dy, dx) in mm."""
        return Volume(np.empty(0), self.affine).spacing

    @property
    def centre(self) -> np.ndarray:
        """(x, y, z) in millimetres of the middle of the field."""
        return (self.affine @ np.append((np.array(self.shape[::-1]) - 1) / 2, 1.0))[:3]


def _fill_for(array: np.ndarray, fill: float | None) -> float:
    return fill if fill is not None else 0.0 if array.dtype.kind in "bu" else AIR_HU


def _cast(values: np.ndarray, dtype: np.dtype, order: int) -> np.ndarray:
    """Nearest-neighbour results keep their type; interpolated ones are float32."""
    return (values > 0.5 if dtype.kind == "b" else values.astype(dtype)) if order == 0 else values.astype(np.float32)


def sample_on(
    volume: Volume, grid: Grid, matrix: np.ndarray | None = None, *, order: int = 1, fill: float | None = None
) -> Volume:
    """Resample a volume onto any grid, through a matrix in millimetres; no smoothing.

    Args:
        volume: On any grid, also an oblique or sheared one.
        grid: Where the values are wanted.
        matrix: (4, 4), the grid's millimetres to the volume's millimetres; the identity where None.
        order: 0 nearest, 1 linear, 3 cubic spline.
        fill: Value outside the field; None means 0 for bool and unsigned arrays, -1024 otherwise.

    Returns:
        On ``grid``; same dtype with order 0, float32 otherwise.

    Raises:
        ParameterError: Another order.
    """
    if order not in (0, 1, 3):
        raise ParameterError("order", found=order, wanted="0, 1 or 3", next_step="use 0 for masks, 1 for images")
    array, fill = volume.array, _fill_for(volume.array, fill)
    index = np.linalg.inv(volume.affine) @ (np.eye(4) if matrix is None else matrix) @ grid.affine
    if order == 3:
        zyx, plain = index[:3][::-1], array.astype(np.float32)
        values = ndimage.affine_transform(plain, zyx[:, 2::-1], zyx[:, 3], grid.shape, order=3, mode="nearest")
        field = Volume(np.ones(array.shape, bool), volume.affine)
        values = np.where(sample_on(field, grid, matrix, order=0).array, values, np.float32(fill))
    else:
        source = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None, None]
        moved = warp_3d(source, torch.from_numpy(index), grid.shape, "nearest" if order == 0 else "bilinear", fill=fill)
        values = moved[0, 0].numpy()
    return Volume(_cast(values, array.dtype, order), grid.affine)


def box_of(mask: np.ndarray, margin_mm: float, spacing: tuple[float, float, float]) -> tuple[slice, slice, slice]:
    """Slices of the smallest box around a mask, widened by a margin, inside the array.

    Args:
        mask: (D, H, W) bool, not empty.
        margin_mm: Margin on each side.
        spacing: (dz, dy, dx) in mm.
    """
    box = []
    for axis, step in enumerate(spacing):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        more = int(np.ceil(margin_mm / step))
        box.append(slice(max(0, int(used[0]) - more), min(mask.shape[axis], int(used[-1]) + 1 + more)))
    return tuple(box)


def crop(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    """Part of a volume; every voxel keeps its place in millimetres."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([part.start or 0 for part in box[::-1]], float)
    return Volume(volume.array[box], affine)


@dataclass(frozen=True)
class Transform:
    """A rigid move between two grids that can be undone exactly.

    Args:
        matrix: (4, 4), target's millimetres to source's millimetres: output -> input, ``out(p) = in(matrix p)``.
        source: Grid the volumes come from.
        target: Grid that :meth:`apply` writes.
    """

    matrix: np.ndarray
    source: Grid
    target: Grid

    def apply(self, volume: Volume, order: int = 1, *, fill: float | None = None, antialias: bool = False) -> Volume:
        """The volume on the target grid.

        Args:
            volume: In the source's millimetres; its grid may differ from ``source``.
            order: 0 nearest, 1 linear, 3 cubic spline.
            fill: As in :func:`sample_on`.
            antialias: Smooth first along each axis on which the target is coarser (never with order 0).

        Returns:
            On ``target``.
        """
        if antialias and order > 0:
            volume = _smooth_for(volume, self.target.spacing)
        return sample_on(volume, self.target, self.matrix, order=order, fill=fill)

    def inverse(self) -> Transform:
        """The way back: rigid, so transposed and not solved."""
        rotation = self.matrix[:3, :3].T
        back = np.eye(4)
        back[:3, :3], back[:3, 3] = rotation, -rotation @ self.matrix[:3, 3]
        return Transform(back, self.target, self.source)


def _smooth_for(volume: Volume, spacing: tuple[float, float, float]) -> Volume:
    """Gaussian of SD (ratio - 1) / 2 source voxels along each axis that is to become coarser by ``ratio``."""
    array = volume.array.astype(np.float32)
    for axis, (old, new) in enumerate(zip(volume.spacing, spacing, strict=True)):
        if new > 1.2 * old:
            array = ndimage.gaussian_filter1d(array, (new / old - 1) / 2, axis=axis, mode="nearest", truncate=3.0)
    return Volume(array, volume.affine)


def _weights(n_old: int, n_new: int, ratio: float, order: int) -> np.ndarray:
    """(n_new, n_old) interpolation weights; rows sum to 1; beyond the ends the end voxel is repeated."""
    place = (np.arange(n_new) - (n_new - 1) / 2) * ratio + (n_old - 1) / 2
    if order == 0:
        taps, weight = np.floor(place + 0.5)[:, None].astype(int), np.ones((n_new, 1))
    else:
        width = max(1.0, ratio)
        taps = np.floor(place - width)[:, None].astype(int) + np.arange(int(2 * np.ceil(width)) + 2)
        weight = np.maximum(0.0, 1.0 - np.abs(taps - place[:, None]) / width)
    matrix = np.zeros((n_new, n_old), np.float32)
    np.add.at(matrix, (np.arange(n_new)[:, None], np.clip(taps, 0, n_old - 1)), weight)
    return matrix / matrix.sum(axis=1, keepdims=True)


def resample(
    volume: Volume,
    spacing: tuple[float, float, float] | None = None,
    *,
    grid: Grid | None = None,
    order: int = 1,
    antialias: bool = True,
) -> Volume:
    """Change the voxel size and keep the field, or move to a given grid.

    With ``spacing`` the new voxels have exactly that size and share the field's centre; their number is the field
    divided by the size, rounded, so that each outer edge moves by a quarter of a new voxel at most and by nothing
    where the field divides evenly. Interpolation is separable; with order 1, where voxels grow, the triangle is
    widened to the new voxel, which averages instead of aliasing.

    Args:
        volume: Any grid.
        spacing: (dz, dy, dx) in mm; or
        grid: A grid in the same millimetres, sampled without smoothing (its outside is filled as in :func:`sample_on`).
        order: 0 nearest (masks), 1 linear; with ``grid`` also 3.
        antialias: Average where voxels grow; False takes the two nearest voxels along each axis, as most tools do.

    Returns:
        Same dtype with order 0, float32 otherwise.

    Raises:
        ParameterError: Neither or both of spacing and grid, a spacing that is not positive, an order not offered.
    """
    if (spacing is None) == (grid is None):
        raise ParameterError("resample", found="none or both", wanted="spacing or grid", next_step="give one of them")
    if grid is not None:
        return sample_on(volume, grid, order=order)
    if order not in (0, 1) or not all(np.isfinite(s) and s > 0 for s in spacing):
        wanted = "order 0 or 1 and positive spacing in mm"
        raise ParameterError(
            "resample", found=f"order {order}, spacing {spacing}", wanted=wanted, next_step="correct it"
        )
    values = volume.array if order == 0 else volume.array.astype(np.float32, copy=False)
    scale, shift, shape = np.eye(4), np.eye(4), []
    for axis, (old, new) in enumerate(zip(volume.spacing, spacing, strict=True)):
        n_old, ratio = values.shape[axis], new / old
        n_new = max(1, round(n_old / ratio + 1e-6))
        column = 2 - axis
        scale[column, column] = ratio
        shift[column, 3] = (n_old - 1) / 2 - ratio * (n_new - 1) / 2
        shape.append((n_old, n_new, ratio))
    affine = volume.affine @ shift @ scale
    if order == 1 and not antialias:
        _, news, ratios = zip(*shape, strict=True)
        return Volume(resize_linear(values, news, ratios), affine)
    for axis, (n_old, n_new, ratio) in enumerate(shape):
        if n_new == n_old and abs(ratio - 1) < 1e-6:
            continue
        weights = _weights(n_old, n_new, ratio, order)
        if order == 0:
            values = np.take(values, weights.argmax(axis=1), axis=axis)
        else:
            values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return Volume(np.ascontiguousarray(values), affine)


def rectify(volume: Volume, tolerance: float = 1e-3) -> Volume:
    """A volume whose axes are at right angles: itself, or, where a gantry tilt sheared the grid, resampled upright.

    Args:
        volume: In HU.
        tolerance: Largest cosine between two axes that still counts as a right angle.

    Returns:
        Voxels of the same in-plane size whose slices keep their in-plane axes; the field covers the old one.
    """
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() <= tolerance:
        return volume
    along_x = axes[:, 0]
    along_y = axes[:, 1] - (axes[:, 1] @ along_x) * along_x
    along_y /= np.linalg.norm(along_y)
    along_z = np.cross(along_x, along_y) * np.sign(np.linalg.det(axes))
    frame = np.stack([along_x, along_y, along_z], axis=1)
    corners = np.stack(np.meshgrid(*[[0, n - 1] for n in volume.array.shape[::-1]], indexing="ij"), -1).reshape(-1, 3)
    inside = (corners @ volume.affine[:3, :3].T + volume.affine[:3, 3]) @ frame
    steps = np.abs(np.diag(frame.T @ volume.affine[:3, :3]))
    low, high = inside.min(axis=0), inside.max(axis=0)
    counts = np.ceil((high - low) / steps - 1e-6).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = frame * steps, frame @ low
    return sample_on(volume, Grid(tuple(int(n) for n in counts[::-1]), affine), order=1)
