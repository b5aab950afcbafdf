"""nnU-Net's plain convolutional network: an encoder that is pre-trained alone, and the decoder that segments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.nn.weights import check_encoder

VERSION = 1
SLOPE = 0.01
Triples = Sequence[Sequence[int]]


def published_plan_shapes() -> dict[str, tuple[Any, ...]]:
    """Features, strides and kernels of the six published stages, as :class:`NNUNet` and the encoder take them.

    Source: Sec. 3.3 and 3.5, Seia et al. 2023.
    Deviation: strides are not printed. Six stages on a patch of 96 x 160 x 160 or a view of 16 x 112 x 112 leave room
        for four halvings along z and five in plane (S16): the last stage keeps z, as nnU-Net's rules do once an axis
        has no four voxels left to halve to.

    Returns:
        ``features``, ``strides`` and ``kernels``, each with six entries, fine to coarse; triples are (z, y, x).
    """
    return {
        "features": (32, 64, 128, 256, 320, 320),
        "strides": ((1, 1, 1), *[(2, 2, 2)] * 4, (1, 2, 2)),
        "kernels": ((3, 3, 3),) * 6,
    }


class ConvBlock(nn.Module):
    """Convolution with bias, instance normalisation with weight and bias, leaky ReLU of slope 0.01.

    An axis of n voxels leaves with ceil(n / stride).

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Odd side lengths (z, y, x).
        stride: Of the convolution, (z, y, x).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int] = (1, 1, 1)
    ) -> None:
        super().__init__()
        padding = tuple(side // 2 for side in kernel)
        self.conv = nn.Conv3d(in_channels, out_channels, tuple(kernel), tuple(stride), padding)
        self.norm = nn.InstanceNorm3d(out_channels, eps=1e-5, affine=True)
        self.nonlinearity = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) to (B, out_channels, ...)."""
        return self.nonlinearity(self.norm(self.conv(x)))


class PlainConvEncoder(nn.Module):
    """Stages of convolutions; the first convolution of a stage has its stride and takes in the stage before.

    Source: Sec. 3.3 and 3.5, Seia et al. 2023; Isensee et al. 2021 (nnU-Net).
    Deviation: none. With :func:`published_plan_shapes` 14,025,120 parameters for one channel, 14,025,984 for two.

    Any size goes in that leaves the coarsest stage two voxels or more, which instance normalisation needs: a stride s
    turns n voxels into ceil(n / s).

    Args:
        in_channels: Channels of the input: 1 (NCCT), or 2 (NCCT and difference image).
        features: Channels of each stage, fine to coarse.
        strides: (z, y, x) of each stage; the first is (1, 1, 1).
        kernels: Odd side lengths (z, y, x) of each stage; 3 x 3 x 3 by default.
        convs: Convolutions a stage.

    Raises:
        ParameterError: Lists of different lengths, the first stride is not 1, or an even kernel.
    """

    def __init__(
        self,
        in_channels: int,
        features: Sequence[int],
        strides: Triples,
        kernels: Triples | None = None,
        convs: int = 2,
    ) -> None:
        super().__init__()
        kernels = [(3, 3, 3)] * len(features) if kernels is None else kernels
        _check_plan(in_channels, features, strides, kernels, convs)
        self.in_channels, self.convs = in_channels, convs
        self.features = tuple(features)
        self.strides = tuple(tuple(triple) for triple in strides)
        self.kernels = tuple(tuple(triple) for triple in kernels)
        sources = (in_channels, *self.features[:-1])
        self.stages = nn.ModuleList(
            _stage(a, b, kernel, convs, stride)
            for a, b, kernel, stride in zip(sources, self.features, self.kernels, self.strides, strict=True)
        )
        self.apply(he_normal)

    def sizes(self, size: Sequence[int]) -> list[tuple[int, ...]]:
        """Spatial size (D, H, W) of each stage's output for an input of a size."""
        found, now = [], tuple(size)
        for stride in self.strides:
            now = tuple(math.ceil(n / s) for n, s in zip(now, stride, strict=True))
            found.append(now)
        return found

    def forward(self, x: Tensor) -> list[Tensor]:
        """Outputs of the stages, fine to coarse: stage i has shape (B, features[i], *sizes(x.shape[2:])[i]).

        Args:
            x: (B, in_channels, D, H, W).

        Raises:
            ParameterError: The input has another number of axes or channels, or is too small.
        """
        if x.dim() != 5 or x.shape[1] != self.in_channels or math.prod(self.sizes(x.shape[2:])[-1]) < 2:
            raise ParameterError(
                "input of the encoder",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.in_channels}, D, H, W), of which the coarsest stage keeps 2 voxels or more",
                next_step="pad the volume, or build the network with fewer or smaller strides",
            )
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class NNUNet(nn.Module):
    """nnU-Net: a :class:`PlainConvEncoder`, a decoder of transposed convolutions and skips, a head a resolution.

    Source: Sec. 3.5, Seia et al. 2023; Isensee et al. 2021 (nnU-Net).
    Deviation: "six decoding stages" are five up-sampling stages (S19). With :func:`published_plan_shapes`, one channel
        in and two classes out there are 30,785,994 parameters; 31,195,594 (31.20 M) are those of five halvings along
        every axis, for which 16 slices have no room (S16): only the coarsest transposed convolution differs. Both
        count a 1 x 1 x 1 head at each of the five resolutions, as nnU-Net keeps them.

    A transposed convolution has its stride as kernel. Where a stride does not divide a size, the up-sampled map is
    longer than the skip and is cut at the end of the axis: voxel i stays voxel i, and logits have the input's size.

    The coarsest head is there for the exchange of weights, but nnU-Net weights its loss with 0: it is not computed and
    gets no gradient, unless it is the only one.

    Args:
        in_channels: As in :class:`PlainConvEncoder`.
        out_channels: Channels of the logits: 1 (sigmoid) or 2 (softmax).
        features: As in :class:`PlainConvEncoder`; two stages or more.
        strides: As in :class:`PlainConvEncoder`.
        kernels: As in :class:`PlainConvEncoder`; a decoder stage has the kernel of the encoder stage it joins.
        convs: Convolutions a stage, also in the decoder.
        deep_supervision: In training, return logits at several resolutions.

    Raises:
        ParameterError: As :class:`PlainConvEncoder`, or fewer than two stages.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        strides: Triples,
        kernels: Triples | None = None,
        convs: int = 2,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if len(features) < 2 or out_channels < 1:
            found = f"{len(features)} stages, out_channels={out_channels}"
            wanted = "2 stages or more, and 1 output channel or more"
            raise ParameterError("nnU-Net", found=found, wanted=wanted, next_step="correct the plan")
        self.out_channels, self.deep_supervision = out_channels, deep_supervision
        self.encoder = PlainConvEncoder(in_channels, features, strides, kernels, convs)
        ups, stages, heads = [], [], []
        for level in range(len(features) - 1, 0, -1):
            coarse, fine, stride = features[level], features[level - 1], self.encoder.strides[level]
            ups.append(nn.ConvTranspose3d(coarse, fine, stride, stride))
            stages.append(_stage(2 * fine, fine, self.encoder.kernels[level - 1], convs))
            heads.append(nn.Conv3d(fine, out_channels, 1))
        self.ups, self.stages, self.heads = nn.ModuleList(ups), nn.ModuleList(stages), nn.ModuleList(heads)
        for part in (self.ups, self.stages, self.heads):
            part.apply(he_normal)

    @property
    def supervised(self) -> int:
        """Resolutions with a loss: all of the decoder but the coarsest; 4 in the published network."""
        return max(1, len(self.heads) - 1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Outputs of the encoder's stages, fine to coarse, of (B, in_channels, D, H, W)."""
        return self.encoder(x)

    def decode(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Logits from what :meth:`encode` returned, finest first; the finest alone without deep supervision or in eval.

        Returns:
            Tensors (B, out_channels, *size) with the sizes of the encoder's stages.
        """
        levels = self.supervised if self.training and self.deep_supervision else 1
        first = len(self.heads) - levels
        x, logits = outputs[-1], []
        for index, (up, stage, head) in enumerate(zip(self.ups, self.stages, self.heads, strict=True)):
            skip = outputs[-2 - index]
            d, h, w = skip.shape[2:]
            x = stage(torch.cat([up(x)[..., :d, :h, :w], skip], dim=1))
            if index >= first:
                logits.append(head(x))
        return logits[::-1]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits of a volume (B, in_channels, D, H, W).

        Returns:
            In training with deep supervision a list of :attr:`supervised` tensors, finest first; else the finest alone,
            (B, out_channels, D, H, W).

        Raises:
            ParameterError: As :meth:`PlainConvEncoder.forward`.
        """
        logits = self.decode(self.encode(x))
        return logits if self.training and self.deep_supervision else logits[0]

    def freeze_encoder(self, frozen: bool = True) -> None:
        """Keep the encoder's weights as they are, or let them be trained again.

        Instance normalisation has no running statistics, so frozen parameters are all there is to it.
        """
        for parameter in self.encoder.parameters():
            parameter.requires_grad_(not frozen)
            if frozen:
                parameter.grad = None  # a stale gradient would still move the weight

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Start the encoder from a pre-trained one; the decoder stays. Nothing changes where an entry is wrong.

        Args:
            state: The ``state_dict`` of a :class:`PlainConvEncoder` with the same plan and channels.

        Raises:
            DataError: A weight is missing, unknown, of another shape, or not finite.
        """
        step = "build the network with the plan and the channels of the pre-training"
        check_encoder(self.encoder.state_dict(), state, step)
        self.encoder.load_state_dict(dict(state))


def he_normal(module: nn.Module) -> None:
    """Start a convolution as nnU-Net does: He's normal distribution for leaky ReLU, biases 0. For ``Module.apply``."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        nn.init.zeros_(module.bias)


def _stage(
    in_channels: int, out_channels: int, kernel: Sequence[int], convs: int, stride: Sequence[int] = (1, 1, 1)
) -> nn.Sequential:
    first = ConvBlock(in_channels, out_channels, kernel, stride)
    return nn.Sequential(first, *(ConvBlock(out_channels, out_channels, kernel) for _ in range(convs - 1)))


def _check_plan(in_channels: int, features: Sequence[int], strides: Triples, kernels: Triples, convs: int) -> None:
    triples = [*strides, *kernels]
    positive = all(n > 0 for n in (in_channels, convs, *features, *(n for triple in triples for n in triple)))
    shaped = len(features) == len(strides) == len(kernels) > 0 and all(len(triple) == 3 for triple in triples)
    odd = all(side % 2 for kernel in kernels for side in kernel)
    if not (positive and shaped and odd and tuple(strides[0]) == (1, 1, 1)):
        raise ParameterError(
            "plan of the encoder",
            found=f"{in_channels} channels, features {tuple(features)}, strides {tuple(map(tuple, strides))}, "
            f"kernels {tuple(map(tuple, kernels))}, convs={convs}",
            wanted="a feature number, a stride and an odd kernel (z, y, x) for each stage, the first stride (1, 1, 1)",
            next_step="correct the plan",
        )
