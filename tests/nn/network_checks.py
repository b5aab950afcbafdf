"""What the tests of several networks ask of each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.nn.precision import channels_last


def without_gradient(model: nn.Module) -> list[str]:
    """Names of the parameters that the backward pass left without a gradient, or with zeros alone."""
    parameters = model.named_parameters()
    return [name for name, p in parameters if p.grad is None or not p.grad.abs().sum() > 0]


def overfitted_dice(
    build: Callable[[], nn.Module],
    *,
    steps: int,
    rate: float = 5e-3,
    size: tuple[int, int] = (32, 32),
    lesion: tuple[slice, slice] = (slice(8, 20), slice(10, 25)),
    noise: Callable[..., Tensor] = torch.randn,
) -> float:
    """Dice that a network of two classes reaches on one noisy slice after so many steps of Adam on it."""
    torch.manual_seed(0)
    y = torch.zeros(1, *size, dtype=torch.long)
    y[:, *lesion] = 1
    x = noise(1, 1, *size) + 2 * y[:, None]
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    found = model(x).argmax(1)
    return float(2 * (found * y).sum() / (found.sum() + y.sum()))


def in_both_layouts(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output with channels last, in which the model stays, and the one before."""
    before = model(x)
    channels_last(model)
    return model(channels_last(x)), before


def finite_in_bfloat16(model: nn.Module, x: Tensor) -> bool:
    """Whether all gradients are finite after a pass in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        model(channels_last(x)).float().square().mean().backward()
    return all(bool(p.grad.isfinite().all()) for p in model.parameters())
