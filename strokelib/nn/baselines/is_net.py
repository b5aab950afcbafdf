"""IS-Net: a feature pyramid, edges taught beside the lesion, and a decoder of deformable convolution and attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.baselines.sean import CrossAttention
from strokelib.nn.blocks import DoubleConv, check_images, conv_norm_relu
from strokelib.nn.losses import dice_and_cross_entropy, soft_dice_loss

VERSION = 1
FACTORS = (1, 2, 4, 8, 8)
STRIDE = 2 ** (len(FACTORS) - 1)
MEETING = 3  # level whose stride, 8, the pyramid is brought to
SIDE = 3


class ISOutput(NamedTuple):
    """What :class:`ISNet` returns in training: logits (B, out_channels, H, W), and those of the edge (B, 1, H, W)."""

    logits: Tensor
    edges: Tensor


class ISNet(nn.Module):
    """Encoder, pyramid feature aggregation, edge branch, non-local parallel decoder.

    Source: Yang et al. 2023 (IS-Net, lesions on NCCT); comparator of Table II, Sun et al. 2024.
    Deviation: there is no public code, and only the abstract and what Sun et al. write about it were read. (It is not
        the network of the same name for salient objects.)

    Stated there:
    - an encoder-decoder on NCCT slices with a hierarchical network as backbone;
    - a pyramid feature aggregation module joins features of several stages, with a fusion that carries from level to
      level;
    - edges are taught by deep supervision, and low-level features are broadcast to several modules;
    - a non-local parallel decoder of deformable convolution and self-attention, for dependencies of any range; by the
      attention every position sees the whole slice, the mirrored place in it (Sun et al.).

    Assumed here:
    - the backbone: five pairs of convolutions at strides 1 to 16, with 1, 2, 4, 8 and 8 times ``width`` channels, from
      random weights;
    - the aggregation (:class:`PyramidAggregation`) and its stride of 8;
    - the edge branch (:class:`EdgeBranch`): it sees the two finest levels, and its features go to the aggregation and
      to the last convolutions of the decoder;
    - the edge's truth (:func:`edge_of`), its loss (binary cross-entropy plus soft Dice) and its weight, 1;
    - the decoder's form: both parts side by side on the aggregated map and joined (:class:`ParallelDecoder`), then
      bilinear upsampling with the stage of stride 2 and the edge features;
    - the attention is that of :class:`strokelib.nn.baselines.sean.CrossAttention` of a map to itself, and the
      deformable convolution has no modulation.

    10,883,126 parameters with one channel in and two out. Sides are multiples of 16.

    Without ``parallel`` one convolution of 3 x 3 stands for both parts of the decoder: 10,808,867 parameters.
    Without ``edges`` there is no edge branch: 10,835,797. The output changes with both.

    In eval mode, and in training without ``edges``, ``forward`` gives logits; else an :class:`ISOutput` for
    :meth:`loss`.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level, at least 2.
        parallel: Have the parallel decoder.
        edges: Have the edge branch.

    Raises:
        ParameterError: ``width`` is below 2.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: int = 64,
        parallel: bool = True,
        edges: bool = True,
    ) -> None:
        super().__init__()
        if width < 2:
            raise ParameterError("width of the IS-Net", found=width, wanted="2 or more", next_step="give width=8")
        self.in_channels = in_channels
        widths = [factor * width for factor in FACTORS]
        common, edge = 2 * width, width // 2 if edges else 0
        self.encoder = nn.ModuleList(DoubleConv(a, b) for a, b in pairwise([in_channels, *widths]))
        self.edges = EdgeBranch(widths[:2], edge) if edges else None
        self.aggregation = PyramidAggregation(widths[1:], common, edge)
        self.decoder = ParallelDecoder(common) if parallel else conv_norm_relu(common, common, SIDE)
        self.refine = DoubleConv(common + widths[1], common)
        self.finest = conv_norm_relu(common + edge, width, SIDE)
        self.head = nn.Conv2d(width, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor | ISOutput:
        """Logits of an image (B, in_channels, H, W); in training with edges, those of the edge too.

        Raises:
            ParameterError: The input has another number of axes or channels, or sides that are no multiples of 16.
        """
        check_images(x, self.in_channels, "IS-Net", STRIDE)
        features = [self.encoder[0](x)]
        for block in self.encoder[1:]:
            features.append(block(functional.max_pool2d(features[-1], 2)))
        broadcast, edge_logits = ([], None) if self.edges is None else self.edges(features[0], features[1])
        size = features[MEETING].shape[2:]
        y = self.decoder(self.aggregation(features[1:], broadcast, size))
        y = self.refine(torch.cat([resized(y, features[1].shape[2:]), features[1]], dim=1))
        logits = self.head(self.finest(torch.cat([resized(y, x.shape[2:]), *broadcast], dim=1)))
        return ISOutput(logits, edge_logits) if self.training and edge_logits is not None else logits

    def loss(
        self,
        output: ISOutput,
        target: Tensor,
        segmentation: Callable[[Tensor, Tensor], Tensor] = dice_and_cross_entropy,
        edge_weight: float = 1.0,
    ) -> Tensor:
        """segmentation(logits, target) + edge_weight (binary cross-entropy + soft Dice of the edge).

        Args:
            output: From the network in training.
            target: Class numbers (B, H, W); above 0 is lesion.
            segmentation: Loss of logits (B, out_channels, H, W) against the target.
            edge_weight: Weight of the edge's part.

        Returns:
            A scalar.
        """
        edge, truth = output.edges[:, 0].float(), edge_of(target).float()
        edges = functional.binary_cross_entropy_with_logits(edge, truth) + soft_dice_loss(edge.sigmoid(), truth)
        return segmentation(output.logits, target) + edge_weight * edges


class EdgeBranch(nn.Module):
    """Features of edges and their logits, from the two finest levels at full size.

    Args:
        widths: Channels of both levels.
        channels: Channels of the features.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_norm_relu(w, channels, 1) for w in widths)
        self.join = conv_norm_relu(2 * channels, channels, SIDE)
        self.head = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps (B, w, H, W) and (B, w', H / 2, W / 2) to [features (B, channels, H, W)] and logits (B, 1, H, W)."""
        parts = [resized(layer(x), fine.shape[2:]) for layer, x in zip(self.lateral, (fine, coarse), strict=True)]
        features = self.join(torch.cat(parts, dim=1))
        return [features], self.head(features)


class PyramidAggregation(nn.Module):
    """Carries features from the coarsest level down to the finer ones and joins all at one size.

    With l_k a 1 x 1 convolution of level k: p_K = l_K and p_k = smooth_k(l_k + up(p_(k+1))), smooth a convolution of
    3 x 3. All p_k and the broadcast features are brought to one size, and a 1 x 1 convolution joins them.

    Source: Yang et al. 2023 (IS-Net), pyramid feature aggregation.
    Deviation: assumed.

    Args:
        widths: Channels of the levels, the finest first.
        channels: Channels of each p, and out.
        further: Channels of the broadcast features; 0 for none.
    """

    def __init__(self, widths: Sequence[int], channels: int, further: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_norm_relu(w, channels, 1) for w in widths)
        self.smooth = nn.ModuleList(conv_norm_relu(channels, channels, SIDE) for _ in widths[1:])
        self.join = conv_norm_relu(len(widths) * channels + further, channels, 1)

    def forward(self, features: Sequence[Tensor], broadcast: Sequence[Tensor], size: torch.Size) -> Tensor:
        """Maps of the levels, the finest first, and the broadcast ones, to (B, channels, *size)."""
        laterals = [layer(x) for layer, x in zip(self.lateral, features, strict=True)]
        maps = [laterals[-1]]
        for lateral, smooth in zip(laterals[-2::-1], self.smooth, strict=True):
            maps.append(smooth(lateral + resized(maps[-1], lateral.shape[2:])))
        return self.join(torch.cat([resized(x, size) for x in (*maps, *broadcast)], dim=1))


class ParallelDecoder(nn.Module):
    """Deformable convolution and self-attention side by side: join([deformed(x), x + attention(x, x)]).

    Source: Yang et al. 2023 (IS-Net), non-local parallel decoder.
    Deviation: assumed.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(channels)
        self.deformed = nn.Sequential(DeformableConv(channels, channels), norm, nn.ReLU(inplace=True))
        self.attention = CrossAttention(channels)
        self.join = conv_norm_relu(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        return self.join(torch.cat([self.deformed(x), x + self.attention(x, x)], dim=1))


class DeformableConv(nn.Module):
    """A convolution of 3 x 3 whose nine places move: y(p) = sum_k W_k x(p + k + d_k(p)).

    k runs over the nine steps to the neighbours, row by row; the moves d, in pixels, come from the map by a convolution
    of 3 x 3 that starts at zero, so that an untrained layer is a plain convolution. Between pixels x is bilinear,
    beyond the border 0.

    Source: Dai et al. 2017 (deformable convolution), as Yang et al. 2023 (IS-Net) use it.
    Deviation: none; written from the formula.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.moves = nn.Conv2d(in_channels, 2 * SIDE * SIDE, kernel_size=SIDE, padding=1)
        self.mix = nn.Conv2d(SIDE * SIDE * in_channels, out_channels, kernel_size=1, bias=False)
        nn.init.zeros_(self.moves.weight)
        nn.init.zeros_(self.moves.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        height, width = x.shape[2:]
        places = SIDE * SIDE
        # Places need float32: at 8 bits of bfloat16 they would be off by half a pixel in a slice of 256.
        moves = self.moves(x).float().unflatten(1, (places, 2))
        steps = torch.arange(SIDE, device=x.device, dtype=torch.float32) - SIDE // 2
        down, right = (grid.reshape(places, 1, 1) for grid in torch.meshgrid(steps, steps, indexing="ij"))
        rows = torch.arange(height, device=x.device, dtype=torch.float32)[:, None]
        columns = torch.arange(width, device=x.device, dtype=torch.float32)
        u = (2 * (columns + right + moves[:, :, 0]) + 1) / width - 1
        v = (2 * (rows + down + moves[:, :, 1]) + 1) / height - 1
        grid = torch.stack([u, v], dim=-1).flatten(1, 2)
        found = functional.grid_sample(x.float(), grid, align_corners=False)
        return self.mix(found.unflatten(2, (places, height)).flatten(1, 2).to(x.dtype))


def resized(x: Tensor, size: torch.Size) -> Tensor:
    """(B, C, h, w) to (B, C, *size): bilinear where the map grows, means of blocks where it shrinks."""
    if size == x.shape[2:]:
        return x
    if size[0] < x.shape[2]:
        return functional.adaptive_avg_pool2d(x, size)
    return functional.interpolate(x, size=size, mode="bilinear")


def edge_of(target: Tensor) -> Tensor:
    """The edge of a lesion: pixels that have both lesion and other tissue among themselves and their 8 neighbours.

    Args:
        target: Class numbers (B, H, W); above 0 is lesion. Beyond the border of the field the tissue goes on.

    Returns:
        (B, H, W) bool.
    """
    lesion = (target > 0).float()[:, None]
    any_lesion, any_other = (functional.max_pool2d(m, SIDE, 1, 1)[:, 0] for m in (lesion, 1 - lesion))
    return (any_lesion > 0) & (any_other > 0)
