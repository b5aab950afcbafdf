"""Rendered CT perfusion: reproducible, true to the dilution equation and to what it says of itself."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from strokelib.data.perfusion import BRAIN_DENSITY, HAEMATOCRIT, perfusion_maps
from strokelib.data.phantom import cohorts, embedded, perfusion, perfusion_flow, perfusion_input, perfusion_series
from strokelib.data.phantom.anatomy import BRAIN
from strokelib.data.phantom.distances import signed_distance
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.perfusion_slab import at_dwi, head_name
from strokelib.data.phantom.perfusion_vessels import MAPS, distance_mm, vessel_maps
from strokelib.errors import DataError, ParameterError
from strokelib.settings import Profile

NAME, TWIN = "isles2018-0048-1", "isles2018-0048-2"


@pytest.fixture(scope="module")
def scan():
    return perfusion.render_ctp(NAME)


@pytest.fixture(scope="module")
def still():
    """The same scan without noise."""
    return perfusion.render_ctp(NAME, noise=0.0)


@pytest.fixture(scope="module")
def bolus():
    return perfusion_input.draw_bolus(5)


def test_the_same_name_gives_the_same_bytes(scan):
    again = perfusion.render_ctp(NAME)
    assert again.series.tobytes() == scan.series.tobytes()
    assert again.facts == scan.facts
    for name, array in scan.truth.items():
        assert again.truth[name].tobytes() == array.tobytes()


def test_a_scan_is_what_the_cohort_has(scan):
    frames, slices, height, width = scan.series.shape
    assert 43 <= frames <= 64
    assert 2 <= slices <= 22
    assert (height, width) == (112, 96)
    assert scan.series.dtype == np.int16
    assert scan.step_s == pytest.approx(1.0, abs=0.1)
    assert scan.case.image.spacing == pytest.approx((5.0, 2.0, 2.0))
    assert scan.case.lesion.shape == scan.dwi.shape == scan.series.shape[1:]


def test_the_plain_case_of_the_cohort_is_the_slab_with_the_lesion_of_the_dwi(scan):
    plain = embedded.render(NAME)
    np.testing.assert_array_equal(plain.image.array, scan.case.image.array)
    np.testing.assert_array_equal(plain.lesion, scan.case.lesion)
    assert plain.facts["slab"]["number"] == 1
    native = embedded.plan(NAME).slab.cut(embedded.make_grid("native", embedded.plan(NAME).pose))
    assert native.shape == (len(plain.lesion), 512, 512)


def test_two_slabs_are_neighbours_in_one_head_with_noise_of_their_own(scan):
    first, second = embedded.plan(NAME), embedded.plan(TWIN)
    assert head_name(NAME) == head_name(TWIN) == "isles2018-0048"
    assert first.head == second.head
    assert first.slab.high_mm == second.slab.low_mm
    other = perfusion.render_ctp(TWIN)
    assert other.case.image.affine[2, 3] == pytest.approx(scan.case.image.affine[2, 3] + 5.0 * len(scan.baseline))
    both = scan.case.brain & other.case.brain
    noise = [(x.series[0].astype(float) - x.baseline)[both] for x in (scan, other)]
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.1


def test_tissue_curves_obey_the_dilution_equation(bolus):
    table, t = perfusion_input.curve_table(bolus), np.arange(len(bolus.artery)) * bolus.fine_s
    wanted = (np.array([4.0]), np.array([0.7]), np.array([0]), np.array([2.0]))
    index, transit, wide, late = perfusion_input.nodes(bolus, *wanted)
    factor = (1 - HAEMATOCRIT[0]) / (1 - HAEMATOCRIT[1]) / BRAIN_DENSITY
    local = bolus.local_input(late[0], wide[0])
    kept = np.exp(-t / transit[0])
    by_hand = [sum(local[j] * kept[i - j] for j in range(i + 1)) for i in range(len(t))]
    by_hand = np.array(by_hand) * bolus.fine_s / (6000 * factor)
    np.testing.assert_allclose(table.curves[index[0]], by_hand[:: perfusion_input.FINER], atol=0.06 * by_hand.max())


def test_the_area_of_a_tissue_curve_is_its_volume(bolus):
    """At 1 mL/100 g/min volume in mL/100 g is transit time over 60 s."""
    long = dataclasses.replace(
        bolus, frames=400, artery=np.append(bolus.artery, np.zeros(400 * perfusion_input.FINER - len(bolus.artery)))
    )
    table = perfusion_input.curve_table(long)
    place = tuple(np.array([v]) for v in (5.0, 1.0, 1, 3.0))
    index, transit, _, _ = perfusion_input.nodes(long, *place)
    factor = (1 - HAEMATOCRIT[0]) / (1 - HAEMATOCRIT[1]) / BRAIN_DENSITY
    area = table.curves[index[0]].sum() / long.artery[:: perfusion_input.FINER].sum()
    assert 100 * factor * area == pytest.approx(transit[0] / 60, rel=0.03)


def test_the_residue_begins_at_one_and_its_integral_is_the_transit_time():
    t = np.linspace(0, 200, 40_001)
    for shape in perfusion_input.SHAPES:
        kept = perfusion_input.residue(t, 6.0, shape)
        assert kept[0] == 1
        assert (np.diff(kept) <= 0).all()
        assert np.trapezoid(kept, t) == pytest.approx(6.0, rel=1e-3)


def test_the_vein_follows_the_artery_with_the_same_area(bolus):
    assert bolus.vein.argmax() > bolus.artery.argmax()
    assert bolus.vein.max() < bolus.artery.max()
    assert bolus.vein.sum() == pytest.approx(bolus.artery.sum(), rel=0.15)


def test_flow_is_that_of_its_tissue_and_falls_from_normal_over_penumbra_to_core(scan):
    truth, solid = scan.truth, scan.case.brain
    normal = solid & ~truth["penumbra"]
    grey, white = (truth["cbf"][normal & (truth[name] > 0.9)].mean() for name in ("grey", "white"))
    assert grey == pytest.approx(KNOBS.ctp_grey_flow, rel=0.12)
    assert white == pytest.approx(KNOBS.ctp_white_flow, rel=0.15)
    share = truth["cbf"] / np.maximum(truth["healthy_cbf"], 1)
    core, rest = truth["core"], truth["penumbra"] & ~truth["core"]
    assert share[core].max() < 0.3
    assert share[rest].mean() > share[core].mean() + 0.15
    assert share[normal & (truth["grey"] + truth["white"] > 0.9)].mean() > share[rest].mean() + 0.2


def test_late_tissue_holds_the_core_and_is_later_than_six_seconds(scan):
    truth = scan.truth
    assert (truth["penumbra"] | ~truth["core"]).all()
    rest = truth["penumbra"] & ~truth["core"]
    assert truth["tmax_s"][rest].min() > 6.0
    assert truth["penumbra"].sum() > truth["core"].sum() > 0
    normal = scan.case.brain & (truth["grey"] > 0.9) & ~truth["penumbra"]
    assert 1.0 < np.median(truth["tmax_s"][normal]) < 4.0


def test_transit_time_is_volume_over_flow_everywhere(scan):
    truth = scan.truth
    some = truth["cbf"] > 1
    np.testing.assert_allclose(truth["mtt_s"][some], 60 * truth["cbv"][some] / truth["cbf"][some], rtol=1e-5)


def test_late_tissue_stays_within_the_territory_and_the_core():
    planned = embedded.plan(NAME)
    core = perfusion_flow.core_on_brain(planned.infarct)
    allowed = perfusion_flow.supplied(core, planned.infarct.volume_ml)
    depth = perfusion_flow.ischaemia(planned.head.seed, planned.infarct)[0].numpy()
    assert core.any()
    assert allowed[core].all()
    assert (depth[core & ndimage.binary_erosion(core)] > 0).all()
    far = signed_distance(allowed, 4) < -1.5
    assert (depth[far] < 0).all()


def seen_share(scan):
    """Share of flow that truncated deconvolution finds of one ordinary voxel, without the renderer's table."""
    bolus = perfusion_input.draw_bolus(scan.case.facts["seed"])
    local = bolus.local_input(KNOBS.ctp_delay_s, KNOBS.ctp_dispersion_s)
    factor = (1 - HAEMATOCRIT[0]) / (1 - HAEMATOCRIT[1]) / BRAIN_DENSITY
    t = np.arange(len(local)) * bolus.fine_s
    curve = np.convolve(local, 50 / (6000 * factor) * np.exp(-t / 4.2))[: len(t)] * bolus.fine_s
    series = curve[:: perfusion_input.FINER].reshape(-1, 1, 1, 1)
    one = np.ones((1, 1, 1), bool)
    return perfusion_maps(series, scan.truth["artery"], scan.step_s, one, threshold=0.02).cbf.item() / 50


def test_known_maps_come_back_from_a_scan_without_noise(still):
    truth, case = still.truth, still.case
    found = perfusion_maps(still.enhancement, truth["artery"], still.step_s, case.brain, threshold=0.02)
    pure = case.brain & (truth["vessel"] < 0.02) & ~truth["penumbra"] & (truth["grey"] + truth["white"] > 0.95)
    assert found.cbv[pure].mean() == pytest.approx(truth["cbv"][pure].mean(), rel=0.15)
    assert found.cbf[pure].mean() / truth["cbf"][pure].mean() == pytest.approx(seen_share(still), abs=0.12)
    assert np.corrcoef(found.cbf[pure], truth["cbf"][pure])[0, 1] > 0.8
    late = case.brain & truth["penumbra"] & (truth["vessel"] < 0.02)
    assert found.tmax_s[late].mean() > found.tmax_s[pure].mean() + 3


def test_noise_has_the_size_that_the_facts_state(scan, still):
    inner = np.stack([ndimage.binary_erosion(part, iterations=6) for part in scan.case.brain])
    before = scan.facts["frames_before"]
    apart = scan.series[:before, inner].astype(float) - still.series[:before, inner]
    assert apart.std() == pytest.approx(scan.facts["noise_sd_hu"], rel=0.05)


def test_noise_is_correlated_in_plane_and_not_between_slices_or_frames():
    noise = perfusion_series.noise(1, 1, (6, 3, 64, 64), 1.0)
    assert noise.std() == pytest.approx(1, rel=0.05)
    assert np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1] > 0.4
    for a, b in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05


def test_a_motion_to_the_right_moves_a_ramp_by_its_slope():
    slope = np.zeros((2, 1, 5, 7), np.float32)
    slope[1] = 3.0
    np.testing.assert_allclose(perfusion_series.moved(slope, np.array([0.0, 0.5, 0.0]), (2.0, 2.0)), -1.5)
    turned = perfusion_series.moved(slope, np.array([0.0, 0.0, 1.0]), (2.0, 2.0))[0]
    assert turned[0, 0] == pytest.approx(-turned[4, 0], rel=1e-5)
    assert turned[2, 3] == 0


def test_mixing_adds_the_curves_of_the_parts():
    curves = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    found = perfusion_series.mixed(np.array([[0.5, 2.0], [1.0, 0.0]], np.float32), np.array([[0, 2], [1, 1]]), curves)
    np.testing.assert_allclose(found, [0.5 * curves[0] + 2 * curves[2], curves[1]])


def test_the_measured_curves_are_near_the_pure_ones_and_not_the_same(scan):
    truth, (z, y, x) = scan.truth, np.array(scan.facts["artery_voxels"]).T
    assert scan.aif.argmax() == pytest.approx(truth["artery"].argmax(), abs=3)
    assert scan.aif.sum() == pytest.approx(scan.vof.sum(), rel=1e-3)
    assert not np.allclose(scan.aif, truth["artery"], atol=5)
    assert (truth["vessel"][z, y, x] > 0.1).all()
    normal_x = perfusion._side_of(scan.case)[z, y, x]
    assert (normal_x * {"left": -1, "right": 1}[scan.case.facts["side"]] <= 0).all()


def test_vessels_are_as_far_from_a_line_as_geometry_says():
    start, end = np.zeros(3), np.array([10.0, 0, 0])
    points = np.array([[5.0, 3, 0], [-3.0, 0, 4], [12.0, 0, 0]])
    np.testing.assert_allclose(distance_mm(points, start, end), [3, 5, 2])
    maps = vessel_maps()
    assert maps.shape == (2, *MAPS.shape)
    assert 0 <= float(maps.min()) < 0.01 < 0.95 < float(maps.max()) <= 1


def test_the_dwi_shows_another_infarct_than_the_ct_and_the_reader_draws_a_third(scan):
    planned = embedded.plan(NAME)
    masks = [planned.infarct.maps[0], at_dwi(planned.head.seed, planned.infarct), planned.infarct.maps[2]]
    assert all(not torch.equal(a, b) for a, b in zip(masks, [*masks[1:], masks[0]], strict=True))
    bright = scan.dwi[scan.truth["dwi_lesion"]].mean()
    normal = scan.case.brain & (scan.truth["white"] > 0.9) & ~scan.truth["dwi_lesion"]
    assert bright > 1.12 * scan.dwi[normal].mean()


def test_the_ceiling_is_below_one_and_the_reader_alone_is_above_the_maps(scan):
    row = perfusion.reader_ceiling([scan])[0]
    assert 0.1 < row["cbf"] <= row["dwi"] < 1
    assert 0.1 < row["core"] < 1
    perfect = dataclasses.replace(scan, case=dataclasses.replace(scan.case, lesion=scan.truth["core"]))
    assert perfusion.reader_ceiling([perfect])[0]["core"] == 1


def test_a_scan_survives_the_disk(tmp_path, scan):
    loaded = perfusion.load_ctp(perfusion.save_ctp(scan, tmp_path / "scan.safetensors"))
    for name in perfusion.ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(scan, name))
    assert loaded.facts == scan.facts
    assert loaded.case.facts == scan.case.facts
    assert set(loaded.truth) == set(scan.truth)
    np.testing.assert_array_equal(loaded.case.truth["tissue"], scan.case.truth["tissue"])
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "scan.safetensors").read_bytes()[:500])
    with pytest.raises(DataError, match=r"^half.safetensors") as caught:
        perfusion.load_ctp(tmp_path / "half.safetensors")
    assert str(tmp_path) not in str(caught.value)


def test_other_cohorts_and_grids_are_refused():
    with pytest.raises(ParameterError, match="isles2018"):
        perfusion.render_ctp("aisd-0001")
    with pytest.raises(ParameterError, match="grid"):
        perfusion.render_ctp(NAME, "native")
    with pytest.raises(ParameterError, match="case"):
        perfusion.render_ctp("isles2018-9999-1")


def test_every_slab_lies_in_the_head_and_holds_some_infarct():
    for part in cohorts.SPLITS:
        for name in cohorts.case_ids("isles2018", part, Profile.SMOKE):
            planned = embedded.plan(name)
            assert 2 <= planned.slab.slices <= 22
            assert -50 <= planned.slab.low_mm < planned.slab.high_mm <= 65
            assert perfusion_flow.core_on_brain(planned.infarct).shape == BRAIN.shape
