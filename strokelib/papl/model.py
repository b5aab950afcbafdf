"""PAPL, Sun et al. 2024: a segmentation network whose encoder first learns what sets infarcts apart (Eq. 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.precision import full_precision
from strokelib.nn.weights import check_encoder

VERSION = 1
LENGTH = 128
ENCODER_PARTS = ("stem", "encoder")


@runtime_checkable
class Backbone(Protocol):
    """A segmentation network in two parts: U-Net, CE-Net, U-Net++. What encodes lies in ``encoder`` and ``stem``."""

    @property
    def feature_channels(self) -> int:
        """Channels of the coarsest feature map."""

    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps of slices (B, 1, H, W), from fine to coarse."""

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (B, 2, H, W) of what :meth:`encode` returned."""


class ProjectionHead(nn.Module):
    """Embedding of a sample: v = H(features), of length 1.

    H is the mean over the map, linear, ReLU, linear, and the division by the length. It is of use in stage 1 alone.

    Source: Eq. 6, Sun et al. 2024.
    Deviation: the layers of H and the length of v are not stated. With the U-Net's 1024 channels and the defaults it
        has 1,180,800 parameters.

    Args:
        in_channels: Channels of the feature map.
        hidden: Width of the hidden layer; that of the feature map by default.
        out: Length d of the embedding.

    Raises:
        ParameterError: A width below 1.
    """

    def __init__(self, in_channels: int, hidden: int | None = None, out: int = LENGTH) -> None:
        super().__init__()
        hidden = in_channels if hidden is None else hidden
        if min(in_channels, hidden, out) < 1:
            found = f"in_channels={in_channels}, hidden={hidden}, out={out}"
            raise ParameterError("projection head", found=found, wanted="1 or more each", next_step="correct the sizes")
        self.in_channels = in_channels
        self.mlp = nn.Sequential(nn.Linear(in_channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out), rows of length 1; float32 or better, also under autocast.

        Raises:
            ParameterError: Another shape.
        """
        if features.dim() != 4 or features.shape[1] != self.in_channels:
            found, wanted = f"shape {tuple(features.shape)}", f"(B, {self.in_channels}, h, w)"
            step = "pass the coarsest map of the encoder"
            raise ParameterError("input of the projection head", found=found, wanted=wanted, next_step=step)
        with full_precision(features):
            wide = features.to(torch.promote_types(features.dtype, self.mlp[0].weight.dtype))
            return functional.normalize(self.mlp(wide.mean(dim=(2, 3))), dim=1)


class Formal(NamedTuple):
    """What stages 2 and 3 see of a batch of triplets.

    Args:
        features: Of front, middle and rear slices, the coarsest map of each, (B, C, h, w).
        logits: Of the middle slices, (B, 2, H, W).
    """

    features: tuple[Tensor, Tensor, Tensor]
    logits: Tensor


class PAPL(nn.Module):
    """A backbone with a projection head, for the three stages; slices alone are segmented as by the backbone.

    Source: Secs III.C-E and Fig. 2, Sun et al. 2024.
    Deviation: none; one encoder with shared weights, of whose three feature maps the middle one alone is decoded. The
        three slices go through it together, so that batch normalisation takes its statistics from all of them.

    The backbone's convolutions are not mirror-symmetric: a symmetric slice has halves of features that differ, until
    stage 1 has taught them not to. The halves of a map are those of the slice where its width is a multiple of the
    backbone's coarsest stride; U-Nets drop what is left of another width on the right.

    Args:
        backbone: As :class:`Backbone`; any width.
        hidden: As in :class:`ProjectionHead`.
        out: Likewise.

    Raises:
        ParameterError: The backbone cannot be taken apart.
    """

    def __init__(self, backbone: nn.Module, hidden: int | None = None, out: int = LENGTH) -> None:
        super().__init__()
        if not isinstance(backbone, Backbone) or not isinstance(getattr(backbone, "encoder", None), nn.Module):
            wanted = "encode, decode, feature_channels, and the parts that encode in encoder (and stem)"
            step = "give a UNet, CENet or UNetPlusPlus"
            raise ParameterError("backbone", found=type(backbone).__name__, wanted=wanted, next_step=step)
        self.backbone = backbone
        self.head = ProjectionHead(backbone.feature_channels, hidden, out)

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stage 1: embeddings (B, out) of length 1 and coarsest feature maps (B, C, h, w) of samples (B, 1, H, W).

        Raises:
            ParameterError: As the backbone.
        """
        features = self.backbone.encode(x)[-1]
        return self.head(features), features

    def forward(self, front: Tensor, middle: Tensor, rear: Tensor) -> Formal:
        """Stages 2 and 3: features of three slices of a scan and logits of the middle one.

        Args:
            front: (B, 1, H, W).
            middle: The same shape.
            rear: The same shape.

        Raises:
            ParameterError: The shapes differ, or as the backbone.
        """
        if not front.shape == middle.shape == rear.shape:
            found = ", ".join(str(tuple(each.shape)) for each in (front, middle, rear))
            step = "cut the slices of a triplet alike"
            raise ParameterError("triplet", found=found, wanted="one shape (B, 1, H, W)", next_step=step)
        levels = [level.chunk(3) for level in self.backbone.encode(torch.cat([front, middle, rear]))]
        return Formal(levels[-1], self.backbone.decode([of_middle for _, of_middle, _ in levels]))

    def segment(self, x: Tensor) -> Tensor:
        """Logits (B, 2, H, W) of slices (B, 1, H, W), each by itself: for inference, and stage 2 without triplets.

        Raises:
            ParameterError: As the backbone.
        """
        return self.backbone.decode(self.backbone.encode(x))

    def knowledge_parameters(self) -> Iterator[nn.Parameter]:
        """What stage 1 trains: encoder and projection head."""
        return chain.from_iterable(part.parameters() for part in (*self._encoder().values(), self.head))

    def segmentation_parameters(self) -> Iterator[nn.Parameter]:
        """What stages 2 and 3 train: encoder and decoder."""
        return self.backbone.parameters()

    def encoder_state(self) -> dict[str, Tensor]:
        """Copies of the encoder's weights and running statistics, by their names in the backbone."""
        return {name: tensor.detach().clone() for name, tensor in self._encoder_tensors().items()}

    @torch.no_grad()
    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Start from the encoder that stage 1 trained; decoder and head stay. Nothing changes where an entry is wrong.

        Source: Sec. III.D, Sun et al. 2024.
        Deviation: none; batch normalisation's running statistics come with the weights.

        Args:
            state: :meth:`encoder_state` of a PAPL with the same backbone.

        Raises:
            DataError: A weight is missing, unknown, of another shape, or not finite.
        """
        own = self._encoder_tensors()
        check_encoder(own, state, "build the backbone with the sizes that stage 1 had")
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _encoder(self) -> dict[str, nn.Module]:
        return {name: part for name, part in self.backbone.named_children() if name in ENCODER_PARTS}

    def _encoder_tensors(self) -> dict[str, Tensor]:
        parts = self._encoder().items()
        return {f"{name}.{key}": tensor for name, part in parts for key, tensor in part.state_dict().items()}
