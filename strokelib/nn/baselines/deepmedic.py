"""DeepMedic: parallel pathways that see the volume at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError

VERSION = 1
CHANNELS = (30, 30, 40, 40, 40, 40, 50, 50)
HIDDEN = (250, 250)
RESIDUAL = (4, 6, 8)  # counted from 1: these layers add what went into the layer before them
SLOPE = 0.01  # of PReLU at the start

Factor = int | tuple[int, int, int]


class DeepMedic(nn.Module):
    """Pathways of eight convolutions, one at full and others at lower resolution, joined by a voxel-wise classifier.

    Source: Kamnitsas et al. 2017; comparator of Table 1, Ni et al. 2022.
    Deviation: layers, channels and factors are those of the default configuration of the authors' public code, since
        Ni et al. say that they used public implementations: low-resolution pathways of factor 3 and 5 and 250 hidden
        channels, where the article has factor 3 alone and 150. 2,005,461 parameters with 1 channel in and 1 out.
        The original works on patches with convolutions that shrink them; here padded convolutions run over the whole
        volume: the same weights, other values near a border (within 8 voxels of each resolution).
        The low resolution is the mean of each block of voxels, where the public code takes one voxel of it. The input
        gets no bias of its own. Running statistics forget at torch's rate, not over 60 batches.

    A pathway's layer is batch normalisation, PReLU, convolution of 3 x 3 x 3; the first has the convolution alone.
    Layers 4, 6 and 8 add the input of the layer before, with zeros for new channels. Low-resolution features are
    repeated up to full size. The classifier has a layer of 3 x 3 x 3 and two of 1 x 1 x 1; the second of the three adds
    the joined features in the same way. Weights start as in He et al. 2015.

    Any size goes in whose sides are longer than the largest factor (longer than 1 without low resolutions). Blocks at
    the end of an axis may be incomplete: they are averaged over the voxels they have.

    Without ``multiscale`` the full-resolution pathway stands alone: 711,321 parameters, other output.

    Args:
        in_channels: Channels of the input (B, in_channels, D, H, W), of zero mean and unit variance in the brain as the
            public code wants it.
        out_channels: Channels of the logits (B, out_channels, D, H, W).
        factors: One low-resolution pathway each; a number, or three for (D, H, W) where voxels are not cubes.
        width: All channel numbers are multiplied by it and rounded.
        multiscale: Have the low-resolution pathways.
        dropout: Share of values dropped before the last two layers.

    Raises:
        ParameterError: A factor is less than 1.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        factors: Sequence[Factor] = (3, 5),
        width: float = 1.0,
        multiscale: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.factors = [(f, f, f) if isinstance(f, int) else f for f in factors] if multiscale else []
        if any(min(f) < 1 for f in self.factors):
            raise ParameterError("factors", found=tuple(factors), wanted="1 or more", next_step="give factors=(3, 5)")
        self.in_channels = in_channels
        self.smallest = tuple(1 + max(sides) for sides in zip((1, 1, 1), *self.factors, strict=True))
        widths, (first, second) = _scaled(CHANNELS, width), _scaled(HIDDEN, width)
        count = 1 + len(self.factors)
        self.pathways = nn.ModuleList(Pathway(in_channels, widths) for _ in range(count))
        self.join = _layer(count * widths[-1], first, 3)
        self.hidden = _layer(first, second, 1, dropout)
        self.head = _layer(second, out_channels, 1, dropout, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, D, H, W) of a volume (B, in_channels, D, H, W).

        Raises:
            ParameterError: The input has another number of axes or channels, or is too small.
        """
        fits = x.dim() == 5 and x.shape[1] == self.in_channels
        if not fits or any(have < want for have, want in zip(x.shape[2:], self.smallest, strict=True)):
            raise ParameterError(
                "input of DeepMedic",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.in_channels}, D, H, W) with sides of at least {self.smallest}",
                next_step="pad the volume, or give smaller factors",
            )
        full, *low = self.pathways
        features = [full(x)]
        for pathway, factor in zip(low, self.factors, strict=True):
            features.append(repeated(pathway(block_means(x, factor)), factor, x.shape[2:]))
        joined = torch.cat(features, dim=1)
        return self.head(_added(self.hidden(self.join(joined)), joined))


class Pathway(nn.Module):
    """Eight convolutions at one resolution.

    Args:
        in_channels: Channels in.
        widths: Channels of each layer.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(in_channels, widths[0], 3)]
        layers += [_layer(a, b, 3) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) to (B, widths[-1], D, H, W)."""
        before = x
        for number, layer in enumerate(self.layers, start=1):
            y = layer(x)
            before, x = x, _added(y, before) if number in RESIDUAL else y
        return x


def block_means(x: Tensor, factor: tuple[int, int, int]) -> Tensor:
    """Means of blocks of voxels, (B, C, D, H, W) to (B, C, ceil(D / f), ...); the last block may be incomplete."""
    return functional.avg_pool3d(x, factor, ceil_mode=True)


def repeated(x: Tensor, factor: tuple[int, int, int], size: torch.Size | tuple[int, ...]) -> Tensor:
    """Every voxel of (B, C, d, h, w) repeated ``factor`` times along each axis, cut to (B, C, *size)."""
    depth, height, width = size
    scale = tuple(float(f) for f in factor)
    return functional.interpolate(x, scale_factor=scale)[..., :depth, :height, :width]


def _added(y: Tensor, earlier: Tensor) -> Tensor:
    """``y`` plus the channels of ``earlier`` that it has; its further channels stay."""
    channels = min(y.shape[1], earlier.shape[1])
    missing = y.shape[1] - channels
    return y + functional.pad(earlier[:, :channels], (0, 0, 0, 0, 0, 0, 0, missing))


def _scaled(channels: Sequence[int], width: float) -> list[int]:
    return [max(1, round(n * width)) for n in channels]


def _layer(in_channels: int, out_channels: int, side: int, dropout: float = 0.0, bias: bool = False) -> nn.Sequential:
    """Batch normalisation, PReLU, dropout, convolution."""
    layers: list[nn.Module] = [nn.BatchNorm3d(in_channels), nn.PReLU(in_channels, init=SLOPE)]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, _convolution(in_channels, out_channels, side, bias))


def _convolution(in_channels: int, out_channels: int, side: int, bias: bool = False) -> nn.Conv3d:
    convolution = nn.Conv3d(in_channels, out_channels, kernel_size=side, padding=side // 2, bias=bias)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
