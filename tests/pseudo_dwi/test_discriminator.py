import pytest
import torch
from torch import nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.blocks import count_parameters
from strokelib.pseudo_dwi.discriminator import MultiScaleDiscriminator


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (37, 53), (96, 112), (256, 256)])
@pytest.mark.parametrize("scales", [1, 2, 3])
def test_there_is_one_score_map_a_scale_and_each_is_coarser(size, scales):
    with torch.device("meta"):
        scores = MultiScaleDiscriminator(width=4, scales=scales)(torch.empty(2, 1, *size))
    assert len(scores) == scales
    assert all(score.shape[:2] == (2, 1) for score in scores)
    sides = [score.shape[2] for score in scores]
    assert sides == sorted(set(sides), reverse=True)


def test_each_judge_has_weights_of_its_own_and_sees_the_image_halved_once_more():
    torch.manual_seed(0)
    model, x = MultiScaleDiscriminator(width=2, scales=3), torch.randn(1, 1, 48, 40)
    half = functional.avg_pool2d(x, 2)
    quarter = functional.avg_pool2d(half, 2)
    expected = [judge(image) for judge, image in zip(model.judges, (x, half, quarter), strict=True)]
    for ours, theirs in zip(model(x), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert (model.judges[0](x) - model.judges[1](x)).abs().max() > 1e-3


def test_a_score_sees_a_patch_not_the_whole_image():
    # The receptive field of three convolutions with stride 2 and two with stride 1, each 4 wide, is 70 pixels.
    torch.manual_seed(0)
    judge = nn.Sequential(
        *(m for m in MultiScaleDiscriminator(width=2).judges[0] if not isinstance(m, nn.InstanceNorm2d))
    )
    x = torch.randn(1, 1, 256, 256, requires_grad=True)
    judge(x)[0, 0, 16, 16].backward()
    rows, columns = (x.grad[0, 0] != 0).nonzero().unbind(1)
    assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == 70


def test_the_published_width_has_8_285_379_parameters():
    with torch.device("meta"):
        assert count_parameters(MultiScaleDiscriminator()) == 8_285_379


def test_a_gradient_reaches_the_image_and_every_parameter():
    torch.manual_seed(0)
    model, x = MultiScaleDiscriminator(width=4), torch.rand(2, 1, 48, 40, requires_grad=True)
    sum(score.square().mean() for score in model(x)).backward()
    assert (x.grad != 0).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_it_learns_to_tell_sharp_images_from_blurred_ones_with_scores_near_1_and_0():
    torch.manual_seed(0)
    model = MultiScaleDiscriminator(width=4, scales=2)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    real = torch.rand(4, 1, 32, 32)
    fake = functional.avg_pool2d(real, 3, stride=1, padding=1)
    for _ in range(40):
        optimizer.zero_grad()
        sum(
            (ours - 1).square().mean() + theirs.square().mean()
            for ours, theirs in zip(model(real), model(fake), strict=True)
        ).backward()
        optimizer.step()
    for ours, theirs in zip(model(real), model(fake), strict=True):
        assert ours.mean().item() == pytest.approx(1, abs=0.2)
        assert theirs.mean().item() == pytest.approx(0, abs=0.2)


def test_scores_are_not_squeezed_between_0_and_1():
    torch.manual_seed(0)
    scores = MultiScaleDiscriminator(width=8, scales=1)(10 * torch.randn(2, 1, 64, 64))[0]
    assert scores.min() < 0


@pytest.mark.parametrize("shape", [(1, 1, 31, 32), (1, 2, 32, 32), (1, 32, 32)])
def test_an_image_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(ParameterError, match=r"input of the discriminator.*sides of at least 32"):
        MultiScaleDiscriminator(width=2)(torch.zeros(shape))


@pytest.mark.parametrize("settings", [{"layers": 0}, {"scales": 0}])
def test_no_layers_or_no_scales_are_refused_in_words(settings):
    with pytest.raises(ParameterError, match="layers and scales of the discriminator"):
        MultiScaleDiscriminator(**settings)
