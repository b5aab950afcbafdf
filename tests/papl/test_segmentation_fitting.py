"""Stages 2 and 3 as they are trained: the start, Eq. 24 term by term, the compared networks, a kill."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from made_trainings import (
    STEPS,
    TRAIN,
    VAL,
    given_to_the_loop,
    killed_and_whole,
    knowledge,
    segmentation,
    steady,
    train_once,
    watching,
    weights,
)

from strokelib.errors import DataError, ParameterError
from strokelib.infer import pooled_dice
from strokelib.metrics import dice
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.papl import knowledge_fitting, segmentation_fitting
from strokelib.papl.compensation import feature_compensation_loss
from strokelib.papl.inputs import recipe_slices, segment
from strokelib.papl.model import PAPL
from strokelib.papl.networks import NETWORKS
from strokelib.papl.refinement import perception_refinement_loss, sharpened_prediction
from strokelib.papl.rows import BACKBONES, BETAS
from strokelib.papl.segmentation_fitting import DICE, build, fit, losses
from strokelib.papl.snapshots import read_snapshot
from strokelib.papl.triplets import TripletSampler

FORMAL = dict(zip(("beta1", "beta2", "beta3"), BETAS, strict=True))


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    steady(monkeypatch)


def same(first, second):
    return all(np.array_equal(value, second[name]) for name, value in first.items())


def seeded(recipe, start=None):
    torch.manual_seed(0)
    return build(recipe, start)


def stage_1(network="U-Net"):
    torch.manual_seed(7)
    return knowledge_fitting.build(knowledge(network=network)).encoder_state()


def batch_of(recipe, seed=0):
    return next(TripletSampler(recipe_slices(TRAIN, recipe), recipe.batch, seed, lesion_share=1.0))


# The start


def test_a_compared_network_is_trained_as_it_is_and_stages_need_their_frame():
    assert type(build(segmentation())).__name__ == "UNet"
    assert type(build(segmentation(beta3=0.2))).__name__ == "UNet"
    assert isinstance(build(segmentation(**FORMAL)), PAPL)
    assert isinstance(build(segmentation(), stage_1()), PAPL)
    for name in set(NETWORKS) - {"U-Net"}:
        assert type(build(segmentation(network=name, width=8, crop=(48, 48)))) is NETWORKS[name]


@pytest.mark.parametrize("network", BACKBONES)
def test_the_encoder_is_stage_1s_and_the_rest_is_as_in_a_fresh_network(network):
    start = stage_1(network)
    fresh, started = (weights(seeded(segmentation(network=network, beta2=0.8), given)) for given in (None, start))
    names = {f"backbone.{name}" for name in start}
    assert len(names) > 10
    assert names <= set(fresh)
    for name in fresh:
        expected = start[name.removeprefix("backbone.")].numpy() if name in names else fresh[name]
        np.testing.assert_array_equal(started[name], expected)
    assert not same({name: fresh[name] for name in names}, started)


def test_a_training_goes_on_from_its_start(tmp_path):
    found, start = [], stage_1()
    recipe = segmentation(steps=1, validations=1, lr=1e-3, weight_decay=0.0, **FORMAL)
    with watching(lambda network, index: found.append(weights(network))):
        fit(seeded(recipe, start), recipe, TRAIN, VAL, seed=0, out=tmp_path)
    moved = [name for name in start if name.endswith("weight")]
    for name in moved:
        # AdamW's first step is the learning rate at most.
        assert 0 < np.abs(found[0][f"backbone.{name}"] - start[name].numpy()).max() < 1.01e-3


def test_the_start_of_another_size_and_stages_about_another_network_are_refused():
    with pytest.raises(DataError, match="encoder weight"):
        build(segmentation(width=6), stage_1())
    with pytest.raises(ParameterError, match="backbone"):
        build(segmentation(network="IS-Net", width=4, **FORMAL))


# Eq. 24


def test_the_loss_is_the_weighted_sum_of_its_three_terms():
    recipe = segmentation(**FORMAL, omega=2.0, mu=0.5, scale=3.0)
    batch, model = batch_of(recipe), seeded(recipe)
    found = losses(model, recipe, batch, 0)
    features, logits = model(batch.front, batch.middle, batch.rear)
    segmented = dice_and_cross_entropy(logits, batch.lesions)
    compensation = feature_compensation_loss(*features, batch.i, batch.j, batch.k, batch.n)
    how = (0.5, "stopped", "clamped", "means", 3.0)
    refinement = perception_refinement_loss(sharpened_prediction(logits, 2.0), batch.unit[:, 0], batch.lesions, *how)
    for name, term in (("segmentation", segmented), ("compensation", compensation), ("refinement", refinement)):
        torch.testing.assert_close(found[name], term.detach())
        assert found[name] > 0
        assert not found[name].requires_grad
    torch.testing.assert_close(found["loss"], 0.8 * segmented + 0.8 * compensation + 0.2 * refinement)


def test_the_recipes_forms_reach_the_terms(monkeypatch):
    forms = {"distance": "sums", "gradient": "carried", "base": "printed", "reduction": "sums", "mu": 2.0, "scale": 3.0}
    given = []

    def term(*arguments):
        given.append(arguments)
        return torch.tensor(1.0)

    for name in ("feature_compensation_loss", "perception_refinement_loss"):
        monkeypatch.setattr(segmentation_fitting, name, term)
    recipe = segmentation(**FORMAL, **forms)
    batch, model = batch_of(recipe), seeded(recipe)
    losses(model, recipe, batch, 0)
    compensation, refinement = given
    assert compensation[-1] == "sums"
    assert all(torch.equal(*pair) for pair in zip(compensation[3:7], (batch.i, batch.j, batch.k, batch.n), strict=True))
    assert refinement[3:] == (2.0, "carried", "printed", "sums", 3.0)
    assert torch.equal(refinement[1], batch.unit[:, 0])
    assert torch.equal(refinement[2], batch.lesions)


def test_the_refinement_grows_in_the_recipes_phases():
    recipe = segmentation(**FORMAL, steps=40, phases=4, growth=1.5)
    batch, model = batch_of(recipe), seeded(recipe)
    found = {}
    for index in range(40):
        with torch.no_grad():
            terms = losses(model, recipe, batch, index)
        rest = 0.8 * terms["segmentation"] + 0.8 * terms["compensation"]
        found[index] = float((terms["loss"] - rest) / terms["refinement"])
    expected = [0.2 * 1.5 ** (index // 10) for index in range(40)]
    assert list(found.values()) == pytest.approx(expected, rel=1e-3)


def test_a_term_without_weight_is_not_computed():
    batch = batch_of(segmentation())
    terms = {}
    for name, betas in (
        ("plain", {}),
        ("fcm", {"beta1": 0.8, "beta2": 0.8}),
        ("rprs", {"beta1": 0.8, "beta3": 0.2}),
        ("both", FORMAL),
    ):
        recipe = segmentation(**betas)
        terms[name] = set(losses(seeded(recipe), recipe, batch, 0)) - {"loss", "segmentation"}
    assert terms == {
        "plain": set(),
        "fcm": {"compensation"},
        "rprs": {"refinement"},
        "both": {"compensation", "refinement"},
    }


def test_without_fcm_and_rprs_papl_around_a_network_has_the_plain_networks_loss():
    recipe = segmentation()
    batch, plain = batch_of(recipe), seeded(recipe)
    wrapped = PAPL(seeded(recipe))
    found, expected = (losses(model.train(), recipe, batch, 3) for model in (wrapped, plain))
    assert set(found) == set(expected) == {"loss", "segmentation"}
    assert torch.equal(found["loss"], expected["loss"])
    for terms in (found, expected):
        terms["loss"].backward()
    for of_wrapped, of_plain in zip(wrapped.backbone.parameters(), plain.parameters(), strict=True):
        assert torch.equal(of_wrapped.grad, of_plain.grad)


def test_without_fcm_the_middle_slices_alone_set_the_batch_statistics():
    recipe = segmentation()
    batch, model = batch_of(recipe), PAPL(seeded(recipe))
    blind = batch._replace(front=torch.full_like(batch.front, 1e6), rear=torch.full_like(batch.rear, 1e6))
    assert torch.equal(losses(model, recipe, blind, 0)["loss"], losses(model, recipe, batch, 0)["loss"])


def test_the_is_net_has_its_own_loss_with_the_edge_in_it():
    recipe = segmentation(network="IS-Net", width=8)
    batch, model = batch_of(recipe), seeded(recipe)
    found = losses(model, recipe, batch, 0)
    output = model(batch.middle)
    torch.testing.assert_close(found["loss"], model.loss(output, batch.lesions))
    assert found["loss"] > dice_and_cross_entropy(output.logits, batch.lesions) + 0.1
    assert set(found) == {"loss", "segmentation"}


@pytest.mark.parametrize("how", [{}, FORMAL, {"network": "IS-Net", "width": 8}])
def test_missed_infarct_counts_more_at_first_for_every_network_alike(how):
    plain, focused = segmentation(**how, steps=10), segmentation(**how, steps=10, focus=20.0)
    batch, model = batch_of(plain), seeded(plain)
    with torch.no_grad():
        output = model(batch.front, batch.middle, batch.rear) if plain.beta2 else model(batch.middle)
        logits = output if isinstance(output, torch.Tensor) else output.logits
        missed = -((batch.lesions > 0) * logits.log_softmax(dim=1)[:, 1]).mean()
        assert missed > 0
        for index, weight in ((0, 20.0), (5, 20 * 0.55), (9, 20 * 0.19)):
            with_it, without = (losses(model, recipe, batch, index) for recipe in (focused, plain))
            assert set(with_it) == set(without)
            for name, share in (("segmentation", 1.0), ("loss", plain.beta1)):
                torch.testing.assert_close(with_it[name] - without[name], share * weight * missed, rtol=1e-3, atol=1e-5)


# The training


def test_head_and_frame_of_stage_1_are_no_part_of_what_is_trained():
    given = given_to_the_loop(segmentation_fitting, segmentation(**FORMAL, lr=0.5, weight_decay=0.25))
    held = {id(p) for group in given.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in given.model.backbone.parameters()}
    assert isinstance(given.optimizer, torch.optim.AdamW)
    assert (given.optimizer.defaults["lr"], given.optimizer.defaults["weight_decay"]) == (0.5, 0.25)
    plain = given_to_the_loop(segmentation_fitting, segmentation(steps=10, validations=4, clip_norm=3.0))
    held = {id(p) for group in plain.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in plain.model.parameters()}
    assert (plain.clip_norm, plain.steps, plain.validate_every, plain.checkpoint_every) == (3.0, 10, 2, 2)
    assert [plain.schedule(step) for step in (0, 5)] == pytest.approx([1.0, 0.5**0.9])
    constant = given_to_the_loop(segmentation_fitting, segmentation(schedule_power=0.0))
    assert [constant.schedule(step) for step in (0, STEPS - 1)] == [1.0, 1.0]
    assert plain.__dict__.get("best") is None


def test_compared_networks_see_the_same_middle_slices_in_the_same_order():
    streams = [
        given_to_the_loop(segmentation_fitting, recipe).stream
        for recipe in (segmentation(), segmentation(**FORMAL), segmentation(network="IS-Net", width=8))
    ]
    for _ in range(3):
        first, *others = (next(stream) for stream in streams)
        assert all(torch.equal(first.middle, other.middle) for other in others)
        assert all(torch.equal(first.lesions, other.lesions) for other in others)


def test_triplets_are_drawn_in_the_form_share_and_augmentation_of_the_recipe():
    recipe = segmentation(lesion_share=1.0, mirror=0.0, contrast=0.3)
    stream = given_to_the_loop(segmentation_fitting, recipe).stream
    assert (stream.form, stream.lesion_share, stream.batch) == ("recommended", 1.0, 4)
    assert stream.augmentation == recipe.augmentation()
    assert (stream.augmentation.mirror, stream.augmentation.contrast, stream.augmentation.rotation_deg) == (0, 0.3, 0)
    printed = given_to_the_loop(segmentation_fitting, segmentation(lesion_share=1.0, triplets="printed")).stream
    # Any three slices of a scan: their share of infarct is what it is.
    assert (printed.form, printed.lesion_share) == ("printed", None)


def test_printed_triplets_are_trained_on(tmp_path):
    recipe = segmentation(triplets="printed", steps=2, validations=1, **FORMAL)
    _, history = train_once(segmentation_fitting, recipe, TRAIN, VAL, tmp_path)
    assert np.isfinite(history.curve("loss", "train")[1]).all()
    assert np.isfinite(history.curve("compensation", "train")[1]).all()


@pytest.mark.parametrize("network", BACKBONES)
def test_encoder_and_decoder_move_and_the_head_of_stage_1_does_not(tmp_path, network):
    recipe = segmentation(network=network, steps=2, validations=1, weight_decay=0.1, **FORMAL)
    model = seeded(recipe)
    before = weights(model)
    fit(model, recipe, TRAIN, VAL, seed=0, out=tmp_path)
    after = weights(model)
    resting = [name for name in before if name.endswith("weight") and np.array_equal(before[name], after[name])]
    assert resting == [name for name in before if name.startswith("head.") and name.endswith("weight")]
    assert len(resting) == 2


def test_the_same_slices_of_held_out_heads_are_watched_spread_over_them():
    recipe = segmentation(val_slices=5)
    given = given_to_the_loop(segmentation_fitting, recipe)
    held_out = recipe_slices(VAL, recipe).spread(5)
    assert len(held_out.images) <= 5
    expected = pooled_dice(given.model, held_out.images, held_out.lesions)
    assert given.validate(given.model) == {DICE: expected}
    wrapped = given_to_the_loop(segmentation_fitting, recipe, PAPL(given.model))
    assert wrapped.validate(wrapped.model) == {DICE: expected}


@pytest.mark.parametrize(
    ("changes", "start", "stop"), [(FORMAL, True, 3), ({"network": "TransU-Net", "width": 4, "depth": None}, False, 5)]
)
def test_a_killed_training_ends_with_the_same_bytes_its_snapshots_too(tmp_path, monkeypatch, changes, start, stop):
    recipe = segmentation(snapshots=(0.0, 0.5, 0.8, 1.0), **changes)
    if start:
        given, whole_build = stage_1(), segmentation_fitting.build
        monkeypatch.setattr(segmentation_fitting, "build", lambda used: whole_build(used, given))
    whole, killed = killed_and_whole(segmentation_fitting, recipe, tmp_path, stop)
    assert set(whole.weights) == set(killed.weights)
    assert all(whole.weights[name].tobytes() == killed.weights[name].tobytes() for name in whole.weights)
    assert whole.history == killed.history
    assert list(whole.snapshots) == [f"step_{step:08d}.safetensors" for step in (0, 3, 5, 6)]
    assert whole.snapshots == killed.snapshots
    assert any(f"resumed at step {stop // 2 * 2}" in note for note in killed.notes)


def test_snapshots_are_the_weights_of_their_steps(tmp_path):
    recipe = segmentation(snapshots=(0.5, 1.0), **FORMAL)
    steps = []
    with watching(lambda network, index: steps.append(weights(network))):
        train_once(segmentation_fitting, recipe, TRAIN, VAL, tmp_path)
    first, last = (weights(read_snapshot(build(recipe), tmp_path, step)) for step in (3, 6))
    assert same(steps[2], first)
    assert same(steps[5], last)
    assert all(not same(a, b) for a, b in pairwise(steps))


@pytest.mark.parametrize("betas", [{}, FORMAL])
def test_it_learns_to_find_the_lesion_of_a_head(tmp_path, betas):
    how = {"zoom": 0.0, "contrast": 0.0, "brightness": 0.0, "noise": 0.0, "width": 8, "batch": 8, "lesion_share": 0.7}
    recipe = segmentation(steps=40, validations=1, lr=2e-2, **how, **betas)
    torch.manual_seed(0)
    model = build(recipe)
    fit(model, recipe, TRAIN[:1], VAL, seed=0, out=tmp_path)
    found = segment(model, recipe, TRAIN[0])
    assert dice(found > 0.5, TRAIN[0].lesion) > 0.8
