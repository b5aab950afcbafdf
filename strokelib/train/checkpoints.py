"""Checkpoints that survive a kill: tensors as safetensors, everything else as JSON, both checked by SHA-256 when read.

A checkpoint is two files, ``step_00000150.safetensors`` and ``.json``. Each is written beside its place and renamed
onto it, the JSON file last, so that a checkpoint either exists whole or not at all. It holds what the next step
depends on: weights, optimiser, gradient scaler, moving average, the states of Python's, numpy's and torch's random
generators in every process, the sampler's position, and the best weights so far.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from strokelib.errors import CheckpointError
from strokelib.repro import atomic_path, sha256, write_text
from strokelib.train.randomness import RandomState, restore_random_state

KEPT = 2
Tensors = dict[str, Tensor]


@dataclass
class Snapshot:
    """What a checkpoint holds beside the weights and the optimiser.

    Args:
        step: Number of steps done.
        identity: Plain values that name the run (recipe, seed, steps, ...); another run's checkpoint is refused.
        sampler: State of the sampler, or None where the batches depend on the step's number alone.
        best: ``{"step": ..., "value": ...}`` of the best validation so far, or None.
        best_weights: The network's tensors at that step.
        notes: What happened on the way, for the history.
        average: The moving average's tensors, or none where there is none.
        scaler: The gradient scaler's state, or None where there is none.
    """

    step: int
    identity: dict[str, Any]
    sampler: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    best_weights: Tensors = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    average: Tensors = field(default_factory=dict)
    scaler: dict[str, Any] | None = None


Found = tuple[dict[str, Any], Tensors, list[str]]


def plain_tensors(model: nn.Module) -> Tensors:
    """The network's weights and buffers as independent, contiguous tensors on the CPU."""
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in model.state_dict().items()}


def save_tensors(tensors: Tensors, path: Path) -> None:
    """Write tensors as one safetensors file, atomically."""
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a network with the weights of a safetensors file.

    Raises:
        CheckpointError: The file is missing, damaged or belongs to another network.
    """
    try:
        model.load_state_dict(load_file(path))
    except Exception as error:
        raise CheckpointError(
            path.name,
            found=str(error).splitlines()[0],
            wanted="weights of this network",
            next_step="delete the file and train again",
        ) from error


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    snapshot: Snapshot,
    random_states: Sequence[RandomState],
) -> None:
    """Write a checkpoint and keep the last two; where it cannot be written whole nothing of it stays.

    Args:
        folder: The run's checkpoints.
        model: The network, with its own weights and not the averaged ones.
        optimizer: Of the network.
        snapshot: The rest.
        random_states: Of each process, by rank.
    """
    (random_plain, tensors), *others = random_states
    tensors = dict(tensors)
    for rank, (_, states) in enumerate(others, 1):
        tensors |= {f"rank{rank}.{k}": v for k, v in states.items()}
    tensors |= {f"model.{k}": v for k, v in plain_tensors(model).items()}
    tensors |= {f"best.{k}": v for k, v in snapshot.best_weights.items()}
    tensors |= {f"average.{k}": v.to("cpu", copy=True).contiguous() for k, v in snapshot.average.items()}
    state = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value.detach().to("cpu", copy=True).contiguous()
            else:
                scalars.setdefault(str(index), {})[name] = value
    path = folder / f"step_{snapshot.step:08d}.safetensors"
    plain = {
        "step": snapshot.step,
        "identity": snapshot.identity,
        "sampler": snapshot.sampler,
        "scaler": snapshot.scaler,
        "best": snapshot.best,
        "notes": snapshot.notes,
        "random": random_plain,
        "random_of_ranks": [plain for plain, _ in others],
        "optimizer": {"groups": state["param_groups"], "scalars": scalars},
    }
    try:
        save_tensors(tensors, path)
        plain["tensors_sha256"] = sha256(path)
        write_text(path.with_suffix(".json"), json.dumps({"state": plain, "state_sha256": _digest(plain)}))
    except BaseException:
        if not path.with_suffix(".json").exists():
            path.unlink(missing_ok=True)
        raise
    kept = sorted(folder.glob("step_*.json"))[-KEPT:]
    for old in set(folder.glob("step_*")) - {*kept, *(k.with_suffix(".safetensors") for k in kept)}:
        old.unlink()


def _read(json_path: Path) -> tuple[dict[str, Any], Tensors]:
    record = json.loads(json_path.read_text("utf-8"))
    state, tensors_path = record["state"], json_path.with_suffix(".safetensors")
    if _digest(state) != record["state_sha256"]:
        raise ValueError("the JSON file does not match its own SHA-256")
    if sha256(tensors_path) != state["tensors_sha256"]:
        raise ValueError("the tensors do not match their SHA-256")
    return state, load_file(tensors_path)


def _named(tensors: Tensors, prefix: str) -> Tensors:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _fill_optimizer(optimizer: torch.optim.Optimizer, plain: dict[str, Any], tensors: Tensors) -> None:
    state: dict[int, dict[str, Any]] = {int(i): dict(values) for i, values in plain["scalars"].items()}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": plain["groups"]})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            # The memory layout decides which vector kernel runs, and so the last bit.
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def find_checkpoint(folder: Path, identity: dict[str, Any]) -> Found | None:
    """Read the newest whole checkpoint; a damaged one is passed over with a warning, which the history keeps.

    Args:
        folder: The run's checkpoints.
        identity: As it was when the checkpoint was written.

    Returns:
        Its plain values, its tensors and what was passed over, or None where the folder has none.

    Raises:
        CheckpointError: All checkpoints are damaged, or they belong to another run.
    """
    damaged: list[str] = []
    for path in sorted(folder.glob("step_*.json"), reverse=True):
        try:
            plain, tensors = _read(path)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            damaged.append(f"{path.stem} is damaged ({str(error).splitlines()[0]})")
            continue
        if plain["identity"] != identity:
            differing = sorted(k for k in plain["identity"] | identity if plain["identity"].get(k) != identity.get(k))
            raise CheckpointError(
                f"checkpoint {path.stem}",
                found=f"another run's ({', '.join(differing)} differ)",
                wanted="this run's",
                next_step="give the run a folder of its own, or delete the checkpoints",
            )
        messages = [f"{message}: went back to {path.stem}" for message in damaged]
        for message in messages:
            warnings.warn(message, stacklevel=4)
        return plain, tensors, messages
    if damaged:
        raise CheckpointError(
            f"checkpoints in {folder.name}",
            found="; ".join(damaged),
            wanted="one that is whole",
            next_step="delete them and start again",
        )
    return None


def fill(found: Found, model: nn.Module, optimizer: torch.optim.Optimizer, rank: int = 0) -> Snapshot:
    """Bring network, optimiser and random generators to a checkpoint.

    Args:
        found: What :func:`find_checkpoint` read.
        model: Filled in place.
        optimizer: Filled in place.
        rank: Whose random generators' states are taken.

    Returns:
        The rest of what the checkpoint holds; the average and the scaler are filled by the caller.
    """
    plain, tensors, messages = found
    model.load_state_dict(_named(tensors, "model."))
    _fill_optimizer(optimizer, plain["optimizer"], _named(tensors, "optimizer."))
    if rank:
        restore_random_state(plain["random_of_ranks"][rank - 1], _named(tensors, f"rank{rank}."))
    else:
        restore_random_state(plain["random"], tensors)
    return Snapshot(
        plain["step"],
        plain["identity"],
        plain["sampler"],
        plain["best"],
        _named(tensors, "best."),
        [*plain["notes"], *messages],
        _named(tensors, "average."),
        plain.get("scaler"),
    )
