"""One optimiser step: batches, losses, gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.train.batches import Batch, to_device
from strokelib.train.ranks import World

Step = Callable[[nn.Module, Batch, int], Tensor | dict[str, Tensor]]


@dataclass(frozen=True)
class Update:
    """What makes one optimiser step.

    Args:
        model: The network.
        optimizer: Over its parameters.
        step: As :func:`strokelib.train.fit` takes it.
        device: Where the network lies.
        world: The processes among which each batch is shared.
        computing: Makes the context in which the loss is computed.
        scaler: Scales the loss, or None.
        accumulate: Batches a step.
        clip_norm: Largest norm of the gradient, or None.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Step
    device: torch.device
    world: World
    computing: Callable[[], AbstractContextManager]
    scaler: torch.amp.GradScaler | None
    accumulate: int
    clip_norm: float | None

    def __call__(self, source: Iterator[Batch], done: int) -> dict[str, float]:
        """Make step number ``done`` (the first is 0) and return what is logged of it.

        Raises:
            ParameterError: The loss or its gradient is not finite (no weight is changed then), or a batch cannot be
                shared.
        """
        parts = []
        for part in range(self.accumulate):
            batch = to_device(self.world.share(next(source)), self.device)
            with self.computing():
                loss, values = self._losses(self.step(self.model, batch, done), done)
            if part == 0:
                self.optimizer.zero_grad(set_to_none=True)
            if self.accumulate > 1:
                loss = loss / self.accumulate
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            parts.append(values)
        if self.accumulate > 1:
            values = {name: sum(part[name] for part in parts) / self.accumulate for name in values}
        self.world.average_gradients(p for group in self.optimizer.param_groups for p in group["params"])
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
            values["loss_scale"] = self.scaler.get_scale()
        if self.clip_norm is not None:
            values["gradient_norm"] = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm))
        if self.scaler is None:
            norm = self._gradient_norm() if self.clip_norm is None else values["gradient_norm"]
            self._finite(norm, "gradient", done)
            self.optimizer.step()
        else:  # a step whose gradients overflowed is left out, and the scale lowered
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.world.copy_from_lead(self.model.buffers())
        return values

    def _losses(self, result: Tensor | dict[str, Tensor], done: int) -> tuple[Tensor, dict[str, float]]:
        parts = {"loss": result} if isinstance(result, Tensor) else result
        values = self.world.mean({name: float(torch.as_tensor(value).detach()) for name, value in parts.items()})
        self._finite(values["loss"], "loss", done)
        return parts["loss"], values

    def _gradient_norm(self) -> float:
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients))

    @staticmethod
    def _finite(value: float, what: str, done: int) -> None:
        if not math.isfinite(value):
            raise ParameterError(
                f"{what} at step {done + 1}",
                found=value,
                wanted="a finite number",
                next_step="lower lr, or use amp='float32'",
            )
