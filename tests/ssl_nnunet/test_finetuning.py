"""nnU-Net's supervised training: start, freezing, loss, the weights that are kept, a kill; and the map of a scan."""

import dataclasses
import os
import sys
from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from strokelib import repro, train
from strokelib.data.augment3d import NONE_3D
from strokelib.data.contralateral import CLIP_HU
from strokelib.data.grids import AIR_HU
from strokelib.data.loading import Batch
from strokelib.errors import DataError, ParameterError
from strokelib.metrics import dice
from strokelib.ssl_nnunet import finetuning
from strokelib.ssl_nnunet.finetuning import AVERAGED, PSEUDO_DICE, build, fit, patches_dice, segment
from strokelib.ssl_nnunet.fingerprint import Intensities
from strokelib.ssl_nnunet.model import DeepSelfDistillation
from strokelib.ssl_nnunet.planning import Plan
from strokelib.ssl_nnunet.recipe import FinetuningRecipe
from strokelib.ssl_nnunet.setup import Normalisation, Setup
from strokelib.ssl_nnunet.supervision import deep_supervision_loss

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads
from made_heads import StoppedError, weights

FEATURES, ONE = (4, 4, 4, 4), (1, 1, 1)
STAGES = {"features": FEATURES, "strides": (ONE, (2, 2, 2), (2, 2, 2), (1, 2, 2)), "kernels": ((3, 3, 3),) * 4}
PLAN = Plan((5.0, 4.0, 4.0), (14.0, 26.0, 20.0), (8, 16, 16), 2, **STAGES)
# 40 HU become 0, 80 HU become 1; a difference of 10 HU becomes 1.
CT = Intensities(40.0, 40.0, 40.0, -100.0, 400.0, 0.0, 90.0)
DIFFERENCE = Intensities(0.0, 0.0, 10.0, -100.0, 100.0, -40.0, 40.0)
SETUP, TWO = Setup(PLAN, Normalisation((CT,))), Setup(PLAN, Normalisation((CT, DIFFERENCE)))
STEPS = 4
SMALL = {"spacing_mm": (5.0, 4.0, 4.0), "batch": 2, "steps": STEPS, "validations": STEPS, "val_patches": 4}
SMALL |= {"optimizer": "adamw", "lr": 0.01, "levels": 2, "focus": 0.0, "lesion_share": 0.5, "mirror_axes": ()}
TRAIN, VAL = made_heads.heads(range(3)), made_heads.heads(range(3, 5), "val")


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_heads.steady(monkeypatch)


def recipe(**changes):
    return FinetuningRecipe.at("smoke", **{**SMALL, **changes})


def once(used, out, *, start=None, setup=SETUP):
    """A model that was trained from its start, and its history."""
    repro.seed_everything(0)
    model = build(used, setup, start)
    return model, fit(model, used, TRAIN, VAL, seed=0, out=out, setup=setup)


def with_after_step(after):
    """A patch of the training loop: ``after(network, index)`` after each step."""
    whole = train.fit
    return mock.patch.object(train, "fit", lambda *args, **how: whole(*args, after_step=after, **how))


def snapshots(used, out, **how):
    """The weights before the first step and after each one."""
    repro.seed_everything(0)
    found = [weights(build(used, SETUP))]
    with with_after_step(lambda network, index: found.append(weights(network))):
        once(used, out, **how)
    return found


def given_to_the_loop(used, model=None):
    """What the training loop would be called with."""
    with mock.patch.object(train, "fit") as loop:
        fit(model or build(used, SETUP), used, TRAIN, VAL, seed=0, out=None, setup=SETUP)
    (model, stream, step), how = loop.call_args
    return SimpleNamespace(model=model, stream=stream, step=step, **how)


def level_of(network, batches):
    """Stands for the pseudo-Dice: a number that depends on the weights."""
    return float(sum(p.detach().abs().sum() for p in network.parameters())) % 1


def encoders(found, prefix="network.encoder."):
    return [{name: value for name, value in one.items() if name.startswith(prefix)} for one in found]


def same(first, second):
    return all(np.array_equal(value, second[name]) for name, value in first.items())


# The start


def pretrained(features=FEATURES, channels=1):
    torch.manual_seed(7)
    how = {**STAGES, "features": features}
    return DeepSelfDistillation(channels, **how, hidden=6, bottleneck=5, out=8).teacher_encoder()


def test_a_pre_trained_start_is_the_encoder_and_differs_from_a_fresh_network_in_nothing_else():
    start = pretrained()
    models = []
    for given in (None, start):
        torch.manual_seed(0)
        models.append(weights(build(recipe(), SETUP, given)))
    fresh, started = models
    encoder = {name for name in fresh if name.startswith("network.encoder.")}
    assert {name.removeprefix("network.encoder.") for name in encoder} == set(start)
    for name in fresh:
        if name in encoder:
            np.testing.assert_array_equal(started[name], start[name.removeprefix("network.encoder.")].numpy())
        else:
            np.testing.assert_array_equal(started[name], fresh[name])
    assert not same({name: fresh[name] for name in encoder if name.endswith("conv.weight")}, started)


def test_a_training_goes_on_from_its_start(tmp_path):
    first = encoders(snapshots(recipe(steps=1), tmp_path / "fresh"))[-1]
    start = {f"network.encoder.{name}": value.numpy() for name, value in pretrained().items()}
    second = encoders(snapshots(recipe(steps=1), tmp_path / "started", start=pretrained()))[-1]
    name = "network.encoder.stages.0.0.conv.weight"
    # The first step of AdamW is at most the learning rate and a little decay.
    assert np.abs(second[name] - start[name]).max() < 0.0101
    assert np.abs(first[name] - start[name]).max() > 0.1


@pytest.mark.parametrize("given", [pretrained((4, 4, 4, 8)), pretrained(channels=2)])
def test_the_start_of_another_plan_is_refused(given):
    with pytest.raises(DataError, match="encoder weight"):
        build(recipe(), SETUP, given)


# Freezing


@pytest.mark.parametrize(
    ("share", "moved", "optimizer"),
    [
        (0.0, [True] * 4, "adamw"),
        (0.33, [False, True, True, True], "sgd"),
        (0.66, [False] * 3 + [True], "adamw"),
        (1.0, [False] * 4, "adamw"),
    ],
)
def test_a_frozen_encoder_rests_for_its_share_and_moves_after_it(tmp_path, share, moved, optimizer):
    found = snapshots(recipe(frozen_share=share, optimizer=optimizer), tmp_path)
    encoder = encoders(found)
    assert [not same(before, after) for before, after in pairwise(encoder)] == moved
    decoder = encoders(found, "network.stages.")
    assert not any(same(before, after) for before, after in pairwise(decoder))


# The training


def test_the_networks_last_outputs_loss_is_weighted_by_resolution():
    given = given_to_the_loop(recipe())
    batch = next(iter(given.stream))
    assert batch.images.shape == (2, 1, 8, 16, 16)
    found = given.step(given.model, batch, 0)
    logits, truth = given.model(batch.images), batch.lesions[:, None].float()
    assert [tuple(level.shape[2:]) for level in logits] == [(8, 16, 16), (4, 8, 8)]
    expected = deep_supervision_loss(logits, truth, (2 / 3, 1 / 3))
    torch.testing.assert_close(found, expected)
    half = given_to_the_loop(recipe(loss="average"), given.model).step(given.model, batch, 0)
    torch.testing.assert_close(half, expected / 2)
    finest = given_to_the_loop(recipe(levels=1), given.model).step(given.model, batch, 0)
    torch.testing.assert_close(finest, deep_supervision_loss(logits, truth, (1.0,)))
    # There are no more resolutions with a loss than the network has.
    most = given_to_the_loop(recipe(levels=9), given.model).step(given.model, batch, 0)
    torch.testing.assert_close(most, expected)


def test_the_missed_lesion_counts_more_at_first():
    given = given_to_the_loop(recipe(focus=20.0))
    plain = given_to_the_loop(recipe(), given.model)
    batch = next(iter(given.stream))
    truth = batch.lesions[:, None].float()
    missed = (truth * functional.softplus(-given.model(batch.images)[0])).mean()
    for index, weight in ((0, 20.0), (2, 20 * 0.55), (4, 2.0)):
        found = given.step(given.model, batch, index) - plain.step(given.model, batch, index)
        torch.testing.assert_close(found, weight * missed, rtol=1e-4, atol=1e-5)


def test_sgd_is_nesterovs_and_adamw_takes_rate_and_decay_and_others_are_refused():
    sgd = given_to_the_loop(recipe(optimizer="sgd")).optimizer
    assert isinstance(sgd, torch.optim.SGD)
    assert {name: sgd.defaults[name] for name in ("lr", "momentum", "nesterov", "weight_decay")} == {
        "lr": 0.01,
        "momentum": 0.99,
        "nesterov": True,
        "weight_decay": 3e-5,
    }
    given = given_to_the_loop(recipe(lr=0.5, weight_decay=0.1))
    assert isinstance(given.optimizer, torch.optim.AdamW)
    assert (given.optimizer.defaults["lr"], given.optimizer.defaults["weight_decay"]) == (0.5, 0.1)
    assert sum(map(len, (group["params"] for group in given.optimizer.param_groups))) == len(
        list(given.model.parameters())
    )
    with pytest.raises(ParameterError, match=r"'adam'(.|\n)*'sgd' or 'adamw'"):
        given_to_the_loop(recipe(optimizer="adam"))


def test_rate_clipping_and_validations_are_the_recipes(tmp_path):
    given = given_to_the_loop(recipe(clip_norm=3.0, steps=10, validations=3))
    assert [given.schedule(step) for step in (0, 5)] == pytest.approx([1.0, 0.5**0.9])
    assert (given.clip_norm, given.validate_every, given.checkpoint_every, given.best) == (3.0, 3, 3, AVERAGED)
    assert given.recipe_key == recipe(clip_norm=3.0, steps=10, validations=3).key()


def test_patches_are_drawn_by_the_recipe_and_those_of_the_validation_are_not_changed():
    made, whole = [], finetuning.PatchSampler

    def sampler(volumes, size, batch, seed, share, augmentation=NONE_3D, **how):
        made.append(([case.id for case in volumes.cases], size, batch, seed, share, augmentation, how))
        return whole(volumes, size, batch, seed, share, augmentation, **how)

    seen = []
    with (
        mock.patch.object(finetuning, "PatchSampler", sampler),
        mock.patch.object(finetuning, "patches_dice", lambda network, batches: seen.append(batches) or 0.5),
    ):
        given = given_to_the_loop(recipe(lesion_share=0.25))
        given.validate(given.model)
        given.validate(given.model)
    ids = [[case.id for case in part] for part in (TRAIN, VAL)]
    assert made[0] == (ids[0], PLAN.patch, 2, 0, 0.25, finetuning.AUGMENTATION, {"inside": True})
    assert made[1] == (ids[1], PLAN.patch, 2, finetuning.VAL_SEED, 1 / 3, NONE_3D, {"inside": True})
    assert finetuning.AUGMENTATION.mirror == (0.5, 0.5, 0.5)
    assert [len(batches) for batches in seen] == [2, 2]
    assert seen[0] is seen[1]
    assert sum(int(batch.lesions.any()) for batch in seen[0]) > 0


def test_the_weights_with_the_highest_average_are_kept_not_those_with_the_highest_pseudo_dice(tmp_path):
    scripts = {1: [0.6, 0.0, 0.4, 0.9], 3: [0.1, 0.5, 0.2, 0.0]}
    for best, values in scripts.items():
        told, after = iter(values), []
        with (
            mock.patch.object(finetuning, "patches_dice", lambda network, batches, told=told: next(told)),
            with_after_step(lambda network, index, after=after: after.append(weights(network.network))),
        ):
            model, history = once(recipe(), tmp_path / str(best))
        assert history.curve(PSEUDO_DICE)[1].tolist() == values
        averages = [values[0]]
        for value in values[1:]:
            averages.append(0.9 * averages[-1] + 0.1 * value)
        np.testing.assert_allclose(history.curve(AVERAGED)[1], averages, atol=1e-6)
        assert history.best_step == best == 1 + int(np.argmax(averages))
        assert same(weights(model.network), after[best - 1])
        assert float(model.average) == pytest.approx(averages[best - 1], abs=1e-6)


@pytest.mark.parametrize(("optimizer", "stop"), [("sgd", 2), ("adamw", 4)])
def test_a_killed_fine_tuning_ends_with_the_same_bytes_and_knows_its_average(tmp_path, optimizer, stop):
    used, calls = recipe(optimizer=optimizer, frozen_share=0.5), []

    def stopping(network, batches):
        calls.append(1)
        if len(calls) == stop:
            raise StoppedError
        return level_of(network, batches)

    with mock.patch.object(finetuning, "patches_dice", level_of):
        whole, history = once(used, tmp_path / "whole")
    with mock.patch.object(finetuning, "patches_dice", stopping), pytest.raises(StoppedError):
        once(used, tmp_path / "stopped")
    with mock.patch.object(finetuning, "patches_dice", level_of):
        again, resumed = once(used, tmp_path / "stopped")
    expected, found = weights(whole), weights(again)
    assert set(found) == set(expected)
    assert "average" in found
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    assert (tmp_path / "stopped/history.csv").read_bytes() == (tmp_path / "whole/history.csv").read_bytes()
    assert resumed.rows == history.rows
    assert any(f"resumed at step {stop - 1}" in note for note in resumed.notes)
    # The average of the resumed part is not the value alone, so it was not begun anew.
    values, averages = (history.curve(name)[1] for name in (PSEUDO_DICE, AVERAGED))
    assert np.abs(values - averages)[1:].min() > 1e-4


def test_it_learns_to_find_the_lesion_of_two_heads(tmp_path):
    wider = {"features": (8, 16, 16), "strides": STAGES["strides"][:3], "kernels": STAGES["kernels"][:3]}
    setup = Setup(dataclasses.replace(PLAN, **wider), SETUP.normalisation)
    used = recipe(steps=30, validations=2, lr=0.03, focus=1.0)
    repro.seed_everything(0)
    model = build(used, setup)
    before = dice(segment(model, used, TRAIN[0], setup=setup) > 0.5, TRAIN[0].lesion)
    history = fit(model, used, TRAIN[:2], TRAIN[:2], seed=0, out=tmp_path, setup=setup)
    losses = history.curve("loss", "train")[1]
    assert losses[-5:].mean() < 0.7 * losses[:5].mean()
    after = dice(segment(model, used, TRAIN[0], setup=setup) > 0.5, TRAIN[0].lesion)
    assert after > 0.35 > 0.2 > before
    assert model.training


class Repeats(nn.Module):
    """Stands for a network: what it sees is what it says."""

    def forward(self, x):
        return x


def patch(image, lesion):
    shape = (len(image), 1, 1, 1, len(image[0]))
    return Batch(torch.tensor(image).reshape(shape), torch.tensor(lesion).reshape(shape)[:, 0].to(torch.uint8))


def test_the_pseudo_dice_counts_the_voxels_of_all_patches_together():
    first = patch([[1.0, 1.0, -1.0, -1.0]], [[1, 0, 1, 0]])
    second = patch([[1.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, -1.0]], [[0, 0, 0, 0], [1, 1, 1, 0]])
    # 1 + 3 right, 1 + 1 wrong, 1 missed: 8 / (8 + 2 + 1).
    assert patches_dice(Repeats(), [first, second]) == pytest.approx(8 / 11)
    empty = patch([[-1.0, -1.0]], [[0, 0]])
    assert patches_dice(Repeats(), [empty]) == 0.0
    assert patches_dice(Repeats(), [patch([[1.0, -1.0]], [[0, 0]])]) == 0.0


# The map of a scan


class Bright(nn.Module):
    """Stands for a network: lesion where a channel is above a level; keeps what it saw."""

    def __init__(self, level=0.5, channel=0):
        super().__init__()
        self.level, self.channel, self.seen = level, channel, []

    def forward(self, x):
        self.seen.append(x.clone())
        return 100 * (x[:, self.channel : self.channel + 1] - self.level)


def spotted(number=0, **how):
    """A head with a bright ball in its brain, 8 mm to each side of a point, and a bright corner outside the brain."""
    case = made_heads.head(number, **how)
    z, y, x = (n * side for n, side in zip(np.indices(case.image.array.shape), case.image.spacing, strict=True))
    ball = (np.abs(z - 40) < 12) & (np.abs(y - 60) < 12) & (np.abs(x - 54) < 12) & case.brain
    hu = case.image.array.copy()
    hu[ball] = 80.0
    hu[:3, :5, :5] = 80.0
    return dataclasses.replace(case, image=case.image.with_array(hu)), ball


def with_patch(patch, setup=SETUP):
    return Setup(dataclasses.replace(setup.plan, patch=patch), setup.normalisation)


@pytest.mark.parametrize("window", [(8, 16, 16), (32, 48, 48)])
def test_a_map_is_on_the_cases_grid_and_0_outside_the_brain(window):
    case, ball = spotted()
    model = Bright()
    found = segment(model, recipe(), case, setup=with_patch(window))
    assert (found.shape, found.dtype) == (case.image.array.shape, np.float32)
    np.testing.assert_array_equal(found > 0.5, ball)
    assert ball.sum() > 50
    assert all(x.shape[1:] == (1, *window) for x in model.seen)
    everywhere = segment(Bright(-9.0), recipe(), case, setup=with_patch(window))
    assert (everywhere[case.brain] > 0.99).all()
    assert (everywhere[~case.brain] == 0).all()


def test_a_larger_head_is_seen_window_by_window_by_half_the_windows_sides_or_48():
    case, _ = spotted()
    shape = SETUP.heads(recipe(), [case])[0].images.shape[1:]
    model = Bright()
    segment(model, recipe(), case, setup=SETUP)
    expected = np.prod([1 + max(0, -(-(n - w) // (w // 2))) for n, w in zip(shape, PLAN.patch, strict=True)])
    assert sum(len(x) for x in model.seen) == expected > 8
    seen = []
    whole = finetuning.sliding_window

    def window(model, volume, window, stride, **how):
        seen.append((window, stride, how))
        return whole(model, volume, window, stride, **how)

    with mock.patch.object(finetuning, "sliding_window", window):
        segment(model, recipe(window_step="48", mirror_axes=(2,)), case, setup=SETUP)
    assert seen == [((8, 16, 16), (8, 16, 16), {"mirror_axes": (2,)})]


def hand_padded(images, fill, window):
    """A head in the middle of a window of background, written out, and where it lies."""
    full = torch.empty(len(images), *window)
    for number, value in enumerate(fill):
        full[number] = value
    starts = [(side - n) // 2 for side, n in zip(window, images.shape[1:], strict=True)]
    place = tuple(slice(s, s + n) for s, n in zip(starts, images.shape[1:], strict=True))
    full[(slice(None), *place)] = images
    return full, place


def test_a_smaller_head_is_filled_up_with_background():
    window = (16, 32, 24)
    case, setup = made_heads.head(1), with_patch(window)
    torch.manual_seed(0)
    model = build(recipe(), setup).eval()
    (head,) = setup.heads(recipe(), [case])
    assert all(n < side for n, side in zip(head.images.shape[1:], window, strict=True))
    assert head.fill.tolist() == [-1.0]
    full, place = hand_padded(head.images, head.fill, window)
    stand_in = Bright()
    segment(stand_in, recipe(), case, setup=setup)
    assert torch.equal(stand_in.seen[0][0], full)
    with torch.no_grad():
        probability = model(full[None])[0, 0][place].sigmoid().numpy()
    box = tuple(slice(axis.min(), axis.max() + 1) for axis in np.nonzero(case.brain))
    expected = np.zeros(case.image.array.shape, np.float32)
    expected[box] = probability
    expected[~case.brain] = 0
    found = segment(model, recipe(), case, setup=setup)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.std() > 1e-3


def test_a_scan_of_other_voxels_gets_its_map_on_its_own_grid():
    case, ball = spotted(shape=(16, 64, 56), spacing=(5.0, 2.0, 2.0))
    found = segment(Bright(), recipe(), case, setup=SETUP)
    assert found.shape == (16, 64, 56)
    assert (found[~case.brain] == 0).all()
    assert dice(found > 0.5, ball) > 0.8


def test_on_finer_voxels_the_rim_of_the_brain_keeps_its_probability():
    case, _ = spotted(shape=(16, 64, 56), spacing=(5.0, 2.0, 2.0))
    everywhere = segment(Bright(-9.0), recipe(), case, setup=SETUP)
    assert everywhere[case.brain].min() > 0.99
    assert everywhere[~case.brain].max() == 0.0


def test_scans_without_reference_or_without_brain_mask_are_segmented():
    case, ball = spotted()
    found = segment(Bright(), recipe(), dataclasses.replace(case, lesion=None), setup=SETUP)
    np.testing.assert_array_equal(found > 0.5, ball)
    whole = segment(Bright(), recipe(), dataclasses.replace(case, lesion=None, brain=None), setup=SETUP)
    np.testing.assert_array_equal(whole > 0.5, case.image.array > 60)


def test_with_two_channels_the_second_is_the_difference_to_the_contralateral_image():
    case = made_heads.head(0)
    with pytest.raises(DataError, match="contralateral"):
        segment(Bright(), recipe(channels=2), case, setup=TWO)
    other = np.where(case.brain, case.image.array[..., ::-1], AIR_HU).astype(np.float32)
    seen = dataclasses.replace(case, channels={"contralateral": other})
    model = Bright(0.95, channel=1)
    for window in (PLAN.patch, (32, 48, 48)):
        found = segment(model, recipe(channels=2), seen, setup=with_patch(window, TWO)) > 0.5
        difference = np.clip(other, *CLIP_HU) - np.clip(case.image.array, *CLIP_HU)
        both = case.brain & (other != AIR_HU) & case.brain[..., ::-1]
        np.testing.assert_array_equal(found[both], difference[both] > 9.5)
        assert dice(found, case.lesion) > 0.8
    x = model.seen[-1][0]
    assert x.shape == (2, 32, 48, 48)
    # Background: the lower clip of the CT, and no difference.
    assert (x[0, 0, 0, 0], x[1, 0, 0, 0]) == (-1.0, 0.0)
    assert build(recipe(channels=2), TWO).network.encoder.in_channels == 2
