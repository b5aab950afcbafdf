import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

from strokelib import train
from strokelib.data.augment import Augmentation
from strokelib.data.loading import Slices, SliceSampler
from strokelib.errors import CheckpointError, ParameterError, PipelineError
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.nn.unet import UNet
from strokelib.train.history import History, Row, read_rows

STEPS = 12


def slices():
    generator = torch.Generator().manual_seed(0)
    lesions = torch.zeros(10, 16, 16, dtype=torch.uint8)
    lesions[:5, 4:9, 5:12] = 1
    images = torch.randn(10, 1, 16, 16, generator=generator) + 2 * lesions[:, None]
    return Slices(images, lesions, torch.arange(10), torch.zeros(10, dtype=torch.long))


def step(model, batch, index):
    # The draws from all three global generators show whether their states are restored.
    noise = 1e-3 * (torch.rand(()) + random.random() + np.random.rand())  # noqa: NPY002
    logits = model(nn.functional.dropout(batch.images, 0.1))
    return {"loss": dice_and_cross_entropy(logits, batch.lesions) + noise * logits.square().mean(), "noise": noise}


def run(out, *, after_step=None, steps=STEPS, seed=0, key="abc", sampler=None, **settings):
    torch.manual_seed(seed)
    model = UNet(1, 2, width=2, depth=3)
    history = train.fit(
        model,
        sampler or SliceSampler(slices(), 4, seed, 0.5, Augmentation()),
        step,
        steps=steps,
        optimizer=torch.optim.AdamW(model.parameters(), 1e-2),
        schedule=train.poly(steps),
        validate=lambda m: {"dice": float(m(slices().images).softmax(1)[:, 1].mean())},
        validate_every=4,
        checkpoint_every=3,
        clip_norm=1.0,
        best=settings.pop("best", "dice"),
        after_step=after_step,
        recipe_key=key,
        device="cpu",
        out=Path(out),
        seed=seed,
        **settings,
    )
    return model, history


def weights(model):
    return b"".join(v.numpy().tobytes() for v in train.plain_tensors(model).values())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    model, history = run(out)
    return weights(model), history, (out / "history.csv").read_bytes(), out


class StoppedError(Exception):
    """Raised by a test in the middle of a training."""


def stop_after(count):
    def after_step(model, index):
        if index + 1 == count:
            raise StoppedError

    return after_step


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_a_stopped_and_resumed_run_has_the_same_weights_and_history(whole, tmp_path, count):
    with pytest.raises(StoppedError):
        run(tmp_path, after_step=stop_after(count))
    model, history = run(tmp_path)
    assert weights(model) == whole[0]
    assert history.rows == whole[1].rows
    assert (tmp_path / "history.csv").read_bytes() == whole[2]


CHILD = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_train

def after_step(model, index):
    if index == 7:
        Path(sys.argv[2], "reached").touch()
        time.sleep(60)

test_train.run(sys.argv[2], after_step=after_step)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system knows no SIGKILL")
def test_a_process_killed_while_training_is_resumed_to_the_same_bytes(whole, tmp_path):
    command = [sys.executable, "-c", CHILD, os.path.dirname(__file__), os.fspath(tmp_path)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while not (tmp_path / "reached").exists():
        assert child.poll() is None, child.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(PipelineError, match="another process is training in it"):
        run(tmp_path)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stderr.close()
    model, history = run(tmp_path)
    assert "resumed at step 6" in history.notes
    assert weights(model) == whole[0]
    assert (tmp_path / "history.csv").read_bytes() == whole[2]


def test_a_finished_run_is_read_back_without_a_step(whole):
    model, history = run(whole[3], after_step=stop_after(1))
    assert weights(model) == whole[0]
    assert history.rows == whole[1].rows


def test_the_last_two_checkpoints_are_kept(whole):
    names = sorted(p.name for p in (whole[3] / "checkpoints").iterdir())
    assert names == [f"step_{s:08d}.{kind}" for s in (9, 12) for kind in ("json", "safetensors")]


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("how", ["flip a bit", "cut short", "empty", "remove"])
def test_a_damaged_checkpoint_is_passed_over_aloud(whole, tmp_path, suffix, how):
    with pytest.raises(StoppedError):
        run(tmp_path, after_step=stop_after(8))
    path = tmp_path / "checkpoints" / f"step_00000006.{suffix}"
    if how == "flip a bit":
        damage(path)
    elif how == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100] if how == "cut short" else b"")
    if (suffix, how) == ("json", "remove"):  # this checkpoint does not exist any more, it is not damaged
        model, history = run(tmp_path)
    else:
        with pytest.warns(UserWarning, match="step_00000006 is damaged.*went back to step_00000003"):
            model, history = run(tmp_path)
        assert any("went back to step_00000003" in note for note in history.notes)
    assert weights(model) == whole[0]


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    with pytest.raises(StoppedError):
        run(tmp_path, after_step=stop_after(8))
    for path in (tmp_path / "checkpoints").glob("*.safetensors"):
        damage(path)
    with pytest.raises(CheckpointError, match="delete them and start again"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("change", "name"), [({"key": "other"}, "recipe_key"), ({"seed": 1}, "seed"), ({"steps": 20}, "steps")]
)
def test_another_runs_checkpoint_is_refused(whole, change, name):
    with pytest.raises(CheckpointError, match=rf"another run's \({name} differ"):
        run(whole[3], **change)


def test_a_lock_left_by_a_dead_process_does_not_block(whole, tmp_path):
    (tmp_path / ".lock").touch()
    assert weights(run(tmp_path)[0]) == whole[0]


def test_a_run_that_is_under_way_is_refused(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(PipelineError, match="one process a run"):
        run(tmp_path)


def test_a_list_of_batches_is_gone_through_in_turn_also_after_a_stop(tmp_path):
    sampler = SliceSampler(slices(), 4, 0, 0.5)
    batches = [next(sampler) for _ in range(5)]
    expected = weights(run(tmp_path / "a", sampler=batches)[0])
    with pytest.raises(StoppedError):
        run(tmp_path / "b", sampler=batches, after_step=stop_after(8))
    assert weights(run(tmp_path / "b", sampler=batches)[0]) == expected


@pytest.mark.parametrize("batches", [iter([1]), []])
def test_batches_that_cannot_resume_are_refused(tmp_path, batches):
    with pytest.raises(ParameterError, match="batches"):
        train.fit(
            nn.Linear(1, 1), batches, step, steps=1, optimizer=torch.optim.SGD([torch.zeros(1)]), out=tmp_path, seed=0
        )


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(ParameterError, match="loss at step 1"):
        train.fit(
            model,
            [torch.ones(1, 1)],
            lambda m, b, i: m(b).sum() / 0,
            steps=2,
            optimizer=optimizer,
            out=tmp_path,
            seed=0,
        )


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_spoils_a_weight(tmp_path):
    model = nn.Linear(1, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(ParameterError, match="gradient at step 1"):  # the root's slope at 0 is infinite
        train.fit(
            model,
            [torch.ones(1, 1)],
            lambda m, b, i: (m(b).sum() * 0).sqrt(),
            steps=2,
            optimizer=optimizer,
            out=tmp_path,
            seed=0,
        )
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_the_network_ends_with_the_best_weights_or_with_the_last(whole, tmp_path):
    _, history = run(whole[3])
    steps, values = history.curve("dice")
    assert history.best_step == steps[values.argmax()]
    last, plain = run(tmp_path, best=None)
    assert plain.best_step == STEPS
    same = history.best_step == STEPS
    assert (weights(last) == whole[0]) is same


def test_the_best_weights_are_those_of_the_first_maximum(tmp_path):
    model, seen = nn.Linear(1, 1), []
    scores = iter([float("nan"), 0.5, 0.7, 0.7, 0.1])

    def validate(m):
        seen.append(m.weight.item())
        return {"dice": next(scores)}

    history = train.fit(
        model,
        [torch.ones(1, 1)],
        lambda m, b, i: m(b).sum(),
        steps=5,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        validate=validate,
        validate_every=1,
        best="dice",
        out=tmp_path,
        seed=0,
    )
    assert history.best_step == 3
    assert model.weight.item() == seen[2]


def test_the_learning_rate_follows_the_schedule(whole):
    _, rates = whole[1].curve("lr", "train")
    np.testing.assert_allclose(rates, [1e-2 * (1 - s / STEPS) ** 0.9 for s in range(STEPS)])


def test_the_gradient_is_clipped(tmp_path):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    train.fit(
        model,
        [torch.full((1, 1), 100.0)],
        lambda m, b, i: m(b).sum(),
        steps=1,
        optimizer=torch.optim.SGD(model.parameters(), 1.0),
        clip_norm=0.5,
        out=tmp_path,
        seed=0,
    )
    assert model.weight.item() == pytest.approx(-0.5, rel=1e-4)


def test_a_part_in_eval_mode_stays_there_and_validation_runs_in_eval_mode(tmp_path):
    model = nn.Sequential(nn.BatchNorm1d(1), nn.BatchNorm1d(1), nn.Linear(1, 1))
    model[0].eval()
    seen = []

    def note(m, batch=None, index=None):
        seen.append([part.training for part in m])
        return m(torch.randn(4, 1)).sum() if batch is not None else {"x": 0.0}

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train.fit(
        model,
        [torch.ones(4, 1)],
        note,
        steps=2,
        optimizer=optimizer,
        validate=note,
        validate_every=1,
        out=tmp_path,
        seed=0,
    )
    assert seen == [[False, True, True], [False] * 3] * 2


def test_the_history_names_the_number_format_and_gives_a_table(whole):
    assert "computed in" in whole[1].notes[0]
    frame = whole[1].frame()
    assert list(frame.columns) == ["step", "split", "name", "value"]
    assert set(frame["name"]) == {"loss", "noise", "gradient_norm", "lr", "dice"}
    assert frame.query("name == 'dice'")["step"].tolist() == [4, 8, 12]
    with pytest.raises(ParameterError, match="val/dice"):
        whole[1].curve("accuracy")


def test_an_unfinished_line_of_the_history_does_not_count(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("step,split,name,value\n1,train,loss,0.5\n2,train,loss,0.2")
    assert read_rows(path) == [Row(1, "train", "loss", 0.5)]


def curve(values):
    return History(tuple(Row(i + 1, "val", "dice", v) for i, v in enumerate(values)), len(values), len(values))


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], False),
        ([0.1, 0.2, 0.3, 0.30, 0.31, 0.30, 0.31, 0.30], True),
        ([0.1, 0.2, 0.3, 0.35, 0.33, 0.30, 0.28, 0.25], True),
        ([0.3, 0.3, 0.3], False),
    ],
)
def test_a_validation_curve_is_flat_when_its_second_half_does_not_rise(values, flat):
    assert curve(values).flattened("dice") is flat


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (train.constant(), [1, 1, 1, 1, 1]),
        (train.poly(4, 1.0), [1, 0.75, 0.5, 0.25, 0]),
        (train.cosine(4), [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0]),
        (train.cosine(4, warmup=2, final=0.2), [0.5, 1, 1, 0.6, 0.2]),
        (train.step_decay((1, 3), 0.2), [1, 0.2, 0.2, 0.04, 0.04]),
    ],
)
def test_schedules_by_hand(schedule, expected):
    assert [schedule(s) for s in range(5)] == pytest.approx(expected)


def test_weights_go_to_a_file_and_back_and_a_damaged_file_is_refused(tmp_path):
    model, other = UNet(1, 2, width=2, depth=2), UNet(1, 2, width=2, depth=2)
    path = tmp_path / "model.safetensors"
    train.save_tensors(train.plain_tensors(model), path)
    train.load_weights(other, path)
    assert weights(model) == weights(other)
    with pytest.raises(CheckpointError, match="weights of this network"):
        train.load_weights(UNet(1, 2, width=3, depth=2), path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        train.load_weights(model, path)


def test_a_checkpoint_holds_no_path_and_no_code(whole):
    text = (whole[3] / "checkpoints" / f"step_{STEPS:08d}.json").read_text()
    assert os.fspath(whole[3]) not in text
    assert json.loads(text)["state"]["identity"]["recipe_key"] == "abc"
