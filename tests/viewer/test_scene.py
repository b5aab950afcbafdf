"""What the viewer shows is checked once, and errors name what does not fit."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from strokelib import viewer
from strokelib.data.cases import Volume
from strokelib.errors import DataError, ParameterError
from strokelib.plotting import TRUTH_COLOUR
from strokelib.viewer import geometry, scene

SPEC = importlib.util.spec_from_file_location("viewer_made_scans", Path(__file__).with_name("made_scans.py"))
made = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(made)


def refused(kind, *parts, **given):
    scan = given.pop("scan", made.ramp())
    with pytest.raises(kind) as caught:
        viewer.show(scan, **given)
    text = str(caught.value)
    assert all(part in text for part in parts), text
    assert "Next step" in text


def test_a_mask_of_another_shape_is_refused_by_its_name_and_both_shapes():
    refused(DataError, "mask 'PAPL'", "(3, 6, 9)", "(3, 6, 10)", masks={"PAPL": np.zeros((3, 6, 9), bool)})
    refused(DataError, "probability 'ADN'", "(1, 3, 6, 10)", probabilities={"ADN": np.zeros((1, 3, 6, 10))})


def test_values_that_are_no_mask_and_no_probability_are_refused():
    refused(DataError, "mask 'PAPL'", "0 and 1", masks={"PAPL": np.full((3, 6, 10), 0.4)})
    refused(DataError, "probability 'ADN'", "-3", "sigmoid", probabilities={"ADN": np.full((3, 6, 10), -3.0)})
    refused(DataError, "probability 'ADN'", "nan", probabilities={"ADN": np.full((3, 6, 10), np.nan)})


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"window": "lung"}, ("window", "'lung'", "brain")),
        ({"window": (40, 0)}, ("window", "width above 0")),
        ({"window": 40}, ("window", "(level, width)")),
        ({"style": "outline"}, ("style", "contour or fill")),
        ({"opacity": 1.5}, ("opacity", "1.5")),
        ({"threshold": -1}, ("threshold", "-1")),
        ({"heat": "PAPL"}, ("heat", "no probability is given")),
        ({"start": 3}, ("start", "3", "0 to 2")),
        ({"start": True}, ("start", "True")),
        ({"columns": 0}, ("columns", "1 to 8")),
        ({"mirror": "plane"}, ("mirror='plane'", "no brain mask")),
        ({"mirror": "both"}, ("mirror", "'both'")),
        ({"mirror": 2}, ("mirror", "2")),
        ({"spacing": (1, 1, 1)}, ("spacing",)),
        ({"scan": np.zeros((3, 6, 10))}, ("spacing", "bare array")),
        ({"scan": "head.nii.gz"}, ("scan", "str")),
        ({"colours": {"PAPL": "#000000"}}, ("colours", "PAPL")),
        ({"masks": {"A": made.square()}, "colours": {"A": "red"}}, ("colour of 'A'", "#rrggbb")),
        ({"masks": {str(n): made.square() for n in range(7)}}, ("7 methods", "at most 6")),
    ],
)
def test_an_argument_that_cannot_be_shown_is_refused(given, parts):
    refused(ParameterError, *parts, **given)


@pytest.mark.parametrize(
    ("array", "spacing", "part"),
    [
        (np.zeros((2, 3, 6, 10)), (5, 2, 1), "(2, 3, 6, 10)"),
        (np.zeros((0, 6, 10)), (5, 2, 1), "(0, 6, 10)"),
        (np.zeros((3, 6, 10), complex), (5, 2, 1), "complex"),
        (np.zeros((3, 6, 10)), (5, float("nan"), 1), "nan"),
        (np.zeros((3, 6, 10)), (5, 0, 1), "0.0"),
    ],
)
def test_a_scan_without_three_real_axes_is_refused(array, spacing, part):
    refused(DataError, "scan", part, scan=array, spacing=spacing)


def test_a_scan_with_left_and_right_along_another_axis_has_no_mirror_image():
    turned = Volume(made.ramp().array, np.array([[0, -2, 0, 0], [-1, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]], float))
    refused(DataError, "last axis", scan=turned)
    assert viewer.show(turned, mirror=False).scene.mirror is None


def test_the_letters_follow_the_affine_and_not_the_order_of_the_axes():
    lps = geometry.Directions.of(made.ramp())
    assert (lps.left, lps.right, lps.top, lps.bottom) == ("R", "L", "A", "P")
    ras = geometry.Directions.of(Volume(made.ramp().array, np.diag([1.0, 2.0, 5.0, 1.0])))
    assert (ras.left, ras.right, ras.top, ras.bottom) == ("L", "R", "P", "A")
    assert (lps.flipped.left, lps.flipped.right, lps.flipped.top) == ("L", "R", "A")


def test_a_case_brings_its_reference_in_orange_and_a_given_truth_replaces_it():
    case, other_side = made.head()
    shown = viewer.show(case, {"PAPL": other_side}, mirror="column").scene
    assert shown.names == ("reference", "PAPL")
    assert shown.colours["reference"] == TRUTH_COLOUR
    assert shown.title == "made-1"
    assert viewer.show(case, {"PAPL": other_side, "truth": case.lesion}, mirror=False).scene.names == ("truth", "PAPL")
    assert viewer.show(case, {"PAPL": other_side}, reference=False, mirror=False).scene.names == ("PAPL",)


def test_a_probability_is_outlined_above_the_threshold_unless_a_mask_has_its_name():
    ramp = np.broadcast_to(np.linspace(0, 1, 10), (3, 6, 10))
    shown = viewer.show(made.ramp(), {"A": made.square()}, probabilities={"A": ramp, "B": ramp}).scene
    assert shown.names == ("A", "B")
    assert shown.mask("A", 1, 0.5).sum() == 9
    assert shown.mask("B", 1, 0.5).sum() == 6 * 5
    assert shown.mask("B", 1, 0.95).sum() == 6
    assert shown.area_cm2("A", 1, 0.5) == pytest.approx(9 * 2 * 1 / 100)


def test_the_start_is_the_slice_with_most_lesion():
    lesion = made.square((9, 6, 10), z=6) | made.square((9, 6, 10), z=2, columns=slice(2, 4))
    assert viewer.show(made.ramp((9, 6, 10)), {"truth": lesion}).start == 6
    assert viewer.show(made.ramp((9, 6, 10)), {"truth": lesion & False, "A": made.square((9, 6, 10), z=3)}).start == 3
    assert viewer.show(made.ramp((9, 6, 10))).start == 4


def test_the_slices_of_the_still_picture_cut_the_lesion_into_equal_parts():
    lesion = np.zeros((12, 6, 10), bool)
    lesion[2:10, :2, :2] = True
    shown = viewer.show(made.ramp((12, 6, 10)), {"truth": lesion}).scene
    assert shown.spread(4, start=2) == [2, 4, 6, 8]
    assert shown.spread(4, start=3) == [3, 4, 6, 8]
    assert shown.spread(50, start=3) == list(range(12))
    tiny = viewer.show(made.ramp((12, 6, 10)), {"truth": made.square((12, 6, 10), z=11)}).scene
    assert tiny.spread(3, start=11) == [9, 10, 11]
    assert viewer.show(made.ramp((12, 6, 10))).scene.spread(3, start=6) == [1, 6, 9]


def test_the_mirror_about_the_column_is_the_array_backwards():
    shown = viewer.show(made.ramp()).scene
    assert shown.mirror_name == geometry.BY_COLUMN
    assert shown.mirror[0, 0].tolist() == list(range(90, -1, -10))


def test_the_mirror_about_the_plane_lays_a_turned_and_shifted_head_on_itself():
    case, other_side = made.head()
    by_plane = viewer.show(case, crop=False).scene
    by_column = viewer.show(case, crop=False, mirror="column").scene
    assert (by_plane.mirror_name, by_column.mirror_name) == (geometry.BY_PLANE, geometry.BY_COLUMN)
    inside = case.brain & ~case.lesion & ~other_side
    image = case.image.array

    def gap(found):
        return np.median(np.abs(found.mirror - image)[inside])

    assert gap(by_plane) < 0.25 * gap(by_column)
    darker = by_plane.mirror[other_side].mean() - image[other_side].mean()
    assert darker == pytest.approx(-12, abs=3)


def test_a_reflection_is_its_own_inverse():
    case, _ = made.head()
    matrix = geometry.reflection(case.image, case.brain)
    np.testing.assert_allclose(matrix @ matrix, np.eye(4), atol=1e-9)
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(-1)


def test_the_field_shown_is_the_brain_and_sixteen_millimetres():
    brain = np.zeros((3, 60, 80), bool)
    brain[1, 20:30, 40:50] = True
    rows, columns = geometry.head_box(brain, (5.0, 2.0, 1.0))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (12, 38, 24, 66)
    assert geometry.head_box(brain & False, (5.0, 2.0, 1.0)) == (slice(None), slice(None))
    case, _ = made.head()
    cut = viewer.show(case, mirror=False).scene
    assert cut.mask("reference", 8, 0.5).sum() == case.lesion[8].sum()
    assert viewer.show(case, mirror=False, crop=False).scene.box == (slice(None), slice(None))
    empty = replace(case, brain=case.brain & False)
    assert viewer.show(empty).scene.mirror_name == geometry.BY_COLUMN


def test_masks_of_numbers_are_taken_and_the_scan_is_left_as_it_was():
    volume, mask = made.ramp(), made.square().astype(np.uint8)
    before = volume.array.copy()
    shown = viewer.show(volume, {"A": mask})
    shown.frame()
    assert shown.scene.masks["A"].dtype == bool
    np.testing.assert_array_equal(volume.array, before)
    assert scene.checked_probability("p", np.full((3, 6, 10), 1.0005), (3, 6, 10)).max() == 1
