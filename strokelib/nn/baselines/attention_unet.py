"""The U-Net with attention gates on its skip connections."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from strokelib.nn.blocks import conv_norm_relu, pad_to
from strokelib.nn.unet import UNet

VERSION = 1


class AttentionUNet(UNet):
    """U-Net whose skip connections are weighted, pixel by pixel, by what comes up from the coarser level.

    Source: Oktay et al. 2018 (Attention U-Net); comparator of Table II, Sun et al. 2024.
    Deviation: the common 2-D form of public code is followed (nearest-neighbour upsampling and a convolution lead up,
        a gate at each of the four skips, biases in all convolutions). It has 34,878,573 parameters with 3 channels in
        and 1 out, and 34,877,486 here with 1 in and 2 out. Oktay et al. work in 3-D and let the coarser map gate
        before it is upsampled, on a grid of half the size, with no gate at the finest skip and no normalisation in a
        gate's formula. Which of the two Sun et al. ran is not stated.

    Without ``gates`` it is the same network with plain skips: 34,525,954 parameters, other output.

    Any size of at least 2^(depth - 1) pixels a side goes in; odd ones as in :class:`strokelib.nn.unet.UNet`.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level.
        depth: Number of levels.
        gates: Have the attention gates.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, width: int = 64, depth: int = 5, gates: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, width, depth)
        sources = [in_channels, *self.widths[:-1]]
        self.encoder = nn.ModuleList(_pair(a, b) for a, b in zip(sources, self.widths, strict=True))
        self.decoder = nn.ModuleList(GatedUp(a, b, gates) for a, b in pairwise(self.widths[::-1]))


class GatedUp(nn.Module):
    """Doubles the size, weights the skip connection by a gate, joins both and convolves twice.

    Args:
        in_channels: Channels of the coarse map.
        skip_channels: Channels of the skip connection; also the channels out.
        gated: Have the gate.
    """

    def __init__(self, in_channels: int, skip_channels: int, gated: bool = True) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), *conv_norm_relu(in_channels, skip_channels, bias=True))
        self.gate = AttentionGate(skip_channels) if gated else None
        self.conv = _pair(2 * skip_channels, skip_channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Join a coarse map (B, in_channels, h, w) with its skip (B, skip_channels, H, W); returns the skip's shape."""
        signal = pad_to(self.up(coarse), skip.shape[2:])
        if self.gate is not None:
            skip = self.gate(skip, signal)
        return self.conv(torch.cat([skip, signal], dim=1))


class AttentionGate(nn.Module):
    """Scales a skip connection: skip * a, where a = sigmoid(N(psi(relu(N(f(skip)) + N(g(signal)))))).

    f and g are convolutions of 1 x 1 to half the channels, psi is one to a single channel, N batch normalisation.

    Args:
        channels: Channels of the skip connection and of the gating signal.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.skip = _projection(channels, inner)
        self.signal = _projection(channels, inner)
        self.psi = _projection(inner, 1)
        self.relu = nn.ReLU(inplace=True)

    def weights(self, skip: Tensor, signal: Tensor) -> Tensor:
        """The attention a, (B, 1, H, W) in (0, 1), of a skip and a signal (B, channels, H, W) each."""
        return self.psi(self.relu(self.skip(skip) + self.signal(signal))).sigmoid()

    def forward(self, skip: Tensor, signal: Tensor) -> Tensor:
        """The weighted skip connection (B, channels, H, W)."""
        return skip * self.weights(skip, signal)


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size=1), nn.BatchNorm2d(out_channels))


def _pair(in_channels: int, out_channels: int) -> nn.Sequential:
    first, second = (conv_norm_relu(channels, out_channels, bias=True) for channels in (in_channels, out_channels))
    return nn.Sequential(*first, *second)
