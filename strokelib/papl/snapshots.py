"""Weights in the course of a training, kept for the figures that show what it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from strokelib.errors import ParameterError
from strokelib.train import load_weights, plain_tensors, save_tensors


def snapshot_steps(shares: Sequence[float], steps: int) -> list[int]:
    """How many steps were taken at each share of a training, rising, each once.

    Raises:
        ParameterError: A share below 0 or above 1.
    """
    if any(not 0 <= share <= 1 for share in shares):
        step = "give shares of the training"
        raise ParameterError("snapshots", found=list(shares), wanted="numbers from 0 to 1", next_step=step)
    return sorted({round(share * steps) for share in shares})


def snapshot_path(folder: Path, step: int) -> Path:
    """Where the weights after ``step`` steps lie in a training's folder."""
    return Path(folder) / "snapshots" / f"step_{step:08d}.safetensors"


@dataclass(frozen=True)
class Keeper:
    """Writes a network's weights at some steps; a training that was killed and goes on writes the same ones again.

    Args:
        folder: Of the training.
        steps: After how many steps; 0 for the weights that it starts with.
    """

    folder: Path
    steps: Sequence[int]

    def begin(self, model: nn.Module) -> None:
        """Keep the weights that a training starts with, unless they were kept before."""
        if 0 in self.steps and not snapshot_path(self.folder, 0).exists():
            self._keep(model, 0)

    @property
    def after_step(self) -> Callable[[nn.Module, int], None] | None:
        """What :func:`strokelib.train.fit` calls after each step; None where nothing has to be kept."""
        return self._after if self.steps else None

    def _after(self, model: nn.Module, index: int) -> None:
        if index + 1 in self.steps:
            self._keep(model, index + 1)

    def _keep(self, model: nn.Module, step: int) -> None:
        path = snapshot_path(self.folder, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(plain_tensors(model), path)


def read_snapshot(model: nn.Module, folder: Path, step: int) -> nn.Module:
    """Fill a network with the weights that were kept after ``step`` steps; it comes back in eval mode.

    Raises:
        CheckpointError: Nothing was kept there, or of another network.
    """
    load_weights(model, snapshot_path(folder, step))
    return model.eval()
