"""What a training writes down: history, best weights, checkpoints. The leading process alone does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from strokelib.errors import CheckpointError, ParameterError
from strokelib.infer import evaluating
from strokelib.train.averages import Average
from strokelib.train.checkpoints import Snapshot, plain_tensors, save_checkpoint
from strokelib.train.folders import writing
from strokelib.train.history import History, HistoryFile, summarise
from strokelib.train.randomness import RandomState
from strokelib.train.stopping import Patience

Validate = Callable[[nn.Module], Mapping[str, float | Mapping[str, float]]]


@dataclass
class Record:
    """The written side of a run.

    Args:
        out: The run's folder.
        state: Where the run stands; kept up to date.
        model: The network.
        optimizer: Over its parameters.
        average: The moving average of its weights, or None.
        validate: As :func:`strokelib.train.fit` takes it.
        best: Name of the value whose maximum is kept, or None.
        stop: The rule of early stopping, or None.
        computing: Makes the context in which the validation is computed.
    """

    out: Path
    state: Snapshot
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average | None
    validate: Validate | None
    best: str | None
    stop: Patience | None
    computing: Callable[[], AbstractContextManager]
    history: HistoryFile | None = None

    def open(self) -> str | None:
        """Open the history, cut back to the state's step; returns why the run has stopped, where it has."""
        with writing(self.out, "history"):
            self.history = HistoryFile(self.out, self.state.step)
        return self.stop.reason(self.history.rows) if self.stop else None

    def close(self) -> None:
        """Close the history."""
        if self.history is not None:
            self.history.close()

    def log(self, values: dict[str, float]) -> None:
        """Write the values of a training step."""
        with writing(self.out, "history"):
            self.history.add(self.state.step, "train", values)

    def score(self) -> str | None:
        """Validate, keep the weights if they are the best, and say why the run stops now, where it does."""
        with self.average.inside(self.model) if self.average else nullcontext():
            with evaluating(self.model), torch.no_grad(), self.computing():
                scores, cases = summarise(self.validate(self.model), self.state.step)
            self._require(scores)
            with writing(self.out, "history"):
                self.history.add_cases(cases)
                self.history.add(self.state.step, "val", scores)
            if self.best is not None and self._better(scores[self.best]):
                self.state.best = {"step": self.state.step, "value": float(scores[self.best])}
                self.state.best_weights = plain_tensors(self.model)
        reason = self.stop.reason(self.history.rows) if self.stop else None
        if reason:
            self.state.notes.append(reason)
        return reason

    def _better(self, value: float) -> bool:
        return not math.isnan(value) and (self.state.best is None or value > self.state.best["value"])

    def _require(self, scores: Mapping[str, float]) -> None:
        asked = {"best": self.best, "stop": self.stop.name if self.stop else None}
        for parameter, name in asked.items():
            if name is not None and name not in scores:
                wanted = f"a name that validate returns: {', '.join(scores)}"
                raise ParameterError(parameter, found=name, wanted=wanted, next_step="name one of these")

    def save(self, random_states: Sequence[RandomState]) -> None:
        """Write a checkpoint, after the history is on the disk."""
        with writing(self.out, "history"):
            self.history.sync()
        with writing(self.out, f"checkpoint at step {self.state.step}", CheckpointError):
            save_checkpoint(self.out / "checkpoints", self.model, self.optimizer, self.state, random_states)

    def finish(self) -> History:
        """Give the network its final weights: the best ones, else the averaged ones, else its own."""
        if self.state.best is not None:
            self.model.load_state_dict(self.state.best_weights)
        elif self.average is not None:
            self.average.put_into(self.model)
        steps, best = self.state.step, self.state.best
        rows, cases, notes = (tuple(part) for part in (self.history.rows, self.history.case_rows, self.state.notes))
        return History(rows, steps, best["step"] if best else steps, notes, cases)
