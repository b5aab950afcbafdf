import dataclasses
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from made_slices import infarct_slice

from strokelib.errors import DataError
from strokelib.papl.sample_figures import (
    LABEL_COLOURS,
    RELATION_COLOURS,
    SampledSlice,
    fig01_asymmetries,
    fig04_samples,
)
from strokelib.papl.sampling import Box, Region, RegionSampler
from strokelib.papl.slices import HeadSlices

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def _sampled(labels=(0, 1, 0), dropped=()):
    head = infarct_slice()
    regions = [
        Region(0, Box(10 + 5 * n, 30, 10, 20 + n), 0.1 * label, label, False, tuple(dropped))
        for n, label in enumerate(labels)
    ]
    return SampledSlice(head.image_hu - 30, -5.0, head.brain, head.lesion, regions, (2.0, 2.0), "head")


def _rectangles(ax):
    return [patch for patch in ax.patches if isinstance(patch, mpl.patches.Rectangle)]


def _colour(patch):
    return mpl.colors.to_hex(patch.get_edgecolor()).upper()


def _said(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_the_three_windows_stand_on_the_slice_and_beside_their_mirror_images_with_their_means():
    head = infarct_slice()
    figure = fig01_asymmetries(head)
    board, large, *tiles = figure.axes
    assert len(tiles) == 9
    frames = _rectangles(large)
    assert [_colour(one) for one in frames[::2]] == list(RELATION_COLOURS.values())
    for own, mirrored, one in zip(frames[::2], frames[1::2], head.relations(), strict=True):
        top, bottom, left, right = one.box
        assert (own.get_x(), own.get_y()) == (left - 0.5, top - 0.5)
        assert (own.get_width(), own.get_height()) == (right - left, bottom - top)
        # Both lie alike about the middle column, 39.5.
        assert own.get_x() + own.get_width() / 2 - 39.5 == -(mirrored.get_x() + mirrored.get_width() / 2 - 39.5)
    said = [text.get_text() for text in board.texts]
    assert "pathological: 24.0 against 30.0, −6.0 HU" in said
    assert "intrinsic: 22.0 against 30.0, −8.0 HU" in said
    assert "symmetric: 30.0 against 30.0, +0.0 HU" in said


def test_the_difference_tile_is_window_minus_mirror_image():
    tiles = fig01_asymmetries(infarct_slice()).axes[2:]
    own, mirrored, difference = (tile.images[0].get_array() for tile in tiles[3:6])
    np.testing.assert_allclose(own - mirrored, difference)
    np.testing.assert_allclose(difference, -8)


def test_samples_are_filled_outside_both_windows():
    one = _sampled()
    values = one.sample(one.regions[0])
    kept = np.zeros(values.shape, bool)
    kept[10:30, 10:20] = kept[10:30, 60:70] = True
    np.testing.assert_array_equal(values[kept], one.image[kept])
    assert (values[~kept] == -5.0).all()


def test_every_sample_has_a_tile_positives_first_with_number_share_and_label():
    figure = fig04_samples([_sampled()])
    large, *tiles = figure.axes
    assert [ax.texts[0].get_text() for ax in tiles] == [
        "2: 10.0 %, positive",
        "1: 0.0 %, negative",
        "3: 0.0 %, negative",
    ]
    assert [text.get_text() for text in large.texts] == ["1", "2", "3"]
    colours = [LABEL_COLOURS[label] for label in (0, 0, 1, 1, 0, 0)]
    assert [_colour(one) for one in _rectangles(large)] == colours


def test_dropped_windows_are_dotted_and_named_only_where_there_are_any():
    without = fig04_samples([_sampled()])
    with_some = fig04_samples([_sampled(dropped=[Box(30, 40, 20, 30)])])
    assert len(_rectangles(with_some.axes[0])) == len(_rectangles(without.axes[0])) + 3
    names = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in (without, with_some)]
    assert set(names[1]) - set(names[0]) == {"drawn and dropped"}


def test_a_slice_of_a_sampler_shows_what_the_sampler_draws_and_leaves_its_position():
    head, n = infarct_slice(), 3
    lesion = torch.zeros(n, *head.brain.shape, dtype=torch.uint8)
    lesion[1] = torch.from_numpy(head.lesion)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(n, 1, *head.brain.shape)).astype(np.float32))
    brains = torch.from_numpy(np.stack([head.brain] * n))
    number = torch.arange(n)
    scalars = (torch.full((n,), -3.0), torch.ones(n), brains, torch.full((n,), 2.0))
    slices = HeadSlices(images, lesion, torch.zeros(n).long(), number, number, torch.full((n,), n), *scalars)
    sampler = RegionSampler(slices, 8, seed=5)
    drawn = next(sampler)
    one = SampledSlice.of(sampler, 0, "head")
    assert sampler.drawn == 8
    assert [list(region.box) for region in one.regions] == drawn.boxes.tolist()
    assert [region.label for region in one.regions] == drawn.labels.tolist()
    for region, image in zip(one.regions, drawn.images, strict=True):
        np.testing.assert_array_equal(one.sample(region), image[0])
    assert one.spacing_yx == (2.0, 2.0)
    assert SampledSlice.of(sampler, 1).regions != one.regions


def test_the_grey_scale_begins_at_the_fill_and_is_never_empty():
    one = _sampled()
    assert one.limits[0] == -5.0
    flat = dataclasses.replace(one, image=np.full_like(one.image, -5.0))
    assert flat.limits[1] > flat.limits[0]


def test_a_figure_without_samples_is_refused():
    for slices in ([], [dataclasses.replace(_sampled(), regions=[])]):
        with pytest.raises(DataError, match="slices of a figure"):
            fig04_samples(slices)
