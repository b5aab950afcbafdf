"""What a model of PAPL puts out at each level, and how large its parts are, without computing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from strokelib.infer import evaluating
from strokelib.papl.model import PAPL

SIZE = (256, 256)


@dataclass(frozen=True)
class Traced:
    """What a model puts out, and how large its parts are.

    Args:
        levels: Shapes of the encoder's maps, fine to coarse.
        logits: Shape of the decoder's output.
        embedding: Shape of the head's output.
        hidden: Widths of the head's linear layers.
        encoder: Parameters.
        decoder: Parameters.
        head: Parameters.
    """

    levels: tuple[tuple[int, ...], ...]
    logits: tuple[int, ...]
    embedding: tuple[int, ...]
    hidden: tuple[int, ...]
    encoder: int
    decoder: int
    head: int


class _Whole(nn.Module):
    """All that the three stages run, on one slice."""

    def __init__(self, model: PAPL) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        levels = self.model.backbone.encode(x)
        return levels, self.model.backbone.decode(list(levels)), self.model.head(levels[-1])


def traced(model: PAPL, size: Sequence[int] = SIZE) -> Traced:
    """Shapes and parameters of a model; nothing is computed, and the model stays as it was.

    Args:
        model: With any backbone.
        size: (H, W) of a slice.
    """
    whole = _Whole(model)
    tensors = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    with evaluating(whole), torch.no_grad():
        levels, logits, embedding = functional_call(whole, weights, (torch.empty(1, 1, *size, device="meta"),))
    head, knowing, all_of = (
        sum(p.numel() for p in part)
        for part in (model.head.parameters(), model.knowledge_parameters(), model.segmentation_parameters())
    )
    shapes = tuple(tuple(level.shape) for level in levels), tuple(logits.shape), tuple(embedding.shape)
    hidden = tuple(part.out_features for part in model.head.modules() if isinstance(part, nn.Linear))
    return Traced(*shapes, hidden, knowing - head, all_of - knowing + head, head)
