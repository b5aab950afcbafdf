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


class DoubleConv(nn.Sequential):
    """Twice: convolution of three voxels a side, normalisation, ReLU; keeps the size.

    Args:
        in_channels: Channels in.
        out_channels: Channels out of each of the two convolutions.
        dims: 2 or 3.
        norm: Makes the normalisation from a number of channels; batch normalisation by default.
    """

    def __init__(self, in_channels: int, out_channels: int, dims: int = 2, norm: Norm | None = None) -> None:
        norm = norm or BATCH_NORMS[dims]
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            # The normalisation that follows has a shift of its own, so the convolution carries no bias.
            convolution = CONVOLUTIONS[dims](channels, out_channels, kernel_size=3, padding=1, bias=False)
            layers += [convolution, norm(out_channels), nn.ReLU(inplace=True)]
        super().__init__(*layers)


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


def count_parameters(model: nn.Module) -> int:
    """Number of trainable scalars in a network."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
