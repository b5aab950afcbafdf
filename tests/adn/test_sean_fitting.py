"""SEAN's two parts: the alignment learns first and then stays, and what is found comes back into the slice's frame."""

import dataclasses
import os
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from strokelib import repro, train
from strokelib.adn import sean_fitting
from strokelib.adn.fitting import DICE
from strokelib.adn.recipe import SeanRecipe
from strokelib.adn.sean_fitting import SURELY_NOT, AlignedSEAN, build, segment
from strokelib.data.loading import brain_box, slices_of
from strokelib.errors import DataError
from strokelib.infer import pooled_dice

sys.path.insert(0, os.path.dirname(__file__))
import made_heads
from made_heads import stopped_and_whole, train_once, weights

TRAIN = made_heads.heads(range(2), tilt_deg=6.0)
VAL = made_heads.heads(range(2, 3), "val")
H, W = made_heads.SHAPE[1:]


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_heads.steady(monkeypatch)


def recipe(**changes):
    small = {"crop": None, "validations": 1, "ema_decay": None, "alignment_steps": 2, "steps": 4}
    return SeanRecipe.at("smoke", **{**small, **changes})


class Marked(nn.Module):
    """Stands for the segmenter: logits of 40 (x - 0.6)."""

    def forward(self, x):
        return 40 * (x - 0.6)


def posed(angle_deg, shift_share, segmenter=None):
    """SEAN that turns and shifts every slice in one way; the shift is a share of the width."""
    model = build(recipe())
    with torch.no_grad():
        model.alignment.pose.bias.copy_(torch.tensor([angle_deg / 40, shift_share / 0.25]).atanh())
    model.segmenter = segmenter or model.segmenter
    return model


# The network


def test_the_parts_have_the_recipe_s_sizes_and_logits_the_slice_s_shape():
    model = build(recipe(width=8, depth=3))
    assert model.segmenter.widths == [8, 16, 32]
    assert model(torch.rand(2, 1, 33, 30)).shape == (2, 1, 33, 30)
    with torch.device("meta"):
        paper = build(SeanRecipe.at("paper"))
    assert paper.segmenter.widths == [32, 64, 128, 256, 512]


def test_untrained_the_slices_stay_where_they_are():
    torch.manual_seed(0)
    model, images = AlignedSEAN(4, 3).eval(), torch.rand(2, 1, 32, 28)
    torch.testing.assert_close(model(images), model.segmenter(images), atol=1e-4, rtol=1e-4)


def test_what_leaves_the_aligned_slice_is_surely_no_lesion():
    class Sure(nn.Module):
        def forward(self, x):
            return torch.full_like(x, 5.0)

    logits = posed(0.0, 0.2, Sure())(torch.rand(1, 1, 20, 20))
    # The slice moves by 4 pixels to the right, so that its last 4 columns leave the field.
    assert torch.allclose(logits[..., :15], torch.tensor(5.0))
    assert torch.allclose(logits[..., 17:], torch.tensor(SURELY_NOT))
    assert logits.sigmoid()[..., 17:].max() < 1e-4


@pytest.mark.parametrize(("angle", "share"), [(20.0, 0.0), (-15.0, 0.1), (0.0, -0.15)])
def test_what_is_found_lies_where_it_lay_in_the_slice_itself(angle, share):
    y, x = np.mgrid[:40, :36]
    disc = (y - 16) ** 2 + (x - 21) ** 2 < 30
    images = torch.from_numpy(np.where(disc, 0.9, 0.3).astype(np.float32))[None, None]
    found = (posed(angle, share, Marked())(images) > 0)[0, 0].numpy()
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.93


def test_no_gradient_reaches_the_pose_and_every_other_parameter_gets_one():
    torch.manual_seed(0)
    model = posed(8.0, 0.05)
    model(torch.rand(2, 1, 32, 28)).square().mean().backward()
    assert all(p.grad is None for p in model.alignment.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.segmenter.parameters())


# Training


def traced(used, folder, monkeypatch):
    """The weights at the start and after each step."""
    repro.seed_everything(0)
    trace, whole = [weights(build(used))], train.fit
    after = lambda model, index: trace.append(weights(model))  # noqa: E731
    monkeypatch.setattr(train, "fit", lambda *args, **how: whole(*args, after_step=after, **how))
    _, history = train_once(sean_fitting, used, TRAIN, VAL, folder)
    return trace, history


def moved(one, other, part):
    names = [name for name in one if name.startswith(part)]
    assert names
    return [not np.array_equal(one[name], other[name]) for name in names]


def test_the_alignment_learns_alone_first_and_stays_while_the_segmenter_learns(tmp_path, monkeypatch):
    trace, history = traced(recipe(alignment_steps=3, steps=6, lr=1e-2), tmp_path, monkeypatch)
    assert len(trace) == 7
    for before, after in pairwise(trace[:4]):
        assert any(moved(before, after, "alignment"))
        assert not any(moved(before, after, "segmenter"))
    for before, after in pairwise(trace[3:]):
        assert not any(moved(before, after, "alignment"))
        assert any(moved(before, after, "segmenter"))
    assert all(np.isfinite(row.value) for row in history.rows)


def test_each_phase_has_its_own_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(sean_fitting, "slice_alignment_loss", lambda part, images: part(images).sum() * 0 + 2)
    seen = []

    def loss(logits, lesion):
        seen.append((tuple(logits.shape), tuple(lesion.shape), lesion.dtype))
        return logits.sum() * 0 + 7

    monkeypatch.setattr(sean_fitting, "segmentation_loss", loss)
    monkeypatch.setattr(sean_fitting, "missed_lesion_loss", lambda logits, lesion: logits.sum() * 0 + 1)
    _, history = train_once(sean_fitting, recipe(focus=8.0), TRAIN, VAL, tmp_path)
    # What is added for missed lesion falls over the run: 8 (1 - 0.9 2 / 4) and 8 (1 - 0.9 3 / 4).
    assert history.curve("loss", "train")[1].tolist() == pytest.approx([2, 2, 7 + 4.4, 7 + 2.6])
    # A batch's slices are the levels of one volume.
    assert seen == [((1, 1, 4, H, W), (1, 1, 4, H, W), torch.float32)] * 2


def test_the_validation_is_the_pooled_dice_of_held_out_slices(tmp_path):
    used = recipe(val_slices=10_000)
    model, history = train_once(sean_fitting, used, TRAIN, VAL, tmp_path)
    held_out = slices_of(VAL, window_hu=(0.0, 100.0))
    held_out = held_out[(held_out.images > 0).flatten(1).any(1)]
    expected = pooled_dice(model, held_out.images, held_out.lesions, 3)
    assert history.curve(DICE)[1].tolist() == pytest.approx([expected], abs=1e-6)


def test_the_segmenter_overfits_one_head(tmp_path):
    used = recipe(alignment_steps=5, steps=140, validations=5, lr=1e-2, width=8, mirror=0.0, rotation_deg=0.0)
    used = dataclasses.replace(used, lesion_share=0.8, val_slices=8, focus=0.0)
    model, history = train_once(sean_fitting, used, TRAIN[:1], TRAIN[:1], tmp_path)
    found, truth = segment(model, used, TRAIN[0]) > 0.5, TRAIN[0].lesion
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8
    assert history.best_step > 3


@pytest.mark.parametrize("stop", [2, 4])
def test_a_training_that_was_stopped_in_either_phase_ends_with_the_same_bytes(stop, tmp_path):
    used = recipe(alignment_steps=2, steps=5, validations=5, ema_decay=0.9)
    whole, resumed = stopped_and_whole(sean_fitting, used, TRAIN, VAL, tmp_path, stop=stop)
    assert f"resumed at step {stop - 1}" in resumed[2].notes
    assert whole[1] == resumed[1]
    assert {name: v.tobytes() for name, v in whole[0].items()} == {name: v.tobytes() for name, v in resumed[0].items()}


def test_cases_without_reference_are_refused(tmp_path):
    bare = [dataclasses.replace(case, lesion=None) for case in TRAIN]
    with pytest.raises(DataError, match="no reference"):
        train_once(sean_fitting, recipe(), bare, VAL, tmp_path)


# Use


def everywhere():
    class Sure(nn.Module):
        def forward(self, x):
            return torch.full_like(x, 9.0)

    return posed(0.0, 0.0, Sure())


def test_the_probability_is_zero_outside_the_brain_and_outside_the_window():
    case = TRAIN[0]
    whole = segment(everywhere(), recipe(), case)
    assert (whole.shape, whole.dtype) == (made_heads.SHAPE, np.float32)
    np.testing.assert_array_equal(whole > 0.5, case.brain)
    assert (whole[~case.brain] == 0).all()
    cut = segment(everywhere(), recipe(crop=(20, 16)), case)
    inside = np.zeros(made_heads.SHAPE, bool)
    inside[:, *brain_box(case.brain, (20, 16))] = True
    np.testing.assert_array_equal(cut > 0.5, case.brain & inside)


def test_a_scan_without_brain_mask_is_seen_whole():
    bare = dataclasses.replace(TRAIN[0], brain=None, lesion=None)
    assert (segment(everywhere(), recipe(crop=(20, 16)), bare) > 0.5).all()


def test_slices_are_segmented_where_they_are_bright_in_the_scan():
    case = TRAIN[0]
    ball = case.lesion
    bright = dataclasses.replace(case, image=case.image.with_array(np.where(ball, 90, 30).astype(np.float32)))
    found = segment(posed(12.0, 0.05, Marked()), recipe(), bright) > 0.5
    assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.85
