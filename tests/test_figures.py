import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from strokelib import figures, plotting
from strokelib.data.cases import Volume

mpl.use("Agg")


@pytest.fixture
def volume():
    return Volume(np.linspace(0, 80, 4 * 30 * 20).reshape(4, 30, 20), np.diag([-2.0, -3.0, 5.0, 1.0]))


def test_a_slice_keeps_the_proportions_of_its_voxels_and_the_radiological_order(volume):
    figure = figures.slice_row([figures.SlicePicture.of(volume, 1, "slice")])
    (ax,) = figure.axes
    assert ax.get_aspect() == pytest.approx(1.5)
    assert ax.images[0].origin == "upper"
    np.testing.assert_array_equal(ax.images[0].get_array(), volume.array[1])


def test_the_midline_is_the_middle_column(volume):
    figure = figures.slice_row([figures.SlicePicture.of(volume, 1, "aligned", midline=True)])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), 9.5)


def test_an_empty_mask_draws_no_outline_and_a_full_one_does(volume):
    truth = np.zeros(volume.array.shape, bool)
    empty = figures.slice_row([figures.SlicePicture.of(volume, 1, "", truth=truth)]).axes[0]
    truth[1, 5:10, 5:10] = True
    full = figures.slice_row([figures.SlicePicture.of(volume, 1, "", truth=truth)]).axes[0]
    assert len(full.collections) == len(empty.collections) + 1


def test_a_row_a_method_shows_every_case_its_mean_and_its_interval():
    rng = np.random.default_rng(0)
    rows = [{"method": m, "value": v} for m in ("a", "b") for v in rng.uniform(0, 1, 7)]
    ax = plotting.scores_by_method(
        mpl.figure.Figure().subplots(),
        pd.DataFrame(rows),
        {"a": (0.5, 0.4, 0.6), "b": (0.3, 0.1, 0.5)},
        order=["a", "b"],
        label="Dice",
    )
    assert sum(len(c.get_offsets()) for c in ax.collections) == 14
    bars = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(bars, [[0.4, 0.6], [0.1, 0.5]])


def test_the_first_result_has_four_lettered_panels(volume):
    picture = figures.SlicePicture.of(volume, 0, "x", probability=volume.array / 80)
    rows = pd.DataFrame({"method": ["U-Net"] * 3, "value": [0.1, 0.2, 0.3]})
    volumes = (np.array([1.0, 20.0, 120.0]), np.array([0.0, 25.0, 90.0]))
    figure = figures.first_result([picture] * 4, [picture] * 4, rows, {"U-Net": (0.2, 0.1, 0.3)}, ["U-Net"], volumes)
    letters = [t.get_text() for ax in figure.axes for t in ax.texts]
    assert letters == ["A", "B", "C", "D"]


def test_a_picture_cut_around_a_mask_is_square_in_mm_centred_and_filled_with_air(volume):
    mask = np.zeros((30, 20), bool)
    mask[10:13, 2:5] = True
    picture = figures.SlicePicture.of(volume, 0, "x", truth=np.stack([mask] * 4)).around(mask, half_mm=12.0)
    assert picture.image_hu.shape == (8, 12)
    assert picture.image_hu[0, 0] == figures.AIR_HU
    rows, columns = np.nonzero(picture.truth)
    assert (rows.mean(), columns.mean()) == (4.0, 6.0)
    inside = picture.image_hu > figures.AIR_HU
    np.testing.assert_array_equal(picture.image_hu[inside], volume.array[0, 7:15, 0:9].ravel())
