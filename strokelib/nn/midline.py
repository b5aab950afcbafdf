"""A small network that finds the two ends of the mid-sagittal line in an axial slice."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VERSION = 1
STRIDE = 4


class MidlineNet(nn.Module):
    """Two heat maps, one an end of the line; the mean place under each is the end point.

    Source: Sec. III.A, Sun et al. 2024, which takes the end points from a mid-sagittal line network of other authors.
    Deviation: the paper states no architecture; this one is ours.

    Args:
        width: Channels of the first layer.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = (1, width, 2 * width, 3 * width, 3 * width, 3 * width)
        plan = ((2, 1), (2, 1), (1, 2), (1, 4), (1, 8))  # stride and dilation of each layer
        layers: list[nn.Module] = []
        for before, after, (stride, dilation) in zip(sizes[:-1], sizes[1:], plan, strict=True):
            layers += [
                nn.Conv2d(before, after, 3, stride=stride, padding=dilation, dilation=dilation, bias=False),
                nn.GroupNorm(4, after),
                nn.ReLU(inplace=True),
            ]
        self.features = nn.Sequential(*layers)
        self.heads = nn.Conv2d(sizes[-1], 2, 1)

    def heat_maps(self, slices: Tensor) -> Tensor:
        """Logits (B, 2, h, w) of the upper and the lower end, at a quarter of the resolution."""
        return self.heads(self.features(slices))

    def forward(self, slices: Tensor) -> Tensor:
        """The end points of each slice's line.

        Args:
            slices: (B, 1, H, W) float32, brain in the unit interval, 0 outside.

        Returns:
            (B, 2, 2): upper and lower end, each (x, y) in voxels counted at their centres.
        """
        logits = self.heat_maps(slices)
        height, width = slices.shape[2:]
        share = F.softmax(logits.flatten(2), dim=2).view_as(logits)
        x = (torch.arange(logits.shape[3], device=slices.device, dtype=share.dtype) * STRIDE).clamp(max=width - 1)
        y = (torch.arange(logits.shape[2], device=slices.device, dtype=share.dtype) * STRIDE).clamp(max=height - 1)
        return torch.stack(((share.sum(2) * x).sum(-1), (share.sum(3) * y).sum(-1)), dim=-1)
