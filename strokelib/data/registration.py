"""Affine registration of one brain to another by mutual information, with SimpleITK.

Both volumes are first brought onto upright working grids of equal voxels, in millimetres of the fixed volume: that
removes oblique and sheared axes, which SimpleITK does not take, and sets the pace. Only the transform is taken from
there; :meth:`Registration.apply` interpolates the volume as it was scanned, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage

from strokelib.data.cases import Volume
from strokelib.data.grids import Grid, Transform, sample_on
from strokelib.errors import DataError, ParameterError

if TYPE_CHECKING:
    import SimpleITK as sitk

VERSION = 1
Dof = Literal["rigid", "similarity", "affine"]
DOFS = ("rigid", "similarity", "affine")
STEP_MM = 3.0
MARGIN_MM = 8.0
SCALES = (0.7, 1.4)
START_TURNS_DEG = (0.0, -20.0, 20.0)
OVERLAP_SLACK = 0.03
LEAST_OVERLAP = 0.1
BINS = 32
SAMPLED_SHARE = 0.5
CLIP_PERCENTILES = (1.0, 99.0)
DARKEST = 0.4
COARSE = {"shrink": [2], "smooth_mm": [3.0], "step_mm": 3.0, "iterations": 40}
FINE = {"shrink": [2, 1], "smooth_mm": [2.0, 0.0], "step_mm": 0.5, "iterations": 80}
_LEAST_STEP_MM = 0.005
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Registration:
    """Where each point of the fixed volume lies in the moving one.

    Args:
        matrix: (4, 4), RAS mm of the fixed volume to RAS mm of the moving volume.
        metric: Mutual information at the end, in nats; more is better.
        iterations: Steps of the optimiser, over all starts and levels.
        overlap: Dice of the two masks under ``matrix``, on the working grid.
        overlap_at_start: The same under the start.
    """

    matrix: np.ndarray
    metric: float
    iterations: int
    overlap: float = float("nan")
    overlap_at_start: float = float("nan")

    def apply(self, moving: Volume, onto: Volume | Grid, order: int = 1, fill: float | None = None) -> Volume:
        """A volume in the moving frame on a grid of the fixed frame: one interpolation.

        Args:
            moving: Any grid in the moving volume's millimetres.
            onto: The grid wanted, in the fixed volume's millimetres.
            order: 0 nearest (masks), 1 linear, 3 cubic.
            fill: Value outside the field, as in :func:`strokelib.data.grids.sample_on`.
        """
        grid = onto if isinstance(onto, Grid) else Grid.of(onto)
        return sample_on(moving, grid, self.matrix, order=order, fill=fill)

    def inverse(self) -> Registration:
        """The same registration seen from the other volume."""
        back = np.linalg.inv(self.matrix)
        return Registration(back, self.metric, self.iterations, self.overlap, self.overlap_at_start)

    @property
    def scales(self) -> tuple[float, float, float]:
        """The three stretches along the transform's principal axes, largest first."""
        return tuple(float(v) for v in np.linalg.svd(self.matrix[:3, :3], compute_uv=False))


def _checked(name: str, volume: Volume, mask: np.ndarray | None) -> np.ndarray:
    if volume.array.ndim != 3 or not np.isfinite(volume.array).all():
        found = f"{volume.array.ndim} axes, finite: {bool(np.isfinite(volume.array).all())}"
        raise DataError(f"{name} volume", found=found, wanted="3 axes, finite values", next_step="repair it first")
    mask = np.ones(volume.array.shape, bool) if mask is None else np.asarray(mask, bool)
    if mask.shape != volume.array.shape or not mask.any():
        found = f"shape {mask.shape}, {int(mask.sum())} voxels"
        wanted = f"a mask of shape {volume.array.shape} that is not empty"
        raise DataError(f"{name} mask", found=found, wanted=wanted, next_step="find the brain first")
    return mask


def _points(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(N, 3) RAS mm of a mask's voxels."""
    return np.argwhere(mask)[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]


def _frame(points: np.ndarray, step_mm: float) -> Grid:
    """An upright grid of equal voxels around all points, with room for a turn."""
    low, high = points.min(axis=0) - 2 * MARGIN_MM, points.max(axis=0) + 2 * MARGIN_MM
    shape = np.ceil((high - low) / step_mm).astype(int) + 1
    return Grid.centred(tuple(int(n) for n in shape[::-1]), (step_mm,) * 3, (low + high) / 2)


def _working(
    volume: Volume, mask: np.ndarray, grid: Grid, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The brain on a working grid, its own range of values brought to 0.4 to 1 and 0 outside; its mask; its field.

    The gap keeps fluid at the brain's edge apart from what is not brain. Without it an ADC map, whose fluid is bright,
    shrinks until that fluid lies outside the CT's brain. What the scanner did not see says nothing: only voxels inside
    both fields are compared, or the end of a cut field would be taken for the brain's edge.
    """
    way = Transform(matrix, Grid.of(volume), grid)
    low, high = np.percentile(volume.array[mask], CLIP_PERCENTILES)
    scaled = np.clip((volume.array.astype(np.float32) - low) / max(float(high - low), 1e-6), 0, 1)
    inside = ((DARKEST + (1 - DARKEST) * scaled) * mask).astype(np.float32)
    parts = (inside, mask.astype(np.float32), np.ones(mask.shape, np.float32))
    brain, share, field = (way.apply(volume.with_array(part), fill=0.0, antialias=True).array for part in parts)
    return brain, share > 0.5, field > 0.99


def _image(array: np.ndarray, grid: Grid) -> sitk.Image:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin([float(v) for v in (_FLIP @ grid.affine)[:3, 3]])
    return image


def _matrix_of(transform: Any) -> np.ndarray:
    """(4, 4) in LPS mm of a SimpleITK transform with a centre."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = centre + np.array(transform.GetTranslation()) - matrix[:3, :3] @ centre
    return matrix


def _search(
    images: Sequence[sitk.Image], masks: Sequence[sitk.Image], transform: Any, plan: dict[str, Any], seed: int
) -> tuple[Any, float, int]:
    """Improve a transform on a pyramid; the transform, its mutual information and the number of steps."""
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLED_SHARE, seed + 1)
    method.SetMetricFixedMask(masks[0])
    method.SetMetricMovingMask(masks[1])
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=plan["step_mm"],
        minStep=_LEAST_STEP_MM,
        numberOfIterations=plan["iterations"],
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(plan["shrink"])
    method.SetSmoothingSigmasPerLevel(plan["smooth_mm"])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    steps: list[int] = []
    method.AddCommand(sitk.sitkIterationEvent, lambda: steps.append(1))
    method.SetInitialTransform(transform, inPlace=True)
    # Sums over several threads differ in their last digits; the metric heeds the process-wide number only.
    threads = method.GetGlobalDefaultNumberOfThreads()
    method.SetGlobalDefaultNumberOfThreads(1)
    try:
        method.Execute(*images)
    except RuntimeError as error:
        found = str(error).strip().splitlines()[-1]
        step = "give better masks or a start"
        raise DataError("registration", found=found, wanted="two brains that overlap", next_step=step) from error
    finally:
        method.SetGlobalDefaultNumberOfThreads(threads)
    return transform, -float(method.GetMetricValue()), len(steps)


def _overlap(fixed: Volume, moving: np.ndarray, matrix: np.ndarray) -> float:
    """Dice of two masks on one grid after a move."""
    moved = sample_on(Volume(moving, fixed.affine), Grid.of(fixed), matrix, order=0).array
    return 2.0 * float((moved & fixed.array).sum()) / max(int(moved.sum() + fixed.array.sum()), 1)


def register_affine(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: np.ndarray | None = None,
    moving_mask: np.ndarray | None = None,
    dof: Dof = "affine",
    start: np.ndarray | None = None,
    seed: int = 0,
    step_mm: float = STEP_MM,
) -> Registration:
    """Register two brains by Mattes mutual information inside their masks, coarse to fine.

    Source: sections 3.2 c and 3.2 d, Seia et al. 2023.
    Deviation: SimpleITK instead of elastix; a similarity first (rigid where that is asked for), from three in-plane
        turns unless a start is given, and the affine after it; working voxels of 3 mm; half of the voxels sampled at
        random places that the seed fixes.

    Args:
        fixed: Any grid, also an oblique or sheared one.
        moving: Any grid, any contrast.
        fixed_mask: (D, H, W) bool, the fixed brain; the whole field where None.
        moving_mask: (D, H, W) bool, the moving brain; the whole field where None.
        dof: ``rigid``, ``similarity`` or ``affine``: what may change beyond the start.
        start: (4, 4), RAS mm of fixed to RAS mm of moving; the shift between the masks' centres where None.
        seed: Seed of the sampling.
        step_mm: Size of the working voxels.

    Returns:
        The registration; the same input gives the same matrix.

    Raises:
        ParameterError: Another ``dof``, a ``start`` that is not an invertible (4, 4) matrix, a step that is not
            positive.
        DataError: A mask is empty or of another shape, the brains do not overlap at the start, or the result is
            implausible: a scale outside 0.7 to 1.4, or masks that overlap less than at the start.
    """
    import SimpleITK as sitk

    if dof not in DOFS or not step_mm > 0:
        wanted = f"{' or '.join(DOFS)}, and a positive step"
        raise ParameterError("registration", found=f"{dof!r}, {step_mm} mm", wanted=wanted, next_step="give these")
    fixed_mask, moving_mask = _checked("fixed", fixed, fixed_mask), _checked("moving", moving, moving_mask)
    here, there = _points(fixed_mask, fixed.affine), _points(moving_mask, moving.affine)
    guessed, start = start is None, _checked_start(start, here.mean(axis=0), there.mean(axis=0))
    back = np.linalg.inv(start)
    grid = _frame(np.concatenate([here, there @ back[:3, :3].T + back[:3, 3]]), step_mm)
    fixed_array, fixed_inside, fixed_field = _working(fixed, fixed_mask, grid, np.eye(4))
    moving_array, moving_inside, moving_field = _working(moving, moving_mask, grid, start)
    target = Volume(fixed_inside, grid.affine)
    before = _overlap(target, moving_inside, np.eye(4))
    if before < LEAST_OVERLAP:
        step = "give a start that lays the brains over each other, or none"
        found = f"Dice {before:.2f} of the masks"
        raise DataError("start", found=found, wanted=f"{LEAST_OVERLAP} at least", next_step=step)
    around = ndimage.distance_transform_edt(~fixed_inside, sampling=step_mm) <= MARGIN_MM
    images = [_image(array.astype(np.float32), grid) for array in (fixed_array, moving_array)]
    masks = [_image(array.astype(np.uint8), grid) for array in (around & fixed_field, moving_field)]
    centre = [float(v) for v in (_FLIP[:3, :3] @ here.mean(axis=0))]
    ratio = float(np.cbrt(moving_inside.sum() / fixed_inside.sum()))
    scale = float(np.clip(ratio, *SCALES)) if guessed and dof != "rigid" else 1.0
    found = []
    for turn in START_TURNS_DEG if guessed else (0.0,):
        first = sitk.Euler3DTransform() if dof == "rigid" else sitk.Similarity3DTransform()
        first.SetCenter(centre)
        cos, sin = (scale * float(f(np.deg2rad(turn))) for f in (np.cos, np.sin))
        first.SetMatrix([cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, scale])
        found.append(_search(images, masks, first, COARSE, seed))
    steps = sum(count for *_, count in found)
    free = max(found, key=lambda result: result[1])[0]
    if dof == "affine":
        similar, free = free, sitk.AffineTransform(3)
        free.SetCenter(centre)
        free.SetMatrix(similar.GetMatrix())
        free.SetTranslation(similar.GetTranslation())
    free, metric, count = _search(images, masks, free, FINE, seed)
    residual = _FLIP @ _matrix_of(free) @ _FLIP
    after = _overlap(target, moving_inside, residual)
    result = Registration(start @ residual, metric, steps + count, after, before)
    _plausible(result)
    return result


def _checked_start(start: np.ndarray | None, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The start as float64, or the shift between two centres."""
    if start is None:
        start = np.eye(4)
        start[:3, 3] = there - here
        return start
    start = np.asarray(start, np.float64)
    good = start.shape == (4, 4) and np.isfinite(start).all() and abs(np.linalg.det(start)) > 1e-6
    if not good:
        wanted = "an invertible (4, 4) matrix in mm"
        raise ParameterError("start", found=f"shape {start.shape}", wanted=wanted, next_step="leave it out")
    return start


def _plausible(result: Registration) -> None:
    """A DataError where no two human brains differ like this."""
    low, high = SCALES
    step = "look at both masks; give better ones, or a start"
    if min(result.scales) < low or max(result.scales) > high:
        found = "scales " + ", ".join(f"{v:.2f}" for v in result.scales)
        raise DataError("registration", found=found, wanted=f"scales from {low} to {high}", next_step=step)
    if result.overlap < result.overlap_at_start - OVERLAP_SLACK:
        found = f"masks overlap with Dice {result.overlap:.2f}, {result.overlap_at_start:.2f} at the start"
        raise DataError("registration", found=found, wanted="more overlap than at the start", next_step=step)
