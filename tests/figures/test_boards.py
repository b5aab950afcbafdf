import matplotlib as mpl
import numpy as np
import pytest

from strokelib.figures.boards import Board, sign
from strokelib.figures.diagrams import canvas

mpl.use("Agg")


@pytest.fixture
def brain():
    mask = np.zeros((30, 24), bool)
    mask[5:25, 4:16] = True
    return mask


def test_pictures_are_cut_to_a_box_with_the_midline_in_its_middle_and_keep_their_shape_in_mm(brain):
    _, ax = canvas(2.0)
    board = Board(ax, brain, (4.0, 2.0), tall=1.0, wide=2.0)
    rows, columns = board.box
    assert (rows.start, rows.stop) == (3, 27)
    assert columns.start == 24 - columns.stop
    assert board.half[0] / board.half[1] == pytest.approx((columns.stop - columns.start) * 2 / (24 * 4))
    board.picture(np.ones(brain.shape), 3.0, 1.0, "X", brain=brain)
    (shown,) = ax.images
    assert shown.get_extent() == pytest.approx([3 - board.half[0], 3 + board.half[0], 0.5, 1.5])
    np.testing.assert_array_equal(shown.get_array().mask, ~brain[board.box])


def test_a_wide_slice_gets_lower_instead_of_wider_than_allowed(brain):
    _, ax = canvas(2.0)
    board = Board(ax, brain, (1.0, 4.0), tall=1.0, wide=0.8)
    rows, columns = board.box
    assert 2 * board.half[0] == pytest.approx(0.8)
    height, width = rows.stop - rows.start, 4 * (columns.stop - columns.start)
    assert 2 * board.half[1] == pytest.approx(0.8 * height / width)


def test_a_box_may_follow_the_brain_alone_with_a_margin_of_its_own(brain):
    _, ax = canvas(2.0)
    board = Board(ax, brain, (1.0, 1.0), tall=1.0, wide=2.0, margin=3, mirrored=False)
    assert board.box == (slice(2, 28), slice(1, 19))


def test_a_share_makes_a_picture_smaller_and_a_board_may_frame_every_picture(brain):
    _, ax = canvas(2.0)
    board = Board(ax, brain, (1.0, 1.0), tall=1.0, wide=2.0, frame="white")
    board.picture(np.ones(brain.shape), 1.0, 1.0, share=0.5)
    board.picture(np.ones(brain.shape), 2.0, 1.0, edge="red")
    assert ax.images[0].get_extent()[2:] == pytest.approx([0.75, 1.25])
    framed = [patch for patch in ax.patches if not patch.get_fill()]
    assert [mpl.colors.to_hex(patch.get_edgecolor()) for patch in framed] == ["#ffffff", "#ff0000"]
    assert [patch.get_linestyle() in ("-", "solid") for patch in framed] == [True, False]


def test_a_later_picture_lies_on_top_and_a_frame_is_drawn_on_request(brain):
    _, ax = canvas(2.0)
    board = Board(ax, brain, (1.0, 1.0), tall=1.0, wide=2.0)
    board.picture(np.ones(brain.shape), 1.0, 1.0)
    board.picture(np.ones(brain.shape), 1.1, 1.0, edge="red")
    assert ax.images[1].get_zorder() > ax.images[0].get_zorder()
    framed = [patch for patch in ax.patches if not patch.get_fill()]
    assert [mpl.colors.to_hex(patch.get_edgecolor()) for patch in framed] == ["#ff0000"]


def test_words_stand_clear_of_their_picture(brain):
    _, ax = canvas(2.0)
    board = Board(ax, brain, (1.0, 1.0), tall=1.0, wide=2.0)
    board.word(1.0, 1.0, "below")
    board.word(1.0, 1.0, "above", above=True)
    below, above = ax.texts
    assert below.get_position()[1] < 0.5
    assert below.get_verticalalignment() == "top"
    assert above.get_position()[1] > 1.5
    assert above.get_verticalalignment() == "bottom"


def test_a_sign_is_a_circle_with_its_operator():
    _, ax = canvas(2.0)
    sign(ax, 1.0, 1.0, "+")
    assert [type(patch).__name__ for patch in ax.patches] == ["Circle"]
    assert [text.get_text() for text in ax.texts] == ["+"]
