"""A full disk, a read-only folder: a clear error, the last good checkpoint kept, and the same bytes afterwards."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from strokelib import train
from strokelib.errors import CheckpointError, PipelineError
from strokelib.train import history

STEPS = 9


class StoppedError(Exception):
    """Raised by a test in the middle of a training."""


def run(out, stop_at=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 200), nn.Tanh(), nn.Linear(200, 1))
    data = [torch.randn(4, 3) for _ in range(5)]

    def step(network, batch, index):
        if index == stop_at:
            raise StoppedError
        return network(nn.functional.dropout(batch, 0.1)).square().mean()

    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    how = {"steps": STEPS, "checkpoint_every": 2, "validate_every": 3, "device": "cpu", "amp": "float32", "seed": 0}
    how["validate"] = lambda network: {"level": {"a": float(network(data[0]).mean()), "b": float("nan")}}
    return model, train.fit(model, data, step, optimizer=optimizer, out=out, progress=False, **how)


def content(out):
    return {p.name: p.read_bytes() for p in out.glob("*.csv")} | {
        p.name: p.read_bytes() for p in out.glob("checkpoints/*.safetensors")
    }


def temporary(out):
    return [p.name for p in out.rglob("*") if ".tmp" in p.name]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    run(out)
    return content(out)


def whole_checkpoints(out):
    names = {p.name for p in (out / "checkpoints").glob("*")}
    return sorted(n.removesuffix(".json") for n in names if n.endswith(".json")), len(names)


CODES = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("call", range(1, 13))
def test_a_disk_that_refuses_at_any_moment_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, whole, code, call):
    out, calls = tmp_path / "case-run", []
    real = os.fsync

    def fsync(number):
        calls.append(number)
        if len(calls) >= call:
            raise OSError(code, os.strerror(code))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(
        (CheckpointError, PipelineError), match=rf"of run case-run: found {os.strerror(code)};"
    ) as caught:
        run(out)
    monkeypatch.undo()
    assert len(calls) == call
    assert "free some space" in str(caught.value) if code in CODES[:2] else "make it writable" in str(caught.value)
    assert not temporary(out)
    if (out / "checkpoints").is_dir():
        kept, files = whole_checkpoints(out)
        assert files == 2 * len(kept)
        assert f"goes on from {kept[-1]}" in str(caught.value) if kept else "starts anew" in str(caught.value)
    run(out)
    assert content(out) == whole


def test_every_place_that_waits_for_the_disk_was_refused_once(tmp_path, monkeypatch):
    calls, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append(number), real(number)))
    run(tmp_path)
    assert len(calls) >= 12


@pytest.mark.parametrize("what", ["history", "cases"])
def test_lines_that_a_full_disk_would_not_take_give_a_clear_error(tmp_path, monkeypatch, whole, what):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, text):
            self.file.write(text[: len(text) // 2])

        def flush(self):
            self.file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        close = flush

    def full(path, *arguments, **options):
        file = open(path, *arguments, **options)  # noqa: SIM115 (closed by the history)
        return Full(file) if path.name == f"{what}.csv" else file

    monkeypatch.setattr(history, "open", full, raising=False)
    with pytest.raises(PipelineError, match=r"history of run .*: found No space left on device"):
        run(tmp_path)
    monkeypatch.undo()
    run(tmp_path)
    assert content(tmp_path) == whole


@pytest.fixture
def open_folder():
    """A folder that nobody can reach: pytest's own ones are shut to other users."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


CHILD = """
import os, resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_train_disk as test
from strokelib.errors import StrokelibError

kind, out = sys.argv[2], Path("run")
os.chdir(sys.argv[3])
try:
    test.run(out, stop_at=5)
except test.StoppedError:
    pass
if kind == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
else:
    if kind == "checkpoints":
        for path in (Path("."), out, *out.glob("*.csv"), out / ".lock"):
            path.chmod(0o777)
        (out / "checkpoints").chmod(0o555)
    else:
        Path(".").chmod(0o777)
        for path in (out / "checkpoints", out):
            path.chmod(0o555)
    if os.getuid() == 0:  # nothing is read-only to root: go on as nobody
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
try:
    test.run(out)
except StrokelibError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits, modes and users")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("limit", ("CheckpointError checkpoint at step 6 of run run: found ", "File too large", "free some space")),
        (
            "checkpoints",
            ("CheckpointError checkpoint at step 6 of run run: found Permission denied;", "make it writable"),
        ),
        ("folder", ("PipelineError folder of run run: found Permission denied;", "make it writable")),
    ],
)
def test_a_real_refusal_of_the_system_keeps_the_last_good_checkpoint(open_folder, whole, kind, said):
    command = [sys.executable, "-B", "-c", CHILD, os.path.dirname(__file__), kind, os.fspath(open_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert all(part in done.stdout for part in (*said, "the run goes on from step_00000004")), done.stdout
    out = open_folder / "run"
    for path in (out, *out.rglob("*")):
        path.chmod(0o755)
    assert not temporary(out)
    assert whole_checkpoints(out) == (["step_00000002", "step_00000004"], 4)
    run(out)
    assert content(out) == whole


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path, whole):
    with pytest.raises(StoppedError):
        run(tmp_path, stop_at=5)
    folder = tmp_path / "checkpoints"
    left = [folder / ".step_00000006.abc.tmp.safetensors", folder / ".step_00000006.x.tmp.json"]
    left += [tmp_path / ".history.abc.tmp.csv", tmp_path / ".cases.abc.tmp.csv"]
    left += [folder / ".tmpZmCmm0"]  # safetensors names its own so
    for path in left:
        path.write_bytes(b"half")
    shutil.copy(folder / "step_00000004.safetensors", folder / "step_00000006.safetensors")  # its JSON is missing
    (tmp_path / "mine.txt").touch()
    run(tmp_path)
    assert not temporary(tmp_path)
    assert (tmp_path / "mine.txt").exists()
    assert content(tmp_path) == whole
