"""Reference rows of CT perfusion: low flow and late arrival, beside the three of any CT."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from strokelib.errors import DataError
from strokelib.methods import perfusion_rows, reference_rows
from strokelib.methods.perfusion_rows import (
    PERFUSION_REFERENCES,
    late_scores,
    low_flow_scores,
    perfusion_reference_metrics,
)
from strokelib.methods.reference_rows import REFERENCES, TITLES, fit_references, reference_metrics
from strokelib.metrics import dice

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "pseudo_dwi"))
import made_cases

TRAIN = [made_cases.scan(i) for i in range(4)]
VAL = [made_cases.scan(i, "val") for i in range(4, 6)]
TEST = [made_cases.scan(i, "test") for i in range(6, 9)]


def facts_of(out):
    return json.loads(next(out.glob("references-*/thresholds.json")).read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("references")
    return perfusion_reference_metrics(TRAIN, VAL, TEST, out=out), out


def test_there_are_five_rows_each_with_a_title_a_threshold_and_a_unit(found):
    frame, out = found
    assert (*REFERENCES, "cbf_threshold", "tmax_threshold") == PERFUSION_REFERENCES
    assert tuple(dict.fromkeys(frame["method"])) == PERFUSION_REFERENCES
    assert all(TITLES[key] for key in PERFUSION_REFERENCES)
    assert set(facts_of(out)) == set(PERFUSION_REFERENCES)
    assert facts_of(out)["tmax_threshold"]["unit"] == "s"


def test_every_row_scores_every_test_case_once(found):
    rows = found[0].query("metric == 'dice'")
    assert sorted(zip(rows["method"], rows["case"], strict=True)) == sorted(
        (key, case.id) for key in PERFUSION_REFERENCES for case in TEST
    )


@pytest.mark.parametrize("row", ["tmax_threshold", "cbf_threshold"])
def test_a_made_late_region_of_low_flow_is_found_by_its_threshold(row, found):
    frame, out = found
    values = frame[(frame["method"] == row) & (frame["metric"] == "dice")]["value"]
    assert values.min() > 0.8
    threshold = facts_of(out)[row]["threshold"]
    low, high = {"tmax_threshold": (2.5, 8.5), "cbf_threshold": (-0.9, -0.35)}[row]
    assert low < threshold < high


def test_arrival_is_scored_in_seconds_smoothed_within_the_brain():
    scan = made_cases.scan(0)
    scores = late_scores(scan)
    assert scores.dtype == np.float32
    assert np.isneginf(scores[~scan.brain]).all()
    assert np.median(scores[scan.lesion]) == pytest.approx(9, abs=1.5)
    well = scan.brain & ~scan.lesion
    assert np.median(scores[well]) == pytest.approx(2, abs=0.3)
    even = dataclasses.replace(scan, channels=scan.channels | {"tmax_s": np.full(made_cases.SHAPE, 4.0, np.float32)})
    np.testing.assert_allclose(late_scores(even)[scan.brain], 4.0, rtol=1e-4)


def test_flow_is_scored_relative_to_the_scan_s_own_median():
    scan = made_cases.scan(1)
    scores = low_flow_scores(scan)
    twice = dataclasses.replace(scan, channels=scan.channels | {"cbf": 2 * scan.channels["cbf"]})
    np.testing.assert_allclose(low_flow_scores(twice), scores, rtol=1e-5)
    well = scan.brain & ~scan.lesion
    assert np.median(scores[well]) == pytest.approx(-1, abs=0.1)
    assert np.median(scores[scan.lesion]) == pytest.approx(-0.3, abs=0.15)


def test_places_without_flow_are_no_candidates_also_where_there_is_none_at_all():
    scan = made_cases.scan(1)
    flow = scan.channels["cbf"].copy()
    flow[:, :, :16] = 0
    scores = low_flow_scores(dataclasses.replace(scan, channels=scan.channels | {"cbf": flow}))
    assert np.isneginf(scores[:, :, :16]).all()
    assert np.isfinite(scores[:, :, 16:][scan.brain[:, :, 16:]]).all()
    none = low_flow_scores(dataclasses.replace(scan, channels=scan.channels | {"cbf": 0 * flow}))
    assert np.isneginf(none).all()


@pytest.mark.parametrize(("scores", "name"), [(low_flow_scores, "cbf"), (late_scores, "tmax_s")])
def test_a_scan_without_the_map_or_without_a_brain_mask_is_refused_in_words(scores, name):
    scan = made_cases.scan(2)
    with pytest.raises(DataError, match=rf"scan-2(.|\n)*no brain mask(.|\n)*{name}"):
        scores(dataclasses.replace(scan, brain=None))
    rest = {key: value for key, value in scan.channels.items() if key != name}
    with pytest.raises(DataError, match=rf"scan-2(.|\n)*{name} and a brain mask"):
        scores(dataclasses.replace(scan, channels=rest))


def test_a_test_case_among_those_that_choose_the_thresholds_is_refused(tmp_path):
    for train, val in ((TRAIN, TEST), ([*TRAIN, TEST[0]], VAL)):
        with pytest.raises(DataError, match=r"test cases: \['scan-6'"):
            perfusion_reference_metrics(train, val, TEST, out=tmp_path)


def test_the_thresholds_do_not_depend_on_the_test_cases(found, tmp_path):
    other = [made_cases.scan(9, "test", lesion=False), made_cases.scan(10, "test")]
    perfusion_reference_metrics(TRAIN, VAL, other, out=tmp_path)
    assert facts_of(tmp_path) == facts_of(found[1])


def test_the_rows_are_computed_once(found, monkeypatch):
    frame, out = found
    monkeypatch.setattr(reference_rows, "fit_references", None)
    pd.testing.assert_frame_equal(perfusion_reference_metrics(TRAIN, VAL, TEST, out=out), frame)


def test_the_rows_are_computed_again_when_what_scores_them_changes(tmp_path, monkeypatch):
    perfusion_reference_metrics(TRAIN, VAL, TEST, out=tmp_path)
    monkeypatch.setattr(perfusion_rows, "VERSION", 1000)
    perfusion_reference_metrics(TRAIN, VAL, TEST, out=tmp_path)
    assert len([p for p in tmp_path.glob("references-*") if p.is_dir()]) == 2


# The further rows of any reference


def depth(case):
    return np.where(case.brain, np.arange(made_cases.SHAPE[0])[:, None, None], -np.inf).astype(np.float32)


def test_without_further_rows_there_are_the_three_in_the_folder_they_had_before(tmp_path):
    plain = reference_metrics(TRAIN, VAL, TEST, out=tmp_path)
    assert tuple(dict.fromkeys(plain["method"])) == REFERENCES
    same = reference_metrics(TRAIN, VAL, TEST, out=tmp_path, further={}, further_version=3)
    pd.testing.assert_frame_equal(plain, same)
    assert len([p for p in tmp_path.glob("references-*") if p.is_dir()]) == 1


def test_further_rows_stand_after_the_three_which_stay_as_they_are():
    plain = fit_references(TRAIN, VAL)
    more = fit_references(TRAIN, VAL, {"depth": (depth, "slices")})
    assert tuple(more) == (*REFERENCES, "depth")
    assert {key: more[key].threshold for key in REFERENCES} == {key: plain[key].threshold for key in REFERENCES}
    reference = more["depth"]
    assert (reference.key, reference.unit, reference.scores) == ("depth", "slices", depth)
    masks = reference.predict(TEST)
    assert set(masks) == {case.id for case in TEST}
    np.testing.assert_array_equal(masks["scan-6"], depth(TEST[0]) > reference.threshold)


def test_the_three_of_any_ct_find_a_dark_disc_in_a_perfusion_scan_too(found):
    means = found[0].query("metric == 'dice'").groupby("method")["value"].mean()
    assert means["mirror_difference"] > 0.5
    assert means["tmax_threshold"] > means["lesion_frequency"]


def test_the_scores_of_a_row_are_those_of_its_masks(found):
    references = fit_references(TRAIN, VAL, {"tmax_threshold": (late_scores, "s")})
    mask = references["tmax_threshold"].predict(TEST)["scan-7"]
    frame = found[0].set_index(["method", "case", "metric"])["value"]
    assert frame["tmax_threshold", "scan-7", "dice"] == pytest.approx(dice(mask, TEST[1].lesion))
