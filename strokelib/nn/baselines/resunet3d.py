"""The residual U-Net for volumes whose skip connections add."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError

VERSION = 1
GROUPS = 8
PER_GROUP = 4


def groups_of(channels: int) -> int:
    """Groups of a group normalisation: the most out of 8, 4 and 2 that leave 4 channels or more in each, else 1.

    That is 8 from 32 channels on, as published, and 1 for an image. Below, a group of one channel would wipe out the
    lowest level of a small volume, where a channel may be a single voxel.

    Args:
        channels: Channels to be normalised.
    """
    fits = (n for n in (GROUPS, 4, 2) if channels % n == 0 and channels >= PER_GROUP * n)
    return next(fits, 1)


def _norm_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(nn.GroupNorm(groups_of(in_channels), in_channels), convolution)


class ResidualBlock(nn.Module):
    """One convolution into the block's channels, then two with a shortcut past them, then dropout.

    ``e = relu(c1(x))``, ``y = dropout(relu(c3(relu(c2(e))) + e))``; each c is a group normalisation and a convolution
    of 3 x 3 x 3 without bias.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        dropout: Share of the values set to 0 in training, one by one.
        residual: Have the shortcut; without it the sum has no e.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.entry = nn.Sequential(_norm_conv(in_channels, out_channels), nn.ReLU())
        self.middle = nn.Sequential(_norm_conv(out_channels, out_channels), nn.ReLU())
        self.last = _norm_conv(out_channels, out_channels)
        self.end = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) to (B, out_channels, D, H, W)."""
        x = self.entry(x)
        change = self.last(self.middle(x))
        return self.end(change + x if self.residual else change)


class ResidualUp(nn.Module):
    """Repeats each voxel to the size of the skip connection, convolves, adds the skip, then :class:`ResidualBlock`.

    Args:
        in_channels: Channels of the coarse map.
        skip_channels: Channels of the skip connection; also the channels out.
        dropout: As in :class:`ResidualBlock`.
        residual: As in :class:`ResidualBlock`.
    """

    def __init__(self, in_channels: int, skip_channels: int, dropout: float = 0.0, residual: bool = True) -> None:
        super().__init__()
        self.up = nn.Conv3d(in_channels, skip_channels, kernel_size=3, padding=1)
        self.block = ResidualBlock(skip_channels, skip_channels, dropout, residual)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Join a coarse map (B, in_channels, ...) with its skip (B, skip_channels, ...); returns the skip's shape."""
        return self.block(self.up(functional.interpolate(coarse, size=skip.shape[2:])) + skip)


class ResUNet3D(nn.Module):
    """Residual U-Net for volumes; the channels double where the size halves, and the skip connections add.

    Source: Lee et al. 2017 (residual symmetric U-Net); "3D ResUNet", Table 1, Ni et al. 2022, which also takes it for D
    and F.
    Deviation: Ni et al. state neither widths nor blocks. These are those of their public code: group normalisation
        before each convolution, ReLU, four levels of 32 to 256 channels, 8,769,251 parameters from one channel to one,
        8,769,383 to five. Lee et al. normalise by batch, use ELU, pool and convolve in plane only at the finest level
        and have five levels. The code's sigmoid is left to the caller; below 32 channels there are fewer groups
        (:func:`groups_of`).

    Any size of at least 2^(depth - 1) voxels a side goes in: pooling rounds odd sizes down, and the way up takes the
    size of the skip connection. The first layer normalises each volume, so that brightness and contrast of a volume
    with one channel have no influence.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        width: Channels of the finest level.
        depth: Number of levels; 4 halves the size three times.
        dropout: Share of the values set to 0 after each block in training, also in what the skip connection gets.
        residual: Have the blocks' shortcuts; without them as many parameters and other outputs.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        depth: int = 4,
        dropout: float = 0.2,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.smallest = in_channels, 2 ** (depth - 1)
        self.widths = [width * 2**level for level in range(depth)]
        chain = pairwise((in_channels, *self.widths))
        self.encoder = nn.ModuleList(ResidualBlock(a, b, dropout, residual) for a, b in chain)
        self.pool = nn.MaxPool3d(2)
        self.decoder = nn.ModuleList(ResidualUp(a, b, dropout, residual) for a, b in pairwise(self.widths[::-1]))
        self.head = nn.Conv3d(width, out_channels, kernel_size=1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps from fine to coarse: level l has shape (B, width * 2^l, size // 2^l).

        Raises:
            ParameterError: The input has another number of axes or channels, or is too small.
        """
        if x.dim() != 5 or x.shape[1] != self.in_channels or min(x.shape[2:]) < self.smallest:
            raise ParameterError(
                "input of the residual U-Net",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.in_channels}, D, H, W) with sides of at least {self.smallest}",
                next_step="pad the volume, or build the network with fewer levels (depth)",
            )
        features: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            features.append(x)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (B, out_channels, D, H, W) from what :meth:`encode` returned."""
        x = features[-1]
        for block, skip in zip(self.decoder, features[-2::-1], strict=True):
            x = block(x, skip)
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, D, H, W) of a volume (B, in_channels, D, H, W)."""
        return self.decode(self.encode(x))
