import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from made_slices import infarct_slice

from strokelib.data.cases import Case, Volume
from strokelib.errors import DataError
from strokelib.metrics import dice
from strokelib.papl.examples import (
    RELATIONS,
    AdjacentExample,
    AlignedSlice,
    ContourExample,
    inner,
    mirrored_box,
    neighbour_dice,
)

SPACING_YX = (2.0, 2.0)


def _case(channels=None):
    shape = (5, 20, 16)
    brain, lesion = np.zeros(shape, bool), np.zeros(shape, bool)
    brain[:, 2:18, 2:14] = True
    lesion[1, 5:8, 4:8] = lesion[2, 5:9, 4:8] = lesion[3, 6:8, 5:7] = True
    image = Volume(np.where(brain, 35.0, -1000.0), np.diag([-2.0, -2.0, 5.0, 1.0]))
    return Case("a", "p", "aisd", "test", image, lesion, brain, channels=channels or {})


def test_each_relation_is_found_where_it_was_put():
    pathological, intrinsic, symmetric = relations = infarct_slice().relations()
    assert tuple(one.kind for one in relations) == RELATIONS
    top, bottom, left, right = pathological.box
    assert (bottom - top, right - left) == (9, 9)
    assert infarct_slice().lesion[top:bottom, left:right].all()
    assert pathological.difference_hu == pytest.approx(-6.0)
    assert intrinsic.box == (70, 79, 55, 64)
    assert (intrinsic.own_hu, intrinsic.mirror_hu) == (22.0, 30.0)
    assert symmetric.difference_hu == pytest.approx(0.0)


def test_windows_keep_off_the_rim_the_midline_and_one_another():
    example = infarct_slice()
    taken = np.zeros(example.brain.shape, int)
    for one in example.relations():
        for top, bottom, left, right in (one.box, mirrored_box(one.box, 80)):
            taken[top:bottom, left:right] += 1
            assert inner(example.brain, SPACING_YX)[top:bottom, left:right].all()
    assert taken.max() == 1
    assert not taken[:, 38:42].any()


def test_the_darker_side_is_the_window_of_an_intrinsic_asymmetry_whichever_it_is():
    example = infarct_slice()
    flipped = AlignedSlice(*(a[:, ::-1] for a in (example.image_hu, example.brain, example.lesion)), SPACING_YX)
    there, back = example.relations()[1], flipped.relations()[1]
    assert mirrored_box(back.box, 80) == there.box
    assert back.difference_hu == there.difference_hu == -8.0


def test_a_slice_without_lesion_or_without_room_is_refused():
    example = infarct_slice()
    none = np.zeros_like(example.lesion)
    with pytest.raises(DataError, match="wanted some lesion"):
        AlignedSlice(example.image_hu, example.brain, none, SPACING_YX).relations()
    small = np.zeros_like(example.brain)
    small[20:40, 20:60] = True
    with pytest.raises(DataError, match="room for windows of 18 mm"):
        AlignedSlice(example.image_hu, small, example.lesion & small, SPACING_YX, "head").relations()


def test_an_aligned_slice_is_the_one_with_most_lesion_unless_another_is_named():
    case = _case()
    assert AlignedSlice.of(case).lesion.sum() == 16
    assert AlignedSlice.of(case, index=3).lesion.sum() == 4
    assert AlignedSlice.of(case, "x").spacing_yx == (2.0, 2.0)


def test_contours_are_of_one_slice_and_dice_of_the_whole_scan():
    case = _case()
    mask = np.roll(case.lesion, 1, axis=2)
    example = ContourExample.of(case, {"PAPL": mask}, "head")
    np.testing.assert_array_equal(example.predicted["PAPL"], mask[2])
    assert example.dice["PAPL"] == dice(mask, case.lesion)
    assert example.dwi is None
    dwi = np.random.default_rng(0).random((1, 5, 20, 16))
    np.testing.assert_allclose(ContourExample.of(_case({"dwi": dwi}), {}).dwi, dwi[0, 2], rtol=1e-6)


def test_adjacent_slices_are_those_that_hold_most_lesion_together():
    dwi = np.arange(5.0)[:, None, None] * np.ones((5, 20, 16))
    example = AdjacentExample.of(_case({"dwi": dwi}), {"with FCM": _case().lesion}, count=3)
    np.testing.assert_array_equal(example.lesion, _case().lesion[1:4])
    np.testing.assert_array_equal(example.dwi[:, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(example.predicted["with FCM"], example.lesion)
    assert len(AdjacentExample.of(_case(), {}, count=9).brain) == 5


def test_neighbour_dice_is_that_of_each_slice_and_the_next():
    masks = np.zeros((4, 3, 3), bool)
    masks[0, 0, :2] = masks[1, 0, 1:] = True
    np.testing.assert_allclose(neighbour_dice(masks), [0.5, 0.0, np.nan])
