"""Errors of perfusion maps: right where the answer is known; and the figures take what comes out."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from strokelib.data.perfusion import PerfusionMaps, temporal_mip
from strokelib.data.phantom import perfusion
from strokelib.figures import perfusion as figures
from strokelib.methods import perfusion_errors as errors

NAME = "isles2018-0048-1"


@pytest.fixture(scope="module")
def scan():
    return perfusion.render_ctp(NAME, noise=0.0)


@pytest.fixture(scope="module")
def measured():
    return errors.perfusion_errors([NAME], (0.0, 6.0))


def true_maps(scan, shift=0.0, factor=1.0):
    return PerfusionMaps(*(factor * scan.truth[name] + shift for name in errors.MAPS), "csvd")


def test_the_truth_has_no_error(scan):
    rows = list(errors.map_errors(scan, true_maps(scan)))
    assert len(rows) == len(errors.MAPS) * (len(errors.TISSUES) + 1)
    for row in rows:
        assert row["bias"] == pytest.approx(0, abs=1e-9)
        assert row["correlation"] == pytest.approx(1)


def test_a_shift_is_all_bias_and_a_factor_keeps_the_correlation(scan):
    shifted = list(errors.map_errors(scan, true_maps(scan, shift=2.0)))
    doubled = list(errors.map_errors(scan, true_maps(scan, factor=2.0)))
    for a, b in zip(shifted, doubled, strict=True):
        assert a["bias"] == pytest.approx(2.0, rel=1e-4)
        assert a["rmse"] == pytest.approx(2.0, rel=1e-4)
        assert b["bias"] == pytest.approx(b["truth"], rel=1e-4)
        assert b["correlation"] == pytest.approx(1)


def test_too_few_voxels_give_no_number(scan, monkeypatch):
    monkeypatch.setattr(errors, "FEWEST", 10**6)
    assert all(np.isnan(row["bias"]) for row in errors.map_errors(scan, true_maps(scan)))


def test_the_regions_are_apart_and_without_large_vessels(scan):
    places = errors.regions(scan)
    assert set(places) == set(errors.TISSUES)
    assert sum(place.astype(int) for place in places.values()).max() == 1
    assert all(scan.truth["vessel"][place].max() < errors.VESSEL_SHARE for place in places.values())


def test_added_noise_has_its_size_and_the_artery_is_measured_in_it(scan):
    enhancement, aif = errors.noisier(scan, 4.0)
    before = scan.facts["frames_before"]
    late = (enhancement - scan.enhancement)[before:, scan.case.brain]
    assert late.std() == pytest.approx(4.0 * (1 + 1 / before) ** 0.5, rel=0.05)
    quiet = errors.noisier(scan, 0.0)[1]
    np.testing.assert_allclose(quiet, scan.aif, rtol=1e-3, atol=1e-2)
    assert not np.allclose(aif, quiet, atol=0.5)


def test_errors_are_listed_by_scan_noise_method_map_and_tissue(measured):
    assert len(measured) == 2 * 2 * len(errors.MAPS) * (len(errors.TISSUES) + 1)
    assert set(measured["method"]) == set(errors.METHODS)
    assert (measured["rmse"].dropna() >= measured["bias"].dropna().abs() - 1e-9).all()


def test_more_noise_means_less_agreement_of_flow(measured):
    part = measured[(measured["map"] == "cbf") & (measured["tissue"] == "all") & (measured["method"] == "csvd")]
    quiet, loud = (float(part.loc[part["noise_hu"] == level, "correlation"].iloc[0]) for level in (0.0, 6.0))
    assert quiet > 0.6
    assert loud < quiet


def test_truncation_lowers_flow_and_leaves_volume_alone(measured):
    part = measured[(measured["noise_hu"] == 0) & (measured["tissue"] == "grey")].set_index(["map", "method"])
    share = part["bias"] / part["truth"]
    assert share["cbf", "csvd"] < -0.1
    assert abs(share["cbv", "csvd"]) < 0.35


def test_the_recipe_is_shorter_in_smoke_and_says_where_its_numbers_come_from():
    paper, smoke = errors.PerfusionRecipe.at("paper"), errors.PerfusionRecipe.at("smoke")
    assert smoke.scans < errors.PerfusionRecipe.at("demo").scans < paper.scans
    assert len(smoke.noise_hu) < len(paper.noise_hu)


def test_the_figure_of_maps_shows_all_panels_with_colour_bars(scan):
    truth = scan.truth
    z = int(truth["core"].sum(axis=(1, 2)).argmax())
    maps = {name: truth[name][z] for name in figures.SCALES}
    flat = (temporal_mip(scan.enhancement)[z], scan.dwi[z], scan.case.lesion[z], truth["core"][z], truth["penumbra"][z])
    curves = {"artery": (scan.times_s, scan.aif), "core": (scan.times_s, scan.enhancement[:, truth["core"]].mean(1))}
    spacing = scan.case.image.spacing[1:]
    figure = figures.perfusion_maps(
        scan.baseline[z], *flat, scan.case.brain[z], maps, maps, spacing_yx=spacing, curves=curves
    )
    pictures = [ax for ax in figure.axes if ax.images]
    assert len(pictures) == 12
    assert len(figure.axes) == 12 + len(figures.SCALES) + 2
    plt.close(figure)


def test_the_figure_of_errors_has_a_panel_a_map_and_tissue(measured):
    figure = figures.perfusion_errors(measured, ("grey", "core"))
    assert len(figure.axes) == 2 * len(figures.ERRORS)
    drawn = figure.axes[0].lines[1].get_ydata()
    part = measured[(measured["map"] == "cbf") & (measured["tissue"] == "grey") & (measured["method"] == "csvd")]
    np.testing.assert_allclose(drawn, 100 * part["bias"] / part["truth"])
    plt.close(figure)


def test_the_box_around_a_mask_has_its_margin():
    mask = np.zeros((20, 30), bool)
    mask[8:10, 2:20] = True
    assert figures.crop_to(mask, 6) == (slice(2, 16), slice(0, 26))
