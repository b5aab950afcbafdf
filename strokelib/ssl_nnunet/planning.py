"""What nnU-Net calls a plan: voxel size, patch, and the stages of the network, by rules from a fingerprint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.fingerprint import Fingerprint
from strokelib.ssl_nnunet.network import published_plan_shapes

VERSION = 1
REFERENCE_VOXELS, REFERENCE_GB, REFERENCE_BATCH = 560_000_000, 8.0, 2
LARGEST_PATCH = 256**3
SHORTEST_EDGE = 4
ANISOTROPIC = 3.0
CLASSES = 2
CONVS = 2
STRIDE_48 = 48
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Plan:
    """How images are resampled and cut, and the network that fits them. All triples are (z, y, x).

    Args:
        spacing_mm: Voxel size that images are resampled to.
        median_shape: Median size of the cropped images at that voxel size, in voxels.
        patch: Size of a patch in voxels; the strides divide it.
        batch: Patches a batch.
        features: Channels of each stage, fine to coarse.
        strides: Of each stage; the first is (1, 1, 1).
        kernels: Odd side lengths of each stage's convolutions.
        convs: Convolutions a stage, in encoder and decoder.

    Raises:
        ParameterError: A value that no network can be built with.
    """

    spacing_mm: tuple[float, float, float]
    median_shape: tuple[float, float, float]
    patch: Triple
    batch: int
    features: tuple[int, ...]
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    convs: int = CONVS

    def __post_init__(self) -> None:
        for name, wanted in _faults(self):
            found, step = getattr(self, name), "correct the plan"
            raise ParameterError(f"plan: {name}", found=found, wanted=wanted, next_step=step)

    @property
    def divisor(self) -> Triple:
        """What all strides together divide an image by."""
        return tuple(math.prod(stride[axis] for stride in self.strides) for axis in range(3))

    @property
    def voxels(self) -> int:
        """Numbers that the network's feature maps hold for a patch, as :func:`feature_voxels` counts them."""
        return feature_voxels(self.patch, self.strides, self.features, self.convs)


def _faults(plan: Plan) -> Iterator[tuple[str, str]]:
    """What is wrong with a plan: the field, and what is wanted."""
    stages = len(plan.features)
    if stages < 2 or min(plan.features) < 1:
        yield "features", "two stages or more, with a channel or more each"
    for name in ("strides", "kernels"):
        triples = getattr(plan, name)
        if len(triples) != stages or not all(map(_positive, triples)):
            yield name, f"three positive numbers for each of {stages} stages"
    if set(plan.strides[0]) != {1}:
        yield "strides", "(1, 1, 1) in the first stage"
    if not all(side % 2 for kernel in plan.kernels for side in kernel):
        yield "kernels", "odd lengths"
    for name in ("spacing_mm", "median_shape", "patch"):
        if not _positive(getattr(plan, name)):
            yield name, "three positive numbers"
    if any(side % step for side, step in zip(plan.patch, plan.divisor, strict=True)):
        yield "patch", f"sides that the strides divide: multiples of {plan.divisor}"
    for name in ("batch", "convs"):
        if getattr(plan, name) < 1:
            yield name, "1 or more"


def _positive(triple: Sequence[float]) -> bool:
    return len(triple) == 3 and all(math.isfinite(value) and value > 0 for value in triple)


def published_plan() -> Plan:
    """The printed plan: cubes of 1 mm, patches of 96 x 160 x 160, six stages with 32 to 320 channels.

    Source: Sec. 3.3 to 3.5, Seia et al. 2023.
    Deviation: strides and kernels are not printed (:func:`strokelib.ssl_nnunet.network.published_plan_shapes`). The
        patch is printed 160 x 160 x 96 and the window 96 x 160 x 160 (S14); z is the axis of 96. The median, printed
        169 x 138 x 139 without axes, has its longest side from front to back, as a brain does.
    """
    median = (139.0, 169.0, 138.0)
    return Plan((1.0, 1.0, 1.0), median, (96, 160, 160), batch=2, **published_plan_shapes())


def chosen_spacing(found: Fingerprint) -> tuple[float, float, float]:
    """The voxel size to resample a data set to: the median along each axis.

    Where the coarsest axis has voxels over three times as long as the next one, and less than a third of its number of
    voxels, the axis gets the 10th percentile instead, but no less than the next coarsest axis.

    Source: Isensee et al. 2021 (nnU-Net).
    Deviation: none.
    """
    spacings = np.array(found.spacings_mm)
    target, shape = np.median(spacings, axis=0), np.median(np.array(found.shapes), axis=0)
    coarsest = int(target.argmax())
    others = [axis for axis in range(3) if axis != coarsest]
    limit = float(target[others].max())
    if target[coarsest] > ANISOTROPIC * limit and shape[coarsest] * ANISOTROPIC < shape[others].min():
        finer = float(np.percentile(spacings[:, coarsest], 10))
        target[coarsest] = finer if finer >= limit else limit + 1e-5
    return tuple(float(v) for v in target)


def median_shape(found: Fingerprint, spacing_mm: Sequence[float]) -> tuple[float, float, float]:
    """Median size in voxels of the cropped images, resampled to a voxel size (dz, dy, dx) in mm."""
    sizes = np.array(found.spacings_mm) / np.array(spacing_mm) * np.array(found.shapes)
    return tuple(float(v) for v in np.median(np.round(sizes), axis=0))


@dataclass(frozen=True)
class Topology:
    """Stages for a patch: strides and kernels, and the patch padded to what the strides divide, all (z, y, x)."""

    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    patch: Triple
    divisor: Triple


def topology(spacing_mm: Sequence[float], size: Sequence[float]) -> Topology:
    """The stages for a patch of a size.

    Each stage halves the axes that have 8 voxels or more left and whose voxels are by now less than twice as long as
    the shortest ones of these axes; an axis that would be halved alone must have 12. A stage's kernel is 3 along an
    axis once its voxels are less than twice as long as the shortest of all, before that 1; the last stage's is 3.

    Source: Isensee et al. 2021 (nnU-Net).
    Deviation: none.

    Args:
        spacing_mm: (dz, dy, dx) in mm.
        size: (D, H, W) in voxels.
    """
    now_mm, left = [float(v) for v in spacing_mm], [float(v) for v in size]
    strides, kernels, kernel = [(1, 1, 1)], [], [1, 1, 1]
    while True:
        long = [axis for axis in range(3) if left[axis] >= 2 * SHORTEST_EDGE]
        halved = [axis for axis in long if now_mm[axis] / min(now_mm[a] for a in long) < 2]
        if not halved or (len(halved) == 1 and left[halved[0]] < 3 * SHORTEST_EDGE):
            break
        kernel = [3 if k == 3 or mm / min(now_mm) < 2 else 1 for k, mm in zip(kernel, now_mm, strict=True)]
        kernels.append(tuple(kernel))
        stride = tuple(2 if axis in halved else 1 for axis in range(3))
        now_mm = [mm * s for mm, s in zip(now_mm, stride, strict=True)]
        left = [n if s == 1 else math.ceil(n / s) for n, s in zip(left, stride, strict=True)]
        strides.append(stride)
    kernels.append((3, 3, 3))
    divisor = tuple(math.prod(stride[axis] for stride in strides) for axis in range(3))
    patch = tuple(math.ceil(n / d) * d for n, d in zip(size, divisor, strict=True))
    return Topology(tuple(strides), tuple(kernels), patch, divisor)


def feature_voxels(
    patch: Sequence[int], strides: Sequence[Triple], features: Sequence[int], convs: int = CONVS, classes: int = CLASSES
) -> int:
    """Numbers in the feature maps of nnU-Net's network for one patch: what stands for its memory.

    Counted are the outputs of all convolutions: each stage's of the encoder, each stage's of the decoder with its
    transposed one, and the finest logits.

    Args:
        patch: (D, H, W) in voxels.
        strides: Of each stage.
        features: Channels of each stage.
        convs: Convolutions a stage.
        classes: Channels of the logits.
    """
    size, total, sizes = tuple(patch), 0, []
    for stride, width in zip(strides, features, strict=True):
        size = tuple(n // s for n, s in zip(size, stride, strict=True))
        sizes.append(math.prod(size))
        total += convs * width * sizes[-1]
    total += sum((convs + 1) * width * voxels for width, voxels in zip(features[:-1], sizes[:-1], strict=True))
    return total + classes * sizes[0]


def plan(
    found: Fingerprint,
    *,
    memory_gib: float = 22.0,
    batch: int = 2,
    max_features: int = 320,
    base: int = 32,
    target_spacing: Sequence[float] | None = None,
) -> Plan:
    """Plan the network for a data set.

    The first patch has the volume of 256^3 voxels and the shape of a cube in mm, cut to the median image and padded to
    what its stages divide. While its feature maps hold more than 560 million numbers for each 8 GB and 2 patches, the
    axis that is longest in relation to the median image is shortened by one step, and the stages are made anew.

    Source: Isensee et al. 2021 (nnU-Net v2); 22 GB: public code of Seia et al. 2023.
    Deviation: the batch is given and never enlarged to fill the memory; no low-resolution and no 2-D plan. The printed
        plan does not follow from the printed median: 169 x 138 x 139 voxels of 1 mm and 22 GB give 192 x 160 x 160 with
        five halvings along each axis (1,056 of 1,540 million numbers, so memory does not even bind), not 96 x 160 x 160
        with four along z. That patch comes out of the same rules at 22 GB for a median of 96 x 160 x 138, say, or at
        8 GB for one of 100 x 169 x 145; :func:`published_plan` holds it as printed.

    Args:
        found: Fingerprint of the data set.
        memory_gib: Target for the memory of a graphics card; 8 is nnU-Net's own.
        batch: Patches a batch.
        max_features: Limit of a stage's channels.
        base: Channels of the first stage; each further one has twice as many.
        target_spacing: (dz, dy, dx) in mm; by default that of :func:`chosen_spacing`.

    Raises:
        ParameterError: An argument that is not positive, or a memory that holds no patch.
        DataError: Images so small that nothing can be halved.
    """
    given = (memory_gib, batch, max_features, base, *(() if target_spacing is None else target_spacing))
    if not all(math.isfinite(value) and value > 0 for value in given):
        wanted = "positive memory_gib, batch, max_features, base and target_spacing"
        raise ParameterError("plan", found=given, wanted=wanted, next_step="correct them")
    spacing = chosen_spacing(found) if target_spacing is None else tuple(float(v) for v in target_spacing)
    median = median_shape(found, spacing)
    edge_mm = (LARGEST_PATCH * math.prod(spacing)) ** (1 / 3)
    made = topology(spacing, [min(round(edge_mm / mm), m) for mm, m in zip(spacing, median, strict=True)])
    most = REFERENCE_VOXELS * memory_gib / REFERENCE_GB * REFERENCE_BATCH / batch
    while feature_voxels(made.patch, made.strides, widths(made, base, max_features)) > most:
        made = _shortened(made, spacing, median, memory_gib)
    if len(made.strides) < 2:
        wanted = f"an axis of {3 * SHORTEST_EDGE} voxels or more"
        raise DataError("data set", found=f"images of {median} voxels", wanted=wanted, next_step="use smaller voxels")
    features = widths(made, base, max_features)
    return Plan(spacing, median, made.patch, batch, features, made.strides, made.kernels)


def widths(made: Topology, base: int, max_features: int) -> tuple[int, ...]:
    """Channels of each stage: doubled from stage to stage up to a limit."""
    return tuple(min(max_features, base * 2**stage) for stage in range(len(made.strides)))


def _shortened(made: Topology, spacing: Sequence[float], median: Sequence[float], memory_gib: float) -> Topology:
    """The patch one step shorter along its longest axis in relation to the median.

    The step is the divisor of the patch that is one old step shorter, which may be halved once less.
    """
    axis = max(range(3), key=lambda a: (made.patch[a] / median[a], a))
    shorter = [n - made.divisor[axis] * (a == axis) for a, n in enumerate(made.patch)]
    step = topology(spacing, shorter).divisor[axis] if shorter[axis] > 0 else 1
    patch = [n - step * (a == axis) for a, n in enumerate(made.patch)]
    if patch[axis] < SHORTEST_EDGE:
        cure = "give more memory, or a smaller base"
        raise ParameterError("memory_gib", found=memory_gib, wanted="room for a patch", next_step=cure)
    return topology(spacing, patch)


def window_stride(patch: Sequence[int], form: str = "half") -> Triple:
    """Voxels between the windows of a prediction.

    Source: Sec. 3.5, Seia et al. 2023.
    Deviation: 48 is printed for a window of 96 x 160 x 160, which is half of its first side only (S15). nnU-Net steps
        by half of each side: 48 x 80 x 80, the default.

    Args:
        patch: (D, H, W) of the window in voxels.
        form: ``half``, or ``48`` for 48 along each axis (a shorter axis by its own length).

    Raises:
        ParameterError: Another form.
    """
    if form == "half":
        return tuple(max(1, side // 2) for side in patch)
    if form == "48":
        return tuple(min(STRIDE_48, side) for side in patch)
    raise ParameterError("form", found=repr(form), wanted="half or 48", next_step="give one of these")
