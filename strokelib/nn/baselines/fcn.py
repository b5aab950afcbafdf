"""The fully convolutional network, with the features of VGG16."""

from __future__ import annotations

from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.nn.blocks import pad_to

VERSION = 1
CONVOLUTIONS_PER_STAGE = (2, 2, 3, 3, 3)
STRIDE = 32


class FCN(nn.Module):
    """Thirteen convolutions in five pooled stages, then five learned upsamplings that take in two earlier stages.

    Source: Long et al. 2015 (FCN-8s); features after VGG16; comparator of Table 3, Wang et al. 2020.
    Deviation: Table 3 prints 18.64 M parameters; 18,644,322 here with 4 channels in and 2 out. That number fits VGG16
        without its fully connected layers and five transposed convolutions with batch normalisation, not the one
        classifier and fixed upsampling of Long et al. Where stages are fused does not change it: stages 3 and 4 as in
        FCN-8s is assumed. Weights start at random (He et al. 2015), not from ImageNet, which has three channels.

    Without ``fusion`` it is FCN-32s: as many parameters, but position is known from the coarsest stage alone.

    Any size from 16 pixels a side goes in: zeros fill it up to a multiple of 32 at the end of each axis, and the logits
    are cut back, so that pixel i stays pixel i.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the first stage; the others have 2, 4, 8 and 8 times as many.
        fusion: Add the features of stages 4 and 3 on the way up.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int = 64, fusion: bool = True) -> None:
        super().__init__()
        self.in_channels, self.smallest, self.fusion = in_channels, STRIDE // 2, fusion
        widths = [width * factor for factor in (1, 2, 4, 8, 8)]
        sources = [in_channels, *widths[:-1]]
        stages = zip(sources, widths, CONVOLUTIONS_PER_STAGE, strict=True)
        self.encoder = nn.ModuleList(_stage(a, b, count) for a, b, count in stages)
        up = [8 * width, 4 * width, 2 * width, width, max(1, width // 2)]
        self.decoder = nn.ModuleList(_doubling(a, b) for a, b in zip([8 * width, *up[:-1]], up, strict=True))
        self.head = nn.Conv2d(up[-1], out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of an image (B, in_channels, H, W).

        Raises:
            ParameterError: The input has another number of axes or channels, or is too small.
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels or min(x.shape[2:]) < self.smallest:
            raise ParameterError(
                "input of the FCN",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.in_channels}, H, W) with sides of at least {self.smallest}",
                next_step="pad the image",
            )
        height, width = x.shape[2:]
        x = pad_to(x, (-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE))
        stages: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            stages.append(x)
        for level, doubling in enumerate(self.decoder):
            x = doubling(x)
            if self.fusion and level < 2:
                x = x + stages[3 - level]
        return self.head(x)[..., :height, :width]


def _stage(in_channels: int, out_channels: int, count: int) -> nn.Sequential:
    """Convolutions of 3 x 3 with ReLU, then a pool that halves the size."""
    layers: list[nn.Module] = []
    for channels in [in_channels, *[out_channels] * (count - 1)]:
        convolution = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1)
        # Thirteen layers without normalisation: from torch's own start the signal would all but vanish.
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
        layers += [convolution, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def _doubling(in_channels: int, out_channels: int) -> nn.Sequential:
    """A transposed convolution that doubles the size, batch normalisation, ReLU."""
    up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(up, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
