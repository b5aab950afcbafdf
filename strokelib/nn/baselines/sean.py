"""SEAN: a U-Net whose deep features look at the other half of the head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.nn.alignment import mirror
from strokelib.nn.unet import UNet

VERSION = 1
ATTENDED = 2  # coarsest levels with attention
NARROWING = 8  # channels of a level for one of its queries and keys
START = 0.1


class SEAN(UNet):
    """U-Net on aligned slices with symmetry-enhanced attention at its two coarsest levels.

    Source: Liang et al. 2021 (SEAN); comparator of Table 1, Ni et al. 2022, and of Table II, Sun et al. 2024.
    Deviation: there is no public code, and only the abstract and what Ni et al. write about it were read. From them: a
        2-D network aligns the slice, a U-shaped network follows, its attention takes context from the opposite side by
        long-range dependencies and looks at symmetry within a slice and across slices. Assumed: everything else, that
        is the form of the attention (:class:`SymmetryAttention`), its levels, widths and depth, and that slices above
        and below come in as channels.

    Slices have to be aligned before, by :class:`strokelib.nn.baselines.sean_alignment.SliceAlignment`, and the logits
    brought back after by the caller. Any size of at least 2^(depth-1) pixels a side goes in.

    At 256 x 256 and depth 6 the attention runs at strides 16 and 32. A half slice has 128 and 32 positions there, so
    that its largest table has 128 x 128 numbers. 34,376,774 parameters with 1 channel in and 2 out.

    Without ``symmetric`` a position sees its own half alone: 32,738,372 parameters, other output.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W): the slice, or the slice and its neighbours.
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level.
        depth: Number of levels.
        symmetric: Attend to the mirrored half, too.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, width: int = 32, depth: int = 6, symmetric: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, width, depth)
        for level in range(max(0, depth - ATTENDED), depth):
            attention = SymmetryAttention(self.widths[level], symmetric)
            self.encoder[level] = nn.Sequential(self.encoder[level], attention)


class SymmetryAttention(nn.Module):
    """Adds to each position what it finds in both halves: x + a attend(x, own half) + b attend(x, other half).

    The last axis is cut in the middle, and the right half mirrored, so that position (i, j) of one half lies where its
    mirror image lies in the other. Both halves share all weights, hence attention of a mirrored map is the mirror image
    of its attention. Of an odd number of columns the middle one belongs to both halves and gets their results' mean.

    Attention within a whole map and attention to its mirror image see the same set of positions, and without a position
    code they could not be told apart; the halves are what makes the second one look across.

    Args:
        channels: Channels in and out.
        symmetric: Have the second part, to the other half.
    """

    def __init__(self, channels: int, symmetric: bool = True) -> None:
        super().__init__()
        self.context = CrossAttention(channels)
        self.symmetry = CrossAttention(channels) if symmetric else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        columns = (x.shape[-1] + 1) // 2
        left, right = x[..., :columns], mirror(x)[..., :columns]
        halves = torch.cat([left, right])
        y = halves + self.context(halves, halves)
        if self.symmetry is not None:
            y = y + self.symmetry(halves, torch.cat([right, left]))
        left, right = y.chunk(2)
        right = mirror(right)
        if x.shape[-1] % 2 == 0:
            return torch.cat([left, right], dim=-1)
        middle = (left[..., -1:] + right[..., :1]) / 2
        return torch.cat([left[..., :-1], middle, right[..., 1:]], dim=-1)


class CrossAttention(nn.Module):
    """weight softmax(q(x) k(other)^T / sqrt(d)) v(other), the softmax over all positions of ``other``.

    q, k and v are convolutions of 1 x 1; q and k have an eighth of the channels (d, at least 1). The learnt weight
    starts at 0.1: small, so that the network starts near its U-Net, and not 0, so that q, k and v learn from the first
    step.

    Args:
        channels: Channels of both maps and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // NARROWING)
        # No biases: one in k changes nothing under the softmax.
        self.query = nn.Conv2d(channels, narrow, kernel_size=1, bias=False)
        self.key = nn.Conv2d(channels, narrow, kernel_size=1, bias=False)
        self.value = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.weight = nn.Parameter(torch.tensor(START))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """What ``x`` (B, channels, H, W) finds in ``other`` (B, channels, H', W'), shaped like ``x``."""
        query, key, value = (
            layer(source).flatten(2).transpose(1, 2)
            for layer, source in ((self.query, x), (self.key, other), (self.value, other))
        )
        found = functional.scaled_dot_product_attention(query, key, value)
        return self.weight * found.transpose(1, 2).reshape_as(x)
