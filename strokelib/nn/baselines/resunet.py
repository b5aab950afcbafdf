"""The U-Net with residual blocks."""

from __future__ import annotations

from torch import Tensor, nn

from strokelib.nn.blocks import DoubleConv
from strokelib.nn.unet import UNet

VERSION = 1


class ResidualConv(nn.Module):
    """A pair of convolutions and a shortcut past it: relu(pair(x) + shortcut(x)), without the pair's own last ReLU.

    The shortcut is a 1 x 1 convolution with batch normalisation, as every block changes the number of channels.

    Args:
        pair: The pair of convolutions.
        in_channels: Its channels in.
        out_channels: Its channels out.
    """

    def __init__(self, pair: DoubleConv, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pair = nn.Sequential(*list(pair)[:-1])
        projection = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.relu(self.pair(x) + self.shortcut(x))


class ResUNet(UNet):
    """U-Net whose blocks each have a shortcut.

    Source: Xiao et al. 2018 (weighted Res-UNet); comparator of Table 3, Wang et al. 2020.
    Deviation: Table 3 prints 81.91 M parameters, which fits no public residual U-Net; 32,437,058 here with 4 channels
        in and 2 out, the U-Net's 31,038,274 and its shortcuts. The weighting that gave Xiao et al. the name is a mask
        for the field of view and thin vessels of a retina; it is left out.

    Without ``residual`` it is :class:`strokelib.nn.unet.UNet`, number for number.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W); sides of at least 2^(depth - 1).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level.
        depth: Number of levels.
        residual: Have the shortcuts.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int = 64, depth: int = 5, residual: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, width, depth)
        if residual:
            sources = [in_channels, *self.widths[:-1]]
            blocks = zip(self.encoder, sources, self.widths, strict=True)
            self.encoder = nn.ModuleList(ResidualConv(pair, a, b) for pair, a, b in blocks)
            for up, channels in zip(self.decoder, self.widths[-2::-1], strict=True):
                up.conv = ResidualConv(up.conv, 2 * channels, channels)
