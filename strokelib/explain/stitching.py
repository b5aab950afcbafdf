"""Networks of slices and of windows as functions of whole stacks of slices, through which gradients flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from strokelib.infer import gaussian_weight, window_starts


def by_slices(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A network of slices on (B, C, D, H, W): its answer (B, K, D, H, W)."""
    batch, channels, depth, height, width = x.shape
    found = network(x.transpose(1, 2).reshape(batch * depth, channels, height, width))
    return found.reshape(batch, depth, *found.shape[1:]).transpose(1, 2)


def by_windows(network: Callable[[Tensor], Tensor], x: Tensor, window: Sequence[int], stride: Sequence[int]) -> Tensor:
    """A network of windows on (B, C, D, H, W): overlapping answers averaged, their middles weighing more.

    :func:`strokelib.infer.sliding_window` does the same for one volume, without gradients.

    Args:
        network: Maps (B, C, *window) to (B, K, *window).
        x: At least as large as a window.
        window: Sides (d, h, w).
        stride: Voxels between windows.
    """
    starts = product(*map(window_starts, x.shape[2:], window, stride))
    places = [tuple(slice(s, s + side) for s, side in zip(start, window, strict=True)) for start in starts]
    found = network(torch.cat([x[(..., *place)] for place in places])).chunk(len(places))
    weight = gaussian_weight(window).to(x)
    total = x.new_zeros((len(x), found[0].shape[1], *x.shape[2:]))
    weights = x.new_zeros(x.shape[2:])
    for place, one in zip(places, found, strict=True):
        total[(..., *place)] = total[(..., *place)] + weight * one
        weights[place] += weight
    return total / weights
