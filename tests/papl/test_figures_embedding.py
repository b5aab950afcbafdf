import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from strokelib.errors import DataError
from strokelib.papl.embedding_figures import LABEL_LOOKS, EmbeddedSamples, fig08_tsne

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def _panel(title="start", positive=(True, True, False, False, False), silhouette=0.2, accuracy=0.8):
    return EmbeddedSamples(np.random.default_rng(0).random((5, 2)), np.array(positive), silhouette, accuracy, title)


def test_separate_classes_have_a_silhouette_near_1_and_every_neighbour_right():
    rng = np.random.default_rng(0)
    positive = np.arange(20) < 8
    vectors = np.where(positive[:, None], (5.0, 0.0, 0.0), (0.0, 5.0, 0.0)) + rng.normal(0, 0.1, (20, 3))
    found = EmbeddedSamples.of(vectors, positive, "end")
    assert found.silhouette > 0.95
    assert found.accuracy == 1.0
    assert found.projection.shape == (20, 2)
    assert np.isfinite(found.projection).all()
    assert found.title == "end"


def test_length_does_not_count_and_neighbours_are_by_angle():
    angles = np.deg2rad([0.0, 3.0, 50.0, 52.0, 20.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([1.0, 9.0, 1.0, 4.0, 2.0])[:, None]
    labels = [True, True, False, False, False]
    found = EmbeddedSamples.of(vectors, labels)
    # The last one lies nearer to 3 degrees than to 50.
    assert found.accuracy == pytest.approx(4 / 5)
    again = EmbeddedSamples.of(vectors * 7, labels)
    assert again.silhouette == pytest.approx(found.silhouette)


def test_chance_is_the_share_of_pairs_with_one_label():
    assert _panel().chance == pytest.approx((2 * 1 + 3 * 2) / (5 * 4))


def test_one_class_alone_collapsed_or_infinite_embeddings_are_refused():
    vectors = np.random.default_rng(0).random((6, 4))
    labels = [True, False] * 3
    for wrong in ([True] * 6, [True, *[False] * 5], labels[:5]):
        with pytest.raises(DataError, match="embeddings"):
            EmbeddedSamples.of(vectors, wrong)
    with pytest.raises(DataError, match="the same for all samples"):
        EmbeddedSamples.of(np.ones((6, 4)), labels)
    with pytest.raises(DataError, match="finite"):
        EmbeddedSamples.of(np.where(vectors == vectors[0, 0], np.inf, vectors), labels)


def test_two_rows_of_three_panels_carry_their_numbers_and_colours():
    times = ("start", "epoch 50", "epoch 180")
    rows = {name: [_panel(time, silhouette=-0.001) for time in times] for name in ("inter only", "inter + intra")}
    figure = fig08_tsne(rows)
    assert len(figure.axes) == 6
    assert figure.axes[0].get_title() == "start\nsilhouette 0.00, neighbour 0.80"
    assert [ax.get_ylabel() for ax in figure.axes[::3]] == list(rows)
    points = figure.axes[0].collections[0]
    colours = [mpl.colors.to_hex(one).upper() for one in points.get_facecolors()]
    one = rows["inter only"][0]
    for place, colour in zip(points.get_offsets(), colours, strict=True):
        (number,) = np.flatnonzero((one.projection == place).all(axis=1))
        assert colour == LABEL_LOOKS[bool(one.positive[number])][1]
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[:2] == ["positive (n = 2)", "negative (n = 3)"]
    assert said[2].endswith("chance 0.40")


def test_rows_of_different_lengths_are_refused():
    for rows in ({}, {"inter only": []}, {"inter only": [_panel()], "inter + intra": [_panel()] * 2}):
        with pytest.raises(DataError, match="panels of a figure"):
            fig08_tsne(rows)
