"""CE-Net: a residual encoder, a context extractor between, and a decoder that adds its skips."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.blocks import check_images, conv_norm_relu

VERSION = 1
BLOCKS = (3, 4, 6, 3)  # residual blocks a stage, as in ResNet-34
WINDOWS = (2, 3, 5, 6)  # of the pools
MULTIPLE = 4
SMALLEST = 32
HEAD = 16  # channels of the head, at least


class CENet(nn.Module):
    """ResNet-34 as encoder, dense atrous convolutions and multi-kernel pooling at its end, a decoder with added skips.

    Source: Gu et al. 2019 (CE-Net); comparator of Table II, Sun et al. 2024, and one of their backbones.
    Deviation: as the authors' public code has it where the paper is silent: the four branches of the atrous block share
        their convolutions, the four pools share theirs, and decoder blocks end in ReLU before the skip is added.
        Without biases in front of batch normalisation: 29,002,099 parameters with 3 channels in and 1 out, where that
        code has 994 more, and both are 29.00 M; 28,996,116 with 1 in and 2 out. Weights start at random (He et al.
        2015), not from ImageNet, which has three channels: Gu et al. rest on the pre-trained encoder, so slower
        learning and lower scores on few cases are to be expected. Logits come out, no probabilities.

    The context extractor belongs to :meth:`decode`: Gu et al. call what is before it the encoder; on which side Sun et
    al. count it is not stated.

    Without ``atrous`` the dense atrous block is left out: 21,654,036 parameters. Without ``pooling`` the multi-kernel
    pooling is: 28,992,002. Without both the encoder's last map goes to the decoder as it is: 21,649,922. Each time
    the output is another.

    Sides have to be multiples of 4, from 32 on. Where a coarser map has an odd side, halving rounds up, and on the way
    up the last row is cut off, so that pixel i stays pixel i. A pool whose window is larger than the map takes the map
    as its window (up to 160 pixels a side, where the encoder's map is smaller than 6).

    Args:
        in_channels: Channels of the input (B, in_channels, H, W).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the first stage, a multiple of 4; the others have 2, 4 and 8 times as many,
            the head half as many, but at least 16.
        atrous: Have the dense atrous block.
        pooling: Have the multi-kernel pooling.

    Raises:
        ParameterError: ``width`` is no multiple of 4.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: int = 64,
        atrous: bool = True,
        pooling: bool = True,
    ) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise ParameterError(
                "width of the CE-Net", found=width, wanted="a multiple of 4", next_step="give width=64, or 8 to try"
            )
        self.in_channels = in_channels
        self.widths = [width * factor for factor in (1, 2, 4, 8)]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        stages = zip([width, *self.widths[:-1]], self.widths, BLOCKS, strict=True)
        self.encoder = nn.ModuleList(_stage(a, b, count) for a, b, count in stages)
        for module in [*self.stem.modules(), *self.encoder.modules()]:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        coarsest = self.feature_channels
        self.atrous = DenseAtrous(coarsest) if atrous else nn.Identity()
        self.pooling = MultiKernelPooling(coarsest) if pooling else nn.Identity()
        pooled = coarsest + (len(WINDOWS) if pooling else 0)
        self.decoder = nn.ModuleList(_doubling(a, b) for a, b in pairwise([pooled, *self.widths[-2::-1], width]))
        # The head has no normalisation: of four or eight channels too many die.
        half = max(HEAD, width // 2)
        self.head = nn.Sequential(
            nn.ConvTranspose2d(width, half, kernel_size=4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, out_channels, kernel_size=3, padding=1),
        )

    @property
    def feature_channels(self) -> int:
        """Channels of the coarsest feature map."""
        return self.widths[-1]

    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps from fine to coarse, at strides 4, 8, 16 and 32, with 1, 2, 4 and 8 times ``width`` channels.

        Raises:
            ParameterError: The input has another number of axes or channels, or its sides are too small or no multiple
                of 4.
        """
        check_images(x, self.in_channels, "CE-Net", MULTIPLE, SMALLEST)
        x = self.stem(x)
        features: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (B, out_channels, H, W) from what :meth:`encode` returned."""
        *skips, x = features
        x = self.pooling(self.atrous(x))
        for block, skip in zip(self.decoder, reversed(skips), strict=False):
            x = block(x)[..., : skip.shape[2], : skip.shape[3]] + skip
        return self.head(self.decoder[-1](x))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of an image (B, in_channels, H, W)."""
        return self.decode(self.encode(x))


class ResidualBlock(nn.Module):
    """relu(pair(x) + shortcut(x)): two convolutions of 3 x 3 with batch normalisation, and a shortcut past them.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        stride: Of the first convolution. Where it is not 1, or the channels change, the shortcut is a convolution of
            1 x 1 with batch normalisation; else it is x itself.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.pair = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride), rounded up."""
        return self.relu(self.pair(x) + self.shortcut(x))


class DenseAtrous(nn.Module):
    """Adds four branches with growing fields of view: 3, 7, 9 and 19 pixels.

    x + relu(a1(x)) + relu(p(a3(x))) + relu(p(a3(a1(x)))) + relu(p(a5(a3(a1(x))))), where ak is a convolution of 3 x 3
    with dilation k and p one of 1 x 1. The branches share the weights.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel_size=3, dilation=rate, padding=rate) for rate in (1, 3, 5)
        )
        self.point = nn.Conv2d(channels, channels, kernel_size=1)
        for convolution in [*self.dilated, self.point]:
            nn.init.zeros_(convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        a1, a3, a5 = self.dilated
        first = a1(x)
        third = a3(first)
        branches = [first, *(self.point(y) for y in (a3(x), third, a5(third)))]
        return x + sum(functional.relu(branch) for branch in branches)


class MultiKernelPooling(nn.Module):
    """Appends a channel for each of four max pools (windows 2, 3, 5, 6): pooled, projected, brought back in size.

    One convolution of 1 x 1 to one channel serves all four; interpolation is bilinear.

    Args:
        channels: Channels in; 4 more come out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.point = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, 4 + channels, H, W); the input's channels come last."""
        size = x.shape[2:]
        maps = []
        for window in WINDOWS:
            pooled = functional.max_pool2d(x, [min(window, side) for side in size])
            maps.append(functional.interpolate(self.point(pooled), size=size, mode="bilinear"))
        return torch.cat([*maps, x], dim=1)


def _stage(in_channels: int, out_channels: int, count: int) -> nn.Sequential:
    """Residual blocks, the first of which halves the size where it changes the channels."""
    first = ResidualBlock(in_channels, out_channels, stride=1 if in_channels == out_channels else 2)
    return nn.Sequential(first, *(ResidualBlock(out_channels, out_channels) for _ in range(count - 1)))


def _doubling(in_channels: int, out_channels: int) -> nn.Sequential:
    """Down to a quarter of the channels, twice the size, up to the channels out; each with normalisation and ReLU."""
    inner = in_channels // 4
    return nn.Sequential(
        *conv_norm_relu(in_channels, inner, 1),
        nn.ConvTranspose2d(inner, inner, kernel_size=3, stride=2, padding=1, output_padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(inplace=True),
        *conv_norm_relu(inner, out_channels, 1),
    )
