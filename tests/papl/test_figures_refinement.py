import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from strokelib.errors import DataError
from strokelib.nn.baselines.cenet import CENet
from strokelib.nn.baselines.unet_plus_plus import UNetPlusPlus
from strokelib.nn.unet import UNet
from strokelib.papl.perception_figures import PerceptionExample, fig05_perception
from strokelib.papl.refinement_figures import RefinementExample, RefinementStep, fig10_feature_maps

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


SHAPE = (24, 20)


def _masks():
    brain, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    brain[2:22, 2:18] = True
    lesion[8:13, 4:8] = True
    return brain, lesion


def _perceived(hours=3.0, depth=0.1):
    brain, lesion = _masks()
    image = np.where(lesion, 0.3 - depth, 0.3) * brain
    return PerceptionExample.of(image, lesion.astype(float), brain, lesion, hours, (2.0, 2.0))


def _refined():
    brain, lesion = _masks()

    def step(epoch, moved):
        return RefinementStep(epoch, [np.ones((6, 5)), np.ones(SHAPE)], 0.9 * np.roll(lesion, moved, axis=1))

    trainings = {"without RPRS": [step(20, 3), step(180, 2)], "with RPRS": [step(20, 3), step(180, 0)]}
    return RefinementExample(brain, lesion, np.where(brain, 0.3, 0.0), trainings, (2.0, 2.0), "head")


def _notes(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_phi_and_l1_of_an_example_are_those_of_the_equations():
    one = _perceived(depth=0.1)
    assert one.difference == pytest.approx(0.1 * 20, rel=1e-5)
    assert one.salience == pytest.approx(0.9, rel=1e-5)
    # 0.1 of a window of 70 HU, inside the prediction alone.
    np.testing.assert_allclose(one.weighed_hu, np.where(one.lesion, 7.0, 0.0), rtol=1e-5)


def test_slices_stand_by_hours_with_their_numbers():
    figure = fig05_perception([_perceived(12.0, 0.2), _perceived(2.0, 0.1)])
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["2.0 h", "12.0 h"]
    assert _notes(figure) == [r"$\varphi$ 0.900, $L_1$ 2.0", r"$\varphi$ 0.800, $L_1$ 4.0"]
    assert len(figure.axes) == 2 * 3 + 2


def test_all_scans_may_stand_below_with_their_rank_correlation():
    hours, phi = [1.0, 2.0, 3.0, 4.0, 5.0], [0.99, 0.97, 0.98, 0.95, 0.94]
    figure = fig05_perception([_perceived()], (hours, phi))
    ax = figure.axes[-1]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), phi)
    assert r"n = 5, Spearman's $\rho$ = −0.90" in ax.get_title()
    few = fig05_perception([_perceived()], (hours[:2], phi[:2]))
    assert few.axes[-1].get_title() == ""


def test_an_empty_prediction_can_be_drawn_and_none_at_all_is_refused():
    brain, lesion = _masks()
    nothing = np.zeros(SHAPE)
    figure = fig05_perception([PerceptionExample.of(nothing, nothing, brain, lesion, 1.0, (2.0, 2.0))])
    figure.canvas.draw()
    assert _notes(figure) == [r"$\varphi$ 1.000, $L_1$ 0.0"]
    with pytest.raises(DataError, match="slices of a figure"):
        fig05_perception([])


@pytest.mark.parametrize("backbone", [UNet(1, 2, 4, 4), UNetPlusPlus(1, 2, 4, 4), CENet(1, 2, 8)])
def test_the_maps_of_any_backbone_s_decoder_come_from_coarse_to_fine_one_a_size(backbone):
    image = torch.randn(1, 1, 64, 64)
    backbone.train()
    step = RefinementStep.of(backbone, image, 20, levels=3)
    sizes = [one.shape for one in step.features]
    assert len(sizes) == 3
    assert sizes == sorted(set(sizes))
    assert all((one >= 0).all() and one.ndim == 2 for one in step.features)
    with torch.no_grad():
        wanted = backbone.eval()(image).softmax(dim=1)[0, 1]
    np.testing.assert_allclose(step.probability, wanted, atol=1e-6)
    assert not any(part._forward_hooks for part in backbone.modules())


def test_a_map_is_the_root_mean_square_over_channels():
    backbone = UNet(1, 2, 4, 2)
    seen = []
    backbone.decoder[0].register_forward_hook(lambda _, __, out: seen.append(out))
    step = RefinementStep.of(backbone, torch.randn(1, 1, 16, 12), 0)
    np.testing.assert_allclose(step.features[0], seen[0][0].pow(2).mean(dim=0).sqrt(), rtol=1e-5)


def test_a_backbone_without_parts_to_decode_is_refused():
    with pytest.raises(DataError, match="wanted a decoder of several parts"):
        RefinementStep.of(nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 8, 8), 0)


def test_each_step_has_a_column_and_its_errors_are_counted_inside_the_brain():
    figure = fig10_feature_maps(_refined())
    columns = 4
    titles = [ax.get_title() for ax in figure.axes[:columns]]
    assert titles[0] == "without RPRS\nepoch 20"
    assert titles[-1] == "with RPRS\nepoch 180"
    # Two feature maps, probability, errors, and a colour bar.
    assert len(figure.axes) == columns * 4 + 1
    # 5 rows of the lesion's 4 columns, moved by 3, 2, 3 and 0.
    assert _notes(figure) == ["5 / 15 / 15", "10 / 10 / 10", "5 / 15 / 15", "20 / 0 / 0"]
    last = figure.axes[columns * 3 : columns * 4]
    painted = [int((image.get_array()[..., 3] > 0).sum()) for image in last[0].images[1:]]
    assert painted == [5, 15, 15]


def test_a_coarse_map_fills_the_slice_in_blocks():
    first = fig10_feature_maps(_refined()).axes[0].images[0].get_array()
    assert first.shape == SHAPE
    brain, lesion = _masks()
    step = RefinementStep(1, [np.arange(4.0).reshape(2, 2)], np.zeros(SHAPE))
    one = RefinementExample(brain, lesion, np.where(brain, 0.3, 0), {"with RPRS": [step, step]}, (2.0, 2.0))
    shown = fig10_feature_maps(one).axes[0].images[0].get_array()
    assert (shown[:12, :10] == 0).all()
    assert (shown[12:, 10:] == 3).all()


def test_steps_of_different_networks_are_refused():
    one = _refined()
    other = RefinementStep(1, [np.ones(SHAPE)], np.zeros(SHAPE))
    for trainings in ({}, {"with RPRS": [*one.trainings["with RPRS"], other]}):
        with pytest.raises(DataError, match="steps of head"):
            fig10_feature_maps(RefinementExample(one.brain, one.lesion, one.image, trainings, (2.0, 2.0), "head"))
