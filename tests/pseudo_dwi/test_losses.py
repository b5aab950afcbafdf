"""Losses of pseudo_dwi against literal loops of their equations, hand-worked values and hard batches."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from strokelib import manifest
from strokelib.errors import DataError, ParameterError
from strokelib.nn.losses import cross_entropy, generalised_dice_loss, soft_dice_loss
from strokelib.pseudo_dwi.losses import (
    SEGMENTATION_LOSSES,
    SYNTHESIS_LOSSES,
    SynthesisLoss,
    adversarial_loss,
    contextual_loss,
    discriminator_loss,
    hardness_aware_dice_loss,
    lesion_weight_map,
    segmentation_loss,
    synthesis_loss,
    synthesis_terms,
    total_loss,
    weighted_cross_entropy,
    weighted_pixel_loss,
)

FORMS = ("mean square", "weight outside", "norm", "absolute")


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(7)
    image, target = torch.rand(2, 2, 1, 5, 4, generator=generator)
    return image, target, 0.5 + torch.rand(2, 1, 5, 4, generator=generator)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 2, 4, 5, generator=generator)
    target = (torch.rand(2, 4, 5, generator=generator) < 0.3).long()
    return logits, target, 0.5 + torch.rand(2, 4, 5, generator=generator)


def places(tensor):
    return list(np.ndindex(*tensor.shape))


def code(size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(20, size, generator=generator)
    return lambda x: x.flatten(1) @ weight


# Eq. 9


def test_the_weight_at_known_distances_is_that_of_the_formula():
    lesion = np.zeros((1, 2000), bool)
    lesion[0, 0] = True
    weight = lesion_weight_map(lesion)[0]
    assert weight[0] == 1.5
    assert weight[[1, 10, 50, 100, 200, 1999]] == pytest.approx([0.995, 0.950, 0.769, 0.619, 0.518, 0.5], abs=5e-4)


def test_the_weight_beside_the_lesion_tends_to_one_as_the_decay_grows():
    lesion = np.zeros((1, 3), bool)
    lesion[0, 0] = True
    assert lesion_weight_map(lesion, decay_px=1e6)[0, 1:] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert lesion_weight_map(lesion, w=1.0, decay_px=1e6) == pytest.approx(np.ones((1, 3)), abs=1e-5)


def test_the_weight_map_is_a_loop_over_all_pairs_of_pixels_of_a_slice():
    lesion = np.random.default_rng(1).random((2, 3, 7, 9)) < 0.1
    expected = np.zeros(lesion.shape)
    for place in np.ndindex(lesion.shape):
        marked = np.argwhere(lesion[place[:2]])
        if lesion[place]:
            expected[place] = 2.0
        elif len(marked):
            e = math.exp(-min(math.dist(place[2:], other) for other in marked) / 3.0)
            expected[place] = 0.5 + e / (e + 1)
        else:
            expected[place] = 0.7
    found = lesion_weight_map(lesion, w=2.0, decay_px=3.0, empty=0.7)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_slice_without_lesion_has_one_weight_and_does_not_see_its_neighbour():
    lesion = np.zeros((2, 6, 6), bool)
    lesion[1, 2, 2] = True
    assert (lesion_weight_map(lesion)[0] == 0.5).all()
    assert (lesion_weight_map(lesion, empty=1.0)[0] == 1.0).all()
    assert (lesion_weight_map(np.ones((4, 4), bool)) == 1.5).all()


@pytest.mark.parametrize("bad", [{"w": 0.9}, {"decay_px": 0.0}, {"empty": 0.0}, {"w": float("nan")}])
def test_a_weight_map_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ParameterError, match="weight map"):
        lesion_weight_map(np.zeros((4, 4), bool), **bad)


def test_a_row_of_pixels_is_no_slice():
    with pytest.raises(DataError, match="lesion"):
        lesion_weight_map(np.zeros(4, bool))


# Eq. 7


def literal_pixel_loss(image, target, weight, form):
    per_image, n = [], image[0].numel()
    for b in range(len(image)):
        a, e = weight[b].flatten().tolist(), (image - target)[b].flatten().tolist()
        terms = {
            "mean square": sum((x * y) ** 2 for x, y in zip(a, e, strict=True)) / n,
            "weight outside": sum(x * y**2 for x, y in zip(a, e, strict=True)) / n,
            "norm": math.sqrt(sum((x * y) ** 2 for x, y in zip(a, e, strict=True))),
            "absolute": sum(abs(x * y) for x, y in zip(a, e, strict=True)) / n,
        }
        per_image.append(terms[form])
    return sum(per_image) / len(per_image)


@pytest.mark.parametrize("form", FORMS)
def test_the_pixel_loss_is_the_literal_sum(images, form):
    image, target, weight = images
    assert float(weighted_pixel_loss(image, target, weight, form)) == pytest.approx(
        literal_pixel_loss(image, target, weight, form), rel=1e-5
    )
    ones = torch.ones_like(weight)
    assert float(weighted_pixel_loss(image, target, None, form)) == pytest.approx(
        literal_pixel_loss(image, target, ones, form), rel=1e-5
    )


@pytest.mark.parametrize(
    ("form", "loss"), [("mean square", 2.25), ("weight outside", 1.5), ("norm", 6.0), ("absolute", 1.5)]
)
def test_a_weight_of_one_and_a_half_on_an_error_of_one_by_hand(form, loss):
    one = torch.ones(1, 1, 4, 4)
    assert float(weighted_pixel_loss(one, 0 * one, 1.5 * one, form)) == pytest.approx(loss)


def test_the_printed_norm_doubles_with_the_image_s_side_and_the_mean_square_does_not():
    small, large = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 8, 8)
    norms, means = (
        [float(weighted_pixel_loss(x, 0 * x, None, form)) for x in (small, large)] for form in ("norm", "mean square")
    )
    assert norms[1] == pytest.approx(2 * norms[0])
    assert means[1] == pytest.approx(means[0])


@pytest.mark.parametrize("form", FORMS)
def test_equal_images_cost_nothing_and_have_a_finite_gradient(form):
    image = torch.full((2, 1, 4, 4), 0.3, requires_grad=True)
    loss = weighted_pixel_loss(image, image.detach().clone(), torch.ones(2, 1, 4, 4), form)
    loss.backward()
    assert float(loss.detach()) == 0
    assert (image.grad == 0).all()


def test_images_and_weights_of_other_shapes_are_not_broadcast(images):
    image, target, weight = images
    with pytest.raises(ParameterError, match="image and target"):
        weighted_pixel_loss(image, target[:, 0])
    with pytest.raises(ParameterError, match="image and weight"):
        weighted_pixel_loss(image, target, weight[:, 0])
    with pytest.raises(ParameterError, match="weight outside"):
        weighted_pixel_loss(image, target, weight, "L2")


# Eq. 8


@pytest.mark.parametrize("norm", [1, 2])
def test_the_contextual_loss_is_the_literal_sum_over_the_code(norm):
    generator = torch.Generator().manual_seed(norm)
    ours, theirs = torch.randn(2, 3, 16, generator=generator)
    expected = sum(abs(float(ours[v] - theirs[v])) ** norm for v in places(ours)) / 3
    assert float(contextual_loss(ours, theirs, norm)) == pytest.approx(expected, rel=1e-5)
    assert float(contextual_loss(ours, theirs, norm, "mean")) == pytest.approx(expected / 16, rel=1e-5)


@pytest.mark.parametrize("norm", [1, 2])
def test_a_constant_code_makes_the_contextual_loss_vanish_without_a_bad_gradient(norm):
    ours = torch.ones(2, 16, requires_grad=True)
    loss = contextual_loss(ours, torch.ones(2, 16), norm)
    loss.backward()
    assert float(loss.detach()) == 0
    assert (ours.grad == 0).all()


@pytest.mark.parametrize("bad", [{"norm": 3}, {"reduction": "none"}])
def test_another_norm_or_reduction_is_refused(bad):
    with pytest.raises(ParameterError, match="contextual loss"):
        contextual_loss(torch.zeros(2, 16), torch.zeros(2, 16), **bad)


def test_codes_of_other_lengths_are_refused():
    with pytest.raises(ParameterError, match="codes"):
        contextual_loss(torch.zeros(2, 16), torch.zeros(1, 16))


# Eq. 6


def test_the_synthesis_loss_is_the_pixel_loss_and_gamma_times_the_contextual_loss(images):
    image, target, weight = images
    encoder = code()
    pixel, context = weighted_pixel_loss(image, target, weight), contextual_loss(encoder(image), encoder(target))
    assert float(synthesis_loss(image, target, weight, encoder)) == pytest.approx(float(pixel + 1.2 * context))
    assert float(synthesis_loss(image, target, weight, encoder, gamma=0.0)) == pytest.approx(float(pixel))
    assert float(synthesis_loss(image, target, weight, None)) == pytest.approx(float(pixel))


def test_norm_and_form_reach_the_parts_of_the_synthesis_loss(images):
    image, target, weight = images
    encoder = code()
    found = synthesis_terms(image, target, weight, encoder, gamma=0.5, norm=2, form="absolute")
    assert float(found["pixel"]) == pytest.approx(float(weighted_pixel_loss(image, target, weight, "absolute")))
    assert float(found["context"]) == pytest.approx(float(contextual_loss(encoder(image), encoder(target), 2)))
    assert float(found["loss"]) == pytest.approx(float(found["pixel"] + 0.5 * found["context"]))
    assert float(found["loss"]) == pytest.approx(
        float(synthesis_loss(image, target, weight, encoder, gamma=0.5, norm=2, form="absolute"))
    )
    assert set(synthesis_terms(image, target, None, None)) == {"loss", "pixel"}


def test_a_frozen_encoder_passes_gradients_to_the_image_alone_and_a_joint_one_is_trained(images):
    image, target, weight = images
    image = image.clone().requires_grad_()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(20, 16))
    encoder.requires_grad_(False)
    synthesis_terms(image, target, weight, encoder)["context"].backward()
    assert image.grad.abs().sum() > 0
    assert encoder[1].weight.grad is None
    encoder.requires_grad_(True)
    synthesis_loss(image, target, weight, encoder).backward()
    assert encoder[1].weight.grad.abs().sum() > 0


# Eqs 11 to 13 and 15


def test_the_weighted_cross_entropy_is_the_literal_sum(batch):
    logits, target, weight = batch
    p = logits.softmax(1)
    above = sum(-float(weight[b, i, j]) * math.log(float(p[b, target[b, i, j], i, j])) for b, i, j in places(target))
    assert float(weighted_cross_entropy(logits, target, weight)) == pytest.approx(above / float(weight.sum()), rel=1e-5)


def test_a_constant_weight_cancels_in_the_cross_entropy(batch):
    logits, target, weight = batch
    plain = float(cross_entropy(logits, target))
    assert float(weighted_cross_entropy(logits, target, torch.full_like(weight, 0.5))) == pytest.approx(plain, rel=1e-5)


def test_a_weight_with_a_channel_axis_is_refused_rather_than_broadcast(batch):
    logits, target, weight = batch
    with pytest.raises(ParameterError, match="target and weight"):
        weighted_cross_entropy(logits, target, weight[:, None])


def literal_generalised_dice(logits, target):
    p, above, below = logits.softmax(1), 0.0, 0.0
    for c in (0, 1):
        size = sum(int(target[v]) == c for v in places(target))
        m = 1 / size**2 if size else 0.0
        above += m * sum(float(p[b, c, i, j]) for b, i, j in places(target) if int(target[b, i, j]) == c)
        below += m * sum(float(p[b, c, i, j]) + (int(target[b, i, j]) == c) for b, i, j in places(target))
    return 1 - 2 * above / below


def test_the_hardness_aware_loss_is_minus_the_logarithm_of_the_literal_overlap(batch):
    logits, target, _ = batch
    expected = -math.log(1 - literal_generalised_dice(logits, target))
    assert float(hardness_aware_dice_loss(logits, target)) == pytest.approx(expected, rel=1e-4)


def test_the_hardness_aware_loss_of_two_voxels_by_hand():
    # Both classes have one voxel and P = 1/2 everywhere: the overlap is 2 (1/2 + 1/2) / (2 + 2) = 1/2.
    loss = hardness_aware_dice_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
    assert float(loss) == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("tilt", [-4.0, -1.0, 0.0, 2.0])
def test_the_hardness_aware_gradient_is_that_of_the_dice_over_the_overlap(batch, tilt):
    logits, target, _ = batch
    logits = logits + tilt * torch.stack([1 - 2 * target, 2 * target - 1], dim=1)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    hardness_aware_dice_loss(ours, target).backward()
    dice = generalised_dice_loss(theirs.softmax(1), target)
    dice.backward()
    factor = 1 / (1 - float(dice.detach()))
    assert factor >= 1
    assert torch.allclose(ours.grad, factor * theirs.grad, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("lesion", [0, 1, 16])
def test_a_perfect_prediction_costs_nothing(lesion):
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    target.view(-1)[:lesion] = 1
    logits = 50.0 * torch.stack([1 - 2 * target, 2 * target - 1], dim=1)
    for loss in SEGMENTATION_LOSSES.values():
        assert float(loss(logits, target, torch.ones(1, 4, 4))) == pytest.approx(0, abs=2e-6)


def test_no_overlap_costs_the_logarithm_of_the_clamp():
    target = torch.tensor([[[0, 1], [1, 0]]])
    logits = -50.0 * torch.stack([1 - 2 * target, 2 * target - 1], dim=1)
    assert float(hardness_aware_dice_loss(logits, target)) == pytest.approx(-math.log(1e-6), rel=1e-5)


def test_the_segmentation_loss_is_the_sum_of_its_two_parts(batch):
    logits, target, weight = batch
    parts = weighted_cross_entropy(logits, target, weight) + hardness_aware_dice_loss(logits, target)
    assert float(segmentation_loss(logits, target, weight)) == pytest.approx(float(parts))


def test_the_total_loss_by_hand_with_and_without_extractor():
    two, three, five = (torch.tensor(float(v)) for v in (2, 3, 5))
    assert float(total_loss(two, three, five)) == 10
    assert float(total_loss(two, three, five, alpha=0.5, beta=2.0)) == 13.5
    assert float(total_loss(two, three, None, alpha=0.5, beta=2.0)) == 3.5


# Adversarial rows


def test_the_adversarial_losses_by_hand_over_two_scales():
    real, fake = [torch.full((1, 1, 4, 4), 0.5), torch.ones(1, 1, 2, 2)], [torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 1)]
    # Discriminator: mean of 0.125 + 0 and of 0 + 0.5; generator: mean of 0.5 and 0.
    assert float(discriminator_loss(real, fake)) == pytest.approx(0.3125)
    assert float(adversarial_loss(fake)) == pytest.approx(0.25)


def test_each_scale_counts_the_same_however_many_patches_it_has():
    fine, coarse = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 2, 2)
    assert float(adversarial_loss([fine, coarse])) == pytest.approx(float(adversarial_loss([coarse, fine])))


def test_a_discriminator_without_scales_is_refused():
    with pytest.raises(ParameterError, match="scale"):
        adversarial_loss([])
    with pytest.raises(ParameterError, match="scale"):
        discriminator_loss([torch.zeros(1)], [])


# Rows of the tables


def test_the_rows_are_those_of_tables_1_and_4_in_their_order():
    assert [*SYNTHESIS_LOSSES] == [*dict.fromkeys(manifest.published("pseudo_dwi", 1)["method"])]
    assert [*SEGMENTATION_LOSSES] == [*dict.fromkeys(manifest.published("pseudo_dwi", 4)["method"])]


def test_the_switches_of_table_1():
    assert SYNTHESIS_LOSSES["L1"] == SynthesisLoss(pixel="absolute")
    assert SYNTHESIS_LOSSES["GAN"] == SynthesisLoss(pixel=None, adversarial=True)
    assert SYNTHESIS_LOSSES["w-L2 + l_h2"] == SynthesisLoss(pixel="mean square", weighted=True, context=2)
    assert [name for name, row in SYNTHESIS_LOSSES.items() if row.adversarial] == ["GAN", "L2 + GAN"]
    assert [name for name, row in SYNTHESIS_LOSSES.items() if row.weighted] == ["w-L2", "w-L2 + l_h1", "w-L2 + l_h2"]


def test_the_losses_of_table_4_are_their_parts(batch):
    logits, target, weight = batch
    p = logits.softmax(1)
    ce, hgd = cross_entropy(logits, target), hardness_aware_dice_loss(logits, target)
    expected = {
        "L_CE": ce,
        "L_DICE": soft_dice_loss(p[:, 1], target),
        "L_GD": generalised_dice_loss(p, target),
        "L_HGD": hgd,
        "L_CE + L_HGD": ce + hgd,
        "L_WCE + L_HGD": segmentation_loss(logits, target, weight),
    }
    for name, value in expected.items():
        assert float(SEGMENTATION_LOSSES[name](logits, target, weight)) == pytest.approx(float(value))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lesion", ["none", "all", "one slice"])
@pytest.mark.parametrize("extreme", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("name", SEGMENTATION_LOSSES)
def test_values_and_gradients_are_finite_for_hard_batches(name, extreme, lesion, dtype):
    target = torch.zeros(2, 4, 4, dtype=torch.long)
    target[{"none": [], "all": [0, 1], "one slice": [1]}[lesion]] = 1
    weight = torch.from_numpy(lesion_weight_map(target.numpy())).to(dtype)
    logits = torch.zeros(2, 2, 4, 4, dtype=dtype)
    logits[:, 1] = extreme
    logits.requires_grad_()
    value = SEGMENTATION_LOSSES[name](logits, target, weight)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_synthesis_loss_of_bfloat16_images_is_float32_and_near_that_of_float32(images, form):
    image, target, weight = (x.bfloat16() for x in images)
    encoder = code()
    found = synthesis_loss(image, target, weight, lambda x: encoder(x.float()).bfloat16(), form=form)
    exact = synthesis_loss(image.float(), target.float(), weight.float(), encoder, form=form)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(exact), rel=0.02)
    assert adversarial_loss([image]).dtype == torch.float32
