import matplotlib as mpl
import numpy as np
import pytest

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.figures.image_grids import MARGIN_MM, Picture, PictureRow, image_grid

mpl.use("Agg")
SHAPE = (40, 30)


def _brain(rows=slice(5, 35), columns=slice(4, 26)):
    brain = np.zeros(SHAPE, bool)
    brain[rows, columns] = True
    return brain


def _row(count=3, brain=None, spacing_yx=(2.0, 2.0), **look):
    pictures = [Picture(np.full(SHAPE, 0.1 * n), **look) for n in range(count)]
    return PictureRow(pictures, _brain() if brain is None else brain, spacing_yx)


def _sizes_mm(figure, rows):
    return [
        (abs(np.diff(ax.get_ylim())[0]) * row.spacing_yx[0], abs(np.diff(ax.get_xlim())[0]) * row.spacing_yx[1])
        for ax, row in zip(figure.axes, rows, strict=True)
    ]


def test_all_pictures_show_the_same_field_in_mm_and_fill_the_width_of_the_page():
    rows = [_row(2), _row(2, _brain(slice(10, 20), slice(10, 15)), (3.0, 1.5))]
    figure = image_grid(rows, key=())
    sizes = _sizes_mm(figure, [rows[0], rows[0], rows[1], rows[1]])
    np.testing.assert_allclose(sizes, [(60 + 2 * MARGIN_MM, 44 + 2 * MARGIN_MM)] * 4)
    boxes = [ax.get_position() for ax in figure.axes]
    inches = [(box.width * figure.get_figwidth(), box.height * figure.get_figheight()) for box in boxes]
    np.testing.assert_allclose(inches, [inches[0]] * 4)
    assert inches[0][1] / inches[0][0] == pytest.approx(70 / 54)
    assert boxes[1].x1 == pytest.approx(1.0, abs=0.01)
    assert min(box.y0 for box in boxes) >= -1e-9


def test_the_brain_stands_in_the_middle():
    (ax,) = image_grid([_row(1)], key=()).axes
    assert np.mean(ax.get_xlim()) == pytest.approx(np.mean([4, 25]))
    assert np.mean(ax.get_ylim()) == pytest.approx(np.mean([5, 34]))
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_contours_have_the_colours_of_reference_and_prediction_and_an_empty_one_draws_nothing():
    truth, nothing = _brain(slice(10, 20), slice(8, 14)), np.zeros(SHAPE, bool)
    pictures = [Picture(np.zeros(SHAPE), truth=truth, predicted=p) for p in (truth, nothing)]
    one, other = image_grid([PictureRow(pictures, _brain(), (2.0, 2.0))]).axes
    colours = [mpl.colors.to_hex(c.get_edgecolor()[0]).upper() for c in one.collections]
    assert colours == [plotting.TRUTH_COLOUR, plotting.PREDICTION_COLOUR]
    assert len(other.collections) == 1


def test_titles_notes_and_labels_stay_inside_the_figure_and_off_each_other():
    row = PictureRow([Picture(np.zeros(SHAPE), "two\nlines", "Dice 0.50")] * 3, _brain(), (2.0, 2.0), "patient")
    figure = image_grid([row, row])
    renderer = figure.canvas.get_renderer()
    texts = [*figure.texts, *(text for ax in figure.axes for text in (ax.title, *ax.texts)), *figure.legends]
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert len(boxes) == 2 + 6 * 2 + 1
    for number, box in enumerate(boxes):
        assert figure.bbox.padded(1).containsx(box.x0)
        assert figure.bbox.padded(1).containsy(box.y0)
        assert figure.bbox.padded(1).containsy(box.y1)
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_colour_bars_stand_below_their_columns_and_the_key_in_the_last():
    figure = image_grid([_row(3)], bars=[(1, "jet", (0.0, 14.0))], key=["reference"])
    *pictures, bar = figure.axes
    below, above = bar.get_position(), pictures[1].get_position()
    assert above.x0 < below.x0 < below.x1 < above.x1
    assert below.y1 < above.y0
    assert bar.get_xlim() == (0.0, 14.0)
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == ["reference"]
    middle = key.get_window_extent(figure.canvas.get_renderer()).x0 / figure.bbox.width
    assert middle > pictures[2].get_position().x0


def test_a_row_without_brain_or_with_a_picture_of_another_size_is_refused():
    with pytest.raises(DataError, match="0 pixels of brain"):
        image_grid([_row(brain=np.zeros(SHAPE, bool))])
    with pytest.raises(DataError, match=r"\(3, 3\)"):
        image_grid([PictureRow([Picture(np.zeros((3, 3)))], _brain(), (2.0, 2.0))])
