"""SEAN's first part: a small network that turns and shifts a slice until it looks like its mirror image."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror, warp_2d

VERSION = 1
GRID = 4
SMALLEST = 16
GROUPS = 4
DARK = 1e-8  # a slice of this mean or less shows no head
Guard = Literal["mass", "none"]


class SliceAlignment(nn.Module):
    """Finds the turn and the left-right shift that bring a slice's midline onto the image's vertical axis.

    Source: Liang et al. 2021 (SEAN), as Ni et al. 2022 describe it: a 2-D network makes the slice nearly symmetric.
    Deviation: there is no public code, and only the abstract and that description were read; layers and limits are
        assumed. The limits, 40 degrees and a quarter of the width, are those of the public code of Ni et al.

    Four convolutions of stride 2, means over a grid of 4 x 4 fields, one linear layer, tanh times the limits. The
    linear layer starts at zero, so that an untrained network leaves every slice as it is. At that point only that layer
    has a gradient; after one step all have.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W); sides of at least 16.
        width: Channels of the first layer, a multiple of 4; the others have 2, 4 and 4 times as many.
        max_angle_deg: Largest turn in degrees.
        max_shift: Largest shift as a share of the width of the slice.
    """

    def __init__(
        self, in_channels: int = 1, width: int = 16, max_angle_deg: float = 40.0, max_shift: float = 0.25
    ) -> None:
        super().__init__()
        if width < GROUPS or width % GROUPS:
            raise ParameterError(
                "width of the slice alignment",
                found=width,
                wanted=f"a multiple of {GROUPS}",
                next_step=f"give width={GROUPS * max(1, width // GROUPS)}",
            )
        self.in_channels, self.max_angle_deg, self.max_shift = in_channels, max_angle_deg, max_shift
        widths = [in_channels, width, 2 * width, 4 * width, 4 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            convolution = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.GroupNorm(GROUPS, after), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(GRID), nn.Flatten())
        self.pose = nn.Linear(GRID * GRID * widths[-1], 2)
        nn.init.zeros_(self.pose.weight)
        nn.init.zeros_(self.pose.bias)

    def forward(self, images: Tensor) -> Tensor:
        """How to move each slice.

        Args:
            images: (B, in_channels, H, W) in [0, 1], 0 outside the brain; pixels as high as wide.

        Returns:
            (B, 2): turn in radians (positive from x to y, that is clockwise on the screen) and shift to the right in
            pixels, within the limits.

        Raises:
            ParameterError: The input has another number of axes or channels, or is too small.
        """
        if images.dim() != 4 or images.shape[1] != self.in_channels or min(images.shape[2:]) < SMALLEST:
            raise ParameterError(
                "input of the slice alignment",
                found=f"shape {tuple(images.shape)}",
                wanted=f"(B, {self.in_channels}, H, W) with sides of at least {SMALLEST}",
                next_step="pad the slice",
            )
        angle, shift = torch.tanh(self.pose(self.features(images))).unbind(1)
        return torch.stack([angle * math.radians(self.max_angle_deg), shift * self.max_shift * images.shape[-1]], dim=1)

    def matrix(self, images: Tensor) -> Tensor:
        """The same as forward maps (B, 3, 3) for :func:`strokelib.nn.alignment.warp_2d`; their inverses lead back."""
        height, width = images.shape[2:]
        return slice_matrix(self(images), (height, width))


def slice_matrix(pose: Tensor, shape: tuple[int, int]) -> Tensor:
    """Forward map that turns a slice about its centre c, then shifts it: p' = R(angle) (p - c) + c + (shift, 0).

    R(a) = [[cos a, -sin a], [sin a, cos a]] on (x right, y down), c = ((W - 1) / 2, (H - 1) / 2).

    Args:
        pose: (B, 2), angle in radians and shift in pixels.
        shape: (H, W).

    Returns:
        (B, 3, 3), input -> output on (x, y, 1) in pixels.
    """
    angle, shift = pose.unbind(1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    first = torch.stack([cos, -sin, x - cos * x + sin * y + shift], dim=1)
    second = torch.stack([sin, cos, y - sin * x - cos * y], dim=1)
    return torch.stack([first, second, torch.stack([zero, zero, one], dim=1)], dim=1)


def slice_alignment_loss(network: SliceAlignment, images: Tensor, guard: Guard = "mass") -> Tensor:
    """How far moved slices are from their own mirror images; no truth is needed.

    With X the moved slice and I the slice, ``none`` is mean(|X - mirror(X)|). It is lowest where the head is pushed out
    of the field. ``mass`` is mean(|X - mirror(X)|) / mean(X) + relu(1 - mean(X) / mean(I)): the difference as a share
    of what is left in view, and the share that was lost. A slice whose head has left altogether costs 3, the most one
    can; an empty slice costs 0. The mean over slices is returned.

    Source: Liang et al. 2021 (SEAN), as Ni et al. 2022 describe it.
    Deviation: assumed; the guard is ours, against the same weakness as that of Eq. 1 of Ni et al.

    Args:
        network: Finds the pose.
        images: (B, in_channels, H, W) in [0, 1], 0 outside the brain.
        guard: One of the two.

    Returns:
        A scalar: in [0, 3] (``mass``) or [0, 1] (``none``).

    Raises:
        ParameterError: Another guard, or an input that the network does not take.
    """
    if guard not in get_args(Guard):
        step = "give guard='mass'"
        raise ParameterError("guard", found=guard, wanted=" or ".join(get_args(Guard)), next_step=step)
    moved = warp_2d(images, network.matrix(images)).float()
    difference = (moved - mirror(moved)).abs().mean((1, 2, 3))
    if guard == "none":
        return difference.mean()
    left, whole = moved.mean((1, 2, 3)), images.float().mean((1, 2, 3))
    relative = torch.where(left > DARK, difference / left.clamp_min(DARK), torch.full_like(left, 2.0))
    lost = torch.relu(1 - left / whole.clamp_min(DARK))
    return torch.where(whole > DARK, relative + lost, torch.zeros_like(whole)).mean()
