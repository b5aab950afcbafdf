"""Figure 1 of Seia et al.: every picture in its place, cut where it was asked for."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from strokelib.data.cases import Volume
from strokelib.data.grids import Grid
from strokelib.errors import DataError
from strokelib.ssl_nnunet import figures
from strokelib.ssl_nnunet.figures import CLIPPED_HU, PLACES, Shot, fig01_preprocessing


@pytest.fixture
def shots():
    """Every picture from one volume whose values tell slice (hundreds), row (tens) and column (ones)."""
    grid = Grid.centred((9, 9, 9), (5.0, 2.0, 2.0), np.zeros(3))
    values = np.add.outer(np.add.outer(100 * np.arange(9), 10 * np.arange(9)), np.arange(9)).astype(float)
    mask = np.zeros(grid.shape, bool)
    mask[4:, 3:6, 3:6] = True
    named = {name: Shot(Volume(values, grid.affine), np.array([0.0, 0.0, 5.0])) for name in PLACES}
    return named | {"mr_raw": Shot(Volume(values, grid.affine), np.array([0.0, 0.0, 5.0]), mask)}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def axes_by_name(figure):
    return dict(zip(PLACES, figure.axes, strict=True))


def test_a_picture_is_the_slice_through_its_point(shots):
    axes = axes_by_name(fig01_preprocessing(shots))
    axial, coronal = (axes[name].images[0] for name in ("ct_1mm", "ct_1mm_coronal"))
    assert np.array_equal(axial.get_array(), shots["ct_1mm"].volume.array[5])
    assert np.array_equal(coronal.get_array(), shots["ct_1mm"].volume.array[::-1, 4])


def test_pictures_are_to_one_scale_and_centred_on_their_point(shots):
    axes = axes_by_name(fig01_preprocessing(shots))
    assert axes["ct_1mm"].images[0].get_extent() == pytest.approx([-9.0, 9.0, 9.0, -9.0])
    assert axes["ct_1mm_coronal"].images[0].get_extent() == pytest.approx([-9.0, 9.0, -27.5, 17.5])
    widths = {round(abs(np.diff(ax.get_xlim())[0]), 6) for ax in axes.values()}
    assert widths == {figures.FIELD_MM}


def test_clipped_pictures_show_the_whole_published_range(shots):
    axes = axes_by_name(fig01_preprocessing(shots))
    for name in ("ct_clipped", "contralateral_clipped"):
        assert axes[name].images[0].get_clim() == CLIPPED_HU
    assert axes["ct_raw"].images[0].get_clim() == (0.0, 80.0)


def test_captions_carry_voxel_size_and_modality(shots):
    texts = [text.get_text() for text in fig01_preprocessing(shots, mr_name="ADC").texts]
    assert "ADC\n2 x 2 x 5 mm" in texts
    assert "NCCT\n2 x 2 x 5 mm" in texts
    assert not any("{" in text or "DWI" in text for text in texts)


def test_an_outline_is_drawn_where_there_is_one(shots):
    axes = axes_by_name(fig01_preprocessing(shots))
    assert len(axes["mr_raw"].collections) == 1
    assert not axes["ct_raw"].collections


def test_no_two_pictures_overlap(shots):
    boxes = [ax.get_position() for ax in fig01_preprocessing(shots).axes]
    for number, one in enumerate(boxes):
        assert 0 <= one.x0 < one.x1 <= 1
        assert 0 <= one.y0 < one.y1 <= 1
        assert not any(one.overlaps(other) for other in boxes[number + 1 :])


def test_a_missing_picture_and_a_point_outside_are_refused(shots):
    without = {name: shot for name, shot in shots.items() if name != "atlas"}
    with pytest.raises(DataError, match="atlas"):
        fig01_preprocessing(without)
    outside = Shot(shots["atlas"].volume, np.array([0.0, 0.0, 500.0]))
    with pytest.raises(DataError, match="0 to 8"):
        fig01_preprocessing(shots | {"atlas": outside})
