"""Self-distillation as it is trained: what moves when, what is watched, and a killed run that ends as a whole one."""

import copy
import dataclasses
import math
import os
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from strokelib import repro, train
from strokelib.data.grids import AIR_HU
from strokelib.errors import DataError
from strokelib.ssl_nnunet import pretraining
from strokelib.ssl_nnunet.fingerprint import fingerprint
from strokelib.ssl_nnunet.losses import self_distillation_loss
from strokelib.ssl_nnunet.model import Distilled
from strokelib.ssl_nnunet.planning import Plan
from strokelib.ssl_nnunet.pretraining import build, fit, representation, view_stream, watch
from strokelib.ssl_nnunet.recipe import PretrainingRecipe
from strokelib.ssl_nnunet.setup import Normalisation, Setup
from strokelib.ssl_nnunet.views import Views

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads
from made_heads import StoppedError, weights

STAGES = {"features": (4, 8), "strides": ((1, 1, 1), (2, 2, 2)), "kernels": ((3, 3, 3), (3, 3, 3))}
PLAN = Plan((5.0, 4.0, 4.0), (14.0, 26.0, 20.0), (8, 16, 16), 2, **STAGES)
STEPS = 4
SMALL = {"spacing_mm": (5.0, 4.0, 4.0), "view": (4, 10, 8), "slab": 6, "hidden": 6, "bottleneck": 5, "prototypes": 16}
SMALL |= {"batch": 2, "steps": STEPS, "validations": STEPS, "val_batches": 2, "frozen_steps": 0, "lr": 0.01}
SMALL |= {"momentum": 0.8, "teacher_temperature": (0.04, 0.07), "warm_share": 0.5, "weight_decay": (0.04, 1e-5)}
TRAIN, VAL = made_heads.heads(range(3)), made_heads.heads(range(3, 5), "val")
SETUP = Setup(PLAN, Normalisation.of(fingerprint(TRAIN)))


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_heads.steady(monkeypatch)


def recipe(**changes):
    return PretrainingRecipe.at("smoke", **{**SMALL, **changes})


def mirrored(cases):
    """The plane of the made heads lies in the middle: their mirror image is the array read backwards."""
    found = []
    for case in cases:
        other = np.where(case.brain & case.brain[..., ::-1], case.image.array[..., ::-1], AIR_HU).astype(np.float32)
        found.append(dataclasses.replace(case, channels={"contralateral": other}))
    return found


def once(used, out, cases=TRAIN, *, seed=0, val=VAL):
    """A model that was trained from its start, and its history."""
    repro.seed_everything(seed)
    model = build(used, SETUP)
    return model, fit(model, used, cases, val, seed=seed, out=out, setup=SETUP)


def watching(*, step=None, after=None):
    """A patch of the training loop: ``step(network, batch, index, whole)``, ``after(network, index, optimizer)``."""
    whole = train.fit

    def patched(model, stream, own_step, *, after_step, optimizer, **how):
        def seen_step(network, batch, index):
            return own_step(network, batch, index) if step is None else step(network, batch, index, own_step)

        def seen_after(network, index):
            after_step(network, index)
            if after is not None:
                after(network, index, optimizer)

        return whole(model, stream, seen_step, after_step=seen_after, optimizer=optimizer, **how)

    return mock.patch.object(train, "fit", patched)


def snapshots(used, out):
    """The weights before the first step and after each one."""
    repro.seed_everything(0)
    found = [weights(build(used, SETUP))]
    with watching(after=lambda network, index, optimizer: found.append(weights(network))):
        once(used, out)
    return found


def stopping_at(call):
    """A patch of the validation that raises the ``call``-th time."""
    whole, calls = pretraining.watch, []

    def patched(*args):
        calls.append(1)
        if len(calls) == call:
            raise StoppedError
        return whole(*args)

    return mock.patch.object(pretraining, "watch", patched)


def half_cosine(step, first, last):
    return last + (first - last) * (1 + math.cos(math.pi * step / STEPS)) / 2


# The networks


def test_student_and_teacher_have_the_planned_encoder_and_the_recipes_heads():
    model = build(recipe(channels=2), SETUP)
    assert model.student.encoder.features == STAGES["features"]
    assert model.student.encoder.strides == STAGES["strides"]
    assert model.teacher.encoder.in_channels == 2
    assert model.centre.shape == (16,)
    assert [head.prototypes.weight.shape for head in model.student.heads] == [(16, 5), (16, 5)]
    assert model.student.heads[0].mlp[0].out_features == 6


# One step after the other


def test_the_teacher_follows_the_student_with_a_momentum_that_rises_to_one(tmp_path):
    found = snapshots(recipe(), tmp_path)
    names = [name for name, _ in build(recipe(), SETUP).named_parameters() if name.startswith("teacher.")]
    assert len(names) > 10
    for name in names:
        twin = name.replace("teacher.head.", "student.heads.1.").replace("teacher.encoder.", "student.encoder.")
        expected = found[0][name]
        np.testing.assert_array_equal(expected, found[0][twin])
        for index, now in enumerate(found[1:]):
            momentum = half_cosine(index, 0.8, 1.0)
            expected = momentum * expected + (1 - momentum) * now[twin]
            np.testing.assert_allclose(now[name], expected, atol=1e-6)
        assert name.endswith(("conv.bias", "mlp.0.bias", "mlp.3.bias")) or not np.array_equal(found[0][name], expected)


def test_every_stage_of_the_student_learns(tmp_path):
    found = snapshots(recipe(), tmp_path)
    changed = {name for name in found[0] if not np.array_equal(found[0][name], found[1][name])}
    for part in ("student.encoder.stages.0.", "student.encoder.stages.1.", "student.heads.0.", "student.heads.1."):
        assert any(name.startswith(part) and name.endswith("weight") for name in changed), part
    assert {"student.heads.0.prototypes.weight", "student.heads.1.prototypes.weight"} <= changed


def test_the_loss_falls_against_a_teacher_of_constant_temperature(tmp_path):
    used = recipe(steps=30, validations=1, teacher_temperature=(0.07, 0.07), batch=4, lr=0.02, momentum=0.95)
    _, history = once(used, tmp_path)
    losses = history.curve("loss", "train")[1]
    assert losses[-5:].mean() < losses[:5].mean() - 0.1


def test_the_centre_is_the_moving_mean_of_both_views_raw_logits_and_the_loss_has_the_old_one(tmp_path):
    centres = []

    def step(network, batch, index, whole):
        before = network.centre.clone()
        found = copy.deepcopy(network)(batch.first, batch.second)
        result = whole(network, batch, index)
        mean = torch.cat(found.teacher).mean(dim=0)
        torch.testing.assert_close(network.centre, 0.9 * before + 0.1 * mean)
        temperature = (0.04, 0.055, 0.07, 0.07)[index]
        torch.testing.assert_close(
            result["loss"], self_distillation_loss(found.student, found.teacher, before, 0.1, temperature)
        )
        centres.append(network.centre.clone())
        return result

    with watching(step=step):
        model, _ = once(recipe(), tmp_path)
    assert len(centres) == STEPS
    assert all(one.abs().max() > 1e-3 for one in centres)
    assert torch.equal(model.centre, centres[-1])


def test_the_last_layer_rests_for_the_steps_of_the_recipe_and_then_moves(tmp_path):
    found = snapshots(recipe(frozen_steps=2), tmp_path)
    for name in ("student.heads.0.prototypes.weight", "student.heads.1.prototypes.weight"):
        moved = [not np.array_equal(found[0][name], now[name]) for now in found[1:]]
        assert moved == [False, False, True, True]
    first = "student.heads.0.mlp.0.weight"
    assert not np.array_equal(found[0][first], found[1][first])
    np.testing.assert_array_equal(
        found[2]["teacher.head.prototypes.weight"], found[0]["teacher.head.prototypes.weight"]
    )


def test_the_optimiser_is_adamw_over_the_student_with_warm_up_and_cosine(tmp_path):
    seen = []
    with watching(after=lambda network, index, optimizer: seen.append((network, optimizer))):
        _, history = once(recipe(), tmp_path)
    network, optimizer = seen[0]
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == [
        id(p) for p in network.student.parameters()
    ]
    np.testing.assert_allclose(history.curve("lr", "train")[1], [0.005, 0.01, 0.01, 0.005])


@pytest.mark.parametrize("stop", [None, 3])
def test_the_weight_decay_follows_its_schedule_also_after_a_resume(tmp_path, stop):
    found = {}

    def after(network, index, optimizer):
        found.setdefault(index, []).extend(group["weight_decay"] for group in optimizer.param_groups)

    with watching(after=after):
        if stop is not None:
            with stopping_at(stop), pytest.raises(StoppedError):
                once(recipe(), tmp_path)
            found.clear()
        once(recipe(), tmp_path)
    assert sorted(found) == list(range(0 if stop is None else stop - 1, STEPS))
    for index, values in found.items():
        assert values == pytest.approx([half_cosine(index, 0.04, 1e-5)] * len(values))


# A kill


@pytest.mark.parametrize("stop", [2, 4])
def test_a_killed_pre_training_ends_with_the_same_bytes(tmp_path, stop):
    used = recipe(frozen_steps=2)
    whole, history = once(used, tmp_path / "whole")
    with stopping_at(stop), pytest.raises(StoppedError):
        once(used, tmp_path / "stopped")
    again, resumed = once(used, tmp_path / "stopped")
    expected, found = weights(whole), weights(again)
    assert set(found) == set(expected)
    assert {"centre", "teacher.head.mlp.1.running_mean"} <= set(found)
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    assert (tmp_path / "stopped/history.csv").read_bytes() == (tmp_path / "whole/history.csv").read_bytes()
    assert resumed.rows == history.rows
    assert any(f"resumed at step {stop - 1}" in note for note in resumed.notes)


def test_the_last_weights_are_kept(tmp_path):
    last = []
    with watching(after=lambda network, index, optimizer: last.append(weights(network))):
        model, history = once(recipe(), tmp_path)
    assert history.best_step == history.steps == STEPS
    assert all(np.array_equal(value, last[-1][name]) for name, value in weights(model).items())


# What is seen


def test_training_scans_are_trained_on_and_validation_scans_watched_the_same_each_time(tmp_path):
    streams, batches, whole = [], [], pretraining.view_stream

    def stream(used, setup, cases, seed):
        streams.append(([case.id for case in cases], seed))
        return whole(used, setup, cases, seed)

    def seen(network, held_out, student, teacher):
        batches.append([batch.first.clone() for batch in held_out])
        assert (student, teacher, network.training) == (0.1, 0.07, False)
        return {"rank_me": 1.0}

    with mock.patch.object(pretraining, "view_stream", stream), mock.patch.object(pretraining, "watch", seen):
        for seed in (5, 6):
            once(recipe(steps=2, validations=2), tmp_path / str(seed), seed=seed)
    ids = [[case.id for case in part] for part in (TRAIN, VAL)]
    assert [names for names, _ in streams] == [*ids, *ids]
    assert [seed for _, seed in streams] == [5, pretraining.VAL_SEED, 6, pretraining.VAL_SEED]
    assert [len(one) for one in batches] == [2] * 4
    assert all(torch.equal(a, b) for other in batches[1:] for a, b in zip(batches[0], other, strict=True))
    assert not torch.equal(*batches[0])


def test_references_are_not_looked_at(tmp_path):
    used = recipe(steps=2, validations=1)
    with_them, _ = once(used, tmp_path / "with")
    bare = [[dataclasses.replace(case, lesion=None) for case in part] for part in (TRAIN, VAL)]
    without, _ = once(used, tmp_path / "without", bare[0], val=bare[1])
    assert all(np.array_equal(value, weights(without)[name]) for name, value in weights(with_them).items())


def test_another_seed_trains_another_encoder(tmp_path):
    ends = [weights(once(recipe(steps=1), tmp_path / str(seed), seed=seed)[0]) for seed in (0, 1)]
    name = "teacher.encoder.stages.0.0.conv.weight"
    assert not np.array_equal(ends[0][name], ends[1][name])


def test_views_are_those_of_the_recipe():
    used = recipe(base_of_views="slab", slab=7)
    stream = view_stream(used, SETUP, TRAIN, 3)
    assert (stream.size, stream.slab, stream.base, stream.symmetry, stream.batch) == ((4, 10, 8), 7, "slab", 0.0, 2)
    batch = next(iter(stream))
    assert batch.first.shape == batch.second.shape == (2, 1, 4, 10, 8)
    assert not batch.symmetric.any()


def test_symmetric_pairs_and_two_channels_need_contralateral_images():
    for changes in ({"symmetry": 0.7}, {"channels": 2}):
        with pytest.raises(DataError, match="contralateral"):
            view_stream(recipe(**changes), SETUP, TRAIN, 0)
    seen = mirrored(TRAIN)
    assert next(iter(view_stream(recipe(symmetry=1.0), SETUP, seen, 0))).symmetric.all()
    two = Setup(PLAN, Normalisation.of(fingerprint(seen, 2)))
    batch = next(iter(view_stream(recipe(channels=2, symmetry=0.5), two, seen, 0)))
    assert batch.first.shape[1] == 2
    with torch.no_grad():
        found = build(recipe(channels=2), two)(batch.first, batch.second)
    assert found.latent.shape == (4, 5)


# What is watched


class Said(nn.Module):
    """Stands for student and teacher: says what it is told to, pair by pair."""

    def __init__(self, told, k):
        super().__init__()
        self.told, self.centre = iter(told), torch.zeros(k)

    def forward(self, first, second):
        return next(self.told)


PAIR = Views(torch.zeros(2, 1, 1, 1, 1), torch.zeros(2, 1, 1, 1, 1), torch.zeros(2, dtype=torch.bool))


def test_a_network_that_says_the_same_of_everything_is_seen_as_collapsed():
    zeros = torch.zeros(2, 4)
    told = Distilled([(zeros, zeros), (zeros, zeros)], (zeros, zeros), torch.ones(4, 3))
    found = watch(Said([told], 4), [PAIR], 0.1, 0.07)
    for name in ("val_loss", "val_loss_first", "val_loss_last", "teacher_entropy"):
        assert found[name] == pytest.approx(math.log(4), abs=1e-6), name
    assert found["teacher_spread"] == pytest.approx(0, abs=1e-6)
    assert found["rank_me"] == pytest.approx(1, abs=1e-4)


def test_a_student_that_repeats_a_certain_teacher_has_no_loss_at_the_stage_that_does_so():
    sure = 10 * torch.eye(4)[:2]
    undecided = torch.zeros(2, 4)
    right = Distilled([(undecided, undecided), (sure, sure)], (sure, sure), torch.eye(4))
    both = Distilled([(sure, sure), (sure, sure)], (sure, sure), torch.eye(4))
    found = watch(Said([right, both], 4), [PAIR, PAIR], 0.1, 0.07)
    assert found["val_loss_last"] == pytest.approx(0, abs=1e-6)
    assert found["val_loss_first"] == pytest.approx(math.log(4) / 2, abs=1e-6)
    assert found["val_loss"] == pytest.approx(math.log(4) / 4, abs=1e-6)
    assert found["teacher_entropy"] == pytest.approx(0, abs=1e-6)
    assert found["teacher_spread"] == pytest.approx(math.log(2), abs=1e-6)
    assert found["rank_me"] == pytest.approx(4, abs=1e-3)


def test_the_centre_is_subtracted_from_what_is_watched():
    centre = torch.tensor([3.0, 0.0, 0.0, 0.0])
    told = Distilled([(torch.zeros(2, 4),) * 2], (centre.expand(2, 4),) * 2, torch.ones(4, 3))
    network = Said([told], 4)
    network.centre = centre
    assert watch(network, [PAIR], 0.1, 0.07)["teacher_entropy"] == pytest.approx(math.log(4), abs=1e-6)


def test_watching_changes_nothing_and_its_values_are_in_the_history(tmp_path):
    model, history = once(recipe(), tmp_path)
    names = {"val_loss", "val_loss_first", "val_loss_last", "rank_me", "teacher_entropy", "teacher_spread"}
    assert {row.name for row in history.rows if row.split == "val"} == names
    before = weights(model)
    held_out = [next(iter(view_stream(recipe(), SETUP, VAL, 0)))]
    model.eval()
    first, second = (watch(model, held_out, 0.1, 0.07) for _ in range(2))
    assert first == second
    assert all(np.array_equal(before[name], value) for name, value in weights(model).items())


# What is kept


def test_the_representation_is_the_teachers_pooled_last_stage_of_the_central_slices():
    repro.seed_everything(0)
    model, used = build(recipe(), SETUP), recipe()
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(1.0)
    bare = dataclasses.replace(TRAIN[1], lesion=None)
    found = representation(model, used, bare, setup=SETUP)
    assert (found.shape, found.dtype) == ((8,), np.float32)
    images = SETUP.heads(used, TRAIN)[1].images
    start = (images.shape[1] - 4) // 2
    with torch.no_grad():
        expected = model.teacher.encoder(images[None, :, start : start + 4])[-1].mean(dim=(0, 2, 3, 4))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert model.training
    assert pretraining.encoder_of(model) is model.teacher.encoder
