"""A moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from strokelib.errors import ParameterError


class Average:
    """Mean of the weights over the steps so far, and from ``1 / (1 - decay)`` steps on an exponential one.

    After step n (the first is 1) the average moves towards the weights by ``max(1 - decay, 1 / n)``: it starts at the
    weights after the first step and knows nothing of the untrained ones. Buffers, and whatever else is no parameter of
    floating point, are copied. It has no state beside its tensors, and draws no random number.

    Args:
        model: The network, on its device.
        decay: From 0 (the weights themselves) to below 1.

    Raises:
        ParameterError: Another decay.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ParameterError("ema_decay", found=decay, wanted="0 to below 1, or None", next_step="give e.g. 0.999")
        self.decay = decay
        names = dict(model.named_parameters(remove_duplicate=False))
        self.tensors = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self._averaged = {k for k, v in self.tensors.items() if k in names and v.is_floating_point()}

    @torch.no_grad()
    def update(self, model: nn.Module, done: int) -> None:
        """Take in the weights after a step; ``done`` is the number of steps before it."""
        share = max(1 - self.decay, 1 / (done + 1))
        for name, tensor in model.state_dict().items():
            if name in self._averaged and share < 1:
                self.tensors[name].lerp_(tensor, share)
            else:
                self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the tensors of a checkpoint; the memory layout stays."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def put_into(self, model: nn.Module) -> None:
        """Give the network the averaged weights."""
        for name, tensor in model.state_dict().items():
            tensor.copy_(self.tensors[name])

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        """The network carries the average; afterwards it has its own weights again, to the last bit."""
        own = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.put_into(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in model.state_dict().items():
                    tensor.copy_(own[name])
