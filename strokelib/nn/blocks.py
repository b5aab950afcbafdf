"""Building blocks that several networks share, in two or three dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}

Norm = Callable[[int], nn.Module]


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    side: int = 3,
    *,
    rate: int = 1,
    bias: bool = False,
    dims: int = 2,
    norm: Norm | None = None,
) -> nn.Sequential:
    """Convolution, normalisation, ReLU; keeps the size.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        side: Voxels a side of the kernel, odd.
        rate: Distance of neighbouring places of the kernel.
        bias: Give the convolution one, though the normalisation that follows has a shift of its own.
        dims: 2 or 3.
        norm: Makes the normalisation from a number of channels; batch normalisation by default.
    """
    padding = rate * (side // 2)
    convolution = CONVOLUTIONS[dims](in_channels, out_channels, side, padding=padding, dilation=rate, bias=bias)
    return nn.Sequential(convolution, (norm or BATCH_NORMS[dims])(out_channels), nn.ReLU(inplace=True))


class DoubleConv(nn.Sequential):
    """Twice: convolution of three voxels a side, normalisation, ReLU; keeps the size.

    Args:
        in_channels: Channels in.
        out_channels: Channels out of each of the two convolutions.
        dims: 2 or 3.
        norm: As in :func:`conv_norm_relu`.
    """

    def __init__(self, in_channels: int, out_channels: int, dims: int = 2, norm: Norm | None = None) -> None:
        first, second = (conv_norm_relu(c, out_channels, dims=dims, norm=norm) for c in (in_channels, out_channels))
        super().__init__(*first, *second)


class UpBlock(nn.Module):
    """Doubles the size by a transposed convolution, joins the skip connection, then :class:`DoubleConv`.

    Args:
        in_channels: Channels of the coarse map.
        skip_channels: Channels of the skip connection; also the channels out.
        dims: 2 or 3.
        norm: As in :class:`DoubleConv`.
    """

    def __init__(self, in_channels: int, skip_channels: int, dims: int = 2, norm: Norm | None = None) -> None:
        super().__init__()
        self.up = TRANSPOSED[dims](in_channels, skip_channels, kernel_size=2, stride=2)
        self.conv = DoubleConv(2 * skip_channels, skip_channels, dims, norm)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Join a coarse map (B, in_channels, ...) with its skip (B, skip_channels, ...); returns the skip's shape."""
        return self.conv(torch.cat([skip, pad_to(self.up(coarse), skip.shape[2:])], dim=1))


def pad_to(x: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Append zeros at the end of each spatial axis until (B, C, ...) has the given spatial size.

    Raises:
        ParameterError: An axis is already longer than wanted.
    """
    missing = [want - have for want, have in zip(size, x.shape[2:], strict=True)]
    if min(missing) < 0:
        raise ParameterError(
            "feature map",
            found=f"size {tuple(x.shape[2:])}",
            wanted=f"at most {tuple(size)}",
            next_step="check the input's size",
        )
    if not any(missing):
        return x
    return functional.pad(x, [pad for m in reversed(missing) for pad in (0, m)])


def check_images(x: Tensor, in_channels: int, network: str, multiple: int, smallest: int = 0) -> None:
    """Refuse what is not (B, in_channels, H, W) with sides that fit.

    Args:
        x: Input of a network.
        in_channels: Channels that it takes.
        network: Its name.
        multiple: Sides are multiples of this.
        smallest: Shortest side; 0 for ``multiple``.

    Raises:
        ParameterError: Another number of axes or channels, or sides that do not fit.
    """
    sides = x.shape[2:]
    if x.dim() != 4 or x.shape[1] != in_channels or min(sides) < max(1, smallest) or any(n % multiple for n in sides):
        wanted = f"(B, {in_channels}, H, W) with sides that are multiples of {multiple}"
        raise ParameterError(
            f"input of the {network}",
            found=f"shape {tuple(x.shape)}",
            wanted=f"{wanted} from {smallest} on" if smallest else wanted,
            next_step="pad the image" if smallest else "pad or crop the image",
        )


def count_parameters(model: nn.Module) -> int:
    """Number of trainable scalars in a network."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
