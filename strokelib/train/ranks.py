"""Several processes that train one network: each takes its share of every batch, the first one writes.

Two processes equal one with the same global batch up to rounding where the loss is a mean over samples. A Dice-like
loss over a whole batch is computed over each share and then averaged, and a layer that looks at the whole batch
(BatchNorm) sees its share: such trainings differ between one process and two, by more than rounding.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from strokelib.errors import ParameterError, PipelineError, StrokelibError
from strokelib.train.batches import Batch, map_leaves

LONGEST_VALIDATION = timedelta(hours=6)
SEED_STRIDE = 1_000_003
T = TypeVar("T")


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PipelineError(
            "processes of one training",
            found=str(error).splitlines()[0],
            wanted="all of them alive and in step",
            next_step="start all of them again: they go on from the last checkpoint",
        ) from error


@dataclass(frozen=True)
class World:
    """The processes of one training; by default there is one, and nothing is exchanged.

    Args:
        rank: Number of this process; 0 leads.
        size: Number of processes.
        device: Where tensors lie that are exchanged.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes and validates."""
        return self.rank == 0

    def lead(self, work: Callable[..., T], *arguments: Any) -> T:
        """Let the leading process alone do something; every process gets its result, or its error."""
        if self.size == 1:
            return work(*arguments)
        if not self.leads:
            return self._heard()
        try:
            result = work(*arguments)
        except Exception as error:
            self._tell({"error": _portable(error)})
            raise
        self._tell({"result": result})
        return result

    def _tell(self, outcome: dict[str, Any]) -> None:
        with _together():
            dist.broadcast_object_list([outcome], src=0, device=self.device)

    def _heard(self) -> Any:
        told: list[Any] = [None]
        with _together():
            dist.broadcast_object_list(told, src=0, device=self.device)
        if "error" in told[0]:
            kind, fields = told[0]["error"]
            raise kind(fields.pop("thing"), **fields)
        return told[0]["result"]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(values, value)
        return values

    def share(self, batch: Batch) -> Batch:
        """This process's part of a batch: its tensors and arrays are cut along their first axis.

        Raises:
            ParameterError: They differ in length, or the length cannot be divided by the number of processes.
        """
        if self.size == 1:
            return batch
        lengths: set[int] = set()

        def cut(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor | np.ndarray) or not leaf.ndim:
                return leaf
            lengths.add(len(leaf))
            part = len(leaf) // self.size
            return leaf[self.rank * part : (self.rank + 1) * part]

        shared = map_leaves(batch, cut)
        if len(lengths) != 1 or next(iter(lengths)) % self.size or 0 in lengths:
            raise ParameterError(
                "batch",
                found=f"tensors with {' and '.join(map(str, sorted(lengths))) or 'no'} samples",
                wanted=f"one number of samples, a multiple of the {self.size} processes",
                next_step="change the batch size or the number of processes",
            )
        return shared

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Mean of each value over the processes, which all give the same names."""
        if self.size == 1:
            return values
        total = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        with _together():
            dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the mean gradient; a parameter without one in all processes keeps none."""
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in parameters:
            by_type.setdefault(parameter.dtype, []).append(parameter)
        for dtype, group in by_type.items():
            present = torch.tensor([p.grad is not None for p in group], dtype=dtype, device=self.device)
            flat = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in group]
            total = torch.cat([*flat, present.to(flat[0].device)])
            with _together():
                dist.all_reduce(total)
            *means, counts = total.split([*(p.numel() for p in group), len(group)])
            for parameter, mean, count in zip(group, means, counts.tolist(), strict=True):
                if count:
                    parameter.grad = torch.empty_like(parameter).copy_((mean / self.size).view_as(parameter))

    @torch.no_grad()
    def copy_from_lead(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the leading one's tensors."""
        if self.size == 1:
            return
        for tensor in tensors:
            sent = tensor.detach().contiguous()
            with _together():
                dist.broadcast(sent, src=0)
            tensor.copy_(sent)


def _portable(error: Exception) -> tuple[type[StrokelibError], dict[str, str]]:
    if isinstance(error, StrokelibError):
        names = ("thing", "found", "wanted", "next_step")
        return type(error), {name: getattr(error, name) for name in names}
    return PipelineError, {
        "thing": "leading process of the training",
        "found": f"{type(error).__name__}: {error}",
        "wanted": "no error",
        "next_step": "see the output of rank 0",
    }


def join(device: torch.device) -> tuple[World, torch.device]:
    """Find the other processes of this training, as ``torchrun`` starts them.

    Where ``torch.distributed`` is not initialised and ``RANK`` and ``WORLD_SIZE`` are set, it is: with gloo on the CPU,
    with nccl on CUDA. It then stays so until the process ends, so that one process can train several networks.

    Args:
        device: Where the network is to be trained; ``cuda`` becomes the GPU of ``LOCAL_RANK``.

    Returns:
        The processes, and this one's device.
    """
    if not dist.is_available():
        return World(), device
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
            return World(), device
        with _together():
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=LONGEST_VALIDATION)
        atexit.register(_leave)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    exchanged = device if dist.get_backend() == "nccl" else torch.device("cpu")
    return World(dist.get_rank(), dist.get_world_size(), exchanged), device


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
