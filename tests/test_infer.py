import numpy as np
import pytest
import torch
from torch import nn

from strokelib.data.cases import Case, Volume
from strokelib.errors import ParameterError
from strokelib.infer import evaluating, foreground, predict_case, predict_slices, sliding_window, window_starts
from strokelib.nn.unet import UNet


@pytest.fixture
def model():
    torch.manual_seed(0)
    return UNet(1, 2, width=2, depth=3)


def modes(model):
    return [m.training for m in model.modules()]


def test_evaluating_restores_the_mode_of_every_part(model):
    model.encoder[1].eval()
    before = modes(model)
    with evaluating(model):
        assert not any(modes(model))
    assert modes(model) == before


def test_evaluating_restores_the_modes_also_after_an_error(model):
    before = modes(model)
    with pytest.raises(ParameterError), evaluating(model):
        model(torch.zeros(1))
    assert modes(model) == before


def test_foreground_of_one_and_of_two_channels_agree():
    logit = torch.linspace(-3, 3, 9).view(1, 1, 3, 3)
    two = torch.cat([torch.zeros_like(logit), logit], dim=1)
    torch.testing.assert_close(foreground(two), foreground(logit))


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_slices_do_not_depend_on_the_batch_they_are_in(model, batch):
    images = torch.randn(5, 1, 16, 20, generator=torch.Generator().manual_seed(1))
    before = modes(model)
    found = predict_slices(model, images, batch, amp="float32")
    assert modes(model) == before
    with torch.no_grad(), evaluating(model):
        expected = model(images).softmax(1)[:, 1]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (5, 16, 20)


def test_mirror_averaging_makes_the_prediction_of_the_mirror_image_the_mirrored_prediction(model):
    images = torch.randn(2, 1, 16, 20, generator=torch.Generator().manual_seed(1))
    straight = predict_slices(model, images, mirror=True, amp="float32")
    mirrored = predict_slices(model, images.flip(-1), mirror=True, amp="float32")
    np.testing.assert_allclose(straight, mirrored[..., ::-1], atol=1e-5)


def test_a_case_is_predicted_on_its_grid_with_nothing_outside_the_brain(model):
    rng = np.random.default_rng(0)
    brain = np.zeros((4, 16, 20), bool)
    brain[:, 4:12, 5:15] = True
    image = Volume(rng.normal(35, 5, brain.shape).astype(np.float32), np.eye(4))
    case = Case("made-0", "p0", "made", "test", image, None, brain)
    probability = predict_case(model, case, window_hu=(0, 80), normalise="unit")
    assert probability.shape == brain.shape
    assert probability.dtype == np.float32
    assert (probability[~brain] == 0).all()
    assert ((probability[brain] > 0) & (probability[brain] < 1)).all()


def test_windows_cover_the_axis_and_the_last_ends_with_it():
    assert window_starts(10, 4, 3) == [0, 3, 6]
    assert window_starts(11, 4, 3) == [0, 3, 6, 7]
    assert window_starts(4, 4, 1) == [0]
    assert window_starts(3, 4, 2) == [0]


@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [
        ((37, 53), (16, 24), (8, 12)),
        ((20, 40), (32, 32), (16, 16)),
        ((9, 20, 26), (8, 16, 16), (4, 8, 8)),
        ((5, 16, 11), (8, 16, 16), (2, 4, 4)),
    ],
)
def test_sliding_windows_equal_monais(size, window, stride, gaussian):
    inferers = pytest.importorskip("monai.inferers")
    torch.manual_seed(0)
    network = UNet(2, 3, width=2, depth=3, dims=len(size)).eval()
    volume = torch.randn(2, *size)
    overlap = [1 - s / w for s, w in zip(stride, window, strict=True)]
    expected = inferers.sliding_window_inference(
        volume[None], window, 3, network, overlap=overlap, mode="gaussian" if gaussian else "constant"
    )[0]
    found = sliding_window(network, volume, window, stride, gaussian, amp="float32")
    torch.testing.assert_close(found, expected.detach(), atol=2e-5, rtol=1e-5)


def test_a_network_that_copies_its_input_gives_it_back():
    volume = torch.randn(1, 11, 13, 9)
    copied = sliding_window(nn.Identity(), volume, (4, 8, 16), (3, 5, 7), amp="float32")
    torch.testing.assert_close(copied, volume)


@pytest.mark.parametrize(("window", "stride"), [((8, 8), (4, 4, 4)), ((8, 8, 8), (9, 4, 4)), ((8, 8, 8), (0, 4, 4))])
def test_a_window_that_does_not_fit_is_refused(window, stride):
    with pytest.raises(ParameterError, match="sliding window"):
        sliding_window(nn.Identity(), torch.zeros(1, 8, 8, 8), window, stride)
