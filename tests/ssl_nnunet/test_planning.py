"""Plans: the printed one, what our planner gives for the printed median, the demo's, and the rules one by one."""

import dataclasses
import math

import pytest
import torch

from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.fingerprint import Fingerprint, Intensities
from strokelib.ssl_nnunet.network import NNUNet
from strokelib.ssl_nnunet.planning import (
    Plan,
    chosen_spacing,
    feature_voxels,
    median_shape,
    plan,
    published_plan,
    topology,
    window_stride,
)

ONE = (Intensities(30.0, 30.0, 5.0, 0.0, 60.0, 5.0, 55.0),)


def _set(shape, spacing=(1.0, 1.0, 1.0), count=1):
    return Fingerprint((shape,) * count, (spacing,) * count, ONE, 0.5)


def test_the_published_plan_is_the_printed_one():
    printed = published_plan()
    assert printed.spacing_mm == (1.0, 1.0, 1.0)
    assert printed.patch == (96, 160, 160)
    assert printed.features == (32, 64, 128, 256, 320, 320)
    assert printed.divisor == (16, 32, 32)
    assert sorted(printed.median_shape) == [138, 139, 169]
    assert (printed.batch, printed.convs) == (2, 2)


@pytest.mark.parametrize("median", [(169, 138, 139), (139, 169, 138), (138, 169, 139), (139, 138, 169)])
def test_the_printed_median_does_not_lead_to_the_printed_patch(median):
    ours = plan(_set(median), memory_gib=22)
    assert ours.patch == tuple(192 if n == 169 else 160 for n in median)
    assert ours.divisor == (32, 32, 32)
    assert ours.features == published_plan().features
    assert ours.voxels == 1_056_326_400 < 560_000_000 * 22 / 8


@pytest.mark.parametrize(("median", "memory"), [((96, 160, 138), 22), ((100, 169, 145), 8)])
def test_the_printed_patch_and_strides_follow_from_a_lower_median(median, memory):
    ours = plan(_set(median), memory_gib=memory)
    assert dataclasses.replace(ours, median_shape=published_plan().median_shape) == published_plan()


def test_with_less_memory_the_side_that_is_longest_against_the_median_gives_way_first():
    assert plan(_set((139, 169, 138)), memory_gib=12).patch == (128, 192, 128)
    assert plan(_set((139, 169, 138)), memory_gib=8).patch == (128, 128, 128)


def test_the_demo_gets_four_narrow_stages():
    ours = plan(_set((28, 46, 38), (5.0, 4.0, 4.0)), base=8, max_features=64, memory_gib=1)
    assert ours.patch == (28, 48, 40)
    assert ours.features == (8, 16, 32, 64)
    assert ours.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    assert set(ours.kernels) == {(3, 3, 3)}
    small = plan(_set((28, 46, 38), (5.0, 4.0, 4.0)), base=8, max_features=64, memory_gib=0.03)
    assert (small.patch, small.features) == ((28, 40, 32), ours.features)


def test_a_plan_builds_the_network_and_its_patch_goes_through():
    ours = plan(_set((20, 24, 22), (5.0, 4.0, 4.0)), base=2, max_features=4)
    network = NNUNet(1, 1, ours.features, ours.strides, ours.kernels, ours.convs).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, *ours.patch)).shape == (1, 1, *ours.patch)


def _counted(plan_, classes):
    """Numbers in all outputs of convolutions, from a forward pass through our network."""
    counted = []
    network = NNUNet(1, classes, plan_.features, plan_.strides, plan_.kernels, plan_.convs, deep_supervision=False)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            module.register_forward_hook(lambda m, i, out: counted.append(math.prod(out.shape[1:])))
    with torch.inference_mode():
        network(torch.zeros(1, 1, *plan_.patch))
    return sum(counted)


@pytest.mark.parametrize(("shape", "spacing"), [((20, 24, 22), (5.0, 4.0, 4.0)), ((8, 40, 32), (5.0, 1.0, 1.0))])
def test_the_feature_maps_are_counted_as_the_network_makes_them(shape, spacing):
    ours = plan(_set(shape, spacing), base=2, max_features=4)
    assert ours.voxels == _counted(ours, 2)


def test_the_published_patch_holds_almost_what_nnu_net_takes_for_eight_gigabytes():
    assert published_plan().voxels == 528_211_200 < 560_000_000


def test_feature_maps_of_two_stages_by_hand():
    # 512 voxels x (2 x 4 encoder + 3 x 4 decoder + 2 logits) + 64 voxels x 2 x 8
    assert feature_voxels((8, 8, 8), ((1, 1, 1), (2, 2, 2)), (4, 8)) == 512 * 22 + 64 * 16


def test_more_patches_a_batch_leave_less_room_for_each():
    two, eight = (plan(_set((139, 169, 138)), batch=batch) for batch in (2, 8))
    assert eight.batch == 8
    assert eight.voxels * 8 <= 2 * 560_000_000 * 22 / 8 < two.voxels * 8


def test_the_spacing_is_the_median_of_each_axis():
    spacings = ((5.0, 0.5, 0.5), (3.0, 0.4, 0.6), (4.0, 0.6, 0.4))
    assert chosen_spacing(Fingerprint(((100, 100, 100),) * 3, spacings, ONE, 0.5)) == pytest.approx((4.0, 0.5, 0.5))


def test_a_coarse_axis_with_few_slices_gets_its_tenth_percentile():
    spacings = tuple((mm, 0.5, 0.5) for mm in (1.0, *[5.0] * 10))
    found = Fingerprint(((30, 300, 300),) * 11, spacings, ONE, 0.5)
    assert chosen_spacing(found) == pytest.approx((5.0, 0.5, 0.5))  # the 10th percentile is the second value
    finer = dataclasses.replace(found, spacings_mm=tuple((mm, 0.5, 0.5) for mm in (1, 2, *[5.0] * 9)))
    assert chosen_spacing(finer) == pytest.approx((2.0, 0.5, 0.5))
    many = dataclasses.replace(finer, shapes=((150, 300, 300),) * 11)
    assert chosen_spacing(many) == pytest.approx((5.0, 0.5, 0.5))


def test_the_coarse_axis_never_gets_finer_voxels_than_the_others():
    spacings = tuple((mm, 0.5, 0.5) for mm in (0.1, 0.1, *[5.0] * 9))
    assert chosen_spacing(Fingerprint(((30, 300, 300),) * 11, spacings, ONE, 0.5))[0] == pytest.approx(0.5, abs=1e-4)


def test_the_median_shape_is_taken_after_resampling():
    found = Fingerprint(((30, 100, 100), (40, 80, 100)), ((5.0, 2.0, 2.0), (2.5, 1.0, 2.0)), ONE, 0.5)
    assert median_shape(found, (5.0, 2.0, 2.0)) == (25.0, 70.0, 100.0)


def test_stages_of_thick_slices_halve_in_plane_first_with_flat_kernels():
    made = topology((5.0, 1.0, 1.0), (32, 256, 256))
    assert made.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), *[(2, 2, 2)] * 3, (1, 2, 2))
    assert made.kernels == ((1, 3, 3), (1, 3, 3), *[(3, 3, 3)] * 5)
    assert (made.patch, made.divisor) == ((32, 256, 256), (8, 64, 64))


def test_a_voxel_twice_as_long_still_has_a_flat_kernel_and_less_than_twice_has_not():
    assert topology((2.0, 1.0, 1.0), (64, 64, 64)).kernels[0] == (1, 3, 3)
    assert topology((1.99, 1.0, 1.0), (64, 64, 64)).kernels[0] == (3, 3, 3)


def test_an_axis_is_halved_down_to_four_voxels_and_alone_only_from_twelve():
    assert topology((1.0, 1.0, 1.0), (8, 8, 8)).strides == ((1, 1, 1), (2, 2, 2))
    assert topology((1.0, 1.0, 1.0), (7, 7, 8)).strides == ((1, 1, 1),)
    assert topology((1.0, 1.0, 1.0), (7, 7, 12)).strides == ((1, 1, 1), (1, 1, 2))


def test_a_patch_is_padded_to_what_the_strides_divide():
    assert topology((1.0, 1.0, 1.0), (97, 161, 7.5)).patch == (112, 176, 8)


def test_a_wanted_spacing_replaces_the_median():
    ours = plan(_set((28, 46, 38), (5.0, 4.0, 4.0)), target_spacing=(2.5, 2.0, 2.0), base=4)
    assert ours.spacing_mm == (2.5, 2.0, 2.0)
    assert ours.median_shape == (56, 92, 76)


def test_the_window_steps_by_half_or_by_the_printed_number():
    assert window_stride((96, 160, 160)) == (48, 80, 80)
    assert window_stride((96, 160, 160), "48") == (48, 48, 48)
    assert window_stride((28, 48, 40), "48") == (28, 48, 40)
    assert window_stride((1, 3, 8)) == (1, 1, 4)
    with pytest.raises(ParameterError, match="half or 48"):
        window_stride((96, 160, 160), "printed")


@pytest.mark.parametrize("more", [{"memory_gib": 0}, {"batch": 0}, {"base": -1}, {"target_spacing": (0, 1, 1)}])
def test_an_argument_that_is_not_positive_is_refused(more):
    with pytest.raises(ParameterError, match="positive"):
        plan(_set((64, 64, 64)), **more)


def test_a_memory_that_holds_no_patch_and_an_image_too_small_are_refused():
    with pytest.raises(ParameterError, match="room for a patch"):
        plan(_set((64, 64, 64)), memory_gib=1e-6)
    with pytest.raises(DataError, match="12 voxels or more"):
        plan(_set((7, 7, 7)))


@pytest.mark.parametrize(
    "change",
    [
        {"spacing_mm": (1.0, 1.0)},
        {"spacing_mm": (0.0, 1.0, 1.0)},
        {"median_shape": (math.nan, 1.0, 1.0)},
        {"patch": (96, 160, 161)},
        {"batch": 0},
        {"features": (32, 64)},
        {"features": (32,)},
        {"strides": ((1, 1, 1), *[(2, 2, 2)] * 4)},
        {"strides": ((2, 2, 2), *[(2, 2, 2)] * 5)},
        {"strides": ((1, 1), *[(2, 2, 2)] * 5)},
        {"kernels": ((3, 3, 2),) * 6},
        {"kernels": ((3, 3, 3),) * 5},
        {"convs": 0},
    ],
)
def test_a_plan_that_no_network_can_have_is_refused(change):
    with pytest.raises(ParameterError, match="plan: "):
        dataclasses.replace(published_plan(), **change)


def test_a_plan_is_hashable_and_compares_by_value():
    assert {published_plan(), published_plan()} == {published_plan()}
    assert isinstance(published_plan(), Plan)
