"""CLCI-Net: every level sees all finer ones, and skip connections are joined by a convolutional LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.nn.blocks import DoubleConv, check_images

VERSION = 1
LEVELS = 5
STRIDE = 2 ** (LEVELS - 1)
DILATIONS = (2, 4, 6)
GATES = 4


class CLCINet(nn.Module):
    """Encoder with cross-level fusion, atrous pyramid that takes all levels in, decoder with context inference.

    Source: Yang et al. 2019 (CLCI-Net); comparator of Table II, Sun et al. 2024.
    Deviation: written from the facts of the public Keras code, which has a fixed size of 224 x 176. That code counts
        36.8 M parameters; 36,800,418 here with one channel in and two out. Convolutions before a batch normalisation
        have no biases here. Gates are the plain sigmoid. Weights start by He et al. 2015, as there.

    With widths w to 16 w at strides 1 to 16: before each level all finer maps, brought to its stride by one convolution
    each, join the pooled map and become four times the level's channels (:class:`CrossLevelFusion`). Behind the last
    level stands :class:`CrossLevelPyramid`. On the way up comes nearest-neighbour upsampling, a convolution of 2 x 2,
    and :class:`ConvLSTM` over two steps, the upsampled map and the skip connection.

    One channel of CT takes the place of one channel of T1-weighted MR. Published training: one minus a Dice with
    squared denominator, Adam 1e-4. Sides are multiples of 16.

    Without ``fusion`` there is a plain encoder and a plain atrous pyramid: 18,977,122 parameters. Without ``context``
    the two maps are concatenated in place of the LSTM: 31,314,978. The output changes with both.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level.
        fusion: Let every level see all finer ones.
        context: Join skip connections by the LSTM.
        dropout: Share of values dropped in training behind the encoder and behind the pyramid.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: int = 32,
        fusion: bool = True,
        context: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        widths = [width * 2**level for level in range(LEVELS)]
        down = [CrossLevelFusion(widths[: level + 1]) if fusion else nn.MaxPool2d(2) for level in range(1, LEVELS)]
        self.down = nn.ModuleList(down)
        sources = [in_channels, *([4 * w for w in widths[1:]] if fusion else widths[:-1])]
        self.encoder = nn.ModuleList(_pair(a, b) for a, b in zip(sources, widths, strict=True))
        self.fusion, self.dropout = fusion, nn.Dropout(dropout)
        self.pyramid = CrossLevelPyramid(widths, 8 * width, fusion)
        self.decoder = nn.ModuleList(ContextUp(a, b, context) for a, b in pairwise([32 * width, *widths[-2::-1]]))
        self.head = nn.Conv2d(width, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of an image (B, in_channels, H, W).

        Raises:
            ParameterError: The input has another number of axes or channels, or sides that are no multiples of 16.
        """
        check_images(x, self.in_channels, "CLCI-Net", STRIDE)
        features = [self.encoder[0](x)]
        for down, block in zip(self.down, self.encoder[1:], strict=True):
            features.append(block(down(features) if self.fusion else down(features[-1])))
        y = self.dropout(self.pyramid([*features[:-1], self.dropout(features[-1])]))
        for up, skip in zip(self.decoder, features[-2::-1], strict=True):
            y = up(y, skip)
        return self.head(y)


class CrossLevelFusion(nn.Module):
    """All finer maps at the stride of the next level: mix([shrink_0(f_0), ..., shrink_l(f_l), pool(f_l)]).

    Each shrink is one convolution of 3 x 3 with the stride that is missing, to as many channels as the level above has;
    mix is a 1 x 1 convolution to four times the next level's channels. All with batch normalisation and ReLU.

    Source: Yang et al. 2019 (CLCI-Net), cross-level feature fusion.
    Deviation: none from the public code. Where the stride is 4 or more, nine pixels of each block are seen.

    Args:
        widths: Channels of all levels from the finest to the next one.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        *finer, new = widths
        above = finer[-1]
        self.shrink = nn.ModuleList(_conv(w, above, stride=2 ** (len(finer) - i)) for i, w in enumerate(finer))
        self.mix = _conv((len(finer) + 1) * above, 4 * new, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps of all finer levels, the finest first, to (B, 4 widths[-1], h, w)."""
        parts = [shrink(feature) for shrink, feature in zip(self.shrink, features, strict=True)]
        return self.mix(torch.cat([*parts, functional.max_pool2d(features[-1], 2)], dim=1))


class CrossLevelPyramid(nn.Module):
    """Atrous pyramid on the coarsest map, with one branch more for each finer level.

    Branches, all to the same number of channels: a 1 x 1 convolution, three of 3 x 3 with dilation 2, 4 and 6, and the
    map's mean; with ``fusion`` one convolution of each finer level, of stride 16, 8, 4 and 2. A 1 x 1 convolution joins
    them to four times a branch.

    Source: Yang et al. 2019 (CLCI-Net), extended atrous spatial pyramid pooling.
    Deviation: the mean is spread over the map before its convolution and not after. That is the same, and its batch
        normalisation has a variance to divide by also where the batch is one image.

    Args:
        widths: Channels of all levels, the finest first.
        branch: Channels of a branch.
        fusion: Take the finer levels in.
    """

    def __init__(self, widths: Sequence[int], branch: int, fusion: bool = True) -> None:
        super().__init__()
        *finer, coarse = widths
        self.near = _conv(coarse, branch, 1)
        self.atrous = nn.ModuleList(_conv(coarse, branch, dilation=d) for d in DILATIONS)
        self.whole = _conv(coarse, branch, 1)
        levels = [_conv(w, branch, stride=2 ** (len(finer) - i)) for i, w in enumerate(finer)] if fusion else []
        self.levels = nn.ModuleList(levels)
        self.join = _conv((2 + len(DILATIONS) + len(levels)) * branch, 4 * branch, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps of all levels, the finest first, to (B, 4 branch, h, w) of the coarsest."""
        *finer, x = features
        mean = x.mean(dim=(2, 3), keepdim=True).expand_as(x)
        parts = [self.near(x), *(layer(x) for layer in self.atrous), self.whole(mean)]
        # Without fusion there are no layers for the finer maps.
        parts += [layer(feature) for layer, feature in zip(self.levels, finer, strict=False)]
        return self.join(torch.cat(parts, dim=1))


class ContextUp(nn.Module):
    """Doubles the size and joins the skip connection: pair(lstm(up(coarse), skip)).

    Args:
        in_channels: Channels of the coarse map.
        channels: Channels of the skip connection, and out.
        context: Join by :class:`ConvLSTM`; else by concatenation.
    """

    def __init__(self, in_channels: int, channels: int, context: bool = True) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), _conv(in_channels, channels, 2))
        self.skip = _conv(channels, channels, 1)
        self.lstm = ConvLSTM(channels) if context else None
        self.conv = _pair(channels if context else 2 * channels, channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(B, in_channels, h, w) and (B, channels, 2 h, 2 w) to the shape of the second."""
        steps = (self.up(coarse), self.skip(skip))
        return self.conv(torch.cat(steps, dim=1) if self.lstm is None else self.lstm(*steps))


class ConvLSTM(nn.Module):
    """A long short-term memory whose products are convolutions of 3 x 3; returns its last output.

    Of each step x, with * for convolution and h, c = 0 at the start: i, f, o = sigmoid(W x + U h + b) and g =
    tanh(W x + U h + b), each with its own W, U, b; then c <- f c + i g and h = o tanh(c).

    Source: Yang et al. 2019 (CLCI-Net), context inference; the cell of Shi et al. 2015 without peepholes.
    Deviation: none; W starts by He et al. 2015, U orthogonal, b at 0 and 1 for f, as the public code's library has it.

    Args:
        channels: Channels of each step, of the state and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_input = nn.Conv2d(channels, GATES * channels, kernel_size=3, padding=1)
        self.of_state = nn.Conv2d(channels, GATES * channels, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.of_input.weight, nonlinearity="relu")
        nn.init.orthogonal_(self.of_state.weight)
        nn.init.zeros_(self.of_input.bias)
        nn.init.ones_(self.of_input.bias[channels : 2 * channels])

    def forward(self, *steps: Tensor) -> Tensor:
        """Steps of one shape (B, channels, H, W), at least one, to that shape."""
        state = memory = None
        for x in steps:
            drive = self.of_input(x) if state is None else self.of_input(x) + self.of_state(state)
            i, f, g, o = drive.chunk(GATES, dim=1)
            new = i.sigmoid() * g.tanh()
            memory = new if memory is None else f.sigmoid() * memory + new
            state = o.sigmoid() * memory.tanh()
        return state


def _pair(in_channels: int, out_channels: int) -> DoubleConv:
    pair = DoubleConv(in_channels, out_channels)
    for layer in pair:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return pair


def _conv(in_channels: int, out_channels: int, side: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; the size becomes the size over the stride.

    Where one row and column are missing (stride 2, side 2) zeros stand for them at the end, and pixel i of the result
    sees pixels from stride x i on.
    """
    short = side == 2 or stride == 2
    padding = dilation * (side // 2) if stride == 1 and not short else 0
    layers: list[nn.Module] = [nn.ZeroPad2d((0, 1, 0, 1))] if short else []
    convolution = nn.Conv2d(in_channels, out_channels, side, stride, padding, dilation, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(*layers, convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
