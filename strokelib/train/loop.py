"""One training loop for every network: fit, validate, write down, survive a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from strokelib import repro
from strokelib.errors import ParameterError
from strokelib.nn.precision import channels_last
from strokelib.train.averages import Average
from strokelib.train.batches import Batch, Sampler, batch_source, to_device
from strokelib.train.checkpoints import Snapshot, fill, find_checkpoint
from strokelib.train.folders import only_process
from strokelib.train.history import History
from strokelib.train.randomness import random_state
from strokelib.train.ranks import SEED_STRIDE, join
from strokelib.train.records import Record, Validate
from strokelib.train.scaling import computing, number_format, scaler_for
from strokelib.train.schedules import Schedule, constant
from strokelib.train.stopping import Patience
from strokelib.train.updates import Step, Update

__all__ = ["Sampler", "fit", "to_device"]


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
    stop: Patience | None = None,
    after_step: Callable[[nn.Module, int], None] | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 1,
    clip_norm: float | None = None,
    accumulate: int = 1,
    ema_decay: float | None = None,
    recipe_key: str = "",
    device: torch.device | str | None = None,
    amp: str = "auto",
    progress: bool = True,
) -> History:
    """Train a network in place; called again after a kill, go on from the last checkpoint to the same weights.

    On the CPU a resumed run ends with the same bytes as an uninterrupted one. A finished run is only read back.

    Started by ``torchrun``, or where ``torch.distributed`` is initialised, each process takes its share of every batch
    (its tensors are cut along their first axis), gradients and logged values are averaged, and the first process alone
    validates and writes. That equals one process up to rounding where the loss is a mean over samples; a Dice-like loss
    over a whole batch, and BatchNorm, see a share only and differ by more. Each process draws random numbers of its
    own; a sampler must give every process the same batches, and ``after_step`` runs in all of them.

    Args:
        model: The network; it ends on ``device``. In train mode its parts keep their own modes (a frozen part in eval
            mode stays there); a network that comes in eval mode is trained in train mode and ends in eval mode.
        batches: A sampler whose position can be saved, or a list of batches that is gone through again and again.
        step: ``step(model, batch, index)`` returns the loss, or a dictionary of scalars with ``loss`` among them. What
            it draws from the global random generators is reproduced on resumption.
        steps: Number of optimiser steps.
        optimizer: Over the network's parameters; its initial learning rates are scaled by ``schedule``.
        out: Folder of the run: ``history.csv`` and ``checkpoints/``, and ``cases.csv`` where cases are told apart.
        seed: Seeds Python, numpy and torch at the start.
        schedule: Step index to a factor on the learning rate; constant by default.
        validate: Called in eval mode without gradients; returns scalars by name. A mapping of case ids to numbers in
            place of a scalar goes into ``cases.csv``, its mean over the cases that are not NaN into the history under
            the name, and the number of those that are under ``<name>_missing``.
        validate_every: Steps between validations (and one at the end); a tenth of the run by default.
        best: Name of a validation scalar: the network ends with the weights at its (first) maximum, not the last.
        stop: Rule by which the training ends before ``steps``; the notes say where and why.
        after_step: ``after_step(model, index)`` runs after each optimiser step, e.g. to update a teacher.
        checkpoint_every: Steps between checkpoints; a tenth of the run by default.
        log_every: Steps between training rows in the history.
        clip_norm: Largest norm of the gradient, or None.
        accumulate: Batches a step: their losses are averaged, and so are the logged values.
        ema_decay: Decay of a moving average of the weights (:class:`strokelib.train.Average`), or None. With it the
            validation sees the averaged network, ``best`` keeps it, and the network ends with it.
        recipe_key: Names the recipe in the checkpoints; another recipe's checkpoint is refused.
        device: Default :func:`strokelib.repro.device`.
        amp: ``auto`` (bfloat16 where the hardware is fast at it), ``bf16``, ``float32``, or on CUDA ``float16`` with a
            scaled loss (a step whose gradients overflow leaves the weights alone); the notes say which.
        progress: Show a progress bar on a terminal; elsewhere nothing is printed.

    Raises:
        PipelineError: Another process is training in this folder, or it cannot be written, or another process of this
            training ended.
        CheckpointError: The folder holds another run's checkpoints, or only damaged ones, or one cannot be written; the
            last good one is kept, and the same call goes on from it.
        ParameterError: The batches cannot be resumed or shared, the loss is not finite, or an argument is impossible.
    """
    out, schedule = Path(out), schedule or constant()
    world, device = join(torch.device(device or repro.device()))
    validate_every = validate_every or max(1, steps // 10)
    checkpoint_every = checkpoint_every or max(1, steps // 10)
    if accumulate < 1 or (stop is not None and validate is None):
        found = f"accumulate={accumulate}, stop={stop}, validate={validate}"
        wanted = "accumulate of 1 or more, and validate where there is a rule to stop by"
        raise ParameterError("fit", found=found, wanted=wanted, next_step="correct the call")
    form = number_format(amp, device)
    identity = {"recipe_key": recipe_key, "seed": seed, "steps": steps, "amp": form}
    # Only what differs from the default is named, so that older checkpoints of plain runs stay valid.
    identity |= {"accumulate": accumulate} if accumulate > 1 else {}
    identity |= {"ema_decay": ema_decay} if ema_decay is not None else {}
    identity |= {"stop": vars(stop)} if stop is not None else {}
    identity |= {"processes": world.size} if world.size > 1 else {}
    with ExitStack() as stack:
        world.lead(lambda: stack.enter_context(only_process(out)))
        repro.seed_everything(seed + SEED_STRIDE * world.rank)
        channels_last(model.to(device))
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        world.copy_from_lead(chain(model.parameters(), model.buffers(), parameters))
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        came_in_eval = not model.training
        if came_in_eval:
            model.train()
        average = Average(model, ema_decay) if ema_decay is not None else None
        scaler = scaler_for(form, device)
        found = world.lead(find_checkpoint, out / "checkpoints", identity)
        if found is None:
            state = Snapshot(0, identity, notes=[f"computed in {form} on {device.type}"])
        else:
            state = fill(found, model, optimizer, world.rank)
            if average is not None:
                average.load(state.average)
            if scaler is not None:
                scaler.load_state_dict(state.scaler)
        source = batch_source(batches, state.step * accumulate)
        if state.sampler is not None:
            source.load_state_dict(state.sampler)
        context = partial(computing, form, device)
        record = Record(out, state, model, optimizer, average, validate, best, stop, context)
        stack.callback(record.close)
        stopped = world.lead(record.open)
        if found and state.step < steps and not stopped:
            state.notes.append(f"resumed at step {state.step}")
        update = Update(model, optimizer, step, device, world, context, scaler, accumulate, clip_norm)
        quiet = None if progress and world.leads else True
        bar = stack.enter_context(tqdm(total=steps, initial=state.step, disable=quiet, leave=False, desc=out.name))
        while state.step < steps and not stopped:
            done = state.step
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * schedule(done)
            values = update(source, done)
            if after_step is not None:
                after_step(model, done)
            if average is not None:
                average.update(model, done)
            state.step = done + 1
            last = state.step == steps
            if last or state.step % log_every == 0:
                world.lead(record.log, values | {"lr": optimizer.param_groups[0]["lr"]})
                bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            if validate is not None and (last or state.step % validate_every == 0):
                stopped = world.lead(record.score)
            if last or stopped or state.step % checkpoint_every == 0:
                state.sampler = source.state_dict() if source is batches else None
                state.average = average.tensors if average else {}
                state.scaler = scaler.state_dict() if scaler else None
                world.lead(record.save, world.gather(random_state()))
            bar.update()
        history = world.lead(record.finish)
        world.copy_from_lead(chain(model.parameters(), model.buffers()))
        if came_in_eval:
            model.eval()
    return history
