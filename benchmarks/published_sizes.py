"""Trains networks at their published size for some steps, killed on the way and resumed.

Everything is as the ``paper`` recipe has it but the number of steps, of validations (two) and of slices to validate on,
and what the machine has no room for (``published_trainings.py``), which is named below the table. ``--published`` takes
that as published, too, for a GPU.

The scans are embedded ones of the paper's cohort on the published grid, two to train on and one to validate on.

Three processes follow each other: one trains without a break; one is ended by SIGKILL in the step after its first
checkpoint, between forward and backward pass; one resumes it. What the last checkpoints of the first and the last
process hold is compared with the histories. On the CPU the bytes have to be the same. On a GPU each group may differ by
1 % in its Euclidean norm, and a number of the history by 1 %; this tolerance is assumed, not measured. Only ADN's
dropout draws from the global random generators; ``tests/test_train_kills.py`` has more of that.

Seconds a step are the median over the steps that no checkpoint interrupts, memory is that of the first process.

    python benchmarks/published_sizes.py [--what chain|synthesis|segmentation|T|ADN|... ...] [--steps 2] [--width 64]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published_trainings import TRAININGS
from safetensors.torch import load_file
from torch import Tensor, nn

from strokelib import repro, settings
from strokelib.data.phantom.cohorts import CaseFiles
from strokelib.nn.precision import resolve_amp
from strokelib.recipe import Recipe
from strokelib.train.history import Row, read_rows

SCANS, SEED = {"train": 2, "val": 1}, 0
GPU_TOLERANCE = 0.01
GROUPS = {"weights": "model.", "optimiser": "optimizer.", "best weights": "best.", "random generators": "rng."}
HELD = "held"


@dataclass(frozen=True)
class Job:
    """What a training process is told.

    Args:
        what: Key of ``TRAININGS``.
        steps: Before the first checkpoint, and again after it.
        folder: Of the scans.
        train: Scans to train on, by name.
        val: Scans to validate on.
        out: Folder of the run.
        changes: Recipe values that are not the published ones, beside those of :func:`recipe_of`.
        hold: Wait to be killed in the step after the first checkpoint.
    """

    what: str
    steps: int
    folder: str
    train: Sequence[str]
    val: Sequence[str]
    out: str
    changes: Mapping[str, Any]
    hold: bool = False


@dataclass(frozen=True)
class State:
    """Where a training ended: the tensors and plain values of its last checkpoint, and its history."""

    tensors: dict[str, Tensor]
    plain: dict[str, Any]
    rows: list[Row]


def recipe_of(what: str, steps: int, changes: Mapping[str, Any]) -> Recipe:
    """The published recipe for ``steps`` steps before and after the first checkpoint."""
    chosen = TRAININGS[what]
    quick = {"steps": 2 * steps, "validations": 2, **chosen.val}
    return dataclasses.replace(chosen.recipe.at("paper"), **chosen.row, **quick, **changes)


def checkpoint(out: Path, step: int) -> Path:
    """The JSON file of a checkpoint."""
    return out / "checkpoints" / f"step_{step:08d}.json"


def peak_bytes(device: torch.device) -> int:
    """Most memory that this process has held: on a GPU that of torch's tensors there, else the resident one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def seconds_a_step(starts: Sequence[float], first: int, steps: int) -> float:
    """Median time from one forward pass to the next, without the gap in which the first checkpoint is written.

    Args:
        starts: When each step's forward pass began.
        first: Number of the process' first step, from 0.
        steps: Number of steps before the first checkpoint.
    """
    gaps = [gap for number, gap in enumerate(np.diff(starts), first + 1) if number != steps]
    return float(np.median(gaps)) if gaps else float("nan")


def train_here(job: Job) -> dict[str, Any]:
    """Train in this process, or go on with what a killed one left; what was measured comes back."""
    chosen, recipe = TRAININGS[job.what], recipe_of(job.what, job.steps, job.changes)
    out, device = Path(job.out), repro.device()
    train, val = (chosen.inputs(CaseFiles(Path(job.folder), ids)) for ids in (job.train, job.val))
    repro.seed_everything(SEED)
    model, starts = chosen.build(recipe), []
    resumed = checkpoint(out, job.steps).exists()

    def note(network: nn.Module, inputs: tuple) -> None:
        if network.training:
            starts.append(time.perf_counter())

    def hold(network: nn.Module, inputs: tuple, result: Any) -> None:
        if network.training and checkpoint(out, job.steps).exists():
            print(HELD, flush=True)
            sys.stdin.read()  # ends where the parent is gone
            raise SystemExit("nobody killed this process")

    chosen.called(model).register_forward_pre_hook(note)
    if job.hold:
        chosen.called(model).register_forward_hook(hold)
    history = chosen.fit(model, recipe, train, val, seed=SEED, out=out)
    return {
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "batch": f"{recipe.batch} of {' x '.join(map(str, chosen.shown(train[0], recipe)))}",
        "computed": f"{resolve_amp('auto', device)} on {device.type}, {torch.get_num_threads()} thread(s)",
        "seconds": seconds_a_step(starts, job.steps if resumed else 0, job.steps),
        "peak_bytes": peak_bytes(device),
        "lr": history.curve("lr", "train")[1].tolist(),
        "notes": history.notes,
    }


def process(job: Job) -> tuple[int, dict[str, Any]]:
    """Run a job in a process of its own; its exit status, and what it measured unless it was killed."""
    command = [sys.executable, os.fspath(Path(__file__).resolve()), "--job", json.dumps(dataclasses.asdict(job))]
    last = ""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            last = line.strip()
            if last == HELD:
                child.kill()
    return child.returncode, json.loads(last) if child.returncode == 0 else {}


def state_of(out: Path, step: int) -> State:
    """What the checkpoint of a step and the history hold."""
    path = checkpoint(out, step)
    plain = json.loads(path.read_text("utf-8"))["state"]
    return State(load_file(path.with_suffix(".safetensors")), plain, read_rows(out / "history.csv"))


def _bytes(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    return tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> bool:
    """Whether the names are the same and the tensors too: to the byte at tolerance 0, else in their common norm."""
    if one.keys() != other.keys():
        return False
    if not tolerance:
        return all(_bytes(value) == _bytes(other[name]) for name, value in one.items())
    apart = sum(float((value.double() - other[name].double()).square().sum()) for name, value in one.items())
    return apart <= tolerance**2 * sum(float(value.double().square().sum()) for value in one.values())


def same_rows(one: list[Row], other: list[Row], tolerance: float) -> bool:
    """Whether two histories hold the same rows, their values within a relative tolerance."""
    if [row[:3] for row in one] != [row[:3] for row in other]:
        return False
    values, others = (np.array([row.value for row in rows]) for rows in (one, other))
    return bool(np.allclose(values, others, rtol=tolerance, atol=0, equal_nan=True))


def compared(one: State, other: State, tolerance: float = 0.0) -> dict[str, bool]:
    """Whether two trainings ended in the same place, part by part; random generators and position always exactly."""
    found = {}
    for name, prefix in GROUPS.items():
        parts = [{k: v for k, v in state.tensors.items() if k.startswith(prefix)} for state in (one, other)]
        found[name] = same_tensors(*parts, 0.0 if prefix == "rng." else tolerance)
    kept = ("step", "identity", "sampler", "random", "optimizer")
    found["random generators"] &= one.plain["random"] == other.plain["random"]
    found["position and learning rate"] = all(one.plain[key] == other.plain[key] for key in kept)
    found["history"] = same_rows(one.rows, other.rows, tolerance)
    return found


def killed_and_resumed(job: Job) -> None:
    """Train in a process that is killed in the step after its first checkpoint, then go on in another one."""
    status, _ = process(dataclasses.replace(job, hold=True))
    assert status == -signal.SIGKILL, f"the training to be killed ended with status {status}"
    left = sorted(path.name for path in (Path(job.out) / "checkpoints").glob("step_*.json"))
    assert left == [checkpoint(Path(), job.steps).name], f"the killed training left {left}"
    status, found = process(job)
    assert status == 0, f"the resumed training ended with status {status}"
    assert f"resumed at step {job.steps}" in found["notes"], found["notes"]


def outcome(whole: Job, broken: Job) -> dict[str, Any]:
    """What was the same after two trainings, within which tolerance, and the size of a checkpoint."""
    last = checkpoint(Path(whole.out), 2 * whole.steps)
    size = sum(path.stat().st_size for path in (last, last.with_suffix(".safetensors")))
    tolerance = 0.0 if repro.device().type == "cpu" else GPU_TOLERANCE
    same = compared(*(state_of(Path(job.out), 2 * job.steps) for job in (whole, broken)), tolerance)
    return {"checkpoint_bytes": size, "tolerance": tolerance, "same": same}


def unlike(what: str, changes: Mapping[str, Any]) -> str:
    """A sentence of values that are not the published ones, which stand in brackets; empty for none."""
    published = TRAININGS[what].recipe.at("paper")
    said = ", ".join(f"{name} {value} ({getattr(published, name)})" for name, value in changes.items())
    return f" Not as published (in brackets): {said}." if said else ""


def report(what: str, steps: int, found: dict[str, Any], changes: Mapping[str, Any]) -> str:
    """The tables, in Markdown; ``found`` is what :func:`train_here` and :func:`outcome` return."""
    head = "| training | parameters, M | batch | steps | s a step | peak memory, GB | a checkpoint, GB |"
    memory, size = found["peak_bytes"] / 1e9, found["checkpoint_bytes"] / 1e9
    line = f"{found['parameters'] / 1e6:.2f} | {found['batch']} | {steps} + {steps} | {found['seconds']:.1f}"
    rates = ", ".join(f"{rate:g}" for rate in found["lr"])
    said = "same bytes" if not found["tolerance"] else f"within {found['tolerance']:.0%}"
    rows = [f"| {name} | {value} |" for name, value in found["same"].items()]
    computed = f"In {found['computed']}. Learning rates: {rates}. Killed in step {steps + 1}, resumed at step {steps}."
    return "\n".join(
        [
            head,
            "| --- " * 7 + "|",
            f"| {what} | {line} | {memory:.2f} | {size:.2f} |",
            "",
            computed + unlike(what, changes),
            "",
            f"| killed and resumed, against untouched | {said} |",
            "| --- " * 2 + "|",
            *rows,
        ]
    )


def measure(what: str, steps: int, changes: Mapping[str, Any]) -> bool:
    """Measure one training and print; whether everything was the same."""
    chosen = TRAININGS[what]
    with tempfile.TemporaryDirectory() as folder:
        where = dataclasses.replace(settings.resolve("paper", chosen.cohort), data=None, runs=Path(folder))
        train, val = chosen.load(where, grid="published", **SCANS)
        job = Job(what, steps, os.fspath(train.folder), train.ids, val.ids, folder, changes)
        whole, broken = (dataclasses.replace(job, out=f"{folder}/{name}") for name in ("whole", "broken"))
        status, found = process(whole)
        assert status == 0, f"the untouched training ended with status {status}"
        killed_and_resumed(broken)
        found |= outcome(whole, broken)
    print(report(what, steps, found, changes), end="\n\n", flush=True)
    return all(found["same"].values())


def main(names: Sequence[str], steps: int, width: int | None, published: bool) -> int:
    """Measure some trainings; the exit status is 0 where everything was the same."""
    given = {} if width is None else {"width": width}
    same = [measure(what, steps, ({} if published else TRAININGS[what].fits) | given) for what in names]
    return int(not all(same))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=TRAININGS, nargs="+", default=["chain"])
    parser.add_argument("--steps", type=int, default=2, help="before the first checkpoint, and again after it")
    parser.add_argument("--width", type=int, help="another width than the published one, for a quick look")
    parser.add_argument("--published", action="store_true", help="batch and pixels as published, whatever they need")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job is not None:
        print(json.dumps(train_here(Job(**json.loads(given.job)))), flush=True)
        sys.exit()
    sys.exit(main(given.what, given.steps, given.width, given.published))
