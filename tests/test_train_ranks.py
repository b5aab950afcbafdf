"""Two processes on the CPU: together they train what one process trains, and one of them may be killed."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from strokelib import train
from strokelib.data.streams import SeededStream
from strokelib.errors import CheckpointError, ParameterError, PipelineError
from strokelib.train.ranks import World, join

HERE = os.path.dirname(__file__)
STEPS = 20


class Stream(SeededStream):
    """Points and their targets, as a mapping with something in it that is no tensor."""

    def draw(self, first, generators):
        x = torch.stack([torch.from_numpy(g.standard_normal(5)).float() for g in generators])
        return {"x": x, "y": np.asarray(x[:, :1].numpy() ** 2), "first": first}


class Network(nn.Module):
    """Has a part that never gets a gradient."""

    def __init__(self):
        super().__init__()
        self.used = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.used(x)


def loss(model, batch, index):
    error = nn.functional.mse_loss(model(batch["x"]), torch.as_tensor(batch["y"]))
    return {"loss": error, "samples": torch.tensor(float(len(batch["x"])))}


def noisy(model, batch, index):
    """With random numbers of each process's own, and rows that BatchNorm would see apart."""
    noise = 0.1 * torch.randn_like(batch["x"]) * random.random()
    return nn.functional.mse_loss(model(batch["x"] + noise), torch.as_tensor(batch["y"]))


def run(out, *, step=loss, model=None, batch=8, **settings):
    torch.manual_seed(int(os.environ.get("RANK", 0)))  # the first process's weights count
    model = Network() if model is None else model
    at = []

    def counted(network, batch, index):
        at.append(index)
        return step(network, batch, index)

    settings = {"validate": lambda m: {"level": -abs(at[-1] - 6)}, "validate_every": 1} | settings
    how = {"checkpoint_every": 3, "clip_norm": 0.5, "accumulate": 2, "ema_decay": 0.8, "amp": "float32"} | settings
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.1)
    how |= {"steps": STEPS, "optimizer": optimizer, "device": "cpu", "seed": 0, "progress": False}
    return model, train.fit(model, Stream(batch, 0), counted, out=Path(out), **how)


def batch_norm():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))


class StoppedError(Exception):
    """Raised by a test in the middle of a training."""


def stop(model, index):
    if index == 7:
        raise StoppedError


def in_each_process(folder):
    """What ``torchrun`` starts twice: several trainings one after another."""
    rank, said = int(os.environ["RANK"]), {}
    for name, options in {"plain": {}, "early": {"stop": train.Patience("level", 3), "best": "level"}}.items():
        model, history = run(folder / name, **options)
        train.save_tensors(train.plain_tensors(model), folder / f"{name}{rank}.safetensors")
        said[name] = [history.steps, history.best_step, list(history.rows), list(history.notes)]
    own = {"step": noisy, "ema_decay": None}
    said["buffers"] = []

    def note(network, index):
        said["buffers"].append(network[1].running_mean.tolist())

    model, _ = run(folder / "noisy", model=batch_norm(), after_step=note, **own)
    train.save_tensors(train.plain_tensors(model), folder / f"noisy{rank}.safetensors")
    try:
        run(folder / "again", model=batch_norm(), after_step=stop, **own)
    except StoppedError:
        model, history = run(folder / "again", model=batch_norm(), **own)
    said["again"] = list(history.notes)
    train.save_tensors(train.plain_tensors(model), folder / f"again{rank}.safetensors")
    for name, wrong in {
        "odd": {"batch": 7},
        "unknown": {"best": "dice"},
        "broken": {"validate": lambda m: 1 / 0},
    }.items():
        try:
            run(folder / name, **wrong)
        except Exception as error:  # noqa: BLE001 (its text is compared)
            said[name] = f"{type(error).__name__}: {error}"
    (folder / f"said{rank}.json").write_text(json.dumps(said))


def environment():
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}


def script(call):
    return f"import sys; sys.path.insert(0, {HERE!r})\nfrom pathlib import Path\nimport test_train_ranks as t\n{call}\n"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    (folder / "main.py").write_text(script(f"t.in_each_process(Path({os.fspath(folder)!r}))"))
    command = [sys.executable, "-B", "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*command, os.fspath(folder / "main.py")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, [json.loads((folder / f"said{rank}.json").read_text()) for rank in (0, 1)]


def close(found, expected, tolerance=1e-6):
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        difference = (found[name] - tensor).abs().max() / tensor.abs().max().clamp_min(1e-12)
        assert difference <= tolerance, f"{name}: {difference}"


@pytest.mark.parametrize(("name", "steps"), [("plain", STEPS), ("early", 10)])
def test_two_processes_train_what_one_trains_within_rounding(two, tmp_path, name, steps):
    options = {} if name == "plain" else {"stop": train.Patience("level", 3), "best": "level"}
    model, history = run(tmp_path, **options)
    expected = train.plain_tensors(model)
    for rank in (0, 1):
        close(load_file(two[0] / f"{name}{rank}.safetensors"), expected)
        done, best, rows, notes = two[1][rank][name]
        assert (done, best) == (steps, history.best_step) == (history.steps, history.best_step)
        assert notes == list(history.notes)
        assert [row[:3] for row in rows] == [list(row[:3]) for row in history.rows]
        here = [(row[3], r.value) for row, r in zip(rows, history.rows, strict=True) if r.name != "samples"]
        np.testing.assert_allclose(*zip(*here, strict=True), rtol=1e-5)
        assert {row[3] for row in rows if row[2] == "samples"} == {4.0}  # half of the batch each
    fresh = Network()
    assert (expected["used.0.weight"] - fresh.state_dict()["used.0.weight"]).abs().max() > 0.03


def test_all_processes_end_with_the_same_bytes_and_one_of_them_writes(two):
    folder = two[0]
    for name in ("plain", "early", "noisy", "again"):
        assert (folder / f"{name}0.safetensors").read_bytes() == (folder / f"{name}1.safetensors").read_bytes()
    without = [{k: v for k, v in said.items() if k != "broken"} for said in two[1]]
    assert without[0] == without[1]
    assert len({str(mean) for mean in two[1][0]["buffers"]}) == STEPS
    for name in ("history.csv", "checkpoints/step_00000020.safetensors"):
        assert (folder / "plain" / name).stat().st_size > 0
    assert len(list((folder / "plain" / "checkpoints").iterdir())) == 4


def test_two_processes_resume_to_the_same_bytes_with_random_numbers_of_their_own(two):
    folder = two[0]
    assert (folder / "again0.safetensors").read_bytes() == (folder / "noisy0.safetensors").read_bytes()
    assert (folder / "again" / "history.csv").read_bytes() == (folder / "noisy" / "history.csv").read_bytes()
    assert "resumed at step 6" in two[1][0]["again"]


def test_an_error_of_one_process_reaches_all(two):
    for said in two[1]:
        assert "tensors with 7 samples; wanted one number of samples, a multiple of the 2 processes" in said["odd"]
        assert said["unknown"].startswith("ParameterError: best: found dice; wanted a name that validate returns")
    assert two[1][0]["broken"].startswith("ZeroDivisionError")
    assert two[1][1]["broken"].startswith("PipelineError: leading process of the training: found ZeroDivisionError")


def test_a_checkpoint_of_two_processes_is_refused_by_one(two):
    with pytest.raises(CheckpointError, match=r"\(processes differ\)"):
        run(two[0] / "plain")


def kill_one(folder):
    """The helper process, in which torch is loaded once: two ranks untouched, then one killed, then both again."""

    def start(name):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pids = []
        for rank in (0, 1):
            pids.append(os.fork())
            if pids[-1] == 0:
                code = 1
                try:
                    world = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                    os.environ.update({k: str(v) for k, v in world.items()})
                    run(folder / name, after_step=lambda m, i: time.sleep(0.02) if name == "killed" else None)
                    code = 0
                except PipelineError as error:
                    print(error, flush=True)
                    code = 3
                finally:
                    os._exit(code)
        return pids

    def wait(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    torch.set_num_threads(1)
    torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])  # loads what torch loads late, once and not in every child
    assert [wait(pid) for pid in start("whole")] == [0, 0]
    first, second = start("killed")
    path = folder / "killed" / "history.csv"
    while not path.exists() or path.read_bytes().count(b"\n") < 30:
        assert os.waitpid(second, os.WNOHANG) == (0, 0)
        time.sleep(0.005)
    os.kill(second, signal.SIGKILL)
    assert wait(second) == -signal.SIGKILL
    assert wait(first) == 3
    assert not (folder / "killed" / "checkpoints" / f"step_{STEPS:08d}.json").exists()
    assert [wait(pid) for pid in start("killed")] == [0, 0]


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="this system forks no torch")
def test_when_one_process_is_killed_the_other_ends_with_a_clear_error_and_both_resume_to_the_same_bytes(tmp_path):
    command = [sys.executable, "-B", "-c", script(f"t.kill_one(Path({os.fspath(tmp_path)!r}))")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "processes of one training: found" in done.stdout
    assert "start all of them again: they go on from the last checkpoint" in done.stdout
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    assert (killed / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    name = f"checkpoints/step_{STEPS:08d}.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_a_batch_is_cut_along_its_first_axis_wherever_its_tensors_are():
    x, y = torch.arange(12).reshape(6, 2), np.arange(6)
    batch = {"x": x, "more": (y, [x[:, 0]]), "name": "a", "rate": torch.tensor(0.5)}
    parts = [World(rank, 3).share(batch) for rank in range(3)]
    assert torch.equal(torch.cat([part["x"] for part in parts]), x)
    assert np.array_equal(np.concatenate([part["more"][0] for part in parts]), y)
    assert torch.equal(torch.cat([part["more"][1][0] for part in parts]), x[:, 0])
    assert {(part["name"], float(part["rate"])) for part in parts} == {("a", 0.5)}
    assert World().share(batch) is batch


@pytest.mark.parametrize(
    ("batch", "found"),
    [(torch.ones(5, 1), "5"), ((torch.ones(4), torch.ones(6)), "4 and 6"), (7, "no"), (torch.ones(0, 3), "0")],
)
def test_a_batch_that_cannot_be_cut_evenly_is_refused(batch, found):
    with pytest.raises(ParameterError, match=f"found tensors with {found} samples"):
        World(0, 2).share(batch)


def test_a_process_alone_joins_nobody(monkeypatch):
    device = torch.device("cpu")
    for size in (None, "1"):
        if size:
            monkeypatch.setenv("WORLD_SIZE", size)
            monkeypatch.setenv("RANK", "0")
        assert join(device) == (World(), device)
    assert not torch.distributed.is_initialized()
