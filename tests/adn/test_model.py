import pytest
import torch
from torch.nn import functional

from strokelib.adn import model as adn_model
from strokelib.adn.model import (
    ADN,
    AsymmetryExtractor,
    Disentangled,
    Segmenter,
    compensate_intrinsic,
    compensate_pathology,
    intrinsic_asymmetry,
    total_asymmetry,
)
from strokelib.adn.transformation import Transformer3D, align, restore
from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror
from strokelib.nn.baselines.resunet3d import ResUNet3D
from strokelib.nn.blocks import count_parameters


def scan(*size, batch=1, seed=0):
    """Made-up heads of living contrast: 0.3 with an asymmetry of at most 0.1."""
    generator = torch.Generator().manual_seed(seed)
    return 0.3 + 0.1 * torch.rand(batch, 1, *size, generator=generator)


def row(*values):
    return torch.tensor(values, dtype=torch.float64)[None, None, None, None]


def silent_parameters(model):
    return [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]


def test_total_asymmetry_is_what_the_mirror_image_is_brighter_voxel_by_voxel():
    aligned = scan(2, 3, 5).double()
    expected = torch.zeros_like(aligned)
    for z in range(2):
        for y in range(3):
            for x in range(5):
                expected[0, 0, z, y, x] = max(aligned[0, 0, z, y, 4 - x] - aligned[0, 0, z, y, x], 0)
    torch.testing.assert_close(total_asymmetry(aligned), expected, rtol=0, atol=0)


def test_maps_of_one_row_worked_by_hand():
    # The first voxel is 0.2 darker than its mirror image, the third 0.1.
    aligned, pathological = row(0.1, 0.4, 0.3, 0.3), row(0.15, 0.0, 0.05, 0.0)
    total = total_asymmetry(aligned)
    torch.testing.assert_close(total, row(0.2, 0.0, 0.1, 0.0))
    torch.testing.assert_close(intrinsic_asymmetry(total, pathological), row(0.05, 0.0, 0.05, 0.0))
    compensated = compensate_intrinsic(aligned, row(0.05, 0.0, 0.05, 0.0))
    torch.testing.assert_close(compensated, row(0.15, 0.4, 0.35, 0.3))
    torch.testing.assert_close(compensate_pathology(aligned, pathological), row(0.25, 0.4, 0.35, 0.3))


def test_where_p_exceeds_a_the_printed_q_is_negative_and_darkens_the_scan():
    aligned, pathological = row(0.1, 0.4, 0.3, 0.3), row(0.5, 0.5, 0.0, 0.0)
    total = total_asymmetry(aligned)
    torch.testing.assert_close(intrinsic_asymmetry(total, pathological), row(0.0, 0.0, 0.1, 0.0))
    printed = intrinsic_asymmetry(total, pathological, form="printed")
    torch.testing.assert_close(printed, row(-0.3, -0.5, 0.1, 0.0))
    torch.testing.assert_close(compensate_intrinsic(aligned, printed), row(-0.2, -0.1, 0.4, 0.3))


def test_where_p_exceeds_a_the_printed_compensation_overshoots_the_mirror_image():
    aligned, pathological = row(0.1, 0.4, 0.3, 0.3), row(0.5, 0.5, 0.0, 0.0)
    torch.testing.assert_close(compensate_pathology(aligned, pathological), row(0.3, 0.4, 0.3, 0.3))
    torch.testing.assert_close(compensate_pathology(aligned, pathological, form="printed"), row(0.6, 0.9, 0.3, 0.3))


@pytest.mark.parametrize("size", [(3, 4, 6), (2, 5, 7)])
def test_scan_and_total_asymmetry_add_up_to_the_brighter_of_the_two_sides(size):
    aligned = scan(*size, batch=2).double()
    brighter = torch.maximum(aligned, mirror(aligned))
    torch.testing.assert_close(aligned + total_asymmetry(aligned), brighter)


@pytest.mark.parametrize("size", [(3, 4, 6), (2, 5, 7)])
def test_of_two_mirrored_voxels_one_has_no_asymmetry(size):
    total = total_asymmetry(scan(*size, batch=2))
    assert (total * mirror(total)).eq(0).all()
    assert total.max() > 0


def test_a_symmetric_scan_has_no_asymmetry():
    aligned = scan(3, 4, 6)
    assert total_asymmetry(aligned + mirror(aligned)).eq(0).all()


def test_with_all_asymmetry_pathological_the_scan_stays_and_its_compensation_is_symmetric():
    aligned = scan(3, 4, 7).double()
    total = total_asymmetry(aligned)
    for form in ("relu", "printed"):
        compensated = compensate_intrinsic(aligned, intrinsic_asymmetry(total, total, form))
        torch.testing.assert_close(compensated, aligned, rtol=0, atol=0)
    for form in ("clipped", "printed"):
        healed = compensate_pathology(aligned, total, form)
        torch.testing.assert_close(healed, mirror(healed))


def test_with_no_pathology_the_compensated_scan_is_symmetric_and_the_brighter_of_the_two_sides():
    aligned = scan(3, 4, 7).double()
    total = total_asymmetry(aligned)
    compensated = compensate_intrinsic(aligned, intrinsic_asymmetry(total, torch.zeros_like(total)))
    torch.testing.assert_close(compensated, torch.maximum(aligned, mirror(aligned)))
    torch.testing.assert_close(compensated, mirror(compensated))


def test_with_p_between_nothing_and_a_the_compensated_scan_lies_between_the_scan_and_the_brighter_side():
    aligned = scan(3, 4, 7).double()
    total = total_asymmetry(aligned)
    pathological = total * torch.rand(total.shape, dtype=total.dtype, generator=torch.Generator().manual_seed(1))
    compensated = compensate_intrinsic(aligned, intrinsic_asymmetry(total, pathological))
    assert (compensated >= aligned).all()
    assert (compensated <= torch.maximum(aligned, mirror(aligned)) + 1e-12).all()
    assert ((compensated > aligned) & (compensated < aligned + total)).any()


def test_extractor_and_segmenter_of_the_public_size_have_its_8_769_251_parameters_each():
    with torch.device("meta"):
        assert count_parameters(AsymmetryExtractor()) == count_parameters(Segmenter()) == 8_769_251
        assert count_parameters(AsymmetryExtractor(sees="X,A")) == 8_770_117
        assert count_parameters(ADN()) == 17_538_502


@pytest.mark.parametrize("range_of_p", ["sigmoid", "bounded"])
def test_p_is_the_sigmoid_of_a_residual_u_net_times_a_where_it_is_bounded(range_of_p):
    torch.manual_seed(0)
    extractor, aligned = AsymmetryExtractor(4, 2, range=range_of_p).eval(), scan(4, 6, 7)
    plain = ResUNet3D(1, 1, 4, 2).eval()
    plain.load_state_dict(extractor.state_dict())
    total = total_asymmetry(aligned)
    share = 1 / (1 + torch.exp(-plain(aligned)))
    found = extractor(aligned, total)
    torch.testing.assert_close(found, share if range_of_p == "sigmoid" else total * share)
    assert (found >= 0).all()
    assert (found <= (1 if range_of_p == "sigmoid" else total)).all()


def test_the_extractor_sees_a_only_where_it_is_told_to():
    torch.manual_seed(0)
    aligned = scan(4, 6, 6)
    total = total_asymmetry(aligned)
    for sees, differs in (("X", False), ("X,A", True)):
        extractor = AsymmetryExtractor(4, 2, sees=sees).eval()
        change = (extractor(aligned, total) - extractor(aligned, mirror(total))).abs().max()
        assert bool(change > 1e-3) == differs


def test_p_is_float32_under_bfloat16_and_stays_float64():
    extractor, aligned = AsymmetryExtractor(4, 2), scan(4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert extractor(aligned, total_asymmetry(aligned)).dtype == torch.float32
        found = ADN(4, 2)(aligned)
    assert found.pathological.dtype == found.compensated.dtype == torch.float32
    assert extractor.double()(aligned.double(), total_asymmetry(aligned.double())).dtype == torch.float64


@pytest.mark.parametrize("options", [{}, {"sees": "X,A", "range": "bounded"}, {"intrinsic": "printed"}])
def test_the_network_is_its_parts_in_a_row(options):
    torch.manual_seed(0)
    model, aligned = ADN(4, 2, **options).eval(), scan(4, 6, 7, batch=2)
    total = total_asymmetry(aligned)
    pathological = model.extractor(aligned, total)
    intrinsic = intrinsic_asymmetry(total, pathological, options.get("intrinsic", "relu"))
    compensated = compensate_intrinsic(aligned, intrinsic)
    expected = Disentangled(total, pathological, intrinsic, compensated, model.segmenter(compensated))
    found = model(aligned)
    assert isinstance(found, Disentangled)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(8, 8, 8), (30, 56, 48), (9, 17, 31), (40, 256, 256)])
@pytest.mark.parametrize("sees", ["X", "X,A"])
def test_every_map_has_the_size_of_the_scan(size, sees):
    with torch.device("meta"):
        for found in ADN(width=4, sees=sees)(torch.empty(2, 1, *size)):
            assert found.shape == (2, 1, *size)


@pytest.mark.parametrize(
    "options", [{"range": "bounded"}, {"intrinsic": "printed"}, {"range": "bounded", "sees": "X,A"}]
)
def test_the_segmentation_reaches_every_parameter_of_d_and_f_through_the_compensated_scan(options):
    torch.manual_seed(0)
    model = ADN(4, 3, **options)
    model(scan(8, 8, 8)).logits.square().sum().backward()
    assert silent_parameters(model) == []


def test_by_default_the_segmentation_teaches_an_untrained_d_nothing_until_p_has_come_below_a():
    torch.manual_seed(0)
    model, aligned = ADN(4, 3), scan(8, 8, 8)
    found = model(aligned)
    found.logits.square().sum().backward()
    assert (found.pathological > found.total).all()
    assert found.intrinsic.eq(0).all()
    assert silent_parameters(model.extractor) == [name for name, _ in model.extractor.named_parameters()]
    assert silent_parameters(model.segmenter) == []
    model.zero_grad()
    torch.nn.init.constant_(model.extractor.head.bias, -4.0)
    model(aligned).logits.square().sum().backward()
    assert silent_parameters(model) == []


def test_it_overfits_one_case_in_asymmetry_and_segmentation():
    torch.manual_seed(0)
    half = scan(8, 12, 6, seed=1)
    aligned = torch.cat([half, mirror(half)], -1)
    lesion = torch.zeros_like(aligned)
    lesion[..., 2:6, 3:8, 1:5] = 1
    aligned = aligned - 0.05 * lesion
    aligned[..., 2:6, 8:11, 7:10] -= 0.05  # anatomy on the other side
    model = ADN(4, 2, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(70):
        optimizer.zero_grad()
        found = model(aligned)
        segmentation = functional.binary_cross_entropy_with_logits(found.logits, lesion)
        (segmentation + functional.binary_cross_entropy(found.pathological, lesion)).backward()
        optimizer.step()
    for mask in (found.logits > 0, found.pathological > 0.5):
        assert 2 * (mask * lesion).sum() / (mask.sum() + lesion.sum()) > 0.95
    assert found.intrinsic[lesion == 1].max() == 0
    assert found.intrinsic[..., 2:6, 8:11, 7:10].mean() > 0.02


@pytest.mark.parametrize("shape", [(1, 1, 7, 8, 8), (1, 2, 8, 8, 8), (1, 8, 8, 8)])
def test_a_scan_that_does_not_fit_is_refused_in_words(shape):
    for model in (ADN(2), Segmenter(2)):
        with pytest.raises(ParameterError, match="input of the residual U-Net"):
            model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "thing"),
    [({"sees": "A"}, "what D sees"), ({"range": "relu"}, "range of P"), ({"intrinsic": "abs"}, "form of Q")],
)
def test_an_option_that_is_not_known_is_refused_in_words(options, thing):
    with pytest.raises(ParameterError, match=thing):
        ADN(4, 2, **options)


def test_a_form_that_is_not_known_is_refused_in_words():
    total = total_asymmetry(scan(2, 2, 2))
    with pytest.raises(ParameterError, match="form of Q: found 'clipped'; wanted 'relu' or 'printed'"):
        intrinsic_asymmetry(total, total, form="clipped")
    with pytest.raises(ParameterError, match="form of X_tilde: found 'relu'; wanted 'clipped' or 'printed'"):
        compensate_pathology(total, total, form="relu")


def test_the_third_network_can_be_had_from_here_too():
    assert adn_model.Transformer3D is Transformer3D
    assert (adn_model.align, adn_model.restore) == (align, restore)
