"""Training and use of the segmenters of Tables 3 to 5, and the optimiser that all trainings of the paper share."""

import os
import sys

import numpy as np
import pytest
import torch
from torch import nn

from strokelib import manifest, train
from strokelib.data.loading import brain_box
from strokelib.errors import DataError, ParameterError
from strokelib.infer import pooled_dice
from strokelib.pseudo_dwi import segmentation
from strokelib.pseudo_dwi.fitting import fit_slices
from strokelib.pseudo_dwi.losses import SEGMENTATION_LOSSES
from strokelib.pseudo_dwi.recipe import SegmentationRecipe
from strokelib.pseudo_dwi.segmentation import NETWORKS, build, in_window, joined, segment
from strokelib.pseudo_dwi.slices import named_slices, sampler

sys.path.insert(0, os.path.dirname(__file__))
import made_cases
from made_cases import SMALL, train_once, weights

TRAIN = [made_cases.case(0), made_cases.case(1)]
VAL = [made_cases.case(2, "val")]


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_cases.steady(monkeypatch)


def recipe(**changes):
    return SegmentationRecipe.at("smoke", **{**SMALL, "steps": 3, "validations": 1, "lesion_share": None, **changes})


# The networks


@pytest.mark.parametrize(
    "bad", [{"network": "VNet"}, {"loss": "L_MSE"}, {"inputs": ("extracted",)}, {"inputs": ()}, {"inputs": ("flair",)}]
)
def test_an_unknown_network_loss_or_input_is_refused_with_those_that_are_known(bad):
    with pytest.raises(ParameterError, match=r"SLNet(.|\n)*L_WCE \+ L_HGD(.|\n)*pseudo_dwi"):
        build(recipe(**bad))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("inputs", "channels"), [(("maps",), 4), (("dwi",), 1), (("frames", "pseudo_dwi"), 7)])
def test_each_network_takes_the_channels_of_its_inputs_and_gives_two_classes(network, inputs, channels):
    model = build(recipe(network=network, inputs=inputs)).eval()
    assert model(torch.rand(2, channels, 33, 36)).shape == (2, 2, 33, 36)


def test_the_networks_have_the_parameters_that_table_3_prints():
    found = segmentation.published_parameters()
    table = manifest.published("pseudo_dwi", 3)
    printed = table[table["metric"] == "Parameters"].set_index("method")["published_cell"].to_dict()
    assert list(found) == list(NETWORKS)
    assert printed.pop("ResUNet") == "81.91"  # fits no public residual U-Net; ours is the U-Net with shortcuts
    assert found.pop("ResUNet") == 32_437_058
    assert {name: f"{count / 1e6:.2f}" for name, count in found.items()} == printed


def test_convolutions_start_from_xavier_s_bound_with_zero_biases():
    torch.manual_seed(0)
    convolutions = [m for m in build(recipe(network="UNet", width=16)).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) > 9
    for layer in convolutions:
        bound = (6 / (layer.weight[0].numel() + layer.weight[:, 0].numel())) ** 0.5
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert layer.bias is None or (layer.bias == 0).all()


# Training


def start(used):
    from strokelib import repro

    repro.seed_everything(0)
    return weights(build(used))


def trained_and_finite(used, folder, cases=TRAIN, val=VAL):
    model, history = train_once(segmentation, used, cases, val, folder)
    before, after = start(used), weights(model)
    names = {name for name, _ in model.named_parameters()}
    assert all(np.isfinite(value).all() for value in after.values())
    assert all(np.isfinite(r.value) for r in history.rows)
    assert history.steps == used.steps
    return {name for name in names if np.array_equal(before[name], after[name])}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_of_table_3_trains(network, tmp_path):
    # The convolution before a batch normalisation has a bias whose gradient is rounding; it may stay where it is.
    assert not [n for n in trained_and_finite(recipe(network=network), tmp_path) if not n.endswith("bias")]


@pytest.mark.parametrize("loss", SEGMENTATION_LOSSES)
def test_every_loss_of_table_4_trains_on_slices_with_and_without_lesion(loss, tmp_path):
    assert not [n for n in trained_and_finite(recipe(loss=loss), tmp_path) if not n.endswith("bias")]


@pytest.mark.parametrize("loss", SEGMENTATION_LOSSES)
def test_training_and_validation_slices_without_any_lesion_give_no_nan(loss, tmp_path):
    healthy = [made_cases.case(number, lesion=False) for number in (0, 1)]
    trained_and_finite(recipe(loss=loss), tmp_path, healthy, [made_cases.case(2, "val", lesion=False)])


def test_cases_without_the_channel_of_an_input_are_refused(tmp_path):
    with pytest.raises(DataError, match="the public archive of ISLES 2018 has none"):
        train_once(segmentation, recipe(inputs=("dwi",)), [made_cases.case(0, dwi=False)], VAL, tmp_path)
    with pytest.raises(DataError, match="pseudo_dwi"):
        train_once(segmentation, recipe(inputs=("pseudo_dwi",)), TRAIN, VAL, tmp_path)


def test_only_the_inputs_are_shown_to_the_network_in_their_order():
    found = named_slices(TRAIN, ("dwi", "maps", "mip"), recipe())
    images = joined(found, found.slices.images, ("mip", "dwi"))
    brain_slices = [TRAIN[n].channels for n in (0, 1)]
    expected = np.concatenate([np.concatenate([c["mip"], c["dwi"]]).swapaxes(0, 1) for c in brain_slices])
    np.testing.assert_array_equal(images.numpy(), expected)


def test_a_training_that_was_stopped_in_the_middle_ends_with_the_same_bytes(tmp_path):
    used = recipe(steps=6, validations=3, ema_decay=0.9, clip_norm=1.0, patch=(32, 30), lesion_share=0.8)
    whole, resumed = made_cases.stopped_and_whole(segmentation, used, TRAIN, VAL, tmp_path, stop=3)
    assert "resumed at step 2" in resumed[2].notes
    assert "resumed at step 2" not in whole[2].notes
    assert whole[1] == resumed[1]
    assert {name: v.tobytes() for name, v in whole[0].items()} == {name: v.tobytes() for name, v in resumed[0].items()}


def test_slnet_overfits_one_scan(tmp_path):
    used = recipe(steps=40, validations=4, mirror=0.0)
    model, history = train_once(segmentation, used, TRAIN[:1], TRAIN[:1], tmp_path)
    assert history.curve(segmentation.DICE)[1].max() > 0.95
    found, truth = segment(model, used, TRAIN[0]) > 0.5, TRAIN[0].lesion
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95


def test_the_validation_keeps_the_weights_with_the_best_pooled_dice(tmp_path):
    used = recipe(steps=6, validations=6, mirror=0.0)
    model, history = train_once(segmentation, used, TRAIN, VAL, tmp_path)
    steps, values = history.curve(segmentation.DICE)
    assert history.best_step == steps[values.argmax()]
    found, truth = segment(model, used, VAL[0]) > 0.5, VAL[0].lesion
    inside = named_slices(VAL, used.inputs, used)
    expected = pooled_dice(model, joined(inside, inside.slices.images, used.inputs), inside.slices.lesions, 2)
    assert values.max() == pytest.approx(expected, abs=1e-6)
    assert found[~VAL[0].brain].sum() == 0
    assert truth.any()


# The optimiser and its schedule


class Constant(nn.Module):
    """One number that is to become that of the images."""

    def __init__(self):
        super().__init__()
        self.value, self.held = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1), requires_grad=False)


def test_the_optimiser_is_rmsprop_with_one_drop_of_the_learning_rate(tmp_path):
    used = recipe(steps=10, lr=0.002, drop=0.2, drop_after=0.6, smoothing=0.99, validations=2)
    found = named_slices(TRAIN, ("maps",), used)
    model = Constant()
    history = fit_slices(
        model,
        sampler(found, used, 0),
        lambda network, batch, index: 3.0 * network.value.sum() + 0 * batch.images.sum(),
        lambda network: {"value": -network.value.item()},
        "value",
        used,
        seed=0,
        out=tmp_path,
    )
    rates = history.curve("lr", "train")[1]
    assert rates.tolist() == pytest.approx([0.002] * 6 + [0.0004] * 4)
    square, value = 0.0, 0.0
    for rate in rates:
        square = 0.99 * square + 0.01 * 3.0**2
        value -= rate * 3.0 / (square**0.5 + 1e-8)
    assert model.value.item() == pytest.approx(value, rel=1e-5)
    assert float(model.held) == 0
    assert history.curve("value")[0].tolist() == [5, 10]


def test_the_paper_s_drop_is_after_180_of_300_epochs():
    used = SegmentationRecipe.at("paper")
    schedule = train.step_decay((round(used.steps * used.drop_after),), used.drop)
    epoch = used.steps / 300
    assert schedule(round(179 * epoch)) == 1
    assert schedule(round(181 * epoch)) == pytest.approx(0.2)
    assert (used.lr, used.batch, used.w, used.decay_px) == (0.002, 5, 1.5, 50)


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (2, [0, 5]), (3, [0, 2, 5]), (6, range(6)), (99, range(6))])
def test_validation_slices_are_spread_evenly_over_all_and_never_repeat(count, chosen):
    found = named_slices(TRAIN, ("mip",), recipe())
    less = found.spread(count)
    assert less.places == found.places
    assert less.slices.images.equal(found.slices.images[list(chosen)])
    assert list(zip(less.slices.case.tolist(), less.slices.z.tolist(), strict=True)) == [
        divmod(place, 3) for place in chosen
    ]


# Validation and use


class Marked(nn.Module):
    """Stands for a network: calls a pixel lesion where its first channel says so."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return torch.stack([torch.zeros_like(x[:, 0]), 20 * (x[:, 0] - 0.5)], dim=1)


def test_pooled_dice_counts_the_voxels_of_all_slices_together():
    images, lesions = torch.zeros(3, 1, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)
    images[0, 0, :2] = 1  # 8 found, 4 of them right, in a slice with 6
    lesions[0, 1] = 1
    lesions[0, 2, :2] = 1
    images[1, 0, 0, 0] = 1  # 1 found where there is none
    assert pooled_dice(Marked(), images, lesions, 2) == pytest.approx(2 * 4 / (9 + 6))
    assert pooled_dice(Marked(), lesions[:, None].float(), lesions, 1) == 1
    assert pooled_dice(Marked(), 0 * images, 0 * lesions, 3) == 0


def test_the_probability_is_zero_outside_the_brain_and_outside_the_window():
    case = made_cases.case(0)
    case.channels["pseudo_dwi"] = np.ones((1, *made_cases.SHAPE), np.float32)
    whole = segment(Marked(), recipe(inputs=("pseudo_dwi",), batch=2), case)
    assert whole.dtype == np.float32
    assert (whole[case.brain] > 0.99).all()
    assert (whole[~case.brain] == 0).all()
    used = recipe(inputs=("pseudo_dwi",), crop=(16, 12))
    rows, columns = in_window(case, used)
    assert (rows, columns) == brain_box(case.brain, (16, 12))
    cut = segment(Marked(), used, case)
    seen = np.zeros(made_cases.SHAPE, bool)
    seen[:, rows, columns] = True
    np.testing.assert_array_equal(cut > 0.5, case.brain & seen)


def test_training_and_use_look_at_the_same_window():
    used = recipe(crop=(20, 16))
    case = TRAIN[0]
    rows, columns = in_window(case, used)
    np.testing.assert_array_equal(
        named_slices([case], ("maps",), used).slices.images[:, :4].numpy(),
        case.channels["maps"].swapaxes(0, 1)[..., rows, columns],
    )
    assert in_window(case, recipe()) == (slice(None), slice(None))
