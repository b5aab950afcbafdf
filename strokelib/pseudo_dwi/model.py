"""The networks of Wang et al. 2020: extractor, generator, context encoder, segmenter, and the chain that joins them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.nn.blocks import CONVOLUTIONS, TRANSPOSED
from strokelib.nn.excitation import SqueezeExcitation
from strokelib.nn.normalisation import SwitchNorm
from strokelib.nn.unet import UNet

VERSION = 1
CHANNELS = {"maps": 4, "mip": 1, "frames": 6}
POOLED = 8

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def _image(logits: Tensor) -> Tensor:
    """Logits as intensities in (0, 1), in float32 or better: bfloat16 would leave 8 bits of contrast."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()


class FeatureExtractor(UNet):
    """High-level feature of the perfusion frames: high_level = sigmoid(U-Net(frames)).

    Source: Eq. 4, Wang et al. 2020.
    Deviation: the output's activation and the widths are not stated; a sigmoid, since the loss holds the output to a
        diffusion image in [0, 1], and the widths of the 31.04 M U-Net of Table 3.

    Args:
        frames: Frames taken from the bolus, the input's channels.
        width: Channels of the finest level.
        depth: Number of levels.
    """

    def __init__(self, frames: int = CHANNELS["frames"], width: int = 64, depth: int = 5) -> None:
        super().__init__(frames, 1, width, depth)

    def forward(self, x: Tensor) -> Tensor:
        """Feature (B, 1, H, W) in (0, 1) of frames (B, frames, H, W); sides of at least 2^(depth - 1)."""
        return _image(super().forward(x))


class DwiGenerator(UNet):
    """Pseudo-DWI of maps, temporal maximum and high-level feature: image = sigmoid(U-Net(all channels)).

    Source: Eq. 5, Wang et al. 2020.
    Deviation: activation and widths as in :class:`FeatureExtractor`.

    Args:
        in_channels: Channels of the input; the paper's six are four maps, the maximum and the feature.
        width: Channels of the finest level.
        depth: Number of levels.
    """

    def __init__(self, in_channels: int = 6, width: int = 64, depth: int = 5) -> None:
        super().__init__(in_channels, 1, width, depth)

    def forward(self, x: Tensor) -> Tensor:
        """Pseudo-DWI (B, 1, H, W) in (0, 1) of channels (B, in_channels, H, W); sides of at least 2^(depth - 1)."""
        return _image(super().forward(x))


class ContextEncoder(nn.Module):
    """A diffusion image in 16 numbers, for the contextual loss (Phi_c).

    Three convolutions of 3 x 3 with stride 2, an adaptive average pool to 8 x 8, two more such convolutions, and an
    adaptive average pool to 1 x 1. Leaky ReLU follows each convolution but the last, whose means are the output.

    Source: Sec. 3.2 and Fig. 4, Wang et al. 2020.
    Deviation: the text gives five convolutions, two pools and the length 16; widths, place and size of the pools and
        activations are assumed. Frozen by default: were the encoder trained to lower its own loss, as printed, a
        constant output would do.

    Args:
        widths: Channels of the five convolutions; the last is the output's length.
        frozen: Take the weights out of training. Gradients still pass through to the image.

    Raises:
        ParameterError: ``widths`` does not hold five numbers.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 32, 16), frozen: bool = True) -> None:
        super().__init__()
        if len(widths) != 5:
            raise ParameterError(
                "widths of the context encoder",
                found=tuple(widths),
                wanted="five numbers of channels",
                next_step="give e.g. (16, 32, 64, 32, 16)",
            )
        convolutions = [nn.Conv2d(a, b, kernel_size=3, stride=2, padding=1) for a, b in pairwise((1, *widths))]
        layers = [layer for convolution in convolutions for layer in (convolution, nn.LeakyReLU(0.2))][:-1]
        self.before = nn.Sequential(*layers[:6], nn.AdaptiveAvgPool2d(POOLED))
        self.after = nn.Sequential(*layers[6:], nn.AdaptiveAvgPool2d(1))
        self.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        """Code (B, widths[-1]) of an image (B, 1, H, W) of any size.

        Raises:
            ParameterError: The input has another number of axes or channels.
        """
        if x.dim() != 4 or x.shape[1] != 1:
            raise ParameterError(
                "input of the context encoder",
                found=f"shape {tuple(x.shape)}",
                wanted="(B, 1, H, W)",
                next_step="give one image channel",
            )
        return self.after(self.before(x)).flatten(1)


class SLNet(UNet):
    """U-Net with switchable normalisation and one squeeze-and-excitation block after each encoder block.

    P = softmax(SLNet(image)); the logits come out, and the rescaled features go on to pool and skip connection.

    Source: Eq. 10 and Fig. 5, Wang et al. 2020.
    Deviation: the reduction is not stated; 1 gives the 33.84 M parameters of Table 3 (33,835,822 with 4 channels in),
        16 would give 31.21 M. Without excitation 31.04 M and without switchable normalisation 33.84 M, as printed.

    Args:
        in_channels: Channels of the input: 1 for a pseudo-DWI, 4 for the maps.
        out_channels: Classes.
        width: Channels of the finest level.
        depth: Number of levels.
        switchable: Switchable normalisation; else batch normalisation.
        excitation: Have the squeeze-and-excitation blocks.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: int = 64,
        depth: int = 5,
        switchable: bool = True,
        excitation: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, width, depth, norm=SwitchNorm if switchable else None)
        if excitation:
            blocks = zip(self.encoder, self.widths, strict=True)
            self.encoder = nn.ModuleList(nn.Sequential(block, SqueezeExcitation(w)) for block, w in blocks)


class Chain(NamedTuple):
    """What the chain makes of a slice.

    Args:
        logits: (B, 2, H, W).
        image: Pseudo-DWI (B, 1, H, W) in (0, 1).
        high_level: Output of the extractor (B, 1, H, W) in (0, 1), or None where there is no extractor.
    """

    logits: Tensor
    image: Tensor
    high_level: Tensor | None


class PseudoDwi(nn.Module):
    """Extractor, generator and segmenter in a row, trained together.

    Source: Sec. 3 and Fig. 2, Wang et al. 2020.
    Deviation: those of the parts. The context encoder is not a part, as it serves the loss alone.

    Args:
        inputs: What the generator sees, of ``maps`` (CBF, CBV, MTT, Tmax), ``mip`` (temporal maximum) and ``frames``
            (through the extractor). Their order does not matter.
        segment_maps: Give the segmenter the four maps beside the pseudo-DWI.
        width: Channels of the finest level of each of the three networks.
        depth: Their number of levels.

    Raises:
        ParameterError: ``inputs`` is empty or holds another name.
    """

    def __init__(
        self,
        inputs: Sequence[str] = ("maps", "mip", "frames"),
        segment_maps: bool = False,
        width: int = 64,
        depth: int = 5,
    ) -> None:
        super().__init__()
        if not inputs or not set(inputs) <= set(CHANNELS):
            raise ParameterError(
                "inputs of the chain",
                found=tuple(inputs),
                wanted=f"one or more of {', '.join(CHANNELS)}",
                next_step="give e.g. ('maps', 'mip')",
            )
        self.inputs = tuple(name for name in CHANNELS if name in inputs)
        self.segment_maps = segment_maps
        self.extractor = FeatureExtractor(CHANNELS["frames"], width, depth) if "frames" in inputs else None
        given = sum(1 if name == "frames" else CHANNELS[name] for name in self.inputs)
        self.generator = DwiGenerator(given, width, depth)
        self.segmenter = SLNet(1 + CHANNELS["maps"] * segment_maps, 2, width, depth)

    def forward(self, maps: Tensor | None = None, mip: Tensor | None = None, frames: Tensor | None = None) -> Chain:
        """Run the chain; an image that the chain has no use for may be left out.

        Args:
            maps: (B, 4, H, W) in [0, 1].
            mip: (B, 1, H, W) in [0, 1].
            frames: (B, 6, H, W) in [0, 1].

        Raises:
            ParameterError: An image is missing, or has another number of axes or channels, or is too small.
        """
        given = {"maps": maps, "mip": mip, "frames": frames}
        for name in (*self.inputs, *(("maps",) if self.segment_maps else ())):
            _require(name, given[name])
        high_level = None if self.extractor is None else self.extractor(frames)
        seen = given | {"frames": high_level}
        image = self.generator(torch.cat([seen[name] for name in self.inputs], dim=1))
        logits = self.segmenter(torch.cat([maps, image], dim=1) if self.segment_maps else image)
        return Chain(logits, image, high_level)


def _require(name: str, image: Tensor | None) -> None:
    if image is None or image.dim() != 4 or image.shape[1] != CHANNELS[name]:
        raise ParameterError(
            f"{name} of the chain",
            found="none" if image is None else f"shape {tuple(image.shape)}",
            wanted=f"(B, {CHANNELS[name]}, H, W)",
            next_step="give this image, or leave it out of the chain's inputs",
        )


def xavier(module: AnyModule) -> AnyModule:
    """Start convolutions and linear layers from Xavier-uniform weights and zero biases, in place.

    Source: Sec. 4.1, Wang et al. 2020, after Glorot and Bengio 2010.
    Deviation: uniform rather than normal is assumed; normalisation layers keep their own start.

    Args:
        module: A network, or one with networks in it.

    Returns:
        The same module.
    """
    for part in module.modules():
        if isinstance(part, (*CONVOLUTIONS.values(), *TRANSPOSED.values(), nn.Linear)):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module
