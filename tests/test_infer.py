import numpy as np
import pytest
import torch
from torch import nn

from strokelib.data import preprocess
from strokelib.data.cases import Case, Volume
from strokelib.data.loading import case_images
from strokelib.data.phantom import embedded
from strokelib.errors import ParameterError
from strokelib.infer import (
    evaluating,
    foreground,
    majority,
    predict_case,
    predict_slices,
    predict_volume,
    sliding_window,
    to_scanner,
    window_starts,
)
from strokelib.metrics import dice
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


def test_mirrored_windows_average_over_every_set_of_axes(model):
    volume = torch.randn(1, 24, 20, generator=torch.Generator().manual_seed(2))
    found = sliding_window(model, volume, (16, 16), (8, 8), mirror_axes=(0, 1), amp="float32")
    with torch.no_grad(), evaluating(model):
        total = 0
        for axes in ([], [1], [2], [1, 2]):
            seen = sliding_window(model, volume.flip(axes), (16, 16), (8, 8), amp="float32")
            total = total + seen.flip(axes) / 4
    # Windows that end with the image lie elsewhere in its mirror image; 24 and 20 voxels in steps of 8 and 4 fit both.
    torch.testing.assert_close(found, total, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("axes", [(2,), (-1,), (0, 0)])
def test_axes_that_do_not_exist_are_refused(axes):
    with pytest.raises(ParameterError, match="mirror_axes"):
        sliding_window(nn.Identity(), torch.zeros(1, 8, 8), (4, 4), (4, 4), mirror_axes=axes)


class Pointwise(nn.Module):
    """Two channels from each voxel alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 1)

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize("crop", [True, False])
def test_a_volume_is_predicted_on_its_grid_whatever_box_is_looked_at(crop):
    torch.manual_seed(0)
    model, rng = Pointwise(), np.random.default_rng(0)
    brain = np.zeros((9, 40, 36), bool)
    brain[2:7, 10:30, 6:30] = True
    image = Volume(rng.normal(35, 5, brain.shape).astype(np.float32), np.eye(4))
    case = Case("made-0", "p0", "made", "test", image, None, brain)
    how = {"window_hu": (0, 80), "normalise": "unit", "window": (8, 16, 16), "stride": (4, 8, 8), "amp": "float32"}
    found = predict_volume(model, case, crop=crop, mirror_axes=(2,), **how)
    seen = torch.from_numpy(case_images(case, (0, 80), "unit"))[None, None]
    with torch.no_grad():
        expected = np.where(brain, foreground(model(seen))[0].numpy(), 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32


def test_a_majority_is_more_than_half():
    votes = np.array([[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0]], bool)
    np.testing.assert_array_equal(majority(list(votes)), [True, True, False, False])
    np.testing.assert_array_equal(majority(list(votes[:2])), [True, False, False, False])
    for wrong in ([], [votes[0].astype(int)], [votes[0], votes[0, :2]]):
        with pytest.raises(ParameterError, match="ensemble"):
            majority(wrong)


@pytest.fixture(scope="module")
def prepared_scan():
    scan = embedded.render("aisd-0050", "native")
    return scan, preprocess.prepare_ncct(scan.image, grid="adn", window="sensitivity")


def test_a_prediction_comes_back_to_the_scanners_grid(prepared_scan):
    scan, prepared = prepared_scan
    probability = prepared.from_native(scan.lesion).astype(np.float32)
    back = to_scanner(prepared, probability)
    assert back.array.shape == scan.image.array.shape
    np.testing.assert_array_equal(back.affine, scan.image.affine)
    assert dice(back.array, scan.lesion) > 0.85
    assert not (back.array & ~prepared.native_brain).any()
    everywhere = to_scanner(prepared, np.ones(probability.shape))
    assert dice(everywhere.array, prepared.native_brain) > 0.98
    assert not to_scanner(prepared, np.zeros(probability.shape)).array.any()
