"""Figures 8 and B.9: points, neighbours and attribution maps."""

from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from strokelib.errors import DataError
from strokelib.ssl_nnunet.neighbour_grids import DIFFERENCE, NCCT, SIGNED, Neighbour, robust_limit
from strokelib.ssl_nnunet.representation_figures import (
    SET_COLOURS,
    Representations,
    fig08_representations,
    figB9_representations_two_channels,
)

mpl.use("Agg")
SETS = ["aisd", "other"]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def neighbour(channels, seed, shape=(12, 10)):
    rng = np.random.default_rng(seed)
    brain = np.zeros(shape, bool)
    brain[2:-2, 2:-2] = True
    values = rng.normal(size=(2, channels, *shape)).astype(np.float32)
    return Neighbour(values[0] * 20 + 30, values[1] * 1e-4, brain, (4.0, 4.0), SETS[seed % 2], bool(seed % 3))


def made(count=1, n=20, columns=2, **changed):
    rng = np.random.default_rng(0)
    rows = [[neighbour(count, 6 * row + column, (12 + column, 10)) for column in range(columns)] for row in range(3)]
    look = {"channels": (NCCT, DIFFERENCE)[:count], "silhouettes": {"data set": -0.034, "stroke": 0.12}}
    stroke = np.arange(n) % 3 > 0
    base = Representations(rng.normal(size=(n, 2)), [SETS[i % 2] for i in range(n)], stroke, (1, 2, 3), rows, **look)
    return replace(base, **changed)


def pictures(figure):
    return [image for ax in figure.axes for image in ax.images]


def said(figure):
    texts = [text.get_text() for text in figure.texts]
    for ax in figure.axes:
        legend = ax.get_legend()
        texts += [ax.get_title(), ax.get_title("left"), *(text.get_text() for text in ax.texts)]
        texts += [text.get_text() for text in legend.get_texts()] if legend else []
    return "\n".join(texts)


@pytest.mark.parametrize(("draw", "channels"), [(fig08_representations, 1), (figB9_representations_two_channels, 2)])
def test_a_figure_has_a_picture_and_a_map_for_each_neighbour_and_channel(draw, channels):
    found = pictures(draw(made(channels, columns=6)))
    maps = [image for image in found if image.get_cmap().name == SIGNED]
    assert len(maps) == 18 * channels
    assert len(found) - len(maps) == 18 * channels


def test_pictures_and_maps_are_those_of_the_data_in_order():
    data = made()
    found = pictures(fig08_representations(data))
    shown = [one for row in data.rows for one in row]
    for number, one in enumerate(shown):
        np.testing.assert_array_equal(found[number].get_array(), one.images[0])
        np.testing.assert_array_equal(found[len(shown) + number].get_array(), one.attributions[0])


def test_all_maps_of_a_channel_share_one_symmetric_scale_and_channels_differ():
    data = made(2)
    for row in data.rows:
        for one in row:
            one.attributions[1] *= 5
    maps = [image for image in pictures(figB9_representations_two_channels(data)) if image.get_cmap().name == SIGNED]
    limits = {image.get_clim() for image in maps}
    assert len(limits) == 2
    assert all(low == -high for low, high in limits)
    tops = sorted(high for _, high in limits)
    assert tops[1] > 3 * tops[0]


def test_the_end_of_the_scale_is_a_percentile_that_outliers_do_not_move():
    values = np.linspace(-1, 1, 4001)
    assert robust_limit([values]) == pytest.approx(0.995, abs=1e-3)
    assert robust_limit([np.append(values, 1e6)]) == pytest.approx(0.995, abs=1e-3)
    assert robust_limit([np.zeros(5)]) == 1.0


def test_n_silhouettes_and_class_sizes_stand_in_the_figure():
    texts = said(fig08_representations(made(encoder="ALL-STKi-SA", perplexity=6.333)))
    for wanted in ("n = 20", "silhouette −0.03", "silhouette 0.12", "aisd (10)", "stroke (13)", "no stroke (7)",
                   "ALL-STKi-SA, perplexity 6.33"):  # fmt: skip
        assert wanted in texts


def test_without_silhouettes_none_is_printed():
    assert "silhouette" not in said(fig08_representations(made(silhouettes={})))


def test_the_chosen_points_are_marked_where_they_lie_in_both_panels():
    data = made()
    figure = fig08_representations(data)
    for ax in figure.axes[:2]:
        marks = [line for line in ax.lines if line.get_marker() == "X"]
        np.testing.assert_array_equal([line.get_xydata()[0] for line in marks], data.projection[list(data.points)])


def test_each_neighbour_carries_the_colour_of_its_data_set_and_the_mark_of_stroke():
    data = made()
    figure = fig08_representations(data)
    tiles = [ax for ax in figure.axes if ax.images and ax.images[0].get_cmap().name == "gray"]
    for ax, one in zip(tiles, (one for row in data.rows for one in row), strict=True):
        (mark,) = ax.lines
        assert mark.get_color() == SET_COLOURS[SETS.index(one.data_set)]
        assert mark.get_marker() == ("o" if one.stroke else "^")


def test_pictures_of_different_sizes_have_one_scale_of_mm():
    figure = fig08_representations(made())
    fields = {(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes if ax.images}
    assert len(fields) == 1
    assert {tuple(image.get_extent()) for image in pictures(figure)} > {(-20.0, 20.0, 24.0, -24.0)}


@pytest.mark.parametrize(
    "changed",
    [
        {"data_sets": ["aisd"]},
        {"stroke": np.zeros(3, bool)},
        {"points": (1, 2)},
        {"projection": np.zeros((20, 3))},
        {"rows": [[neighbour(2, 0)], [neighbour(1, 1)], [neighbour(1, 2)]]},
        {"rows": [[], [], []]},
        {"channels": (NCCT, DIFFERENCE)},
        {"rows": [[replace(neighbour(1, 0), data_set="unknown")]] * 3},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changed):
    with pytest.raises(DataError):
        fig08_representations(made(**changed))


def test_each_figure_takes_its_number_of_channels_only():
    with pytest.raises(DataError):
        fig08_representations(made(2))
    with pytest.raises(DataError):
        figB9_representations_two_channels(made(1))
