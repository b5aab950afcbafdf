"""ISP-Net: one path for each map of a scan, and atrous convolutions at several scales behind the encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.nn.blocks import DoubleConv, conv_norm_relu
from strokelib.nn.unet import UNet

VERSION = 1
RATES = (1, 2, 4, 6)


class ISPNet(UNet):
    """Encoder-decoder with a path of convolutions for each input map and a multi-scale atrous block.

    Source: Zhu et al. 2022 (ISP-Net, infarct core from CT perfusion maps); comparator of Table II, Sun et al. 2024.
    Deviation: there is no public code, and only the abstract and what Sun et al. write about it were read.

    Stated there:
    - an encoder-decoder that labels every pixel of the infarct core;
    - five maps come in (native CTP, CBF, CBV, MTT, Tmax), each through convolutions of its own: five paths, then fused;
    - a block of multi-scale atrous convolutions (MSAC) extracts the high-level features.

    Assumed here:
    - encoder, decoder, widths and depth are those of :class:`strokelib.nn.unet.UNet`;
    - a path is that network's first pair of convolutions, and fusing is a 1 x 1 convolution of all paths' maps;
    - the block's place, behind the last level of the encoder, its rates and its form (:class:`AtrousBlock`);
    - NCCT has no perfusion maps and nothing in it stands for them: one channel gives one path, and there is nothing to
      fuse. How Sun et al. fed their slices to five paths they do not say.

    41,526,402 parameters with one channel in and two out; with five channels, 41,697,794. Any size of at least 16
    pixels a side goes in.

    Without ``atrous`` the block is left out: 31,036,546 parameters, other output. With one channel that is the U-Net,
    number for number.

    Args:
        in_channels: Maps, each with a path of its own: the channels of the input (B, in_channels, H, W).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level; they double four times.
        atrous: Have the multi-scale atrous block.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 2, width: int = 64, atrous: bool = True) -> None:
        super().__init__(in_channels, out_channels, width)
        if in_channels > 1:
            self.encoder[0] = Paths(in_channels, width)
        if atrous:
            self.encoder[-1] = nn.Sequential(self.encoder[-1], AtrousBlock(self.widths[-1]))


class Paths(nn.Module):
    """A pair of convolutions for each channel alone, then a 1 x 1 convolution of all their maps.

    Args:
        in_channels: Channels in, as many as paths.
        width: Channels of a path, and out.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(DoubleConv(1, width) for _ in range(in_channels))
        self.fuse = conv_norm_relu(in_channels * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, width, H, W)."""
        maps = x.split(1, dim=1)
        return self.fuse(torch.cat([path(one) for path, one in zip(self.paths, maps, strict=True)], dim=1))


class AtrousBlock(nn.Module):
    """x + join([f_1(x), ..., f_n(x)]): atrous convolutions side by side, each of another rate.

    f_r is a convolution of 3 x 3 with its nine places r pixels apart, join a 1 x 1 convolution; both with batch
    normalisation and ReLU. At stride 16 rates of 1 to 6 reach from 16 to 96 pixels of the image.

    Source: Zhu et al. 2022, multi-scale atrous convolution.
    Deviation: assumed: rates, widths and the sum.

    Args:
        channels: Channels in and out; a branch has a quarter of them, at least 1.
        rates: Distance of neighbouring places, one a branch.

    Raises:
        ParameterError: No rate, or one below 1.
    """

    def __init__(self, channels: int, rates: Sequence[int] = RATES) -> None:
        super().__init__()
        if not rates or min(rates) < 1:
            step = f"give rates={RATES}"
            raise ParameterError("rates of the atrous block", found=rates, wanted="numbers from 1 on", next_step=step)
        narrow = max(1, channels // 4)
        self.branches = nn.ModuleList(conv_norm_relu(channels, narrow, rate=rate) for rate in rates)
        self.join = conv_norm_relu(len(rates) * narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        return x + self.join(torch.cat([branch(x) for branch in self.branches], dim=1))
