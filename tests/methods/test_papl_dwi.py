"""The DWI of a scan on its CT's grid: rendered with an embedded head, or read from a user's folder."""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from strokelib.data.phantom import embedded
from strokelib.data.phantom.mr import render_mr
from strokelib.data.preparing import prepare
from strokelib.data.reading import write_nifti
from strokelib.errors import DataError
from strokelib.methods import papl_dwi
from strokelib.methods.papl_dwi import with_dwi
from strokelib.papl.examples import AdjacentExample, ContourExample
from strokelib.papl.figures import fig06_aisd_contours, fig09_adjacent_slices
from strokelib.settings import Profile, Settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))
import archives

mpl.use("Agg")
NAME = "aisd-0050"


def settings(data=None):
    return Settings(Profile.SMOKE, "aisd", 0, data, Path("runs"), Path("figures"))


@pytest.fixture(scope="module")
def head():
    return embedded.render(NAME)


def ratio(case):
    """How much brighter the infarct is than the rest of the brain."""
    dwi, rest = case.channels["dwi"], case.brain & ~case.lesion
    return np.median(dwi[case.lesion]) / np.median(dwi[rest])


def test_the_infarct_of_an_embedded_head_is_bright_where_the_reference_is(head):
    found = with_dwi(head, settings())
    assert found.channels["dwi"].shape == head.image.array.shape
    assert found.channels["dwi"].dtype == np.float32
    assert ratio(found) > 1.4
    rest = head.brain & ~head.lesion & (found.channels["dwi"] > 0)
    assert np.median(found.channels["dwi"][rest]) == pytest.approx(1.0, abs=1e-6)
    unmoved = replace(found, channels={"dwi": np.roll(found.channels["dwi"], 12, axis=2)})
    assert ratio(unmoved) < ratio(found) - 0.2
    assert found.facts["dwi_note"] == f"rendered +{render_mr(NAME).facts['delay_hours']:.0f} h"
    assert "dwi" not in head.channels


def test_the_figures_show_the_dwi_and_say_where_it_comes_from(head):
    found = with_dwi(head, settings())
    masks, note = {"PAPL": head.lesion}, found.facts["dwi_note"]
    one, several = ContourExample.of(found, masks), AdjacentExample.of(found, masks, 3)
    z = head.lesion.sum(axis=(1, 2)).argmax()
    np.testing.assert_array_equal(one.dwi, found.channels["dwi"][z])
    assert several.dwi.shape == several.brain.shape
    for figure, wanted in ((fig06_aisd_contours([one]), note), (fig09_adjacent_slices(several), f"DWI ({note})")):
        said = [text.get_text() for text in (*figure.texts, *(t for ax in figure.axes for t in ax.texts))]
        assert said.count(wanted) == 1
        plt.close(figure)
    without = fig06_aisd_contours([ContourExample.of(head, masks)])
    assert without.axes[-1].texts[0].get_text() == "no DWI"
    plt.close(without)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A user's scan whose DWI lies on a grid of its own, and another one without DWI."""
    root, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    archives.write_bids(root, small=False)
    (root / "sub-00" / "dwi").mkdir()
    write_nifti(render_mr("aisd-0101").image, root / "sub-00" / "dwi" / "sub-00_dwi.nii.gz")
    made = prepare(root, "aisd", out=out)
    return settings(root), {name: made.load(name) for name in made.ids()}


def test_a_users_dwi_is_registered_and_a_scan_without_one_stays_as_it_is(scan):
    chosen, cases = scan
    found = with_dwi(cases["sub-00"], chosen)
    assert found.facts["dwi_note"] == "registered"
    assert ratio(found) > 1.4
    assert with_dwi(cases["sub-01"], chosen) is cases["sub-01"]


def test_a_dwi_that_cannot_be_registered_is_said_and_nothing_stops(scan, monkeypatch):
    chosen, cases = scan

    def refuse(*_):
        raise DataError("MR brain mask", found="12 mL", wanted="more", next_step="look")

    monkeypatch.setattr(papl_dwi, "mr_to_ct", refuse)
    found = with_dwi(cases["sub-00"], chosen)
    assert "dwi" not in found.channels
    assert "12 mL" in found.facts["channels_left_out"]["dwi"]
    assert found.facts["dwi_note"] == "not usable"


def test_a_dwi_that_came_with_the_case_is_only_scaled(head):
    given = replace(head, embedded=False, channels={"dwi": np.where(head.lesion, 900.0, 450.0)[None]})
    found = with_dwi(given, settings())
    np.testing.assert_allclose(np.unique(found.channels["dwi"]), [1.0, 2.0])
    assert found.facts["dwi_note"] == "on the CT's grid"
