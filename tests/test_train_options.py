"""Accumulation, averaged weights, early stopping, values of single cases and float16 of the training loop."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from strokelib import train
from strokelib.errors import CheckpointError, ParameterError
from strokelib.train import scaling
from strokelib.train.history import CaseRow, Row, read_cases

STEPS = 12


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 1))


def batches(count=5, size=8):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 3, generator=generator), torch.randn(size, 1, generator=generator)) for _ in range(count)
    ]


def step(model, batch, index):
    return nn.functional.mse_loss(model(nn.functional.dropout(batch[0], 0.1)), batch[1])


def run(out, model=None, data=None, *, steps=STEPS, loss=step, **settings):
    model = network() if model is None else model
    settings = {"optimizer": torch.optim.AdamW(model.parameters(), 1e-2), "amp": "float32"} | settings
    settings = {"checkpoint_every": 3, "device": "cpu", "seed": 0} | settings
    return model, train.fit(model, batches() if data is None else data, loss, steps=steps, out=out, **settings)


def weights(model):
    return b"".join(v.numpy().tobytes() for v in train.plain_tensors(model).values())


class StoppedError(Exception):
    """Raised by a test in the middle of a training."""


def stop_after(count):
    def after_step(model, index):
        if index + 1 == count:
            raise StoppedError

    return after_step


def resumed(out, count, **options):
    with pytest.raises(StoppedError):
        run(out, after_step=stop_after(count), **options)
    return run(out, **options)


def linear(model, batch, index):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def test_four_quarter_batches_a_step_equal_one_whole_batch(tmp_path):
    whole = batches(3, 16)
    quarters = [(x[i : i + 4], y[i : i + 4]) for x, y in whole for i in range(0, 16, 4)]
    plain = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    how = {"loss": linear, "clip_norm": 0.5, "steps": 7}
    one, expected = run(tmp_path / "one", copy.deepcopy(plain), whole, **how)
    four, history = run(tmp_path / "four", copy.deepcopy(plain), quarters, accumulate=4, **how)
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose(history.curve(name, "train")[1], expected.curve(name, "train")[1], rtol=1e-5)
    for a, b in zip(one.parameters(), four.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert weights(one) != weights(plain)


def test_the_number_of_batches_a_step_is_one_or_more(tmp_path):
    with pytest.raises(ParameterError, match="accumulate of 1 or more"):
        run(tmp_path, accumulate=0)


def levels(model):
    """A validation with cases, one of them without a value, whose numbers rise and fall with the weights."""
    with torch.no_grad():
        found = model(torch.linspace(-1, 1, 12).reshape(4, 3))[:, 0]
    return {"level": float(found.mean()), "dice": {f"case, {i}": float(v) for i, v in enumerate(found)} | {"x": np.nan}}


OPTIONS = {
    "accumulation": {"accumulate": 3},
    "average": {"ema_decay": 0.7},
    "average and best": {"ema_decay": 0.7, "validate": levels, "validate_every": 2, "best": "level"},
    "cases": {"validate": levels, "validate_every": 1},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_resumed_run_with_options_ends_with_the_same_bytes(tmp_path, name):
    model, history = run(tmp_path / "whole", **OPTIONS[name])
    for count in (2, 8):
        again, continued = resumed(tmp_path / f"stopped{count}", count, **OPTIONS[name])
        assert weights(again) == weights(model)
        assert continued.rows == history.rows
        assert list(map(repr, continued.case_rows)) == list(map(repr, history.case_rows))
    read, _ = run(tmp_path / "whole", after_step=stop_after(1), **OPTIONS[name])
    assert weights(read) == weights(model)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"accumulate": 2}, "accumulate"), ({"ema_decay": 0.5}, "ema_decay"), ({"steps": 13}, "steps")],
)
def test_a_checkpoint_of_a_run_with_other_options_is_refused_either_way(tmp_path, options, name):
    run(tmp_path / "plain")
    with pytest.raises(CheckpointError, match=rf"\({name} differ\)"):
        run(tmp_path / "plain", **options)
    run(tmp_path / "other", **options)
    with pytest.raises(CheckpointError, match=rf"\({name} differ\)"):
        run(tmp_path / "other")


def test_the_average_is_the_mean_of_the_weights_at_first_and_then_exponential(tmp_path):
    seen = []
    model, _ = run(tmp_path, ema_decay=0.75, after_step=lambda m, i: seen.append(train.plain_tensors(m)))
    name = "0.weight"
    expected = seen[0][name].double()
    for n, tensors in enumerate(seen[1:], 2):
        share = max(0.25, 1 / n)
        expected = (1 - share) * expected + share * tensors[name].double()
    torch.testing.assert_close(model.state_dict()[name], expected.float(), rtol=1e-5, atol=1e-6)
    first_four = sum(t[name].double() for t in seen[:4]) / 4
    short, _ = run(tmp_path / "short", ema_decay=0.75, steps=4)
    torch.testing.assert_close(short.state_dict()[name], first_four.float(), rtol=1e-5, atol=1e-6)
    assert not torch.equal(model.state_dict()[name], seen[-1][name])
    for buffer in ("2.running_mean", "2.running_var", "2.num_batches_tracked"):
        assert torch.equal(model.state_dict()[buffer], seen[-1][buffer])


def test_the_validation_sees_the_average_and_the_training_does_not(tmp_path):
    plain, seen, validated = [], [], []

    def validate(model):
        validated.append(weights(model))
        return {"dice": len(validated) if len(validated) < 3 else 0.0}

    run(tmp_path / "a", after_step=lambda m, i: plain.append(weights(m)))
    how = {"validate": validate, "validate_every": 2, "best": "dice", "ema_decay": 0.9}
    model, history = run(tmp_path / "b", after_step=lambda m, i: seen.append(weights(m)), **how)
    assert seen == plain
    assert history.best_step == 4
    assert weights(model) == validated[1]
    assert not set(validated) & set(plain)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2, float("nan")])
def test_a_decay_that_is_none_is_refused(tmp_path, decay):
    with pytest.raises(ParameterError, match="ema_decay"):
        run(tmp_path, ema_decay=decay)


VALUES = [0.1, 0.5, float("nan"), 0.505, 0.52, 0.525, 0.529, 0.9]


@pytest.mark.parametrize(
    ("validations", "gain", "stops"),
    [(1, 0.0, 3), (2, 0.0, None), (2, 0.01, 4), (3, 0.03, 5), (2, 0.5, 3), (9, 0.0, None), (3, 0.0, None)],
)
def test_the_rule_of_early_stopping_on_worked_values(validations, gain, stops):
    rows = [Row(i, split, "dice", v) for i, v in enumerate(VALUES, 1) for split in ("train", "val")]
    rule = train.Patience("dice", validations, gain)
    reasons = [rule.reason(rows[: 2 * n]) for n in range(1, len(VALUES) + 1)]
    first = next((n for n, reason in enumerate(reasons, 1) if reason), None)
    assert first == stops
    if first:
        assert f"at step {first}: dice had not risen" in reasons[first - 1]


def test_values_that_are_never_numbers_stop_too():
    rows = [Row(i, "val", "dice", math.nan) for i in range(1, 4)]
    assert train.Patience("dice", 4).reason(rows) is None
    assert "at step 3" in train.Patience("dice", 3).reason(rows)


def scripted(model):
    """Rises until step 8 of a run that validates every 2 steps, as told by the number of batches that were seen."""
    seen = int(model[2].num_batches_tracked)
    return {"dice": 0.1 * min(seen, 8)}


def test_a_run_stops_early_by_the_rule_and_says_so_also_when_resumed_or_read_back(tmp_path):
    rule = train.Patience("dice", 3, 0.05)
    how = {"validate": scripted, "validate_every": 2, "stop": rule, "steps": 40, "best": "dice"}
    model, history = run(tmp_path / "whole", **how)
    assert (history.steps, history.best_step, history.rows[-1].step) == (14, 8, 14)
    said = "stopped early at step 14: dice had not risen by 0.05 or more above 0.8 (step 8) in 3 validations"
    assert history.notes[-1] == said
    for count in (5, 11, 14):
        again, continued = resumed(tmp_path / f"stopped{count}", count, **how)
        assert weights(again) == weights(model)
        assert continued.rows == history.rows
        assert (continued.steps, continued.notes[-1]) == (14, said)
    read, back = run(tmp_path / "whole", after_step=stop_after(1), **how)
    assert weights(read) == weights(model)
    assert (back.rows, back.steps, back.notes) == (history.rows, 14, history.notes)
    with pytest.raises(CheckpointError, match=r"\(stop differ\)"):
        run(tmp_path / "whole", **how | {"stop": train.Patience("dice", 4)})


def test_a_rule_that_cannot_be_followed_is_refused(tmp_path):
    for numbers in ((0, 0.1), (1, -0.1), (1, float("nan"))):
        with pytest.raises(ParameterError, match="patience"):
            train.Patience("dice", *numbers)
    with pytest.raises(ParameterError, match="a rule to stop by"):
        run(tmp_path, stop=train.Patience("dice", 1))
    for wrong in ({"stop": train.Patience("accuracy", 1)}, {"best": "accuracy"}):
        with pytest.raises(ParameterError, match="found accuracy; wanted a name that validate returns: dice"):
            run(tmp_path, validate=scripted, **wrong)


def test_values_of_single_cases_go_into_a_table_and_their_mean_into_the_history(tmp_path):
    def validate(model):
        return {"dice": {"a": 0.25, "b,c": 0.75, 'd"': float("nan")}, "hd95": {"a": math.nan}, "loss": 2.0}

    _, history = run(tmp_path, validate=validate, validate_every=6, best="dice")
    assert history.curve("dice")[1].tolist() == [0.5, 0.5]
    assert history.curve("dice_missing")[1].tolist() == [1, 1]
    assert np.isnan(history.curve("hd95")[1]).all()
    assert history.curve("hd95_missing")[1].tolist() == [1, 1]
    assert history.curve("loss")[1].tolist() == [2, 2]
    table = history.cases()
    assert list(table.columns) == ["step", "name", "case", "value"]
    assert table["case"].tolist() == ["a", "b,c", 'd"', "a"] * 2
    assert table["step"].tolist() == [6] * 4 + [12] * 4
    assert list(map(repr, read_cases(tmp_path / "cases.csv"))) == list(map(repr, history.case_rows))


def test_the_file_of_cases_is_cut_back_to_the_checkpoint_and_is_byte_for_byte_the_same(tmp_path):
    run(tmp_path / "whole", **OPTIONS["cases"])
    with pytest.raises(StoppedError):
        run(tmp_path / "stopped", after_step=stop_after(9), **OPTIONS["cases"])
    path = tmp_path / "stopped" / "cases.csv"
    assert {row.step for row in read_cases(path)} == set(range(1, 9))
    with open(path, "a") as file:
        file.write("9,dice,hal")
    assert read_cases(path)[-1] == CaseRow(8, "dice", "x", pytest.approx(math.nan, nan_ok=True))
    run(tmp_path / "stopped", **OPTIONS["cases"])
    assert path.read_bytes() == (tmp_path / "whole" / "cases.csv").read_bytes()


def test_scalars_alone_make_no_file_of_cases(tmp_path):
    _, history = run(tmp_path, validate=scripted)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == ["checkpoints", "history.csv"]
    assert history.cases().empty


@pytest.mark.parametrize("cases", [{}, {"a\nb": 1.0}])
def test_cases_that_cannot_be_written_are_refused(tmp_path, cases):
    with pytest.raises(ParameterError, match="validation dice"):
        run(tmp_path, validate=lambda m: {"dice": cases})


def test_float16_is_refused_elsewhere_than_on_cuda(tmp_path):
    with pytest.raises(ParameterError, match="'float16' on cpu; wanted bf16 or float32 on cpu"):
        run(tmp_path, amp="float16")


def test_the_loss_scale_is_in_the_checkpoint_and_an_overflow_leaves_the_weights_alone(tmp_path, monkeypatch):
    # No GPU here: the same code with torch's scaler for the CPU.
    monkeypatch.setattr(scaling, "SCALED", ("cuda", "cpu"))
    seen = []

    def overflowing(model, batch, index):
        seen.append(weights(model[0]))
        return step(model, batch, index) / 256 * (1e36 if index in (2, 8) else 1.0)

    how = {"amp": "float16", "loss": overflowing, "clip_norm": 1.0}
    model, history = run(tmp_path / "whole", **how)
    assert history.notes[0] == "computed in float16 on cpu"
    assert history.curve("loss_scale", "train")[1].tolist() == [2.0**16] * 3 + [2.0**15] * 6 + [2.0**14] * 3
    unchanged = [i for i in range(STEPS - 1) if seen[i] == seen[i + 1]]
    assert unchanged == [2, 8]
    again, continued = resumed(tmp_path / "stopped", 7, **how)
    assert weights(again) == weights(model)
    assert list(map(repr, continued.rows)) == list(map(repr, history.rows))
    with pytest.raises(CheckpointError, match=r"\(amp differ\)"):
        run(tmp_path / "whole")


def test_float16_gradients_are_unscaled_before_they_are_clipped_and_logged(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "SCALED", ("cuda", "cpu"))
    trained, norms = {}, {}
    for amp in ("float32", "float16"):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 1.0)
        how = {"loss": lambda m, b, i: linear(m, b, i) / 256, "clip_norm": 0.01, "steps": 1, "data": batches(1)}
        trained[amp], history = run(tmp_path / amp, model, optimizer=optimizer, amp=amp, **how)
        norms[amp] = history.curve("gradient_norm", "train")[1][0]
    assert norms["float16"] == pytest.approx(norms["float32"], rel=0.02)
    assert norms["float32"] > 0.02
    moved = [
        torch.cat([(a - b).detach().flatten() for a, b in zip(one.parameters(), network().parameters(), strict=True)])
        for one in trained.values()
    ]
    assert float(moved[0].norm()) == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(moved[1], moved[0], rtol=0.02, atol=1e-4)
