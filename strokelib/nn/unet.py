"""The U-Net that serves as backbone and as baseline."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.nn.blocks import CONVOLUTIONS, MAX_POOLS, DoubleConv, Norm, UpBlock

VERSION = 1


class UNet(nn.Module):
    """Encoder and decoder with skip connections; the channels double where the size halves.

    Source: Sec. 3.1, Wang et al. 2020.
    Deviation: the paper names the parts (max pooling, deconvolution) but not the widths; 64 to 1024 channels with batch
    normalisation give the 31.04 M parameters that its Table 3 prints.

    Shapes, with widths w, 2w, ... 2^(depth-1) w: (B, in_channels, *size) -> (B, out_channels, *size). Any size of at
    least 2^(depth-1) voxels a side goes in: pooling rounds odd sizes down, and on the way up the missing last row is
    filled with zeros, so that the logits have the input's size and voxel i stays voxel i.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        width: Channels of the finest level.
        depth: Number of levels; 5 halves the size four times.
        dims: 2 for slices (H, W), 3 for volumes (D, H, W).
        norm: Makes a normalisation layer from a number of channels; batch normalisation by default.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        depth: int = 5,
        dims: int = 2,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.dims, self.smallest = in_channels, dims, 2 ** (depth - 1)
        self.widths = [width * 2**level for level in range(depth)]
        sources = [in_channels, *self.widths[:-1]]
        self.encoder = nn.ModuleList(DoubleConv(a, b, dims, norm) for a, b in zip(sources, self.widths, strict=True))
        self.pool = MAX_POOLS[dims](2)
        coarse_to_fine = self.widths[::-1]
        self.decoder = nn.ModuleList(UpBlock(a, b, dims, norm) for a, b in pairwise(coarse_to_fine))
        self.head = CONVOLUTIONS[dims](width, out_channels, kernel_size=1)

    @property
    def feature_channels(self) -> int:
        """Channels of the coarsest feature map."""
        return self.widths[-1]

    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps from fine to coarse: level l has shape (B, width * 2^l, size // 2^l).

        Raises:
            ParameterError: The input has another number of axes or channels, or is too small.
        """
        if x.dim() != self.dims + 2 or x.shape[1] != self.in_channels or min(x.shape[2:]) < self.smallest:
            sides = ", ".join(["D", "H", "W"][-self.dims :])
            raise ParameterError(
                "input of the U-Net",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.in_channels}, {sides}) with sides of at least {self.smallest}",
                next_step="pad the image, or build the network with fewer levels (depth)",
            )
        features: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            features.append(x)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (B, out_channels, *size) from what :meth:`encode` returned."""
        x = features[-1]
        for block, skip in zip(self.decoder, features[-2::-1], strict=True):
            x = block(x, skip)
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, *size) of an image (B, in_channels, *size)."""
        return self.decode(self.encode(x))
