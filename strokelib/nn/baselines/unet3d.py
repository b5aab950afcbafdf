"""The 3-D U-Net, with group normalisation before each convolution."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.blocks import pad_to

VERSION = 1
GROUPS = 8


class UNet3D(nn.Module):
    """Encoder and decoder in three dimensions, with concatenation and nearest-neighbour upsampling.

    Source: Cicek et al. 2016; comparator of Table 1, Ni et al. 2022.
    Deviation: as the public implementation pytorch-3dunet has it, since Ni et al. say that they used public ones:
        group normalisation before a convolution in place of batch normalisation after it, and nearest-neighbour
        upsampling in place of transposed convolutions. That gives 16,318,691 parameters with 1 channel in and 1 out;
        the transposed convolutions are what is missing to the 19.07 M of Cicek et al. Which width Ni et al. took is not
        stated: 64 is that of the source, 32 has 4,081,267.

    A level has two convolutions of 3 x 3 x 3. In the encoder the second one doubles the channels, in the decoder the
    first one brings them down. Shapes: level l has width * 2^l channels and size // 2^l voxels. Any size of at least
    2^(depth-1) voxels a side goes in: pooling rounds odd sizes down, and on the way up zeros fill the missing last row,
    so that voxel i stays voxel i.

    Without ``skips`` the decoder sees the coarsest level alone: no concatenation, 13,995,363 parameters, other output.

    Args:
        in_channels: Channels of the input (B, in_channels, D, H, W).
        out_channels: Channels of the logits (B, out_channels, D, H, W).
        width: Channels of the finest level.
        depth: Number of levels; 4 halves the size three times.
        skips: Concatenate the encoder's features on the way up.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, width: int = 64, depth: int = 4, skips: bool = True
    ) -> None:
        super().__init__()
        self.in_channels, self.smallest, self.skips = in_channels, 2 ** (depth - 1), skips
        widths = [width * 2**level for level in range(depth)]
        sources = [in_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(_pair(a, max(a, b // 2), b) for a, b in zip(sources, widths, strict=True))
        self.pool = nn.MaxPool3d(2)
        up = pairwise(widths[::-1])
        self.decoder = nn.ModuleList(_pair(coarse + fine * skips, fine, fine) for coarse, fine in up)
        self.head = nn.Conv3d(width, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, D, H, W) of a volume (B, in_channels, D, H, W).

        Raises:
            ParameterError: The input has another number of axes or channels, or is too small.
        """
        if x.dim() != 5 or x.shape[1] != self.in_channels or min(x.shape[2:]) < self.smallest:
            raise ParameterError(
                "input of the 3-D U-Net",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.in_channels}, D, H, W) with sides of at least {self.smallest}",
                next_step="pad the volume, or build the network with fewer levels (depth)",
            )
        features: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            features.append(x)
        for block, fine in zip(self.decoder, features[-2::-1], strict=True):
            x = pad_to(functional.interpolate(x, scale_factor=2), fine.shape[2:])
            x = block(torch.cat([fine, x], dim=1) if self.skips else x)
        return self.head(x)


def _pair(in_channels: int, middle: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(*_layer(in_channels, middle), *_layer(middle, out_channels))


def _layer(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Group normalisation, a convolution that keeps the size, ReLU."""
    # A group of one channel would be left without values to compare where the coarsest level is a single voxel.
    groups = GROUPS if in_channels % GROUPS == 0 and in_channels > GROUPS else 1
    convolution = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    return [nn.GroupNorm(groups, in_channels), convolution, nn.ReLU(inplace=True)]
