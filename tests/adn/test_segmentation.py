"""ADN and its comparators on whole heads: built by name, trained with Eq. 6, and brought back into the scan's frame."""

import dataclasses
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from strokelib import repro
from strokelib.adn import segmentation
from strokelib.adn.batches import head_volumes, with_matrices, with_tissue
from strokelib.adn.fitting import DICE
from strokelib.adn.inference import outputs, pooled_dice
from strokelib.adn.losses import segmentation_loss, tissue_aware_loss, warm_start_loss
from strokelib.adn.model import total_asymmetry
from strokelib.adn.recipe import AdnRecipe, AlignmentRecipe, HeadRecipe, SeanRecipe, VolumeRecipe
from strokelib.adn.segmentation import (
    NETWORKS,
    BothSides,
    adn_loss,
    build,
    build_adn,
    disentangle,
    disentangle_all,
    fit,
    segment,
    segment_all,
)
from strokelib.adn.volumes import heads_of
from strokelib.data.loading import Batch
from strokelib.errors import DataError, ParameterError

sys.path.insert(0, os.path.dirname(__file__))
import made_heads
from made_heads import Marked, identities, stopped_and_whole, train_once, turned, weights

SMALL = {"pool": 1, "crop": (28, 24), "segment": (8, 16), "width": 4, "depth": 2, "batch": 2, "validations": 1}
TRAIN = made_heads.heads(range(3))
TRAIN = with_tissue(with_matrices(TRAIN, identities(TRAIN)), {c.id: c.truth["tissue"] for c in TRAIN})
VAL = made_heads.heads(range(3, 5), "val")
VAL = with_matrices(VAL, identities(VAL))
ADN = SimpleNamespace(build=build_adn, fit=fit)


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_heads.steady(monkeypatch)


def volume_recipe(**changes):
    return VolumeRecipe.at("smoke", **{**SMALL, "steps": 2, **changes})


def adn_recipe(**changes):
    return AdnRecipe.at("smoke", **{**SMALL, "steps": 2, "prior_steps": 0, **changes})


# The networks


@pytest.mark.parametrize("network", NETWORKS)
def test_each_network_gives_logits_of_the_volumes_shape(network):
    torch.manual_seed(0)
    model = build(volume_recipe(network=network)).eval()
    assert model(torch.rand(2, 1, 8, 11, 12)).shape == (2, 1, 8, 11, 12)


def test_an_unknown_network_is_refused_with_those_that_are_known():
    with pytest.raises(ParameterError, match=r"network(.|\n)*'VNet'(.|\n)*DeepMedic or 3D U-Net or 3D ResUNet"):
        build(volume_recipe(network="VNet"))
    with pytest.raises(ParameterError, match="3D ResUNet"):
        build(adn_recipe())


PUBLISHED = {
    "DeepMedic": 2_005_461,
    "3D U-Net": 4_081_267,
    "3D ResUNet": 8_769_251,
    "Clèrigues et al.": 8_769_251 + 2 + 27 * 32,  # a second channel in the first normalisation and convolution
}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_the_networks_have_the_parameters_of_the_public_codes_at_the_papers_size():
    with torch.device("meta"):
        found = {name: parameters(build(VolumeRecipe.at("paper", network=name))) for name in NETWORKS}
        both = parameters(build_adn(AdnRecipe.at("paper")))
    assert found == PUBLISHED
    assert both == 2 * 8_769_251


def test_the_network_of_both_sides_sees_the_volume_and_then_its_mirror_image():
    x = torch.rand(2, 1, 3, 4, 5)
    seen = BothSides(nn.Identity())(x)
    assert torch.equal(seen, torch.cat([x, x.flip(-1)], dim=1))


def test_d_and_f_start_as_copies_of_a_network_trained_before():
    torch.manual_seed(1)
    start, used = build(volume_recipe()), adn_recipe()
    model = build_adn(used, start)
    given = weights(start)
    for part in (model.extractor, model.segmenter):
        found = weights(part)
        assert set(found) == set(given)
        assert all(np.array_equal(found[name], given[name]) for name in given)
    with torch.no_grad():
        next(model.extractor.parameters()).add_(1)
    assert np.array_equal(weights(model.segmenter)["head.weight"], given["head.weight"])
    assert all(np.array_equal(weights(start)[name], given[name]) for name in given)
    x = torch.rand(2, 1, 6, 8, 10)
    logits = start.eval()(x)
    torch.testing.assert_close(build_adn(used, start).eval()(x).pathological, logits.sigmoid())


def test_without_a_start_d_and_f_have_weights_of_their_own():
    torch.manual_seed(0)
    model = build_adn(adn_recipe())
    assert not np.array_equal(weights(model.extractor)["head.weight"], weights(model.segmenter)["head.weight"])


def test_a_d_that_sees_more_than_x_takes_no_start():
    used = adn_recipe(sees="X,A")
    with pytest.raises(ParameterError, match=r"start of D(.|\n)*'X,A'(.|\n)*prior_steps=0"):
        build_adn(used, build(volume_recipe()))
    assert build_adn(used).extractor.in_channels == 2


def test_the_options_of_the_recipe_reach_d_and_q():
    model = build_adn(adn_recipe(range="bounded", intrinsic="printed", dropout=0.3))
    assert (model.extractor.range, model.intrinsic) == ("bounded", "printed")
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.3}


# What the paper states


def test_the_paper_s_recipes_hold_the_published_values():
    for kind in (AlignmentRecipe, VolumeRecipe, AdnRecipe, SeanRecipe):
        used = kind.at("paper")
        assert (used.beta1, used.beta2, used.weight_decay, used.power) == (0.9, 0.999, 5e-4, 0.9)
        assert (used.pool, used.crop if kind is not AlignmentRecipe else None) == (1, None)
    assert (AlignmentRecipe.at("paper").lr, AlignmentRecipe.at("paper").limits) == (1e-5, "paper")
    for kind in (VolumeRecipe, AdnRecipe):
        used = kind.at("paper")
        assert (used.lr, used.batch, used.width, used.depth) == (1e-3, 6, 32, 4)
        assert (used.segment, used.lesion_share, used.focus, used.clip_norm, used.ema_decay) == (None, 0, 0, None, None)
        # 100 epochs of 1000 scans, and two epochs of them.
        assert used.steps == pytest.approx(100 * 1000 / 6, rel=0.01)
    used = AdnRecipe.at("paper")
    assert (used.lambda_, used.prior_steps, used.tissue) == (10.0, 0, True)
    assert used.warm_steps == pytest.approx(2 * 1000 / 6, abs=1)
    assert HeadRecipe.at("paper").window_hu == (0.0, 100.0)


# Losses


def batch_of(tissue=True, seed=0, shape=(4, 6, 8)):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((2, 1, *shape), generator=generator)
    labels = torch.randint(4, (2, *shape), generator=generator)
    shares = torch.stack([(labels == k).float() for k in (1, 2, 3)], dim=1)
    lesion = (torch.rand((2, *shape), generator=generator) > 0.8).long()
    return Batch(torch.cat([image, shares], dim=1) if tissue else image, lesion)


@pytest.mark.parametrize("form", ["recommended", "printed"])
@pytest.mark.parametrize("tissue", [True, False])
@pytest.mark.parametrize(("index", "warm", "focus"), [(0, "replace", 0.0), (0, "add", 2.0), (2, "replace", 2.0)])
def test_the_loss_is_eq_6_put_together_by_hand(form, tissue, index, warm, focus):
    torch.manual_seed(0)
    used = adn_recipe(form=form, tissue=tissue, warm=warm, warm_steps=2, lambda_=3.0, focus=focus, dropout=0.0)
    model, batch = build_adn(used), batch_of(tissue)
    found = adn_loss(model, used, batch, index)
    x, lesion = batch.images[:, :1], batch.lesions[:, None].float()
    seen = model(x)
    masks = {}
    if tissue:
        grey, white, fluid = batch.images[:, 1:].split(1, dim=1)
        either = ((grey.flip(-1) * white) + (grey * white.flip(-1))).clamp(max=1)
        masks = {"mismatch": either * (1 - lesion), "csf": fluid * (1 - lesion)}
        expected = (seen.pathological * (masks["mismatch"] + masks["csf"])).mean()
        assert float(found["tissue"]) == pytest.approx(float(expected), rel=1e-5)
    regulariser = tissue_aware_loss(seen.total, seen.pathological, lesion, form=form, tissue=tissue, **masks)
    first = segmentation_loss(seen.logits, lesion)
    second = warm_start_loss(seen.pathological, lesion)
    if index >= used.warm_steps:
        expected = first + 3.0 * regulariser.loss
    elif warm == "replace":
        expected = first + 3.0 * second
    else:
        expected = first + 3.0 * (regulariser.loss + second)
    missed = -(lesion * seen.logits.sigmoid().log()).mean()
    torch.testing.assert_close(found["loss"], expected + focus * missed)
    assert set(found) == {"loss", "segmentation", "tissue", "size", "asymmetry", "intrinsic"}
    assert not any(value.requires_grad for name, value in found.items() if name != "loss")
    assert float(found["segmentation"]) == pytest.approx(float(first), rel=1e-6)


def test_the_one_sided_mask_costs_less_than_the_two_sided():
    torch.manual_seed(0)
    model, batch = build_adn(adn_recipe(dropout=0.0)), batch_of()
    recipes = [adn_recipe(sides=sides, dropout=0.0) for sides in ("two-sided", "one-sided")]
    two, one = (adn_loss(model, used, batch, 9)["tissue"] for used in recipes)
    assert 0 < float(one) < float(two)


def test_eq_6_reaches_every_parameter_of_d_and_f():
    torch.manual_seed(0)
    used = adn_recipe(dropout=0.0, warm_steps=0)
    model = build_adn(used)
    with torch.no_grad():  # an untrained P is above A everywhere, and nothing comes back through Q
        model.extractor.head.bias.fill_(-3.0)
    adn_loss(model, used, batch_of(shape=(6, 8, 10)), 5)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


# Training


def test_every_network_and_form_trains_a_step_and_moves_its_weights(tmp_path):
    everything = [(segmentation, volume_recipe(network=name)) for name in NETWORKS]
    everything += [(ADN, adn_recipe(tissue=False)), (ADN, adn_recipe(sees="X,A", range="bounded"))]
    everything += [(ADN, adn_recipe(form="printed", intrinsic="printed", sides="one-sided", warm="add"))]
    for number, (module, used) in enumerate(everything):
        used = dataclasses.replace(used, steps=1, focus=20.0)
        before = weights(untrained(module, used))
        model, history = train_once(module, used, TRAIN, VAL, tmp_path / str(number))
        after = weights(model)
        assert all(np.isfinite(value).all() for value in after.values())
        assert any(not np.array_equal(before[name], after[name]) for name in after)
        assert all(np.isfinite(r.value) for r in history.rows)


def untrained(module, used):
    repro.seed_everything(0)
    return module.build(used)


def test_networks_on_heads_as_scanned_need_no_pose_and_aligned_ones_do(tmp_path):
    bare, others = made_heads.heads(range(2)), made_heads.heads(range(2, 3), "val")
    train_once(segmentation, volume_recipe(steps=1, aligned=False), bare, others, tmp_path)
    with pytest.raises(DataError, match="train T"):
        train_once(segmentation, volume_recipe(steps=1), bare, VAL, tmp_path / "aligned")
    with pytest.raises(DataError, match="without L_tissue"):
        train_once(ADN, adn_recipe(steps=1), VAL, VAL, tmp_path / "tissue")


def streams(monkeypatch, used, folder):
    """What the stream of a training was made with."""
    made = []

    class Seen(segmentation.HeadSampler):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(segmentation, "HeadSampler", Seen)
    train_once(ADN if isinstance(used, AdnRecipe) else segmentation, used, TRAIN, VAL, folder)
    return made[0]


def test_only_heads_as_scanned_are_turned_and_only_adn_with_its_tissue_term_sees_tissue(monkeypatch, tmp_path):
    for number, (used, turn, tissue) in enumerate(
        [
            (volume_recipe(steps=1), 0.0, False),
            (volume_recipe(steps=1, aligned=False), 10.0, False),
            (adn_recipe(steps=1), 0.0, True),
            (adn_recipe(steps=1, tissue=False), 0.0, False),
        ]
    ):
        data, batch, seed, *change = streams(monkeypatch, used, tmp_path / str(number))
        assert (batch, seed) == (2, 0)
        assert change == [0.5, 0.1, turn, (8, 16), 1.0]
        assert (data.tissues is not None) == tissue
        assert data.images.shape == (3, 1, 16, 28, 24)


def test_the_weight_of_missed_lesion_falls_to_a_tenth_over_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(segmentation, "missed_lesion_loss", lambda logits, lesion: logits.sum() * 0 + 1)
    monkeypatch.setattr(segmentation, "segmentation_loss", lambda logits, lesion: logits.sum() * 0)
    used = volume_recipe(steps=8, focus=20.0)
    _, history = train_once(segmentation, used, TRAIN, VAL, tmp_path)
    np.testing.assert_allclose(history.curve("loss", "train")[1], 20 * (1 - 0.9 * np.arange(8) / 8), rtol=1e-5)


def test_the_weights_with_the_best_validation_dice_are_kept(monkeypatch, tmp_path):
    used = volume_recipe(steps=6, validations=6, ema_decay=None, segment=None, focus=0.0)
    values, kept = iter([0.1, 0.3, 0.7, 0.2, 0.7, 0.5]), []

    def scripted(network, heads, parts):
        assert parts is None
        kept.append(weights(network))
        return next(values)

    monkeypatch.setattr(segmentation, "pooled_dice", scripted)
    model, history = train_once(segmentation, used, TRAIN, VAL, tmp_path)
    assert history.best_step == 3
    assert history.curve(DICE)[1].tolist() == [0.1, 0.3, 0.7, 0.2, 0.7, 0.5]
    found = weights(model)
    assert all(np.array_equal(found[name], kept[2][name]) for name in found)
    assert not all(np.array_equal(found[name], kept[5][name]) for name in found)


def test_the_validation_is_the_pooled_dice_of_the_held_out_heads_in_the_window(tmp_path):
    used = volume_recipe(steps=2, ema_decay=None)
    model, history = train_once(segmentation, used, TRAIN, VAL, tmp_path)
    held_out = head_volumes(VAL, used, aligned=True, crop=used.crop)
    assert history.curve(DICE)[1].tolist() == pytest.approx([pooled_dice(model, held_out, used.segment)])


def test_a_small_network_overfits_one_head(tmp_path):
    used = volume_recipe(steps=90, validations=5, lr=1e-2, width=8, mirror=0.0, gamma=0.0, segment=(10, 20), focus=5.0)
    used = dataclasses.replace(used, ema_decay=None)
    same = [dataclasses.replace(TRAIN[0], id="same")]
    model, history = train_once(segmentation, used, TRAIN[:1], same, tmp_path)
    assert history.curve(DICE)[1].max() > 0.8
    found, truth = segment(model, used, TRAIN[0]) > 0.5, TRAIN[0].lesion
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


def test_a_training_of_adn_that_was_stopped_in_the_middle_ends_with_the_same_bytes(tmp_path):
    used = adn_recipe(steps=4, validations=2, warm_steps=1, dropout=0.2, ema_decay=0.9)
    whole, resumed = stopped_and_whole(ADN, used, TRAIN, VAL, tmp_path, stop=3)
    assert "resumed at step 2" in resumed[2].notes
    assert "resumed at step 2" not in whole[2].notes
    assert whole[1] == resumed[1]
    assert {name: v.tobytes() for name, v in whole[0].items()} == {name: v.tobytes() for name, v in resumed[0].items()}


# The scan's own frame


def spotted(tilt_deg=0.0):
    """A head with a bright ball, and where the ball lies."""
    case = made_heads.head(0, tilt_deg=tilt_deg, lesion=False)
    z, y, x = np.mgrid[tuple(map(slice, made_heads.SHAPE))]
    ball = ((z - 8) / 4) ** 2 + ((y - 10) / 4.5) ** 2 + ((x - 18) / 4) ** 2 < 1
    assert case.brain[ball].all()
    return dataclasses.replace(case, image=case.image.with_array(np.where(ball, 90, 30).astype(np.float32))), ball


def overlap(found, ball):
    return 2 * (found & ball).sum() / (found.sum() + ball.sum())


def test_what_an_aligned_network_finds_comes_back_to_where_it_lies_in_the_scan():
    case, ball = spotted()
    matrix = turned(25.0, made_heads.SHAPE, x=2.0, y=1.0)
    (posed,) = with_matrices([case], {case.id: matrix})
    used = volume_recipe(crop=None)
    found = segment(Marked(), used, posed)
    assert (found.shape, found.dtype) == (made_heads.SHAPE, np.float32)
    assert overlap(found > 0.5, ball) > 0.9
    # Another matrix on the way back would miss it; in the aligned frame it lies elsewhere.
    aligned = head_volumes([posed], used, aligned=True).images[0, 0].numpy() > 0.6
    assert overlap(aligned, ball) < 0.6


def test_a_network_on_heads_as_scanned_needs_no_matrix():
    case, ball = spotted()
    found = segment(Marked(), volume_recipe(crop=None, aligned=False), case)
    np.testing.assert_array_equal(found > 0.5, ball)


def test_pooled_volumes_come_back_on_the_scan_s_own_grid():
    case, ball = spotted()
    found = segment(Marked(0.5), volume_recipe(crop=None, pool=2, aligned=False), case)
    assert found.shape == made_heads.SHAPE
    assert overlap(found > 0.5, ball) > 0.85


def test_nothing_is_found_outside_the_brain_and_beyond_the_window():
    case, _ = spotted()
    (posed,) = with_matrices([case], identities([case]))
    everywhere = Marked(-1.0)
    whole = segment(everywhere, volume_recipe(crop=None, segment=None), posed)
    assert (whole[case.brain] > 0.99).all()
    assert (whole[~case.brain] == 0).all()
    cut = segment(everywhere, volume_recipe(crop=(16, 12), segment=None), posed)
    inside = np.zeros(made_heads.SHAPE, bool)
    inside[:, 8:-8, 8:-8] = True
    np.testing.assert_array_equal(cut > 0.5, inside & case.brain)
    assert everywhere.seen[-1] == (2, 1, 16, 16, 12)


def test_a_scan_without_reference_is_segmented():
    case, ball = spotted()
    bare = dataclasses.replace(case, lesion=None)
    found = segment(Marked(), volume_recipe(crop=None, aligned=False), bare)
    np.testing.assert_array_equal(found > 0.5, ball)


@pytest.mark.parametrize("parts", [None, (10, 12)])
def test_the_asymmetries_of_a_case_are_those_of_the_network_in_the_window_and_nothing_beyond_it(parts):
    torch.manual_seed(0)
    used = adn_recipe(crop=(20, 16), segment=parts)
    case, _ = spotted(tilt_deg=10.0)
    (posed,) = with_matrices([case], {case.id: turned(10.0, made_heads.SHAPE)})
    model = build_adn(used)
    found = disentangle(model, used, posed)
    aligned = head_volumes([posed], used, aligned=True).images
    assert all(part.shape == (1, 1, *made_heads.SHAPE) and part.dtype == torch.float32 for part in found)
    inside = (..., slice(6, -6), slice(6, -6))
    (seen,) = outputs(model, aligned[inside], segment=parts)
    for whole, part in zip(found, seen, strict=True):
        torch.testing.assert_close(whole[inside], part, atol=1e-5, rtol=1e-5)
    beyond = torch.ones(made_heads.SHAPE, dtype=torch.bool)
    beyond[inside] = False
    # Over the whole field A is what it is everywhere, and X_hat is X where Q is 0.
    torch.testing.assert_close(found.total, total_asymmetry(aligned), atol=1e-6, rtol=0)
    assert found.total[0, 0][beyond].max() > 0
    assert found.pathological[0, 0][beyond].abs().max() == 0
    assert found.intrinsic[0, 0][beyond].abs().max() == 0
    assert torch.equal(found.compensated[0, 0][beyond], aligned[0, 0][beyond])
    assert (found.logits[0, 0][beyond].sigmoid() < 1e-4).all()
    torch.testing.assert_close(found.compensated, aligned + found.intrinsic, atol=1e-6, rtol=0)


def test_the_asymmetries_of_heads_as_scanned_need_no_matrix():
    torch.manual_seed(0)
    used = adn_recipe(crop=None, aligned=False)
    case, _ = spotted()
    found = disentangle(build_adn(used), used, case)
    torch.testing.assert_close(found.total, total_asymmetry(heads_of([case]).images))


def test_the_probability_of_adn_is_that_of_its_logits():
    torch.manual_seed(0)
    used = adn_recipe(crop=None, aligned=False)
    case, _ = spotted()
    model = build_adn(used)
    logits = disentangle(model, used, case).logits[0, 0]
    expected = np.where(case.brain, logits.sigmoid().numpy(), 0)
    np.testing.assert_allclose(segment(model, used, case), expected, atol=1e-5)


@pytest.mark.parametrize("parts", [None, (10, 16)])
def test_many_cases_give_in_their_order_what_each_gives_alone(parts):
    torch.manual_seed(0)
    used = adn_recipe(crop=None, segment=parts)
    model = build_adn(used)
    cases = made_heads.heads(range(5), tilt_deg=4.0)
    cases = with_matrices(cases, {c.id: turned(float(n), made_heads.SHAPE) for n, c in enumerate(cases)})
    maps, several = segment_all(model, used, cases), list(disentangle_all(model, used, cases))
    assert list(maps) == [case.id for case in cases]
    assert len(several) == 5
    for case, found in zip(cases, several, strict=True):
        np.testing.assert_allclose(maps[case.id], segment(model, used, case), atol=1e-5)
        for one, alone in zip(found, disentangle(model, used, case), strict=True):
            torch.testing.assert_close(one, alone, atol=1e-5, rtol=1e-5)
