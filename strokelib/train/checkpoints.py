"""Checkpoints that survive a kill: tensors as safetensors, everything else as JSON, both checked by SHA-256 when read.

A checkpoint is two files, ``step_00000150.safetensors`` and ``.json``. Each is written beside its place and renamed
onto it, the JSON file last, so that a checkpoint either exists whole or not at all. It holds what the next step
depends on: weights, optimiser, the states of Python's, numpy's and torch's random generators, the sampler's position,
and the best weights so far.
"""

from __future__ import annotations

import hashlib
import json
import random
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from strokelib.errors import CheckpointError
from strokelib.repro import atomic_path, sha256, write_text

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
    """

    step: int
    identity: dict[str, Any]
    sampler: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    best_weights: Tensors = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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


def _random_state() -> tuple[dict[str, Any], Tensors]:
    name, words, *rest = np.random.get_state()  # noqa: NPY002 (the legacy generator's state belongs to the run too)
    plain = {"python": random.getstate(), "numpy": [name, words.tolist(), *rest]}
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return plain, {"rng.torch": torch.get_rng_state()} | {f"rng.cuda.{i}": s for i, s in enumerate(cuda)}


def _restore_random_state(plain: dict[str, Any], tensors: Tensors) -> None:
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(plain["numpy"]))  # noqa: NPY002
    torch.set_rng_state(tensors["rng.torch"])
    for i in range(torch.cuda.device_count()):
        if f"rng.cuda.{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"rng.cuda.{i}"], i)


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, snapshot: Snapshot) -> None:
    """Write a checkpoint and keep the last two."""
    random_plain, tensors = _random_state()
    tensors |= {f"model.{k}": v for k, v in plain_tensors(model).items()}
    tensors |= {f"best.{k}": v for k, v in snapshot.best_weights.items()}
    state = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value.detach().to("cpu", copy=True).contiguous()
            else:
                scalars.setdefault(str(index), {})[name] = value
    path = folder / f"step_{snapshot.step:08d}.safetensors"
    save_tensors(tensors, path)
    plain = {
        "step": snapshot.step,
        "identity": snapshot.identity,
        "sampler": snapshot.sampler,
        "best": snapshot.best,
        "notes": snapshot.notes,
        "random": random_plain,
        "optimizer": {"groups": state["param_groups"], "scalars": scalars},
        "tensors_sha256": sha256(path),
    }
    write_text(path.with_suffix(".json"), json.dumps({"state": plain, "state_sha256": _digest(plain)}))
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


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: dict[str, Any]
) -> Snapshot | None:
    """Bring network, optimiser and random generators to the newest whole checkpoint.

    A damaged checkpoint is passed over with a warning, which the history keeps.

    Args:
        folder: The run's checkpoints.
        model: Filled in place.
        optimizer: Filled in place.
        identity: As it was when the checkpoint was written.

    Returns:
        What the checkpoint held, or None where the folder has none.

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
            differing = sorted(k for k in identity if plain["identity"].get(k) != identity[k])
            raise CheckpointError(
                f"checkpoint {path.stem}",
                found=f"another run's ({', '.join(differing)} differ)",
                wanted="this run's",
                next_step="give the run a folder of its own, or delete the checkpoints",
            )
        model.load_state_dict(_named(tensors, "model."))
        _fill_optimizer(optimizer, plain["optimizer"], _named(tensors, "optimizer."))
        _restore_random_state(plain["random"], tensors)
        notes = list(plain["notes"])
        for message in damaged:
            notes.append(f"{message}: went back to {path.stem}")
            warnings.warn(notes[-1], stacklevel=3)
        return Snapshot(plain["step"], identity, plain["sampler"], plain["best"], _named(tensors, "best."), notes)
    if damaged:
        raise CheckpointError(
            f"checkpoints in {folder.name}",
            found="; ".join(damaged),
            wanted="one that is whole",
            next_step="delete them and start again",
        )
    return None
