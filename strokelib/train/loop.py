"""One training loop for every network: fit, validate, write down, survive a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from tqdm import tqdm

from strokelib import repro
from strokelib.errors import ParameterError, PipelineError
from strokelib.infer import evaluating
from strokelib.nn.precision import autocast, channels_last, resolve_amp
from strokelib.train.checkpoints import Snapshot, load_checkpoint, plain_tensors, save_checkpoint
from strokelib.train.history import History, HistoryFile
from strokelib.train.schedules import Schedule, constant

Batch = Any
Step = Callable[[nn.Module, Batch, int], Tensor | dict[str, Tensor]]
Validate = Callable[[nn.Module], dict[str, float]]


class Sampler(Protocol):
    """A stream of batches whose position can be saved."""

    def __next__(self) -> Batch:
        """The next batch."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch (a tensor, or tuples, lists and mappings of them); images become channels-last."""
    if isinstance(batch, Tensor):
        return channels_last(batch.to(device, non_blocking=True))
    if isinstance(batch, Mapping):
        return {k: to_device(v, device) for k, v in batch.items()}
    if isinstance(batch, tuple | list):
        moved = [to_device(v, device) for v in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return batch


def _batch_source(batches: Sampler | Sequence[Batch], start: int) -> Iterator[Batch]:
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


@contextmanager
def _only_process(out: Path) -> Iterator[None]:
    lock = FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise PipelineError(
            f"run {out.name}",
            found="another process is training in it",
            wanted="one process a run",
            next_step="wait for it to end",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _better(value: float, best: dict[str, Any] | None) -> bool:
    return not math.isnan(value) and (best is None or value > best["value"])


def _losses(result: Tensor | dict[str, Tensor], done: int) -> tuple[Tensor, dict[str, float]]:
    parts = {"loss": result} if isinstance(result, Tensor) else result
    values = {name: float(torch.as_tensor(value).detach()) for name, value in parts.items()}
    if not math.isfinite(values["loss"]):
        raise ParameterError(
            f"loss at step {done + 1}",
            found=values["loss"],
            wanted="a finite number",
            next_step="lower lr, or use amp='float32'",
        )
    return parts["loss"], values


def fit(
    model: nn.Module,
    batches: Sampler | Sequence[Batch],
    step: Step,
    *,
    steps: int,
    optimizer: torch.optim.Optimizer,
    out: Path,
    seed: int,
    schedule: Schedule | None = None,
    validate: Validate | None = None,
    validate_every: int | None = None,
    best: str | None = None,
    after_step: Callable[[nn.Module, int], None] | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 1,
    clip_norm: float | None = None,
    recipe_key: str = "",
    device: torch.device | str | None = None,
    amp: str = "auto",
    progress: bool = True,
) -> History:
    """Train a network in place; called again after a kill, go on from the last checkpoint to the same weights.

    On the CPU a resumed run ends with the same bytes as an uninterrupted one. A finished run is only read back.

    Args:
        model: The network; it ends on ``device``. In train mode its parts keep their own modes (a frozen part in eval
            mode stays there); a network that comes in eval mode is trained in train mode and ends in eval mode.
        batches: A sampler whose position can be saved, or a list of batches that is gone through again and again.
        step: ``step(model, batch, index)`` returns the loss, or a dictionary of scalars with ``loss`` among them. What
            it draws from the global random generators is reproduced on resumption.
        steps: Number of optimiser steps.
        optimizer: Over the network's parameters; its initial learning rates are scaled by ``schedule``.
        out: Folder of the run: ``history.csv`` and ``checkpoints/``.
        seed: Seeds Python, numpy and torch at the start.
        schedule: Step index to a factor on the learning rate; constant by default.
        validate: Called in eval mode without gradients; returns scalars.
        validate_every: Steps between validations (and one at the end); a tenth of the run by default.
        best: Name of a validation scalar: the network ends with the weights at its (first) maximum, not the last.
        after_step: ``after_step(model, index)`` runs after each optimiser step, e.g. to update a moving average.
        checkpoint_every: Steps between checkpoints; a tenth of the run by default.
        log_every: Steps between training rows in the history.
        clip_norm: Largest norm of the gradient, or None.
        recipe_key: Names the recipe in the checkpoints; another recipe's checkpoint is refused.
        device: Default :func:`strokelib.repro.device`.
        amp: ``auto`` (bfloat16 where the hardware is fast at it), ``bf16`` or ``float32``; the notes say which.
        progress: Show a progress bar on a terminal; elsewhere nothing is printed.

    Raises:
        PipelineError: Another process is training in this folder.
        CheckpointError: The folder holds another run's checkpoints, or only damaged ones.
        ParameterError: The batches cannot be resumed, or the loss is not finite.
    """
    out, device, schedule = Path(out), torch.device(device or repro.device()), schedule or constant()
    validate_every = validate_every or max(1, steps // 10)
    checkpoint_every = checkpoint_every or max(1, steps // 10)
    identity = {"recipe_key": recipe_key, "seed": seed, "steps": steps, "amp": resolve_amp(amp, device)}
    out.mkdir(parents=True, exist_ok=True)
    with _only_process(out):
        repro.seed_everything(seed)
        channels_last(model.to(device))
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        came_in_eval = not model.training
        if came_in_eval:
            model.train()
        found = load_checkpoint(out / "checkpoints", model, optimizer, identity)
        state = found or Snapshot(0, identity, notes=[f"computed in {identity['amp']} on {device.type}"])
        if found and state.step < steps:
            state.notes.append(f"resumed at step {state.step}")
        source = _batch_source(batches, state.step)
        if state.sampler is not None:
            source.load_state_dict(state.sampler)
        bar = tqdm(total=steps, initial=state.step, disable=None if progress else True, leave=False, desc=out.name)
        with closing(HistoryFile(out / "history.csv", state.step)) as history, bar:
            for done in range(state.step, steps):
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * schedule(done)
                batch = to_device(next(source), device)
                with autocast(amp, device):
                    loss, values = _losses(step(model, batch, done), done)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if clip_norm is not None:
                    values["gradient_norm"] = float(nn.utils.clip_grad_norm_(model.parameters(), clip_norm))
                optimizer.step()
                if after_step is not None:
                    after_step(model, done)
                state.step = done + 1
                last = state.step == steps
                if last or state.step % log_every == 0:
                    history.add(state.step, "train", values | {"lr": optimizer.param_groups[0]["lr"]})
                    bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                if validate is not None and (last or state.step % validate_every == 0):
                    with evaluating(model), torch.no_grad(), autocast(amp, device):
                        scores = validate(model)
                    history.add(state.step, "val", scores)
                    if best is not None and _better(scores[best], state.best):
                        state.best = {"step": state.step, "value": float(scores[best])}
                        state.best_weights = plain_tensors(model)
                if last or state.step % checkpoint_every == 0:
                    history.sync()
                    state.sampler = source.state_dict() if source is batches else None
                    save_checkpoint(out / "checkpoints", model, optimizer, state)
                bar.update()
            rows = tuple(history.rows)
        if state.best is not None:
            model.load_state_dict(state.best_weights)
        if came_in_eval:
            model.eval()
    return History(rows, steps, state.best["step"] if state.best else steps, tuple(state.notes))
