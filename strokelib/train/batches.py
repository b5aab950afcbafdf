"""What a training reads: streams of batches whose position can be saved, and what is done to each of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from strokelib.errors import ParameterError
from strokelib.nn.precision import channels_last

Batch = Any


class Sampler(Protocol):
    """A stream of batches whose position can be saved."""

    def __next__(self) -> Batch:
        """The next batch."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""


def map_leaves(batch: Batch, change: Callable[[Any], Any]) -> Batch:
    """The same tuples, lists and mappings with every leaf changed."""
    if isinstance(batch, Mapping):
        return {k: map_leaves(v, change) for k, v in batch.items()}
    if isinstance(batch, tuple | list):
        changed = [map_leaves(v, change) for v in batch]
        return type(batch)(*changed) if hasattr(batch, "_fields") else type(batch)(changed)
    return change(batch)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch (a tensor, or tuples, lists and mappings of them); images become channels-last."""

    def move(leaf: Any) -> Any:
        return channels_last(leaf.to(device, non_blocking=True)) if isinstance(leaf, Tensor) else leaf

    return map_leaves(batch, move)


def batch_source(batches: Sampler | Sequence[Batch], start: int) -> Iterator[Batch]:
    """What the loop draws from: the sampler itself, or the list again and again.

    Args:
        batches: A sampler or a list.
        start: Number of batches that were drawn before; a sampler is told by its own state.

    Raises:
        ParameterError: Neither of the two.
    """
    if isinstance(batches, Sequence) and len(batches):
        return (batches[i % len(batches)] for i in range(start, 2**62))
    if all(hasattr(batches, name) for name in ("__next__", "state_dict", "load_state_dict")):
        return batches
    raise ParameterError(
        "batches",
        found=type(batches).__name__,
        wanted="a sampler with __next__, state_dict and load_state_dict, or a list of batches",
        next_step="a plain iterator cannot resume: use strokelib.data.loading.SliceSampler or a list",
    )
