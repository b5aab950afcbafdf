"""The networks of Table II by their names there: those that PAPL is given as a backbone, and those it is compared with.

ADN, which sees whole heads, is trained by its own package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from strokelib.nn.baselines.attention_unet import AttentionUNet
from strokelib.nn.baselines.cenet import CENet
from strokelib.nn.baselines.clci_net import CLCINet
from strokelib.nn.baselines.is_net import ISNet
from strokelib.nn.baselines.isp_net import ISPNet
from strokelib.nn.baselines.san_net import SANNet
from strokelib.nn.baselines.sean import SEAN
from strokelib.nn.baselines.trans_unet import STRIDE, TransUNet
from strokelib.nn.baselines.unet_plus_plus import UNetPlusPlus
from strokelib.nn.baselines.x_net import XNet
from strokelib.nn.unet import UNet
from strokelib.options import chosen

VERSION = 1
CLASSES = 2
Builder = Callable[..., nn.Module]
NETWORKS: dict[str, Builder] = {
    "U-Net": UNet,
    "Attention U-Net": AttentionUNet,
    "CENet": CENet,
    "U-Net++": UNetPlusPlus,
    "TransU-Net": TransUNet,
    "ISP-Net": ISPNet,
    "X-Net": XNet,
    "CLCI-Net": CLCINet,
    "SEAN": SEAN,
    "SAN-Net": SANNet,
    "IS-Net": ISNet,
}
# What narrows a transformer beside its width: layers and heads, and channels as multiples of the width.
NARROW = {"layers": 4, "heads": 4}
HIDDEN = 12
WITH_DEPTH = ("U-Net", "Attention U-Net", "U-Net++", "SEAN")


def build_network(
    name: str, width: int | None = None, depth: int | None = None, shape: tuple[int, int] | None = None
) -> nn.Module:
    """A network for slices of one channel, background and infarct out.

    Args:
        name: As Table II prints it.
        width: Channels of the finest level; None for the network's own.
        depth: Levels of those in :data:`WITH_DEPTH`; None for the network's own. The others have a fixed number.
        shape: Height and width of the slices, which a transformer's positions are made for.

    Raises:
        ParameterError: Another name, or a size that the network refuses.
    """
    chosen("network", name, tuple(NETWORKS))
    sizes: dict[str, Any] = {} if width is None else {"width": width}
    if name in WITH_DEPTH and depth is not None:
        sizes["depth"] = depth
    if name == "TransU-Net":
        sizes |= {} if width is None else {"hidden": HIDDEN * width, **NARROW}
        sizes |= {} if shape is None else {"grid": tuple(side // STRIDE for side in shape)}
    return NETWORKS[name](1, CLASSES, **sizes)
