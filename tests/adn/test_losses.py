"""Losses of adn against literal loops of their equations, hand-worked values and hard batches."""

import math

import pytest
import torch

from strokelib.adn.losses import (
    alignment_loss,
    asymmetry_loss,
    intrinsic_loss,
    mass_loss,
    original_frame_loss,
    reconstruction_loss,
    segmentation_loss,
    size_loss,
    tissue_aware_loss,
    tissue_loss,
    total_loss,
    warm_start_loss,
)
from strokelib.adn.tissue_mismatch import tissue_mismatch, without_lesion
from strokelib.errors import ParameterError
from strokelib.nn.alignment import invert_rigid, mirror, warp_3d

SHAPE = (2, 1, 2, 3, 5)
SEGMENTATION = ("recommended", "printed", "code")
FORMS = ("recommended", "printed")


def row(*values):
    """A volume of one row of voxels."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, 1, -1)


def voxels(volume):
    """The voxels of each volume of a batch, as lists."""
    return [one.flatten().tolist() for one in volume]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


@pytest.fixture
def maps():
    """A, P, T(G), R_GW, R_CSF of two volumes of other sizes of lesion; A is 0 in about half of the voxels."""
    generator = torch.Generator().manual_seed(5)
    image, p, chance, kind = torch.rand(4, *SHAPE, generator=generator)
    total = (mirror(image) - image).relu()
    lesion = (chance < torch.tensor([0.2, 0.5]).view(2, 1, 1, 1, 1)).float()
    mismatch = without_lesion(tissue_mismatch((kind < 0.4).float(), (kind > 0.6).float()), lesion)
    return total, p, lesion, mismatch, without_lesion(((kind >= 0.4) & (kind <= 0.6)).float(), lesion)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(SHAPE, generator=generator)
    truth = (torch.rand(SHAPE, generator=generator) < torch.tensor([0.2, 0.6]).view(2, 1, 1, 1, 1)).float()
    return logits, truth


# Eq. 1


def test_the_alignment_loss_is_the_literal_mean_of_each_volume():
    x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))
    printed, relative = [], []
    for volume in x[:, 0].tolist():
        rows = [r for plane in volume for r in plane]
        off = mean(abs(a - b) for r in rows for a, b in zip(r, reversed(r), strict=True))
        printed.append(off)
        relative.append(off / mean(a for r in rows for a in r))
    assert float(alignment_loss(x, form="printed")) == pytest.approx(mean(printed), rel=1e-5)
    assert float(alignment_loss(x)) == pytest.approx(mean(relative), rel=1e-5)


@pytest.mark.parametrize(
    ("x", "printed", "relative"),
    [((0.2, 0.6, 0.6, 0.2), 0, 0), ((1, 0, 0, 0), 0.5, 2), ((0.5, 1, 0.5, 0.5), 0.25, 0.4), ((0, 0, 0, 0), 0, 2)],
)
def test_the_alignment_loss_of_four_voxels_by_hand(x, printed, relative):
    assert float(alignment_loss(row(*x), form="printed")) == pytest.approx(printed, abs=1e-6)
    assert float(alignment_loss(row(*x))) == pytest.approx(relative, abs=1e-6)


def head():
    """A symmetric head in the middle of its field with a dark spot on the left, low in the plane."""
    x, y = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="xy")
    inside = ((x - 9.5) / 6) ** 2 + ((y - 9.5) / 8) ** 2 < 1
    image = 0.35 * inside.float().expand(1, 1, 4, 20, 20).clone()
    image[..., 12:16, 11:14] -= 0.1
    return image


def shifted(image, x=0.0, y=0.0):
    """The head moved by voxels, and its mirror image moved back."""
    matrix = torch.eye(4)[None].clone()
    matrix[0, 0, 3], matrix[0, 1, 3] = x, y
    aligned = warp_3d(image, matrix)
    return aligned, warp_3d(mirror(aligned), invert_rigid(matrix))


def test_pushing_the_head_out_of_the_field_lowers_the_printed_loss_and_raises_every_guarded_one():
    image = head()
    (here, restored), (gone, nothing) = shifted(image), shifted(image, x=17.0)
    assert gone.sum() == 0
    assert float(alignment_loss(gone, form="printed")) < float(alignment_loss(here, form="printed"))
    assert float(alignment_loss(gone)) > 10 * float(alignment_loss(here))
    assert float(alignment_loss(here, image, restored, form="code")) < 0.05
    assert float(alignment_loss(gone, image, nothing, form="code")) == pytest.approx(float(image.mean()))
    assert float(mass_loss(image, here)) == pytest.approx(0, abs=1e-6)
    assert float(mass_loss(image, gone)) == pytest.approx(1)


def test_pushing_out_only_what_is_asymmetric_is_seen_by_the_mass_loss_alone():
    image = head()
    (here, _), (half, _) = shifted(image), shifted(image, y=-8.0)
    assert float(alignment_loss(half)) < 0.01 < float(alignment_loss(here))
    assert float(alignment_loss(half) + mass_loss(image, half)) > float(alignment_loss(here) + mass_loss(image, here))


def test_the_mass_loss_pulls_a_head_back_that_is_half_out_of_the_field():
    image, way, along_x = head(), torch.tensor(12.0, requires_grad=True), torch.zeros(1, 4, 4)
    along_x[0, 0, 3] = 1
    aligned = warp_3d(image, torch.eye(4) + way * along_x)
    (printed,) = torch.autograd.grad(alignment_loss(aligned, form="printed"), way, retain_graph=True)
    (mass,) = torch.autograd.grad(mass_loss(image, aligned), way)
    assert float(printed) < 0 < float(mass)


def test_mass_and_reconstruction_losses_by_hand():
    image = torch.cat([row(0.4, 0.4, 0.2, 0.0), row(0.5, 0.5, 0.0, 0.0)])
    aligned = torch.cat([row(0.4, 0.2, 0.0, 0.0), row(0.5, 0.5, 0.5, 0.0)])
    # Lost: 0.4 of 1.0 in the first, nothing (a gain) in the second.
    assert float(mass_loss(image, aligned)) == pytest.approx(0.2)
    assert float(reconstruction_loss(image, aligned)) == pytest.approx((0.2 + 0.2 + 0.5) / 8)
    assert float(reconstruction_loss(image, image)) == 0


def test_the_code_form_is_the_printed_one_and_the_reconstruction():
    image = head()
    aligned, restored = shifted(image, x=3.0)
    expected = alignment_loss(aligned, form="printed") + reconstruction_loss(image, restored)
    assert float(alignment_loss(aligned, image, restored, form="code")) == pytest.approx(float(expected))


def test_the_code_form_without_an_image_to_restore_is_refused():
    with pytest.raises(ParameterError, match="pass image and restored_mirror"):
        alignment_loss(head(), head(), form="code")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3])
def test_the_alignment_losses_of_an_even_or_empty_field_have_finite_gradients(value, dtype):
    x = torch.full(SHAPE, value, dtype=dtype, requires_grad=True)
    image = torch.zeros(SHAPE, dtype=dtype)
    loss = alignment_loss(x) + alignment_loss(x, image, x, form="code") + mass_loss(image, x) + mass_loss(x, image)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


# Eq. 4


def literal_entropy(p, truth):
    terms = [
        -(y * math.log(max(q, 1e-30)) + (1 - y) * math.log(max(1 - q, 1e-30)))
        for one, wanted in zip(voxels(p), voxels(truth), strict=True)
        for q, y in zip(one, wanted, strict=True)
    ]
    return mean(terms)


def literal_dice(p, y, weights):
    above = below = 0.0
    for weight, (q, z) in zip(weights, [(p, y), ([1 - v for v in p], [1 - v for v in y])], strict=True):
        above += weight * sum(a * b for a, b in zip(q, z, strict=True))
        below += weight * sum(a + b for a, b in zip(q, z, strict=True))
    return 1 - 2 * above / below


def test_the_segmentation_loss_is_the_literal_sum(batch):
    logits, truth = batch
    p = logits.sigmoid()
    entropy = literal_entropy(p, truth)
    each = []
    for one, wanted in zip(voxels(p), voxels(truth), strict=True):
        sizes = sum(wanted), len(wanted) - sum(wanted)
        each.append(literal_dice(one, wanted, [1 / n**2 for n in sizes]))
    assert float(segmentation_loss(logits, truth)) == pytest.approx(entropy + mean(each), rel=1e-5)
    assert float(segmentation_loss(logits, truth, "printed")) == pytest.approx(entropy, rel=1e-5)
    one, wanted = ([v for volume in voxels(x) for v in volume] for x in (p, truth))
    flat = literal_dice(one, wanted, [1 / sum(wanted) ** 2, 1 / (len(wanted) - sum(wanted)) ** 2])
    assert float(segmentation_loss(logits, truth, "code")) == pytest.approx(entropy + flat, rel=1e-5)
    assert abs(flat - mean(each)) > 0.01


def test_the_segmentation_loss_of_four_undecided_voxels_by_hand():
    logits, truth = row(0, 0, 0, 0), row(1, 0, 0, 0)
    # Weights 1 and 1/9: 1 - 2 (1/2 + 1/6) / (3 + 5/9).
    for form in ("recommended", "code"):
        assert float(segmentation_loss(logits, truth, form)) == pytest.approx(math.log(2) + 0.625, rel=1e-5)
    assert float(segmentation_loss(logits, truth, "printed")) == pytest.approx(math.log(2), rel=1e-6)


def test_an_empty_prediction_of_four_voxels_by_hand():
    # Cross-entropy 40/4; 1 - 2 (3/9) / (1 + 7/9).
    found = segmentation_loss(row(-40, -40, -40, -40), row(1, 0, 0, 0))
    assert float(found) == pytest.approx(10.625, rel=1e-5)


@pytest.mark.parametrize("lesion", [0, 1, 29])
@pytest.mark.parametrize("form", ["recommended", "printed"])
def test_a_perfect_prediction_costs_nothing_also_without_lesion(form, lesion):
    truth = torch.zeros(SHAPE)
    truth.flatten(1)[:, :lesion] = 1
    logits = 80 * truth - 40
    assert float(segmentation_loss(logits, truth, form)) == pytest.approx(0, abs=1e-5)
    assert float(warm_start_loss(truth, truth, form)) == pytest.approx(0, abs=1e-5)


def test_each_volume_counts_alike_whatever_its_neighbour_in_the_batch(batch):
    logits, truth = batch
    truth = truth.clone()
    truth[1] = 0
    alone = [float(segmentation_loss(logits[b : b + 1], truth[b : b + 1])) for b in range(2)]
    assert float(segmentation_loss(logits, truth)) == pytest.approx(mean(alone), rel=1e-5)
    alone = [float(segmentation_loss(logits[b : b + 1], truth[b : b + 1], "code")) for b in range(2)]
    assert abs(float(segmentation_loss(logits, truth, "code")) - mean(alone)) > 0.01


def test_the_code_s_dice_is_stuck_at_one_without_a_lesion_and_the_recommended_one_learns():
    truth, slopes = torch.zeros(SHAPE), {}
    for form in ("code", "recommended"):
        logits = torch.zeros(SHAPE, requires_grad=True)
        dice = segmentation_loss(logits, truth, form) - segmentation_loss(logits, truth, "printed")
        (slopes[form],) = torch.autograd.grad(dice, logits)
        assert float(dice.detach()) == pytest.approx({"code": 1, "recommended": 1 / 3}[form], abs=1e-5)
    assert float(slopes["code"].abs().max()) < 1e-9
    assert (slopes["recommended"] > 1e-3).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lesion", ["none", "all", "one volume"])
@pytest.mark.parametrize("extreme", [-60.0, 0.0, 60.0])
@pytest.mark.parametrize("form", SEGMENTATION)
def test_values_and_gradients_are_finite_for_hard_batches(form, extreme, lesion, dtype):
    truth = torch.zeros(SHAPE)
    truth[{"none": [], "all": [0, 1], "one volume": [1]}[lesion]] = 1
    logits = torch.full(SHAPE, extreme, dtype=dtype, requires_grad=True)
    p = logits.sigmoid()
    for loss in (
        segmentation_loss(logits, truth, form),
        warm_start_loss(p, truth, form),
        original_frame_loss(p, truth.bool()),
    ):
        (slope,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        assert torch.isfinite(slope).all()


def test_the_original_frame_loss_is_the_printed_loss_of_probabilities(batch):
    logits, truth = batch
    found = float(original_frame_loss(logits.sigmoid(), truth))
    assert found == pytest.approx(literal_entropy(logits.sigmoid(), truth), rel=1e-5)
    assert found == pytest.approx(float(segmentation_loss(logits, truth, "printed")), rel=1e-5)


def test_a_lesion_where_the_inverse_warp_fills_with_nothing_costs_a_finite_price():
    logits = torch.zeros(1, 1, 2, 4, 4, requires_grad=True)
    matrix = torch.eye(4)[None].clone()
    matrix[0, 0, 3] = 2.0
    restored = warp_3d(logits.sigmoid(), matrix)
    assert (restored[..., 2:] == 0).all()
    loss = original_frame_loss(restored, torch.ones_like(restored))
    loss.backward()
    assert float(loss.detach()) == pytest.approx((math.log(2) - math.log(1e-6)) / 2, rel=1e-5)
    assert (logits.grad[..., 2:] < 0).all()
    assert (logits.grad[..., :2] == 0).all()


@pytest.mark.parametrize("loss", [segmentation_loss, warm_start_loss, original_frame_loss])
def test_a_truth_with_other_values_than_zero_and_one_is_refused(loss):
    with pytest.raises(ParameterError, match="nearest"):
        loss(row(0.5, 0.5), row(1.0, 0.7))


# The terms of Eq. 5


def test_the_terms_are_the_literal_means_of_each_volume(maps):
    total, p, lesion, mismatch, csf = maps
    volumes = list(zip(*(voxels(x) for x in maps), strict=True))
    expected = {
        "tissue": mean(mean(abs(q * (m + c)) for q, m, c in zip(p, r, f, strict=True)) for _, p, _, r, f in volumes),
        "size": mean(
            abs(mean(p) - mean(a * g for a, g in zip(total, lesion, strict=True))) for total, p, lesion, _, _ in volumes
        ),
        "asymmetry": mean(
            mean(abs(q) if a == 0 else 0.0 for a, q in zip(total, p, strict=True)) for total, p, _, _, _ in volumes
        ),
        "intrinsic": -mean(
            mean(max(a - q, 0.0) for a, q in zip(total, p, strict=True)) for total, p, _, _, _ in volumes
        ),
        "printed size": mean(abs(mean(p) - mean(lesion)) for _, p, lesion, _, _ in volumes),
        "printed asymmetry": mean(
            mean(abs(q * (1 - a)) for a, q in zip(total, p, strict=True)) for total, p, _, _, _ in volumes
        ),
        "printed intrinsic": -mean(
            abs(mean(a - q for a, q in zip(total, p, strict=True))) for total, p, _, _, _ in volumes
        ),
    }
    found = {
        "tissue": tissue_loss(p, mismatch, csf),
        "size": size_loss(p, lesion, total),
        "asymmetry": asymmetry_loss(p, total),
        "intrinsic": intrinsic_loss(total, p),
        "printed size": size_loss(p, lesion, total, "printed"),
        "printed asymmetry": asymmetry_loss(p, total, "printed"),
        "printed intrinsic": intrinsic_loss(total, p, "printed"),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_the_tissue_term_by_hand():
    # Of four voxels one is mismatched, one is fluid, and one is both in maps that overlap.
    p, mismatch, csf = row(0.4, 0.2, 0.1, 0.8), row(1, 0, 1, 0), row(0, 1, 1, 0)
    assert float(tissue_loss(p, mismatch, csf)) == pytest.approx((0.4 + 0.2 + 0.2) / 4)
    assert float(tissue_loss(0 * p, mismatch, csf)) == 0
    assert float(tissue_loss(p, 0 * p, 0 * p)) == 0


def test_the_pathological_part_itself_has_the_recommended_size_and_never_the_printed_one():
    total, lesion = row(0.08, 0.04, 0, 0), row(1, 0, 0, 0)
    assert float(size_loss(total * lesion, lesion, total)) == 0
    assert float(size_loss(total * lesion, lesion, total, "printed")) == pytest.approx(0.23)
    # All of A: 0.03 against 0.02; printed against 0.25.
    assert float(size_loss(total, lesion, total)) == pytest.approx(0.01)
    assert float(size_loss(total, lesion, total, "printed")) == pytest.approx(0.22)
    assert float(size_loss(lesion, lesion, total, "printed")) == 0


def test_too_much_in_one_volume_does_not_make_up_for_too_little_in_another():
    p, total = torch.cat([row(0.2, 0), row(0, 0)]), torch.cat([row(0.1, 0), row(0.1, 0)])
    lesion = torch.cat([row(1, 0), row(1, 0)])
    assert float(p.mean()) == pytest.approx(float((total * lesion).mean()))
    assert float(size_loss(p, lesion, total)) == pytest.approx(0.05)


def test_the_printed_asymmetry_term_shrinks_p_also_where_there_is_asymmetry():
    total = row(0.1, 0, 0.1, 0)
    for p, recommended, printed in [
        (row(0.1, 0, 0, 0), 0, 0.0225),
        (row(0, 0.1, 0, 0), 0.025, 0.025),
        (row(0, 0, 0, 0), 0, 0),
        (row(1, 1, 1, 1), 0.5, 0.95),
    ]:
        assert float(asymmetry_loss(p, total)) == pytest.approx(recommended)
        assert float(asymmetry_loss(p, total, "printed")) == pytest.approx(printed)
    assert float(asymmetry_loss(row(1, 1), row(1e-4, 0))) == 0.5
    p = row(0.1, 0.1, 0.1, 0.1).requires_grad_()
    assert torch.autograd.grad(asymmetry_loss(p, total), p)[0].flatten().tolist() == [0, 0.25, 0, 0.25]
    printed = torch.autograd.grad(asymmetry_loss(p, total, "printed"), p)[0].flatten().tolist()
    assert printed == pytest.approx([0.225, 0.25, 0.225, 0.25])


def test_the_printed_intrinsic_term_rewards_a_p_far_above_a():
    total = row(0.1, 0.1)
    for p, recommended, printed in [
        (row(0, 0), -0.1, -0.1),
        (row(0.1, 0.1), 0, 0),
        (row(0.05, 0.1), -0.025, -0.025),
        (row(0, 0.2), -0.05, 0),
        (row(1, 1), 0, -0.9),
    ]:
        assert float(intrinsic_loss(total, p)) == pytest.approx(recommended, abs=1e-7)
        assert float(intrinsic_loss(total, p, "printed")) == pytest.approx(printed, abs=1e-7)


def test_the_terms_stay_within_their_bounds(maps):
    total, p, lesion, mismatch, csf = maps
    for q in (p, torch.zeros_like(p), torch.ones_like(p), total, lesion):
        for form in FORMS:
            terms = tissue_aware_loss(total, q, lesion, mismatch, csf, form)
            assert 0 <= float(terms.tissue) <= 1
            assert 0 <= float(terms.size) <= 1
            assert 0 <= float(terms.asymmetry) <= 1
            assert -1 <= float(terms.intrinsic) <= 0
        assert float(intrinsic_loss(total, q)) >= -float(total.mean()) - 1e-7


# Eq. 5


@pytest.mark.parametrize("form", FORMS)
def test_the_regulariser_is_the_sum_of_its_four_terms(maps, form):
    total, p, lesion, mismatch, csf = maps
    found = tissue_aware_loss(total, p, lesion, mismatch, csf, form)
    assert found.tissue == tissue_loss(p, mismatch, csf)
    assert found.size == size_loss(p, lesion, total, form)
    assert found.asymmetry == asymmetry_loss(p, total, form)
    assert found.intrinsic == intrinsic_loss(total, p, form)
    assert float(found.loss) == pytest.approx(sum(float(term) for term in found[:4]), rel=1e-6)
    without = tissue_aware_loss(total, p, lesion, form=form, tissue=False)
    assert float(without.tissue) == 0
    assert float(without.loss) == pytest.approx(float(found.loss - found.tissue), rel=1e-5)


def worked_example():
    """Eight voxels: an infarct of 0.08, a grey-white mismatch of 0.06, two other asymmetries; the other half is 0."""
    total, lesion = row(0.08, 0.06, 0.02, 0.04, 0, 0, 0, 0), row(1, 0, 0, 0, 0, 0, 0, 0)
    mismatch, csf = row(0, 1, 0, 0, 0, 0, 1, 0), row(0, 0, 0, 1, 1, 0, 0, 0)
    return total, lesion, mismatch, csf


def test_the_regulariser_of_four_answers_by_hand():
    total, lesion, mismatch, csf = worked_example()
    answers = {"truth": total * lesion, "all": total, "none": 0 * total, "ones": torch.ones_like(total)}
    expected = {
        "truth": (0, 0, 0, -0.015),
        "all": (0.0125, 0.015, 0, 0),
        "none": (0, 0.01, 0, -0.025),
        "ones": (0.5, 0.99, 0.5, 0),
    }
    for name, p in answers.items():
        found = tissue_aware_loss(total, p, lesion, mismatch, csf)
        assert [float(x) for x in found[:4]] == pytest.approx(expected[name], abs=1e-6)
        assert float(found.loss) == pytest.approx(sum(expected[name]), abs=1e-6)


def test_the_recommended_regulariser_cannot_tell_any_part_of_the_pathology_from_the_whole_of_it():
    total, lesion, mismatch, csf = worked_example()
    parts = [share * total * lesion for share in (0.0, 0.3, 1.0)]
    found = [float(tissue_aware_loss(total, p, lesion, mismatch, csf).loss) for p in parts]
    assert found == pytest.approx([-0.015] * 3, abs=1e-7)
    assert all(
        float(tissue_aware_loss(total, p, lesion, mismatch, csf).loss) > -0.0149
        for p in (1.3 * parts[-1], parts[-1] + 0.3 * total * mismatch, total)
    )


def test_the_printed_regulariser_prefers_no_pathology_to_the_right_one():
    total, lesion, mismatch, csf = worked_example()
    none, truth = (
        float(tissue_aware_loss(total, p, lesion, mismatch, csf, "printed").loss) for p in (0 * total, total * lesion)
    )
    # 0.125 - 0.025 against 0.115 + 0.0092 - 0.015.
    assert none == pytest.approx(0.1)
    assert truth == pytest.approx(0.1092)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [-60.0, 0.0, 60.0])
def test_the_regulariser_has_finite_gradients_also_without_asymmetry_or_lesion(maps, value, form):
    total, _, lesion, mismatch, csf = maps
    for a, g in ((total, lesion), (0 * total, lesion), (total, 0 * lesion)):
        logits = torch.full(SHAPE, value, requires_grad=True)
        tissue_aware_loss(a, logits.sigmoid(), g, mismatch, csf, form).loss.backward()
        assert torch.isfinite(logits.grad).all()


def test_the_regulariser_without_maps_of_tissue_is_refused_unless_that_term_is_left_out(maps):
    total, p, lesion, mismatch, _ = maps
    with pytest.raises(ParameterError, match="tissue=False"):
        tissue_aware_loss(total, p, lesion, mismatch)


# Warm start and Eq. 6


def test_the_warm_start_is_the_segmentation_loss_of_p(batch):
    logits, truth = batch
    for form in SEGMENTATION:
        expected = float(segmentation_loss(logits, truth, form))
        assert float(warm_start_loss(logits.sigmoid(), truth, form)) == pytest.approx(expected, rel=1e-5)


def test_a_wrong_and_certain_p_costs_the_clamped_logarithm():
    assert float(warm_start_loss(row(0, 0), row(1, 0), "printed")) == pytest.approx(-math.log(1e-6) / 2, rel=1e-5)
    assert float(warm_start_loss(row(1, 0), row(0, 0), "printed")) == pytest.approx(-math.log(1e-6) / 2, rel=1e-2)


def test_the_total_loss_and_its_warm_starts_by_hand():
    segmentation, regulariser, warm = (torch.tensor(x) for x in (0.5, -0.02, 0.7))
    assert float(total_loss(segmentation, regulariser)) == pytest.approx(0.3)
    assert float(total_loss(segmentation, regulariser, 1.0)) == pytest.approx(0.48)
    assert float(total_loss(segmentation, regulariser, warm_start=warm)) == pytest.approx(7.5)
    assert float(total_loss(segmentation, regulariser, 2.0, warm_start=warm, warm="add")) == pytest.approx(1.86)


def test_a_replaced_regulariser_gives_no_gradient_and_an_added_one_does():
    for warm, slope in (("replace", 0.0), ("add", 10.0)):
        regulariser = torch.tensor(0.1, requires_grad=True)
        loss = total_loss(torch.tensor(0.5) + 0 * regulariser, regulariser, warm_start=torch.tensor(0.7), warm=warm)
        loss.backward()
        assert float(regulariser.grad) == slope


# All of them


@pytest.mark.parametrize(
    ("loss", "volumes", "forms"),
    [
        (alignment_loss, 1, "relative or printed or code"),
        (segmentation_loss, 2, "recommended or printed or code"),
        (warm_start_loss, 2, "recommended or printed or code"),
        (size_loss, 3, "recommended or printed"),
        (asymmetry_loss, 2, "recommended or printed"),
        (intrinsic_loss, 2, "recommended or printed"),
    ],
)
def test_another_form_is_refused(loss, volumes, forms):
    with pytest.raises(ParameterError, match=forms):
        loss(*[torch.zeros(SHAPE)] * volumes, form="as in the paper")


def test_an_aligned_volume_of_two_channels_is_refused():
    with pytest.raises(ParameterError, match="one shape"):
        alignment_loss(torch.zeros(1, 2, 4, 4, 4))


def test_another_word_for_the_warm_start_is_refused():
    with pytest.raises(ParameterError, match="replace or add"):
        total_loss(torch.tensor(0.0), torch.tensor(0.0), warm="both")


@pytest.mark.parametrize(
    ("loss", "volumes"),
    [
        (mass_loss, 2),
        (reconstruction_loss, 2),
        (segmentation_loss, 2),
        (original_frame_loss, 2),
        (warm_start_loss, 2),
        (tissue_loss, 3),
        (size_loss, 3),
        (asymmetry_loss, 2),
        (intrinsic_loss, 2),
        (tissue_aware_loss, 5),
    ],
)
def test_volumes_of_other_shapes_are_not_broadcast(loss, volumes):
    good = [torch.zeros(SHAPE)] * volumes
    assert torch.is_tensor(loss(*good)) or loss is tissue_aware_loss
    for bad in (torch.zeros(1, *SHAPE[1:]), torch.zeros(SHAPE)[:, 0]):
        for place in range(volumes):
            with pytest.raises(ParameterError, match="one shape"):
                loss(*good[:place], bad, *good[place + 1 :])
    with pytest.raises(ParameterError, match="one shape"):
        loss(*[torch.zeros(2, 3, 2, 3, 5)] * volumes)


def test_losses_of_bfloat16_and_under_autocast_are_float32_and_near_those_of_float32(maps, batch):
    total, p, lesion, mismatch, csf = maps
    logits, truth = batch

    def losses(cast):
        return torch.stack(
            [
                alignment_loss(cast(p)),
                mass_loss(cast(p), cast(total)),
                segmentation_loss(cast(logits), truth),
                warm_start_loss(cast(logits).sigmoid(), truth),
                tissue_aware_loss(*(cast(x) for x in (total, p, lesion, mismatch, csf))).loss,
                tissue_aware_loss(total, cast(p), lesion, tissue=False, form="printed").loss,
            ]
        )

    exact, rough = losses(lambda x: x), losses(lambda x: x.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        inside = losses(lambda x: x)
    assert rough.dtype == inside.dtype == torch.float32
    assert torch.equal(exact, inside)
    assert rough.numpy() == pytest.approx(exact.numpy(), rel=0.03, abs=0.005)
