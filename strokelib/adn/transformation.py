"""T of Ni et al. 2022: a network that finds the pose of a head, and the ways into the aligned frame and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.nn.alignment import rigid_matrix_3d, voxel_matrix, warp_3d
from strokelib.nn.precision import full_precision

VERSION = 1
SMALLEST = 16
PER_GROUP = 4
PUBLISHED_SPACING = (5.0, 1.2, 1.2)


def _exact(x: Tensor) -> Tensor:
    """In float32 or better: of a coordinate, bfloat16 would leave 8 bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class Limits:
    """How far T can turn and shift a head.

    Args:
        angle_deg: Largest turn about x, y and z in degrees; about z is in the axial plane.
        shift: Largest shift along x, y and z in half-fields: 1 is half the image.
    """

    angle_deg: tuple[float, float, float]
    shift: tuple[float, float, float]


LIMITS = {
    "paper": Limits((0.0, 0.0, 60.0), (1.0, 1.0, 0.0)),
    "code": Limits((0.0, 0.0, 40.0), (0.5, 0.0, 0.0)),
}


class PreActivationBlock(nn.Module):
    """x + c2(relu(n2(c1(relu(n1(x)))))), n a group normalisation of four channels a group, c a convolution with bias.

    Args:
        channels: Channels in and out; one group where they do not divide by four.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = channels // PER_GROUP if channels % PER_GROUP == 0 else 1
        layers: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv3d(channels, channels, kernel_size=3, padding=1)
            layers += [nn.GroupNorm(groups, channels), nn.ReLU(), convolution]
        self.change = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, D, H, W) to the same shape."""
        return x + self.change(x)


class Transformer3D(nn.Module):
    """T: the pose of a head, from the volume alone.

    Four times a convolution of 4 x 4 x 4 with stride 2 and a residual block, the mean over all positions, a linear
    layer to six numbers, tanh, times ``limits``. The linear layer starts at zero: an untrained T moves nothing.

    Source: Sec. 2, "Transformation Network", and Sec. 3, Ni et al. 2022.
    Deviation: widths and blocks are not stated; those of the public code, 7,459,142 parameters. Its pool of 2 x 16 x 16
        is the mean over all positions at 40 x 256 x 256; the mean takes other sizes too. The start at zero is ours
        (A12). Turns about x and y and the shift along z are 0 by the limits (A13), so three of the six rows of the
        linear layer never learn; with the public code's limits four.

    Args:
        width: Channels of the first stage; the later ones double them.
        limits: ``paper`` (60 degrees, half the image along x and y) or ``code`` (40 degrees, a quarter, along x only).

    Raises:
        ParameterError: ``limits`` has another value.
    """

    def __init__(self, width: int = 32, limits: str = "paper") -> None:
        super().__init__()
        if limits not in LIMITS:
            wanted = " or ".join(map(repr, LIMITS))
            raise ParameterError(
                "limits of the transformer", found=repr(limits), wanted=wanted, next_step="give limits='paper'"
            )
        self.limits = LIMITS[limits]
        stages = []
        for before, after in pairwise((1, width, 2 * width, 4 * width, 8 * width)):
            down = nn.Conv3d(before, after, kernel_size=4, stride=2, padding=1, bias=False)
            stages.append(nn.Sequential(down, PreActivationBlock(after)))
        self.encoder = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(8 * width, 6)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, volume: Tensor) -> Tensor:
        """The pose alpha that aligns each volume.

        Args:
            volume: (B, 1, D, H, W) in [0, 1], sides of at least 16.

        Returns:
            (B, 6), float32: turns about x, y, z in radians, shifts along x, y, z in half-fields.

        Raises:
            ParameterError: The input has another number of axes or channels, or is too small.
        """
        if volume.dim() != 5 or volume.shape[1] != 1 or min(volume.shape[2:]) < SMALLEST:
            raise ParameterError(
                "input of the transformer",
                found=f"shape {tuple(volume.shape)}",
                wanted=f"(B, 1, D, H, W) with sides of at least {SMALLEST}",
                next_step="pad the volume with background",
            )
        pooled = _exact(self.pool(self.encoder(volume)).flatten(1))
        with full_precision(pooled):
            share = self.head(pooled).tanh()
        furthest = [math.radians(angle) for angle in self.limits.angle_deg] + list(self.limits.shift)
        return share * torch.tensor(furthest, dtype=share.dtype, device=share.device)

    @staticmethod
    def matrix(
        alpha: Tensor, shape: tuple[int, int, int], spacing: tuple[float, float, float] = PUBLISHED_SPACING
    ) -> Tensor:
        """The map of a pose: X(p) = I(R p + t) about the centre of the field, in millimetres.

        Source: (R, t) in SE(3), Sec. 2, "Transformation Network", Ni et al. 2022.
        Deviation: output -> input is the reading of ``affine_grid`` (A15). Turning in millimetres instead of
            half-fields keeps the head's shape where height and width, or their voxels, differ.

        Args:
            alpha: (B, 6) of :meth:`forward`.
            shape: (D, H, W) of the volume.
            spacing: (dz, dy, dx) in mm.

        Returns:
            (B, 4, 4), output -> input on (x, y, z, 1) in voxels, in the number format of ``alpha``.
        """
        half_fields_mm = [n * step / 2 for n, step in zip(shape[::-1], spacing[::-1], strict=True)]
        exact = alpha.double()
        shift_mm = exact[:, 3:] * torch.tensor(half_fields_mm, dtype=exact.dtype, device=exact.device)
        return voxel_matrix(rigid_matrix_3d(exact[:, :3], shift_mm), spacing, shape).to(alpha)


def align(volume: Tensor, matrix: Tensor, mode: str = "bilinear") -> Tensor:
    """X = T(I): bring volumes into the aligned frame, 0 outside the field.

    Source: Sec. 2, "Transformation Network", Ni et al. 2022.
    Deviation: none.

    Args:
        volume: (B, C, D, H, W).
        matrix: (B, 4, 4) of :meth:`Transformer3D.matrix`.
        mode: ``bilinear`` for images and probabilities, ``nearest`` for masks.

    Returns:
        (B, C, D, H, W), float32 or better.
    """
    return warp_3d(_exact(volume), matrix, mode=mode)


def restore(volume: Tensor, matrix: Tensor, mode: str = "bilinear") -> Tensor:
    """O = T^-1(Y): bring volumes from the aligned frame back, 0 outside the field.

    Source: T^-1 in Eq. 4, Ni et al. 2022.
    Deviation: none (the inverse of the map, in float64, not of the resampling: values are interpolated twice).

    Args:
        volume: (B, C, D, H, W) in the aligned frame; give probabilities, as 0 outside is no logit of "nothing".
        matrix: (B, 4, 4), the one that :func:`align` took.
        mode: As in :func:`align`.

    Returns:
        (B, C, D, H, W), float32 or better.
    """
    return warp_3d(_exact(volume), torch.linalg.inv(matrix.double()), mode=mode)
