"""The adversary of the GAN rows of Table 1: the same patch judge at several scales."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError

VERSION = 1


class MultiScaleDiscriminator(nn.Module):
    """Judges of patches, one on the image and one on each of its average-pooled halves.

    A judge has ``layers`` convolutions of 4 x 4 with stride 2 and two with stride 1, instance normalisation in between
    and leaky ReLU; its channels double from ``width`` to 8 ``width``. Scores carry no sigmoid, as least squares want
    them (1 real, 0 made).

    Source: Sec. 4.2.1, Wang et al. 2020, which takes it from T.-C. Wang et al. 2018 (pix2pixHD).
    Deviation: the discriminator is named but not described; kernels, widths and three scales are those of
        T.-C. Wang et al. 2018, whose judges also see the generator's input: these see the image alone.

    Args:
        in_channels: Channels of the image.
        width: Channels of the first convolution.
        layers: Convolutions with stride 2.
        scales: Number of judges.

    Raises:
        ParameterError: ``layers`` or ``scales`` is below 1.
    """

    def __init__(self, in_channels: int = 1, width: int = 64, layers: int = 3, scales: int = 3) -> None:
        super().__init__()
        if min(layers, scales) < 1:
            raise ParameterError(
                "layers and scales of the discriminator",
                found=(layers, scales),
                wanted="1 or more each",
                next_step="give e.g. layers=3, scales=3",
            )
        self.in_channels, self.smallest = in_channels, 2 ** (layers + scales - 1)
        self.judges = nn.ModuleList(_judge(in_channels, width, layers) for _ in range(scales))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Score maps (B, 1, h, w) from fine to coarse, of an image (B, in_channels, H, W).

        Raises:
            ParameterError: The input has another number of axes or channels, or a side below 2^(layers + scales - 1).
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels or min(x.shape[2:]) < self.smallest:
            raise ParameterError(
                "input of the discriminator",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.in_channels}, H, W) with sides of at least {self.smallest}",
                next_step="give a larger image, or build the discriminator with fewer scales or layers",
            )
        scores = [self.judges[0](x)]
        for judge in self.judges[1:]:
            x = functional.avg_pool2d(x, kernel_size=2)
            scores.append(judge(x))
        return scores


def _judge(in_channels: int, width: int, layers: int) -> nn.Sequential:
    widths = [width * min(2**level, 8) for level in range(layers + 1)]
    parts: list[nn.Module] = []
    for level, (a, b) in enumerate(pairwise((in_channels, *widths))):
        # Instance normalisation takes any bias before it away again.
        parts.append(nn.Conv2d(a, b, kernel_size=4, stride=2 if level < layers else 1, padding=2, bias=not level))
        parts += [nn.InstanceNorm2d(b)] if level else []
        parts.append(nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, kernel_size=4, padding=2))
