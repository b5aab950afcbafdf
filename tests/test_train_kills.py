"""Real processes, killed at random moments by SIGKILL: the run ends with the bytes of one that nobody touched."""

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

from strokelib import train
from strokelib.data.streams import SeededStream

STEPS = 60
KILLS = 6


class Stream(SeededStream):
    """Batches of noise."""

    def draw(self, first, generators):
        return torch.stack([torch.from_numpy(g.standard_normal(16)).float() for g in generators])


def step(model, batch, index):
    return model(nn.functional.dropout(batch, 0.2)).square().mean() * (1 + 0.1 * torch.rand(()) + 0.1 * random.random())


def run(out, last=10**9):
    """Train a small network with everything on that has a state; after step ``last`` wait to be killed."""

    def after_step(model, index):
        while index >= last:
            time.sleep(0.01)

    def validate(model):
        torch.rand(3)  # the generators move on here too
        return {"level": {case: float(model(torch.full((2, 16), 0.1 * i)).mean()) for i, case in enumerate("abc")}}

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 512), nn.BatchNorm1d(512), nn.Tanh(), nn.Linear(512, 64), nn.Linear(64, 1))
    how = {"validate": validate, "validate_every": 2, "best": "level", "stop": train.Patience("level", 10**6)}
    how |= {"ema_decay": 0.9, "accumulate": 2, "clip_norm": 1.0, "schedule": train.poly(STEPS), "amp": "float32"}
    how |= {"checkpoint_every": 1, "after_step": after_step, "device": "cpu", "progress": False, "seed": 0}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    history = train.fit(model, Stream(4, 0), step, steps=STEPS, optimizer=optimizer, out=Path(out), **how)
    train.save_tensors(train.plain_tensors(model), Path(out) / "final.safetensors")
    return history


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def forked(work):
    """Do something in a process of its own, which is ended by it; torch is loaded once, in the parent."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except Exception:  # noqa: BLE001 (it is printed, and the process ends)
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def half_written(folder):
    return any(".tmp" in name for name in os.listdir(folder)) if folder.is_dir() else False


def kill_again_and_again(folder, seed):
    """The helper process: an untouched run, then one that is killed at random; prints what it met."""
    torch.set_num_threads(1)
    torch.optim.AdamW([nn.Parameter(torch.ones(1))])  # loads what torch loads late, once and not in every child
    whole, out, chance = folder / "whole", folder / "killed", random.Random(seed)
    assert wait(forked(lambda: run(whole))) == 0
    lines_a_step = (lines(whole / "history.csv") - 1) / STEPS
    writing = 0
    for number in range(KILLS):
        # A moment in the steps to come; every other time the first checkpoint that is being written after it.
        start = int((lines(out / "history.csv") - 1) / lines_a_step)
        goal = max(0, start) + chance.randint(1, 6)
        pid = forked(lambda goal=goal: run(out, last=goal + 3))
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            assert ended == 0, f"ended by itself with {status} at {number}"
            seen = (lines(out / "history.csv") - 1) / lines_a_step
            half = half_written(out / "checkpoints")
            if seen >= goal + 2 or (seen >= goal and (number % 2 == 0 or half)):
                break
            time.sleep(0.0005)
        os.kill(pid, signal.SIGKILL)
        assert wait(pid) == -signal.SIGKILL
        writing += half_written(out / "checkpoints")
    print(f"{KILLS} kills, {writing} while a checkpoint was written, at line {lines(out / 'history.csv')}")
    assert not (out / "final.safetensors").exists()
    assert wait(forked(lambda: run(out))) == 0


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="this system forks no torch")
def test_killed_at_random_moments_the_run_ends_with_the_same_bytes(tmp_path):
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); from pathlib import Path; "
    code += f"import test_train_kills as t; t.kill_again_and_again(Path({os.fspath(tmp_path)!r}), seed=0)"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{KILLS} kills" in done.stdout
    whole, out = tmp_path / "whole", tmp_path / "killed"
    for name in ("final.safetensors", "history.csv", "cases.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    names = sorted(p.name for p in (out / "checkpoints").iterdir())
    assert names == [f"step_{s:08d}.{kind}" for s in (STEPS - 1, STEPS) for kind in ("json", "safetensors")]
    for name in names:
        if name.endswith("safetensors"):
            assert (out / "checkpoints" / name).read_bytes() == (whole / "checkpoints" / name).read_bytes()
    assert not [p for p in out.rglob("*") if ".tmp" in p.name]
