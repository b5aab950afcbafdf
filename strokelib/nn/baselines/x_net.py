"""X-Net: a U-Net of depthwise separable convolutions that compares all positions of its coarsest map."""

from __future__ import annotations

from torch import Tensor, nn

from strokelib.nn.blocks import conv_norm_relu
from strokelib.nn.unet import UNet

VERSION = 1
NARROWING = 8  # channels of the coarsest map for one of the module between them; half of that for its three parts


class XNet(UNet):
    """U-Net of separable residual blocks with the feature similarity module behind its encoder.

    Source: Qi et al. 2019 (X-Net); comparator of Table II, Sun et al. 2024.
    Deviation: written from the facts of the public Keras code, whose count is 15.07 M: 15,072,332 here with one channel
        in and one out, 15,072,397 with two out. That count fits biases in all convolutions but the depthwise ones and
        the module's own. Weights start by He et al. 2015, as there.

    On the way up comes nearest-neighbour upsampling and a convolution of 3 x 3. One channel of CT takes the place of
    one channel of T1-weighted MR. Published training: binary cross-entropy plus soft Dice, Adam 1e-3, weight decay
    1e-5, batches of 8, 224 x 192 pixels. Any size of at least 16 pixels a side goes in.

    Without ``similarity`` the module is left out, 2,395,520 parameters: 12,676,877 with two channels out, other output.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level; they double four times.
        similarity: Have the feature similarity module.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 2, width: int = 64, similarity: bool = True) -> None:
        super().__init__(in_channels, out_channels, width)
        sources = [in_channels, *self.widths[:-1]]
        self.encoder = nn.ModuleList(XBlock(a, b) for a, b in zip(sources, self.widths, strict=True))
        if similarity:
            self.encoder[-1] = nn.Sequential(self.encoder[-1], FeatureSimilarity(self.widths[-1]))
        for block, channels in zip(self.decoder, self.widths[-2::-1], strict=True):
            block.up = nn.Sequential(nn.Upsample(scale_factor=2), _conv(2 * channels, channels, 3))
            block.conv = XBlock(2 * channels, channels)


class XBlock(nn.Module):
    """Three depthwise separable convolutions and a projection that is added: three(x) + projection(x), no ReLU after.

    A separable one is a 3 x 3 convolution of each channel alone and a 1 x 1 convolution, each with batch normalisation
    and ReLU. The projection is a 1 x 1 convolution with both, too.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.separable = nn.Sequential(
            _separable(in_channels, out_channels),
            _separable(out_channels, out_channels),
            _separable(out_channels, out_channels),
        )
        self.projection = _conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.separable(x) + self.projection(x)


class FeatureSimilarity(nn.Module):
    """Adds to each position what it finds at all others, weighed by how alike they are, on narrowed channels.

    With c = narrow(x) and N positions the result is x + widen(c + back(y)), y_i = sum_j (theta_i . phi_j) g_j / N.
    theta, phi, g and back are 1 x 1 convolutions of c without biases; narrow and widen are 3 x 3 convolutions with
    batch normalisation and ReLU. There is no softmax, so that the sum over j is taken first: y_i = (sum_j g_j phi_j^T /
    N) theta_i, a matrix of channels x channels in place of one of positions x positions.

    Source: Qi et al. 2019 (X-Net), feature similarity module.
    Deviation: none from the public code; the order of the two products changes rounding alone.

    Args:
        channels: Channels C in and out; c has C // 8, theta, phi and g C // 16 (at least 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // NARROWING)
        inner = max(1, narrow // 2)
        self.narrow = _conv(channels, narrow, 3)
        self.theta, self.phi, self.g = (_he(nn.Conv2d(narrow, inner, kernel_size=1, bias=False)) for _ in range(3))
        self.back = _he(nn.Conv2d(inner, narrow, kernel_size=1, bias=False))
        self.widen = _conv(narrow, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        c = self.narrow(x)
        theta, phi, g = (layer(c).flatten(2) for layer in (self.theta, self.phi, self.g))
        y = (g / g.shape[2]) @ phi.transpose(1, 2) @ theta
        return x + self.widen(c + self.back(y.unflatten(2, c.shape[2:])))


def _he(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _conv(in_channels: int, out_channels: int, side: int) -> nn.Sequential:
    layers = conv_norm_relu(in_channels, out_channels, side, bias=True)
    _he(layers[0])
    return layers


def _separable(in_channels: int, out_channels: int) -> nn.Sequential:
    depthwise = _he(nn.Conv2d(in_channels, in_channels, kernel_size=3, padding=1, groups=in_channels, bias=False))
    norm = nn.BatchNorm2d(in_channels)
    return nn.Sequential(depthwise, norm, nn.ReLU(inplace=True), *_conv(in_channels, out_channels, 1))
