"""Stage 1 as it is trained: what moves, what is minimised for each task, what is watched and kept, and a kill."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from made_trainings import (
    STEPS,
    TRAIN,
    VAL,
    given_to_the_loop,
    killed_and_whole,
    knowledge,
    made_heads,
    steady,
    train_once,
    watching,
    weights,
)

from strokelib.data.cases import Volume
from strokelib.errors import ParameterError
from strokelib.papl import contrastive, knowledge_fitting
from strokelib.papl.inputs import recipe_slices
from strokelib.papl.knowledge_fitting import (
    NEIGHBOUR,
    build,
    embeddings,
    fit,
    held_out_regions,
    neighbour_accuracy,
    region_stream,
    sample_embeddings,
)
from strokelib.papl.losses import inter_sample_loss, intra_sample_loss
from strokelib.papl.rows import ASYMMETRY, GCL, PCL, TASKS
from strokelib.papl.snapshots import read_snapshot, snapshot_path

TRAINED = (ASYMMETRY, PCL, GCL)


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    steady(monkeypatch)


def same(first, second):
    return all(np.array_equal(value, second[name]) for name, value in first.items())


def parts(found):
    """The tensors of encoder, decoder and head; counters of batches are left out."""
    names = {"encoder": "backbone.encoder.", "decoder": ("backbone.decoder.", "backbone.head."), "head": "head."}
    return {part: {name: v for name, v in found.items() if name.startswith(prefix)} for part, prefix in names.items()}


# What is built and what moves


def test_a_backbone_of_the_recipes_sizes_gets_a_head_of_the_recipes_length():
    model = build(knowledge(network="U-Net++", width=6, depth=4))
    assert type(model.backbone).__name__ == "UNetPlusPlus"
    assert model.backbone.feature_channels == 48
    v, features = model.embed(torch.randn(3, 1, 32, 32))
    assert (v.shape, features.shape) == ((3, 6), (3, 48, 4, 4))


def test_a_network_that_cannot_be_taken_apart_is_refused():
    with pytest.raises(ParameterError, match="backbone"):
        build(knowledge(network="IS-Net", width=4))


@pytest.mark.parametrize("task", TRAINED)
def test_encoder_and_head_move_and_the_decoder_does_not(tmp_path, task):
    torch.manual_seed(0)
    recipe = knowledge(task=task, steps=2, validations=1, weight_decay=0.1, lambda1=0.6, lambda2=0.3)
    model = build(recipe)
    before = parts(weights(model))
    fit(model, recipe, TRAIN, VAL, seed=0, out=tmp_path)
    after = parts(weights(model))
    assert [len(before[part]) > 3 for part in before] == [True] * 3
    assert same(before["decoder"], after["decoder"])
    for part in ("encoder", "head"):
        moved = [name for name, value in before[part].items() if not np.array_equal(value, after[part][name])]
        assert [name for name in before[part] if name.endswith("weight") and name not in moved] == []


def test_the_optimiser_holds_encoder_and_head_alone_with_rate_decay_and_clipping_of_the_recipe():
    recipe = knowledge(lr=0.5, weight_decay=0.25, clip_norm=3.0, steps=10, validations=4, schedule_power=0.9)
    given = given_to_the_loop(knowledge_fitting, recipe)
    held = {id(p) for group in given.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in (*given.model.backbone.encoder.parameters(), *given.model.head.parameters())}
    assert isinstance(given.optimizer, torch.optim.AdamW)
    assert (given.optimizer.defaults["lr"], given.optimizer.defaults["weight_decay"]) == (0.5, 0.25)
    assert (given.clip_norm, given.steps, given.validate_every, given.checkpoint_every) == (3.0, 10, 2, 2)
    assert [given.schedule(step) for step in (0, 5)] == pytest.approx([1.0, 0.5**0.9])
    assert given.recipe_key == recipe.key()
    published = given_to_the_loop(knowledge_fitting, knowledge(schedule_power=0.0))
    assert [published.schedule(step) for step in (0, STEPS - 1)] == [1.0, 1.0]
    # Without a name of a best value the last weights are kept.
    assert published.__dict__.get("best") is None


# What is minimised


@pytest.mark.parametrize(
    "forms", [{}, {"intra": "batch", "margin": 0.5, "halves": "printed", "direction": "one_sided"}]
)
def test_the_asymmetry_task_minimises_eq_14_of_the_recipes_samples(forms):
    recipe = knowledge(lambda1=0.7, lambda2=0.2, tau=0.3, batch=12, **forms)
    given = given_to_the_loop(knowledge_fitting, recipe)
    batch = next(given.stream)
    assert sorted(set(batch.labels.tolist())) == [0, 1]
    found = given.step(given.model, batch, 0)
    v, features = given.model.embed(batch.images)
    how = (recipe.intra, recipe.margin, recipe.halves, recipe.maps, recipe.direction)
    inter, intra = inter_sample_loss(v, batch.labels, 0.3), intra_sample_loss(features, batch.labels, *how)
    torch.testing.assert_close(found["inter"], inter.detach())
    torch.testing.assert_close(found["intra"], intra.detach())
    torch.testing.assert_close(found["loss"], 0.7 * inter + 0.2 * intra)
    assert found["inter"] > 0
    assert found["intra"].abs() > 0
    found["loss"].backward()
    assert given.model.backbone.encoder[0][0].weight.grad.abs().sum() > 0


def test_as_printed_the_sum_is_maximised_where_the_recipe_says_so():
    how = {"inter": "printed", "intra": "printed", "aim": "maximise", "batch": 12}
    given = given_to_the_loop(knowledge_fitting, knowledge(**how))
    batch = next(given.stream)
    found = given.step(given.model, batch, 0)
    v, features = given.model.embed(batch.images)
    printed = 0.6 * inter_sample_loss(v, batch.labels, 0.1, "printed") + 0.3 * intra_sample_loss(
        features, batch.labels, "printed"
    )
    torch.testing.assert_close(found["loss"], -printed)


def test_pcl_and_gcl_minimise_their_own_losses_of_views_as_many_as_samples():
    for task, drawn_by in ((PCL, "slice"), (GCL, "quarter")):
        given = given_to_the_loop(knowledge_fitting, knowledge(task=task, batch=8, tau=0.2, quarters="supcon"))
        assert isinstance(given.stream, contrastive.ViewSampler)
        assert given.stream.drawn_by == drawn_by
        batch = next(given.stream)
        assert batch.images.shape == (8, 1, 32, 32)
        v, _ = given.model.embed(batch.images)
        if task == PCL:
            expected = contrastive.positional_contrastive_loss(v, batch.positions, tau=0.2)
        else:
            where = (batch.quarters, batch.scans, batch.rows)
            expected = contrastive.quarter_contrastive_loss(v, *where, tau=0.2, form="supcon")
        found = given.step(given.model, batch, 0)
        assert list(found) == ["loss"]
        torch.testing.assert_close(found["loss"], expected)
        assert expected > 0


def rising(case):
    """The same head with slices that grow brighter upwards."""
    hu = case.image.array + 3.0 * np.arange(len(case.brain))[:, None, None]
    return dataclasses.replace(case, image=Volume(hu.astype(np.float32), case.image.affine))


@pytest.mark.parametrize("task", [PCL, GCL])
def test_heights_in_the_scan_are_learnt_where_they_can_be_seen(tmp_path, task):
    recipe = knowledge(task=task, steps=30, validations=1, batch=16)
    cases = [[rising(case) for case in part] for part in (TRAIN, VAL)]
    _, history = train_once(knowledge_fitting, recipe, *cases, tmp_path)
    losses = history.curve("loss", "train")[1]
    assert np.isfinite(losses).all()
    assert losses[-6:].mean() < losses[:6].mean() - 0.15


def test_the_samples_of_one_batch_are_told_apart(tmp_path, monkeypatch):
    recipe = knowledge(steps=40, validations=1, batch=16, lesion_share=0.7)
    batch = next(region_stream(recipe, recipe_slices(TRAIN, recipe), 16, 0))
    assert batch.labels.sum() == 8
    monkeypatch.setattr(knowledge_fitting, "region_stream", lambda *given, **how: [batch])
    model, history = train_once(knowledge_fitting, recipe, TRAIN, VAL, tmp_path)
    losses = history.curve("loss", "train")[1]
    # Eight of each label: a sample's seven partners share what is left of 1, so that 0.6 log 7 = 1.17 is the least.
    assert losses[0] > 1.4
    assert losses[-1] < 1.25
    assert neighbour_accuracy(embeddings(model, batch.images), batch.labels.numpy()) == 1.0


def test_another_task_is_refused():
    for task in ("none", "asymmetries"):
        with pytest.raises(ParameterError, match=r"task(.|\n)*asymmetry"):
            given_to_the_loop(knowledge_fitting, knowledge(task=task))
    assert set(TASKS) - set(TRAINED) == {"none"}


# What is seen


def test_samples_are_drawn_as_the_recipe_says_and_plain_ones_are_left_as_they_lie():
    recipe = knowledge(samples=3, positive_share=0.2, lesion_share=1.0)
    slices = recipe_slices(TRAIN, recipe)
    stream = region_stream(recipe, slices, 6, 5)
    assert (stream.samples, stream.positive_share, stream.lesion_share, stream.batch, stream.seed) == (
        3,
        0.2,
        1.0,
        6,
        5,
    )
    assert stream.augmentation == recipe.augmentation()
    assert (stream.augmentation.rotation_deg, stream.augmentation.shift, stream.augmentation.zoom) == (0, 0, 0.1)
    plain = region_stream(recipe, slices, 6, 5, plain=True)
    batch = next(plain)
    assert plain.lesion_share is None
    assert all(
        bool(((image == slices.images[row]) | (image == slices.fill[row])).all())
        for image, row in zip(batch.images, batch.rows, strict=True)
    )


def test_training_heads_are_trained_on_and_the_same_samples_of_held_out_heads_are_watched(monkeypatch):
    asked, whole = [], knowledge_fitting.recipe_slices

    def watched(cases, recipe):
        asked.append([case.id for case in cases])
        return whole(cases, recipe)

    seen = []
    monkeypatch.setattr(knowledge_fitting, "recipe_slices", watched)
    monkeypatch.setattr(
        knowledge_fitting, "embeddings", lambda network, images: seen.append(images) or np.eye(len(images))
    )
    for task in (ASYMMETRY, PCL):
        given = given_to_the_loop(knowledge_fitting, knowledge(task=task))
        for _ in range(2):
            assert set(given.validate(given.model)) == {NEIGHBOUR}
    assert asked == [[case.id for case in part] for part in (TRAIN, VAL)] * 2
    assert all(torch.equal(seen[0], other) for other in seen[1:])
    assert len(seen[0]) == 8


def test_held_out_heads_without_infarct_are_watched_too():
    well = made_heads.heads(range(5, 7), "val", shape=(10, 32, 32), spacing=(5.0, 4.0, 4.0), lesion=False)
    assert held_out_regions(knowledge(), well).labels.tolist() == [0] * 8
    assert sorted(set(held_out_regions(knowledge(val_samples=32), VAL).labels.tolist())) == [0, 1]


def test_the_neighbour_is_the_nearest_other_sample_by_cosine():
    vectors = np.array([[1.0, 0.0], [9.0, 1.0], [0.0, 1.0], [0.2, 3.0], [1.0, 1.1]])
    # Nearest by angle: 1, 0, 3, 2 and, of the last one, 3.
    assert neighbour_accuracy(vectors, np.array([0, 0, 1, 1, 1])) == 1.0
    assert neighbour_accuracy(vectors, np.array([0, 1, 1, 1, 0])) == pytest.approx(2 / 5)
    assert neighbour_accuracy(np.eye(2), np.array([0, 1])) == 0.0


def test_embeddings_have_length_1_whatever_the_batch_and_leave_the_network_as_it_was():
    torch.manual_seed(0)
    model = build(knowledge()).train()
    before, images = weights(model), torch.randn(7, 1, 32, 32)
    found = embeddings(model, images, batch=3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, embeddings(model, images), atol=1e-5)
    assert model.training
    assert same(before, weights(model))
    with torch.no_grad():
        expected = functional.normalize(model.eval().embed(images)[0], dim=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_case_gives_as_many_embeddings_as_its_slices_have_samples_and_always_the_same():
    torch.manual_seed(0)
    model = build(knowledge())
    found = sample_embeddings(model, knowledge(samples=3), TRAIN[1])
    assert found.shape == (3 * 8, 6)
    np.testing.assert_array_equal(found, sample_embeddings(model, knowledge(samples=3), TRAIN[1]))


# A kill, and what is kept


@pytest.mark.parametrize(("task", "stop"), [(ASYMMETRY, 3), (GCL, 5)])
def test_a_killed_stage_1_ends_with_the_same_bytes_its_snapshots_too(tmp_path, task, stop):
    recipe = knowledge(task=task, snapshots=(0.0, 0.5, 0.8, 1.0))
    whole, killed = killed_and_whole(knowledge_fitting, recipe, tmp_path, stop)
    assert set(whole.weights) == set(killed.weights)
    assert all(whole.weights[name].tobytes() == killed.weights[name].tobytes() for name in whole.weights)
    assert whole.history == killed.history
    assert list(whole.snapshots) == [f"step_{step:08d}.safetensors" for step in (0, 3, 5, 6)]
    assert whole.snapshots == killed.snapshots
    assert any(f"resumed at step {stop // 2 * 2}" in note for note in killed.notes)


def test_snapshots_are_the_weights_of_their_steps_and_keeping_them_changes_nothing(tmp_path):
    recipe = knowledge(snapshots=(0.0, 0.5, 1.0))
    torch.manual_seed(0)
    steps = [weights(build(recipe))]
    bare = knowledge()
    with watching(lambda network, index: steps.append(weights(network))):
        torch.manual_seed(0)
        model = build(bare)
        fit(model, bare, TRAIN, VAL, seed=0, out=tmp_path / "bare")
    assert not (tmp_path / "bare" / "snapshots").exists()
    torch.manual_seed(0)
    model = build(recipe)
    fit(model, recipe, TRAIN, VAL, seed=0, out=tmp_path / "kept")
    assert same(steps[-1], weights(model))
    for step in (0, 3, 6):
        assert same(steps[step], weights(read_snapshot(build(recipe), tmp_path / "kept", step)))
    assert not snapshot_path(tmp_path / "kept", 2).exists()


def test_the_seed_draws_the_samples_and_the_cases_alone_make_the_rest(tmp_path):
    ends = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(0)
        model = build(knowledge())
        fit(model, knowledge(steps=2), TRAIN, VAL, seed=seed, out=tmp_path / name)
        ends.append(weights(model))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_references_of_pcl_and_gcl_are_not_looked_at_in_training(tmp_path):
    blank = [dataclasses.replace(case, lesion=np.zeros_like(case.lesion)) for case in TRAIN]
    for task in (PCL, GCL):
        ends = []
        for name, cases in (("with", TRAIN), ("without", blank)):
            torch.manual_seed(0)
            model = build(knowledge(task=task))
            fit(model, knowledge(task=task, steps=2, validations=1), cases, VAL, seed=0, out=tmp_path / task / name)
            ends.append(weights(model))
        assert same(*ends)
