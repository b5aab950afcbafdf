"""TransU-Net: a residual encoder, a transformer over its last map, and a decoder with skip connections."""

from __future__ import annotations

from itertools import pairwise
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.blocks import DoubleConv, check_images, conv_norm_relu

VERSION = 1
BLOCKS = (3, 4, 9)  # bottlenecks a stage: ResNet-50 with the three of its last stage moved into the third
GROUPS = 32
STRIDE = 16
SMALLEST = 32
EXPANSION = 4  # of the transformer's hidden layers
EPSILON = 1e-6


class TransUNet(nn.Module):
    """ResNet-50 to a sixteenth of the size, a vision transformer on each of its positions, a U-shaped decoder.

    Source: Chen et al. 2021 (TransUNet), form R50-ViT-B/16; comparator of Table II, Sun et al. 2024.
    Deviation: as the authors' public code has it where the paper is silent: standardised weights and group
        normalisation in the encoder, three skips (strides 2, 4 and 8), bilinear doubling. Departing from it: the
        attention's keys carry no bias, since the softmax cancels one (9,216 parameters less); the first convolution
        takes ``in_channels`` and not a grey image three times; the pool after it rounds up instead of having a row of
        zeros appended; a group of the normalisation has at least two channels. Weights start at random, not from
        ImageNet-21k. Chen et al. rest on pre-trained weights, and a transformer without them needs many images: on
        few cases lower scores are to be expected. Logits come out.

    105,306,658 parameters with 1 channel in and 2 out and positions for 256 x 256 pixels. For a laptop, ``width=16,
    hidden=128, layers=4, heads=4, grid=(6, 7)`` on 96 x 112 pixels has 1,970,778.

    Without ``transformer`` the encoder's last map goes to the decoder as it is (embedding, positions, layers and their
    last normalisation left out): 20,455,714 parameters, other output.

    Sides have to be multiples of 16, from 32 on. The learnt positions are those of ``grid``; at other sizes they are
    interpolated.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest map, a multiple of 4; the encoder's stages have 4, 8 and 16 times as many, the
            decoder's maps 8, 4, 2, 1 and 1/4 times.
        hidden: Channels of the transformer.
        layers: Layers of the transformer.
        heads: Heads of its attention; divides ``hidden``.
        grid: Rows and columns of the learnt positions: H / 16 and W / 16 of the training images.
        dropout: Share of values set to zero after the positions and in the transformer's hidden layers.
        transformer: Have the transformer.

    Raises:
        ParameterError: One of the sizes does not fit.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: int = 64,
        hidden: int = 768,
        layers: int = 12,
        heads: int = 12,
        grid: tuple[int, int] = (16, 16),
        dropout: float = 0.1,
        transformer: bool = True,
    ) -> None:
        super().__init__()
        _check(width, hidden, layers, heads, grid)
        self.in_channels = in_channels
        self.root = nn.Sequential(
            StandardisedConv(in_channels, width, kernel_size=7, stride=2, padding=3, bias=False),
            _norm(width),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        stages = pairwise((width, 4 * width, 8 * width, 16 * width))
        self.encoder = nn.ModuleList(
            _stage(a, b, count, stride=1 if level == 0 else 2)
            for level, ((a, b), count) in enumerate(zip(stages, BLOCKS, strict=True))
        )
        self.transformer: nn.Module = nn.Identity()
        self.feature_channels = 16 * width
        if transformer:
            self.transformer = Transformer(16 * width, hidden, layers, heads, grid, dropout)
            self.feature_channels = hidden
        self.neck = conv_norm_relu(self.feature_channels, 8 * width)
        widths = (8 * width, 4 * width, 2 * width, width, width // 4)
        skips = (8 * width, 4 * width, width, 0)
        self.decoder = nn.ModuleList(
            DoubleConv(a + skip, b) for (a, b), skip in zip(pairwise(widths), skips, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], out_channels, kernel_size=3, padding=1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps from fine to coarse: strides 2, 4, 8 and 16; the last one comes out of the transformer.

        Raises:
            ParameterError: The input has another number of axes or channels, or its sides are too small or no multiple
                of 16.
        """
        check_images(x, self.in_channels, "TransU-Net", STRIDE, SMALLEST)
        x = self.root(x)
        features = [x]
        x = self.pool(x)
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        features[-1] = self.transformer(x)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (B, out_channels, H, W) from what :meth:`encode` returned."""
        x = self.neck(features[-1])
        for level, block in enumerate(self.decoder):
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            if level < len(features) - 1:
                x = torch.cat([x, features[-2 - level]], dim=1)
            x = block(x)
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of an image (B, in_channels, H, W)."""
        return self.decode(self.encode(x))


class StandardisedConv(nn.Conv2d):
    """A convolution whose weights of each output channel are shifted and scaled to mean 0 and variance 1 when used."""

    def forward(self, x: Tensor) -> Tensor:
        """As :class:`torch.nn.Conv2d`."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        return self._conv_forward(x, (self.weight - mean) / torch.sqrt(variance + 1e-5), self.bias)


class Bottleneck(nn.Module):
    """relu(path(x) + shortcut(x)): convolutions of 1 x 1, 3 x 3 and 1 x 1 with group normalisation, and a shortcut.

    Args:
        in_channels: Channels in.
        out_channels: Channels out; a quarter of them between.
        stride: Of the middle convolution. Where it is not 1, or the channels change, the shortcut is a convolution of
            1 x 1 with a normalisation of each channel; else it is x itself.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        inner = out_channels // 4
        self.path = nn.Sequential(
            StandardisedConv(in_channels, inner, kernel_size=1, bias=False),
            _norm(inner),
            nn.ReLU(inplace=True),
            StandardisedConv(inner, inner, kernel_size=3, stride=stride, padding=1, bias=False),
            _norm(inner),
            nn.ReLU(inplace=True),
            StandardisedConv(inner, out_channels, kernel_size=1, bias=False),
            _norm(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = StandardisedConv(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.GroupNorm(out_channels, out_channels))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        return self.relu(self.path(x) + self.shortcut(x))


class Transformer(nn.Module):
    """Every position of a map becomes a token that looks at all others, in a row of layers.

    Args:
        in_channels: Channels of the map.
        hidden: Channels of a token.
        layers: Number of layers.
        heads: Heads of the attention.
        grid: Rows and columns of the learnt positions.
        dropout: Share of values set to zero.
    """

    def __init__(
        self, in_channels: int, hidden: int, layers: int, heads: int, grid: tuple[int, int], dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(in_channels, hidden, kernel_size=1)
        self.positions = nn.Parameter(torch.empty(1, hidden, *grid))
        nn.init.normal_(self.positions, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*(TransformerLayer(hidden, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(hidden, eps=EPSILON)

    def positions_at(self, rows: int, columns: int) -> Tensor:
        """The learnt positions (1, hidden, rows, columns), interpolated where the grid is another."""
        if self.positions.shape[2:] == (rows, columns):
            return self.positions
        return functional.interpolate(self.positions, size=(rows, columns), mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, hidden, h, w)."""
        size = x.shape[2:]
        x = self.dropout(self.embedding(x) + self.positions_at(*size))
        tokens = self.norm(self.layers(x.flatten(2).transpose(1, 2)))
        return tokens.transpose(1, 2).unflatten(2, size)


class TransformerLayer(nn.Module):
    """y = x + out(attention(norm(x))), then y + mlp(norm(y)).

    Args:
        hidden: Channels of a token; the hidden layer of the mlp has 4 times as many.
        heads: Heads of the attention; each sees hidden / heads channels.
        dropout: Share of values set to zero after each layer of the mlp.
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = (nn.LayerNorm(hidden, eps=EPSILON) for _ in range(2))
        self.query, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(3))
        self.key = nn.Linear(hidden, hidden, bias=False)
        wide = EXPANSION * hidden
        first, second = nn.Linear(hidden, wide), nn.Linear(wide, hidden)
        for linear in (first, second):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.mlp = nn.Sequential(first, nn.GELU(), nn.Dropout(dropout), second, nn.Dropout(dropout))

    def attention(self, x: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(d)) v in each head of d channels, heads joined: (B, tokens, hidden) to the same."""
        q, k, v = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, hidden) to the same shape."""
        x = x + self.out(self.attention(self.attention_norm(x)))
        return x + self.mlp(self.mlp_norm(x))


def _norm(channels: int) -> nn.GroupNorm:
    # Two channels a group at the least, as at the published width.
    return nn.GroupNorm(gcd(GROUPS, channels // 2), channels, eps=EPSILON)


def _stage(in_channels: int, out_channels: int, count: int, stride: int) -> nn.Sequential:
    rest = (Bottleneck(out_channels, out_channels) for _ in range(count - 1))
    return nn.Sequential(Bottleneck(in_channels, out_channels, stride), *rest)


def _check(width: int, hidden: int, layers: int, heads: int, grid: tuple[int, int]) -> None:
    wrong = [
        (width < 4 or width % 4, "width", width, "a multiple of 4", "give width=64, or 8 to try"),
        (heads < 1 or hidden < 1 or hidden % heads, "heads", heads, f"a divisor of hidden ({hidden})", "correct one"),
        (layers < 1, "layers", layers, "1 or more", "give transformer=False to have none"),
        (len(grid) != 2 or min(grid) < 1, "grid", grid, "rows and columns, 1 or more each", "give (H // 16, W // 16)"),
    ]
    for bad, thing, found, wanted, next_step in wrong:
        if bad:
            raise ParameterError(f"{thing} of the TransU-Net", found=found, wanted=wanted, next_step=next_step)
