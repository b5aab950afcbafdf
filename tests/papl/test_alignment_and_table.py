"""PAPL's Fig. 3 and Table I."""

import numpy as np
import pandas as pd
import pytest

from strokelib.papl.alignment import alignment_steps
from strokelib.papl.figures import fig03_alignment
from strokelib.papl.tables import table1_cohort


@pytest.fixture
def slice_of_a_turned_head():
    y, x = np.mgrid[:80, :64].astype(float)
    turn = np.deg2rad(15.0)
    across = (x - 36) * np.cos(turn) - (y - 40) * np.sin(turn)
    along = (x - 36) * np.sin(turn) + (y - 40) * np.cos(turn)
    brain = (across / 20) ** 2 + (along / 30) ** 2 < 1
    image = 40 + 0.3 * along
    top, bottom = (
        np.array([36 - 30 * np.sin(turn), 40 - 30 * np.cos(turn)]),
        np.array([36 + 30 * np.sin(turn), 40 + 30 * np.cos(turn)]),
    )
    return image, brain, top, bottom


def test_the_last_step_is_upright_centred_and_symmetric(slice_of_a_turned_head):
    first, turned, last = alignment_steps(*slice_of_a_turned_head)
    assert first.angle_deg == pytest.approx(15.0)
    assert turned.angle_deg == pytest.approx(0.0, abs=1e-9)
    assert turned.offset_voxels == pytest.approx(first.offset_voxels)
    assert last.offset_voxels == pytest.approx(0.0, abs=1e-9)
    assert last.mirror_difference_hu < 0.2 * first.mirror_difference_hu


def test_the_figure_has_four_panels_a_row(slice_of_a_turned_head):
    figure = fig03_alignment([("a", alignment_steps(*slice_of_a_turned_head), (1.0, 1.0))] * 2)
    assert len(figure.axes) == 8


def test_table_1_keeps_published_and_ours_apart():
    facts = pd.DataFrame(
        {
            "sex": ["M", "F", None],
            "age": [60.0, 70.0, np.nan],
            "onset_hours": [2.0, 4.0, 6.0],
            "nihss": [10, 14, 12],
            "side": ["left", "right", "left"],
        }
    )
    table = table1_cohort(facts, "xwhd").set_index("variable")
    assert table.at["Patients", "published"] == "171"
    assert table.at["Patients", "ours"] == "3"
    assert table.at["Age", "published"] == "65(54,73)"
    assert table.at["Age", "n"] == 2
    assert table.at["NIHSS", "ours"] == "12.00 ± 2.00"
    assert table.at["Lesion location left", "ours"] == "2"
    assert (table["cohort"] == "xwhd (embedded)").all()
