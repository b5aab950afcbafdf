"""The U-Net with recurrent residual blocks."""

from __future__ import annotations

from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.nn.blocks import conv_norm_relu
from strokelib.nn.unet import UNet

VERSION = 1


class RecurrentConv(nn.Module):
    """One convolution used again and again on its own output plus its input: y <- f(x + y), starting with y = f(x).

    f is a 3 x 3 convolution, batch normalisation and ReLU with one set of weights, also across steps.

    Args:
        channels: Channels in and out.
        steps: How often f is used again; 0 uses it once.
    """

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.f = conv_norm_relu(channels, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        y = self.f(x)
        for _ in range(self.steps):
            y = self.f(x + y)
        return y


class RecurrentResidualConv(nn.Module):
    """A 1 x 1 projection, and two recurrent convolutions that add to it: p + g(f(p)).

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        steps: As in :class:`RecurrentConv`.
    """

    def __init__(self, in_channels: int, out_channels: int, steps: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        self.recurrent = nn.Sequential(RecurrentConv(out_channels, steps), RecurrentConv(out_channels, steps))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        x = self.projection(x)
        return x + self.recurrent(x)


class R2UNet(UNet):
    """U-Net of recurrent residual blocks; nearest-neighbour upsampling and a convolution lead up.

    Source: Alom et al. 2018 (R2U-Net); comparator of Table 3, Wang et al. 2020.
    Deviation: Table 3 prints 39.09 M parameters; 39,091,522 here with 4 channels in and 2 out. That number fits one
        set of weights for input and recurrence, where Alom et al. write two, and biases in all convolutions.

    The number of parameters does not depend on ``steps``. With 0 steps nothing recurs: what is left is a U-Net of plain
    residual blocks with as many parameters and other outputs.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W); sides of at least 2^(depth - 1).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level.
        depth: Number of levels.
        steps: How often each convolution is used again.

    Raises:
        ParameterError: ``steps`` is negative.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int = 64, depth: int = 5, steps: int = 2) -> None:
        if steps < 0:
            raise ParameterError("steps of the R2U-Net", found=steps, wanted="0 or more", next_step="give steps=2")
        super().__init__(in_channels, out_channels, width, depth)
        sources = [in_channels, *self.widths[:-1]]
        pairs = zip(sources, self.widths, strict=True)
        self.encoder = nn.ModuleList(RecurrentResidualConv(a, b, steps) for a, b in pairs)
        for block, channels in zip(self.decoder, self.widths[-2::-1], strict=True):
            narrowing = conv_norm_relu(2 * channels, channels, bias=True)
            block.up = nn.Sequential(nn.Upsample(scale_factor=2), narrowing)
            block.conv = RecurrentResidualConv(2 * channels, channels, steps)
