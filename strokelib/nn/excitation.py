"""Squeeze and excitation: one learned weight per channel, from the channels' means."""

from __future__ import annotations

from torch import Tensor, nn

from strokelib.errors import ParameterError

VERSION = 1


class SqueezeExcitation(nn.Module):
    """Scales each channel u by s, where s = sigmoid(W2 relu(W1 mean(u) + b1) + b2) and the mean runs over the image.

    Source: Sec. 3, Hu et al. 2018 (squeeze-and-excitation networks).
    Deviation: none; the reduction is 1 by default where Hu et al. take 16, see
        :class:`strokelib.pseudo_dwi.model.SLNet`.

    Args:
        channels: Channels C of the input.
        reduction: The hidden layer has C // reduction units, at least one.
        dims: 2 for (B, C, H, W), 3 for (B, C, D, H, W).

    Raises:
        ParameterError: The reduction is below 1.
    """

    def __init__(self, channels: int, reduction: int = 1, dims: int = 2) -> None:
        super().__init__()
        if reduction < 1:
            raise ParameterError("reduction", found=reduction, wanted="1 or more", next_step="give reduction=1")
        self.dims = dims
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.excite = nn.Linear(hidden, channels)

    def scales(self, x: Tensor) -> Tensor:
        """The weight of each channel, (B, C) in (0, 1), of (B, C, *size).

        Raises:
            ParameterError: The input has another number of axes or channels.
        """
        if x.dim() != self.dims + 2 or x.shape[1] != self.excite.out_features:
            sides = ", ".join(["D", "H", "W"][-self.dims :])
            raise ParameterError(
                "input of the squeeze and excitation",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.excite.out_features}, {sides})",
                next_step="build the block with the input's channels and dims",
            )
        means = x.mean(dim=tuple(range(2, x.dim())))
        return self.excite(self.relu(self.squeeze(means))).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Rescale the channels of (B, C, *size); the shape stays."""
        scales = self.scales(x)
        return x * scales.view(*scales.shape, *[1] * self.dims)
