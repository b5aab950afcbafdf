"""Pixels of a frame against hand-made arrays."""

import importlib.util
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from strokelib import viewer
from strokelib.viewer import frames
from strokelib.viewer.look import WINDOWS, level_and_width

SPEC = importlib.util.spec_from_file_location("viewer_made_scans", Path(__file__).with_name("made_scans.py"))
made = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(made)
ORANGE, BLUE = (230, 159, 0), (86, 180, 233)


def pixels(viewed, z=None, **changes):
    with Image.open(io.BytesIO(viewed.frame(z, **changes))) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened.convert("RGB")).astype(int)


def test_a_window_has_its_level_in_the_middle_and_its_width_from_black_to_white():
    hu = np.array([[-1000, 0, 20, 40, 80, 3000]])
    assert frames.grey(hu, (0, 80)).tolist() == [[0, 0, 63.75, 127.5, 255, 255]]
    assert WINDOWS["brain"] == (40, 80)
    assert viewer.show(made.ramp(), window=(35, 40)).look.limits == (15, 55)
    assert level_and_width("stroke") == (35, 40)
    odd = frames.grey(np.array([[np.nan, np.inf, -np.inf]]), (0, 80))
    assert odd.tolist() == [[0, 255, 0]]


def test_a_frame_shows_columns_through_the_window():
    shown = viewer.show(made.ramp(), mirror=False)
    found = pixels(shown, 0)
    height, width, _ = found.shape
    middles = [found[height // 4, int((column + 0.5) * width / 10)] for column in range(1, 9)]
    for column, colour in enumerate(middles, start=1):
        grey = round(min(column * 10 / 80, 1) * 255)
        assert colour.tolist() == [grey] * 3


def test_a_pixel_is_as_wide_and_as_high_as_its_millimetres():
    assert frames.panel_size(viewer.show(made.ramp()).scene) == (400, round(400 * 10 / 12))
    wide = viewer.show(np.zeros((2, 10, 40)), spacing=(5, 1, 1)).scene
    assert frames.panel_size(wide) == (100, 400)
    one = pixels(viewer.show(made.ramp(), mirror=False))
    two = pixels(viewer.show(made.ramp()))
    assert one.shape == (400, 333, 3)
    assert two.shape == (400, 2 * 333 + frames.GAP_PX, 3)


def test_the_mirror_image_stands_at_the_right_and_runs_backwards():
    shown = viewer.show(made.ramp())
    found = pixels(shown, 0)
    width = 333
    left = found[100, [int((c + 0.5) * width / 10) for c in range(1, 9)], 0]
    right = found[100, [width + frames.GAP_PX + int((c + 0.5) * width / 10) for c in range(1, 9)], 0]
    assert left.tolist() == right.tolist()[::-1]
    assert (found[100, width : width + frames.GAP_PX] == 255).all()
    assert pixels(shown, 0, mirror=False).shape[1] == width


def test_a_filled_mask_is_mixed_by_its_opacity():
    shown = viewer.show(made.ramp(), {"truth": made.square()}, mirror=False, style="fill", opacity=0.25)
    found = pixels(shown, 1)
    colour = found[round(2.5 * 400 / 6), round(3.5 * 333 / 10)]
    below = 30 / 80 * 255
    assert colour.tolist() == [round(below + (c - below) * 0.25) for c in ORANGE]
    assert found[round(2.5 * 400 / 6), round(6.5 * 333 / 10)].tolist() == [round(60 / 80 * 255)] * 3
    assert np.array_equal(pixels(shown, 0), pixels(shown, 0, shown=()))


def test_the_outline_of_the_reference_lies_around_its_mask_and_that_of_a_method_within():
    same = made.square((3, 20, 40), rows=slice(5, 11), columns=slice(12, 20))
    shown = viewer.show(np.zeros((3, 20, 40)), {"truth": same, "PAPL": same}, spacing=(5, 1, 1), mirror=False)
    found = pixels(shown, 1)
    inside = np.zeros((200, 400), bool)
    inside[50:110, 120:200] = True
    orange, blue = ((found == colour).all(axis=2) for colour in (ORANGE, BLUE))
    assert orange.any()
    assert blue.any()
    assert not (orange & inside).any()
    assert not (blue & ~inside).any()
    assert not (pixels(shown, 1, shown=("PAPL",)) == ORANGE).all(axis=2).any()


def test_a_boundary_is_as_deep_as_asked_for():
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    assert frames.boundary(mask, 1).sum() == 25 - 9
    assert frames.boundary(mask, 2).sum() == 25 - 1
    assert frames.boundary(mask, 1, outside=True).sum() == 4 * 5
    assert not (frames.boundary(mask, 2, outside=True) & mask).any()
    whole = np.ones((4, 4), bool)
    assert frames.boundary(whole, 1).sum() == 12
    assert not frames.boundary(whole, 1, outside=True).any()
    assert not frames.boundary(whole & False, 2).any()


def test_a_heat_map_lies_on_the_scan_alone_and_outlines_stay_above_it():
    probability = np.zeros((3, 6, 10), np.float32)
    probability[1, :, 7:] = 0.9
    shown = viewer.show(made.ramp(), probabilities={"A": probability}, style="fill")
    plain, heated = pixels(shown, 1, style="contour", shown=()), pixels(shown, 1, heat="A", shown=())
    width = 333
    right_panel = slice(width + frames.GAP_PX, None)
    assert np.array_equal(plain[:, right_panel], heated[:, right_panel])
    assert not np.array_equal(plain[:, :width], heated[:, :width])
    cold = slice(20, round(6.9 * width / 10))
    assert np.array_equal(plain[:, cold], heated[:, cold])
    outlined = pixels(shown, 1, heat="A", shown=("A",))
    assert (outlined == BLUE).all(axis=2).any()


def test_the_letters_change_sides_with_the_mirror_image():
    found = pixels(viewer.show(np.full((1, 20, 20), -1000), spacing=(5, 1, 1)), 0)
    left, right = found[:, :400], found[:, 400 + frames.GAP_PX :]
    at_left, at_right = slice(0, 24), slice(376, 400)

    def ink(panel, columns):
        strip = panel[180:220, columns, 0]
        rows, places = np.nonzero(strip > 120)
        return strip[rows.min() : rows.max() + 1, places.min() : places.max() + 1]

    assert np.array_equal(ink(left, at_left), ink(right, at_right))  # R
    assert np.array_equal(ink(left, at_right), ink(right, at_left))  # L
    assert not np.array_equal(ink(left, at_left), ink(left, at_right))


def test_the_same_look_gives_the_same_bytes_and_another_slice_others():
    case, other_side = made.head()
    shown = viewer.show(case, {"A": other_side})
    assert shown.frame(8) == viewer.show(case, {"A": other_side}).frame(8)
    assert shown.frame(8) != shown.frame(7)


def test_a_frame_of_a_full_size_slice_is_drawn_while_one_scrolls():
    rng = np.random.default_rng(0)
    volume = rng.normal(30, 8, (4, 512, 512)).astype(np.float32)
    masks = {name: rng.random((4, 512, 512)) > 0.5 for name in "ABCD"}
    shown = viewer.show(volume, masks, spacing=(5, 0.5, 0.5))
    shown.frame(0)
    times = []
    for z in (0, 1, 2, 3, 0, 1, 2):
        begun = time.process_time()
        shown.frame(z)
        times.append(time.process_time() - begun)
    assert min(times) < 0.25
