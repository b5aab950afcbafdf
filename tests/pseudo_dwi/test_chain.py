"""Training and use of the whole chain: Eq. 15 by hand, gradients from end to end, kill and resume."""

import os
import sys

import numpy as np
import pytest
import torch
from torch import nn

from strokelib.errors import DataError, ParameterError
from strokelib.pseudo_dwi import chain
from strokelib.pseudo_dwi.chain import build, run_chain, segment, step_loss
from strokelib.pseudo_dwi.losses import lesion_weight_map
from strokelib.pseudo_dwi.recipe import ChainRecipe
from strokelib.pseudo_dwi.segmentation import DICE
from strokelib.pseudo_dwi.slices import named_slices

sys.path.insert(0, os.path.dirname(__file__))
import made_cases
from made_cases import SMALL, train_once, weights

TRAIN = [made_cases.case(0), made_cases.case(1)]
VAL = [made_cases.case(2, "val")]


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_cases.steady(monkeypatch)


def recipe(**changes):
    return ChainRecipe.at("smoke", **{**SMALL, "steps": 3, "validations": 1, "lesion_share": None, **changes})


def made(**changes):
    torch.manual_seed(0)
    return build(recipe(**changes))


def batch(size=(16, 20), lesion=True):
    """Channels by name, with DWI and weight map, and class numbers of two slices, one of them without lesion."""
    generator = torch.Generator().manual_seed(4)
    widths = {"maps": 4, "mip": 1, "frames": 6, "dwi": 1}
    channels = {name: torch.rand(2, width, *size, generator=generator) for name, width in widths.items()}
    lesions = torch.zeros(2, *size, dtype=torch.long)
    lesions[0, 3:8, 4:11] = int(lesion)
    channels["weight"] = torch.from_numpy(lesion_weight_map(lesions.numpy() > 0))[:, None]
    return channels, lesions


def reached(part):
    return [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part.parameters()]


# The network


def test_another_word_for_the_context_encoder_and_an_unknown_input_are_refused():
    with pytest.raises(ParameterError, match="frozen or joint"):
        made(context="thawed")
    with pytest.raises(ParameterError, match="maps, mip, frames"):
        made(inputs=("maps", "dwi"))


@pytest.mark.parametrize(
    ("inputs", "segment_maps", "needs"),
    [
        (("maps",), False, ("maps",)),
        (("mip", "maps"), False, ("maps", "mip")),
        (("maps", "mip", "frames"), False, ("maps", "mip", "frames")),
        (("maps", "mip", "frames"), True, ("maps", "mip", "frames")),
        (("mip",), True, ("mip", "maps")),
    ],
)
def test_a_chain_names_what_it_is_fed_with_and_runs_on_that_alone(inputs, segment_maps, needs):
    model, (channels, _) = made(inputs=inputs, segment_maps=segment_maps), batch()
    assert model.needs == needs
    found = model({name: channels[name] for name in needs})
    assert found.logits.shape == (2, 2, 16, 20)
    assert found.image.shape == (2, 1, 16, 20)
    assert (found.high_level is None) == ("frames" not in inputs)


def test_the_context_encoder_is_frozen_or_trained_as_the_recipe_says():
    for context, trained in (("frozen", False), ("joint", True)):
        assert {p.requires_grad for p in made(context=context).context.parameters()} == {trained}


# Eq. 15


def pixels(*shape):
    return np.ndindex(*shape)


def literal_synthesis(image, target, weight, codes, gamma):
    """Mean of squared weighted errors, and the sum of absolute differences of the codes, a slice at a time."""
    square = sum((weight[p] * (image[p] - target[p])) ** 2 for p in pixels(*image.shape)) / image.size
    ours, theirs = codes
    return square + gamma * sum(abs(a - b) for a, b in zip(ours.flat, theirs.flat, strict=True)) / len(ours)


def literal_segmentation(logits, lesions, weight):
    """Weighted cross-entropy and the hardness-aware generalised Dice loss, sums over the batch."""
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    crossed = sum(weight[b, 0, i, j] * -np.log(p[b, lesions[b, i, j], i, j]) for b, i, j in pixels(*lesions.shape))
    above = below = 0.0
    for c in (0, 1):
        there = sum(float(lesions[x] == c) for x in pixels(*lesions.shape))
        hit = sum(p[b, c, i, j] for b, i, j in pixels(*lesions.shape) if lesions[b, i, j] == c)
        above += hit / there**2
        below += (there + p[:, c].sum()) / there**2
    return crossed / weight.sum() - np.log(2 * above / below)


@pytest.mark.parametrize("inputs", [("maps", "mip", "frames"), ("maps", "mip")])
def test_the_loss_of_a_batch_is_eq_15_by_hand(inputs):
    used = recipe(inputs=inputs, alpha=0.7, beta=0.4, gamma=0.9)
    model, (channels, lesions) = made(inputs=inputs), batch()
    found = step_loss(model, used, channels, lesions)
    with torch.no_grad():
        seen = model(channels)
        images = {name: getattr(seen, name) for name in ("image", "high_level")[: 1 + ("frames" in inputs)]}
        codes = {name: model.context(x).double().numpy() for name, x in images.items()}
        theirs = model.context(channels["dwi"]).double().numpy()
    target, weight = channels["dwi"].double().numpy(), channels["weight"].double().numpy()
    segmentation = literal_segmentation(seen.logits.double().numpy(), lesions.numpy(), weight)
    parts = {
        name: literal_synthesis(images[name].double().numpy(), target, weight, (code, theirs), 0.9)
        for name, code in codes.items()
    }
    expected = segmentation + 0.7 * parts["image"] + 0.4 * parts.get("high_level", 0.0)
    assert float(found["loss"].detach()) == pytest.approx(expected, rel=1e-4)
    assert float(found["segmentation"]) == pytest.approx(segmentation, rel=1e-4)
    assert float(found["synthesis"]) == pytest.approx(parts["image"], rel=1e-4)
    assert ("extraction" in found) == ("frames" in inputs)
    assert not any(value.requires_grad for name, value in found.items() if name != "loss")


def test_the_gradient_of_the_segmentation_alone_reaches_extractor_and_generator():
    model, (channels, lesions) = made(width=8), batch()
    step_loss(model, recipe(alpha=0.0, beta=0.0), channels, lesions)["loss"].backward()
    for part in (model.chain.extractor, model.chain.generator, model.chain.segmenter):
        assert all(reached(part))


def test_the_synthesis_reaches_no_segmenter_and_the_extraction_no_generator():
    model, (channels, lesions) = made(), batch()

    def gradients(part, **changes):
        loss = step_loss(model, recipe(**changes), channels, lesions)["loss"]
        return torch.autograd.grad(loss, [*part.parameters()])

    for part, weight in ((model.chain.segmenter, "alpha"), (model.chain.generator, "beta")):
        for a, b in zip(gradients(part, **{weight: 0.0}), gradients(part, **{weight: 5.0}), strict=True):
            torch.testing.assert_close(a, b)


def test_a_batch_of_background_alone_has_a_finite_loss_and_gradient():
    model, (channels, lesions) = made(), batch(lesion=False)
    assert lesions.sum() == 0
    loss = step_loss(model, recipe(), channels, lesions)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.chain.parameters())


# Training


def start(used):
    from strokelib import repro

    repro.seed_everything(0)
    return weights(build(used))


@pytest.mark.parametrize("context", ["frozen", "joint"])
def test_a_training_moves_all_three_networks_and_a_context_encoder_that_is_not_frozen(context, tmp_path):
    used = recipe(context=context, width=8)
    model, history = train_once(chain, used, TRAIN, VAL, tmp_path)
    before, after = start(used), weights(model)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    parts = ("chain.extractor", "chain.generator", "chain.segmenter")
    assert {n for n, _ in model.named_parameters() if n.startswith(parts) and not n.endswith("bias")} <= moved
    assert any(name.startswith("context") for name in moved) == (context == "joint")
    assert all(np.isfinite(r.value) for r in history.rows)
    assert {r.name for r in history.rows if r.split == "train"} >= {"loss", "segmentation", "synthesis", "extraction"}


@pytest.mark.parametrize("inputs", [("maps",), ("maps", "mip", "frames")])
def test_training_and_validation_slices_without_any_lesion_give_no_nan(inputs, tmp_path):
    healthy = [made_cases.case(number, lesion=False) for number in (0, 1)]
    held_out = [made_cases.case(2, "val", lesion=False)]
    model, history = train_once(chain, recipe(inputs=inputs, segment_maps=True), healthy, held_out, tmp_path)
    assert all(np.isfinite(r.value) for r in history.rows)
    assert all(np.isfinite(value).all() for value in weights(model).values())


def test_cases_without_a_dwi_cannot_train_the_chain(tmp_path):
    with pytest.raises(DataError, match="the public archive of ISLES 2018 has none"):
        train_once(chain, recipe(), TRAIN, [made_cases.case(2, "val", dwi=False)], tmp_path)


def test_a_training_that_was_stopped_in_the_middle_ends_with_the_same_bytes(tmp_path):
    used = recipe(steps=6, validations=3, ema_decay=0.9, clip_norm=1.0, crop=(32, 26), patch=(24, 20), lesion_share=0.8)
    whole, resumed = made_cases.stopped_and_whole(chain, used, TRAIN, VAL, tmp_path, stop=5)
    assert "resumed at step 4" in resumed[2].notes
    assert "resumed at step 4" not in whole[2].notes
    assert whole[1] == resumed[1]
    assert {name: v.tobytes() for name, v in whole[0].items()} == {name: v.tobytes() for name, v in resumed[0].items()}


def test_the_chain_overfits_one_scan_in_segmentation_and_image(tmp_path):
    # At the published weights the image takes far longer than the segmentation.
    weighed = {"alpha": 30.0, "beta": 10.0, "gamma": 0.02, "lr": 0.01}
    used = recipe(width=8, depth=2, steps=200, validations=1, mirror=0.0, **weighed)
    model, history = train_once(chain, used, TRAIN[:1], TRAIN[:1], tmp_path)
    assert history.curve(DICE)[1].max() > 0.95
    probability, image, _ = run_chain(model, used, TRAIN[0])
    found, truth, dwi = probability > 0.5, TRAIN[0].lesion, TRAIN[0].channels["dwi"][0]
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    assert ((image - dwi) ** 2).mean() < 0.5 * dwi.var()


def test_the_logged_validation_is_the_pooled_dice_of_the_weights_that_are_kept(tmp_path):
    used = recipe(steps=6, validations=6, batch=2)
    model, history = train_once(chain, used, TRAIN, VAL, tmp_path)
    steps, values = history.curve(DICE)
    assert history.best_step == steps[values.argmax()]
    held_out = named_slices(VAL, (*model.needs, "dwi"), used).slices
    with torch.no_grad():
        channels = {name: torch.from_numpy(VAL[0].channels[name].swapaxes(0, 1).copy()) for name in model.needs}
        found = model.eval()(channels).logits.argmax(dim=1) > 0
    truth = held_out.lesions > 0
    expected = 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())
    assert values.max() == pytest.approx(expected, abs=1e-6)


# Use


def test_running_the_chain_on_a_case_is_its_forward_pass_in_evaluation_whatever_the_batch():
    model, case = made(segment_maps=True), TRAIN[0]
    with torch.no_grad():
        channels = {name: torch.from_numpy(case.channels[name].swapaxes(0, 1).copy()) for name in model.needs}
        expected = model.eval()(channels)
    model.train()
    for size in (1, 2, 5):
        probability, image, high_level = run_chain(model, recipe(segment_maps=True, batch=size), case)
        np.testing.assert_allclose(image, expected.image[:, 0], atol=1e-5)
        np.testing.assert_allclose(high_level, expected.high_level[:, 0], atol=1e-5)
        wanted = np.where(case.brain, expected.logits.softmax(dim=1)[:, 1], 0)
        np.testing.assert_allclose(probability, wanted, atol=1e-5)
    assert model.training
    assert {image.dtype, probability.dtype, high_level.dtype} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(segment(model, recipe(segment_maps=True, batch=5), case), probability)


class Bright(nn.Module):
    """Stands for a chain that finds lesion and signal everywhere."""

    needs = ("maps",)

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, channels):
        from strokelib.pseudo_dwi.model import Chain

        ones = torch.ones_like(channels["maps"][:, :1])
        return Chain(torch.cat([-20 * ones, 20 * ones], dim=1), ones, None)


def test_outside_the_window_nothing_is_made_and_outside_the_brain_nothing_is_found():
    case = TRAIN[0]
    probability, image, high_level = run_chain(Bright(), recipe(crop=(16, 12)), case)
    assert high_level is None
    rows, columns = np.flatnonzero(image[0].any(axis=1)), np.flatnonzero(image[0].any(axis=0))
    assert (len(rows), len(columns)) == (16, 12)
    np.testing.assert_array_equal(probability > 0.5, (image == 1) & case.brain)
    probability, image, _ = run_chain(Bright(), recipe(), case)
    assert (image == 1).all()
    np.testing.assert_array_equal(probability > 0.5, case.brain)
