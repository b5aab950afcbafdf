"""U-Net++: a U-Net whose skip connections are nests of convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.nn.blocks import DoubleConv, pad_to
from strokelib.nn.unet import UNet

VERSION = 1
DROPOUT = 0.5


class UNetPlusPlus(UNet):
    """U-Net with a map X(i, j) at level i and step j; step 0 is the encoder, and each later map takes in all before it.

    X(i, j) = pair([X(i, 0), ... X(i, j-1), up(X(i+1, j-1))]) for i + j < depth, where [...] joins channels, up is a
    transposed convolution and pair is two convolutions. The logits come from X(0, depth-1).

    Source: Zhou et al. 2018 (U-Net++); comparator of Table II, Sun et al. 2024, and one of their backbones.
    Deviation: the authors' code for the paper has convolutions with biases, dropout of one half and no normalisation:
        ``unit="dropout"``, 9,041,601 parameters with 1 channel in and 1 out, the printed 9.04 M. The default is batch
        normalisation instead, as in the common ports and in the other comparators here: 9,045,282 with 1 channel in
        and 2 out. Ports of 36 M take ``width=64``: 36,164,162 here; those with interpolation in place of transposed
        convolutions have some more. Which one Sun et al. ran is not stated.

    Without ``nested`` only X(i, depth-1-i) is left beside the encoder, that is the U-Net: 7,762,498 parameters by
    default, other output.

    With ``deep_supervision`` each X(0, j), j > 0, has a head of its own (198 parameters more by default). Then
    :meth:`branches` gives the logits of all heads, for a loss on each, and the logits are their mean. Deviation: Zhou
    et al. average probabilities.

    Any size of at least 2^(depth - 1) pixels a side goes in; odd ones as in :class:`strokelib.nn.unet.UNet`.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W).
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level.
        depth: Number of levels, at least 2.
        nested: Have the nested, dense skip connections.
        deep_supervision: Have a head at each map of the finest level.
        unit: What surrounds a convolution: "batch_norm" or "dropout".

    Raises:
        ParameterError: ``unit`` is unknown, there are fewer than 2 levels, or heads are wanted on maps that only the
            nested network has.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: int = 32,
        depth: int = 5,
        nested: bool = True,
        deep_supervision: bool = False,
        unit: str = "batch_norm",
    ) -> None:
        if unit not in PAIRS:
            raise ParameterError("unit", found=unit, wanted=" or ".join(PAIRS), next_step='give unit="batch_norm"')
        if depth < 2:
            raise ParameterError("depth of the U-Net++", found=depth, wanted="2 or more", next_step="give depth=5")
        if deep_supervision and not nested:
            found, wanted = "deep_supervision=True, nested=False", "both, or no deep supervision"
            raise ParameterError("U-Net++", found=found, wanted=wanted, next_step="give nested=True")
        super().__init__(in_channels, out_channels, width, depth)
        pair, self.nested = PAIRS[unit], nested
        sources = [in_channels, *self.widths[:-1]]
        self.encoder = nn.ModuleList(pair(a, b) for a, b in zip(sources, self.widths, strict=True))
        self.decoder = nn.ModuleList(
            nn.ModuleDict(
                {str(i): Node(pair, self.widths[i + 1], self.widths[i], j if nested else 1) for i in self._levels(j)}
            )
            for j in range(1, depth)
        )
        self.more_heads = nn.ModuleList()
        if deep_supervision:
            self.more_heads.extend(nn.Conv2d(width, out_channels, kernel_size=1) for _ in range(depth - 2))

    def _levels(self, step: int) -> range:
        """Levels that have a map at a step."""
        last = len(self.widths) - 1 - step
        return range(last + 1) if self.nested else range(last, last + 1)

    def branches(self, features: list[Tensor]) -> list[Tensor]:
        """Logits (B, out_channels, H, W) of every head, that of X(0, depth-1) last."""
        maps = [[feature] for feature in features]
        for column in self.decoder:
            # A level takes in the next coarser one as it was a step before.
            coarser = [level[-1] for level in maps[1:]]
            for i, node in column.items():
                maps[int(i)].append(node(coarser[int(i)], maps[int(i)]))
        finest = maps[0][1:]
        kept = finest[-1 - len(self.more_heads) :]
        return [head(x) for head, x in zip([*self.more_heads, self.head], kept, strict=True)]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (B, out_channels, H, W) from what :meth:`encode` returned: the mean of :meth:`branches`."""
        found = self.branches(features)
        return torch.stack(found).mean(dim=0) if len(found) > 1 else found[0]


class Node(nn.Module):
    """One map X(i, j): the coarser map doubled in size, joined with earlier maps of its own level, two convolutions.

    Args:
        pair: Makes the two convolutions from channels in and out.
        in_channels: Channels of the coarser map.
        channels: Channels of each earlier map; also the channels out.
        earlier: Number of earlier maps.
    """

    def __init__(self, pair: Callable[[int, int], nn.Module], in_channels: int, channels: int, earlier: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, channels, kernel_size=2, stride=2)
        self.conv = pair((earlier + 1) * channels, channels)

    def forward(self, coarse: Tensor, earlier: list[Tensor]) -> Tensor:
        """The map (B, channels, H, W) of a coarser one (B, in_channels, h, w) and a list of (B, channels, H, W)."""
        return self.conv(torch.cat([*earlier, pad_to(self.up(coarse), earlier[0].shape[2:])], dim=1))


def _dropout_pair(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        convolution = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1)
        # Eighteen layers without normalisation: from torch's own start the signal would all but vanish.
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
        layers += [convolution, nn.ReLU(inplace=True), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers)


PAIRS: dict[str, Callable[[int, int], nn.Module]] = {"batch_norm": DoubleConv, "dropout": _dropout_pair}
