"""Scores of masks: hand-worked shapes, identities, the table of empty masks, and MedPy and MONAI."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from strokelib import metrics
from strokelib.errors import DataError, ParameterError
from strokelib.metrics import surface

SPACING = (5.0, 1.2, 0.8)
OVERLAP = ("dice", "jaccard", "precision", "sensitivity")
DISTANCES = ("hd_mm", "hd95_mm", "hd95_max_directed_mm", "assd_mm")


def cube(z, y, x, shape=(8, 12, 14)):
    mask = np.zeros(shape, bool)
    mask[slice(*z), slice(*y), slice(*x)] = True
    return mask


def voxel(*index, shape=(8, 12, 14)):
    mask = np.zeros(shape, bool)
    mask[index] = True
    return mask


def ball(radius_mm, spacing, shape, offset_mm=None):
    grids = np.ogrid[tuple(slice(0, n) for n in shape)]
    offset_mm = offset_mm or (0,) * len(shape)
    middle = [(n - 1) / 2 * s + o for n, s, o in zip(shape, spacing, offset_mm, strict=True)]
    return sum((g * s - m) ** 2 for g, s, m in zip(grids, spacing, middle, strict=True)) <= radius_mm**2


def blobs(rng, shape=(14, 30, 33)):
    """Two overlapping smooth random masks with islands."""
    from scipy.ndimage import gaussian_filter

    base = gaussian_filter(rng.normal(size=shape), (1, 3, 3))
    other = base + 0.6 * gaussian_filter(rng.normal(size=shape), (1, 2, 2))
    return base > np.quantile(base, 0.9), other > np.quantile(other, 0.88)


def test_a_cube_moved_by_one_column_has_the_scores_worked_by_hand():
    # 2 x 4 x 4 voxels, all of them surface; 24 of 32 shared; the 8 of the outer column are one column (0.8 mm) away.
    found = metrics.segmentation_metrics(cube((2, 4), (3, 7), (5, 9)), cube((2, 4), (3, 7), (4, 8)), SPACING)
    volume_ml = 32 * 5.0 * 1.2 * 0.8 / 1000
    assert found == {
        "status": "ok",
        "dice": pytest.approx(0.75),
        "jaccard": pytest.approx(0.6),
        "precision": pytest.approx(0.75),
        "sensitivity": pytest.approx(0.75),
        "pred_volume_ml": pytest.approx(volume_ml),
        "truth_volume_ml": pytest.approx(volume_ml),
        "volume_difference_ml": 0.0,
        "absolute_volume_difference_ml": 0.0,
        "relative_volume_error": 0.0,
        "hd_mm": pytest.approx(0.8),
        "hd95_mm": pytest.approx(0.8),
        "hd95_max_directed_mm": pytest.approx(0.8),
        "assd_mm": pytest.approx(0.2),
        "surface_dice": 1.0,
    }


def test_precision_and_sensitivity_are_not_mixed_up_and_the_volume_difference_keeps_its_sign():
    small, large = cube((2, 4), (3, 7), (4, 6)), cube((2, 4), (3, 7), (4, 8))
    assert metrics.precision(small, large) == 1
    assert metrics.sensitivity(small, large) == 0.5
    one_ml = 5.0 * 1.2 * 0.8 / 1000
    assert metrics.volume_difference_ml(small, large, SPACING) == pytest.approx(-16 * one_ml)
    assert metrics.absolute_volume_difference_ml(small, large, SPACING) == pytest.approx(16 * one_ml)
    assert metrics.relative_volume_error(small, large) == 0.5
    assert metrics.relative_volume_error(large, small) == 1.0
    assert metrics.volume_ml(large, SPACING) == pytest.approx(32 * one_ml)


def test_the_two_conventions_of_hd95_differ_as_worked_by_hand():
    # A row of 10 voxels, and the same row with one island 8 mm away: the prediction's distances are ten 0 and one 8.
    truth = cube((3, 4), (5, 6), (0, 10), (8, 12, 21))
    pred = truth | voxel(3, 5, 19, shape=(8, 12, 21))
    distances = metrics.surface_distances(pred, truth, SPACING)
    assert sorted(distances.pred_to_truth_mm) == [0.0] * 10 + [pytest.approx(8.0)]
    assert metrics.hd_mm(distances) == pytest.approx(8.0)
    assert metrics.hd95_mm(distances, "pooled") == 0.0  # rank 19 of 0..20
    assert metrics.hd95_mm(distances, "max_directed") == pytest.approx(4.0)  # rank 9.5 of 0..10
    assert metrics.assd_mm(distances) == pytest.approx(8.0 / 21)
    assert metrics.hd95_mm(distances, percentile=100) == metrics.hd_mm(distances)


@pytest.mark.parametrize("index", [(0, 0, 0), (7, 11, 13), (2, 9, 4), (4, 6, 7)])
def test_two_single_voxels_are_as_far_apart_as_their_centres(index):
    distances = metrics.surface_distances(voxel(*index), voxel(4, 6, 7), SPACING)
    expected = math.dist(*(np.multiply(i, SPACING) for i in (index, (4, 6, 7))))
    assert [metrics.hd_mm(distances), metrics.hd95_mm(distances), metrics.assd_mm(distances)] == [
        pytest.approx(expected)
    ] * 3


def test_disjoint_masks_are_ok_with_no_overlap():
    found = metrics.segmentation_metrics(cube((0, 2), (0, 3), (0, 3)), cube((5, 7), (0, 3), (0, 3)), SPACING)
    assert found["status"] == "ok"
    assert [found[name] for name in OVERLAP] == [0.0] * 4
    assert found["hd_mm"] == pytest.approx(25.0)


@pytest.mark.parametrize("mask", [cube((1, 5), (2, 9), (3, 8)), voxel(0, 0, 0), np.ones((3, 4, 5), bool)])
def test_a_perfect_prediction_scores_best(mask):
    found = metrics.segmentation_metrics(mask, mask, SPACING)
    assert [found[name] for name in OVERLAP] == [1.0] * 4
    assert [found[name] for name in DISTANCES] == [0.0] * 4
    assert found["relative_volume_error"] == 0


def test_concentric_balls_are_apart_by_the_difference_of_their_radii():
    spacing, shape = (1.0, 0.5, 0.5), (50, 96, 96)
    inner, outer = ball(12, spacing, shape), ball(20, spacing, shape)
    found = metrics.segmentation_metrics(inner, outer, spacing)
    assert [found[name] for name in DISTANCES] == [pytest.approx(8, abs=0.6)] * 4
    assert found["truth_volume_ml"] == pytest.approx(4 / 3 * math.pi * 20**3 / 1000, rel=0.01)
    assert found["sensitivity"] == pytest.approx((12 / 20) ** 3, rel=0.01)


def test_a_moved_ball_is_away_by_its_shift():
    spacing, shape = (2.0, 1.0, 1.0), (30, 50, 60)
    moved = ball(14, spacing, shape, offset_mm=(0, 0, 6))
    distances = metrics.surface_distances(moved, ball(14, spacing, shape), spacing)
    assert metrics.hd_mm(distances) == pytest.approx(6, abs=1e-9)


def test_voxels_at_the_edge_of_the_image_are_surface():
    full = np.ones((5, 6, 7), bool)
    distances = metrics.surface_distances(full, voxel(2, 2, 3, shape=full.shape), (1, 1, 1))
    assert len(distances.pred_to_truth_mm) == 5 * 6 * 7 - 3 * 4 * 5
    assert distances.diagonal_mm == pytest.approx(math.sqrt(25 + 36 + 49))


EMPTIES = [
    # pred, truth, status, dice and jaccard, with isles, precision, sensitivity, RVE, distances, penalised
    (False, False, "both_empty", np.nan, 1.0, np.nan, np.nan, np.nan, np.nan, 0.0),
    (False, True, "missed", 0.0, 0.0, np.nan, 0.0, 1.0, np.nan, "diagonal"),
    (True, False, "false_alarm", 0.0, 0.0, 0.0, np.nan, np.nan, np.nan, "diagonal"),
]


@pytest.mark.parametrize("row", EMPTIES, ids=lambda row: row[2])
def test_empty_masks_follow_the_written_table(row):
    holds_pred, holds_truth, status, overlap, isles, precision, sensitivity, rve, distance, penalised = row
    some = cube((2, 4), (3, 7), (4, 8))
    pred, truth = some & holds_pred, some & holds_truth
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = metrics.segmentation_metrics(pred, truth, SPACING)
        named = metrics.segmentation_metrics(pred, truth, SPACING, empty="isles", undefined="penalised")
    diagonal = math.hypot(8 * 5.0, 12 * 1.2, 14 * 0.8)
    assert raw["status"] == named["status"] == metrics.surface_distances(pred, truth, SPACING).status == status
    for name, expected in (
        ("dice", overlap),
        ("jaccard", overlap),
        ("precision", precision),
        ("sensitivity", sensitivity),
        ("relative_volume_error", rve),
        *((name, distance) for name in DISTANCES),
    ):
        assert raw[name] == pytest.approx(expected, nan_ok=True), name
    assert named["dice"] == named["jaccard"] == isles
    assert metrics.dice(pred, truth, empty="isles") == metrics.jaccard(pred, truth, empty="isles") == isles
    assert metrics.dice(pred, truth) == pytest.approx(overlap, nan_ok=True)
    expected = diagonal if penalised == "diagonal" else penalised
    assert [named[name] for name in DISTANCES] == [pytest.approx(expected)] * 4
    assert raw["volume_difference_ml"] == pytest.approx((holds_pred - holds_truth) * 32 * 4.8 / 1000)


def test_each_single_score_equals_its_place_in_the_whole():
    pred, truth = blobs(np.random.default_rng(5))
    whole = metrics.segmentation_metrics(pred, truth, SPACING)
    distances = metrics.surface_distances(pred, truth, SPACING)
    for name in (*OVERLAP, "relative_volume_error"):
        assert getattr(metrics, name)(pred, truth) == whole[name]
    for name in ("volume_difference_ml", "absolute_volume_difference_ml"):
        assert getattr(metrics, name)(pred, truth, SPACING) == pytest.approx(whole[name])
    for name in ("hd_mm", "hd95_mm", "assd_mm"):
        assert getattr(metrics, name)(distances) == whole[name]
    assert metrics.hd95_mm(distances, "max_directed") == whole["hd95_max_directed_mm"]
    assert metrics.volume_ml(pred, SPACING) == whole["pred_volume_ml"]
    assert metrics.volume_ml(truth, SPACING) == whole["truth_volume_ml"]


def pairs(max_side=6):
    shapes = st.tuples(*[st.integers(1, max_side)] * 3)
    return shapes.flatmap(lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape)))


@settings(max_examples=150, deadline=None)
@given(pairs(), st.tuples(*[st.floats(0.3, 7)] * 3))
def test_scores_keep_their_identities(pair, spacing):
    pred, truth = pair
    forth, back = (metrics.segmentation_metrics(*p, spacing) for p in ((pred, truth), (truth, pred)))
    for name in ("dice", "jaccard", "absolute_volume_difference_ml", *DISTANCES):
        assert forth[name] == pytest.approx(back[name], nan_ok=True)
    assert forth["precision"] == pytest.approx(back["sensitivity"], nan_ok=True)
    assert forth["volume_difference_ml"] == pytest.approx(-back["volume_difference_ml"])
    assert forth["jaccard"] == pytest.approx(forth["dice"] / (2 - forth["dice"]), nan_ok=True)
    if forth["status"] == "ok":
        assert 0 <= forth["hd95_mm"] <= forth["hd_mm"] + 1e-12
        assert 0 <= forth["hd95_max_directed_mm"] <= forth["hd_mm"] + 1e-12
        assert 0 <= forth["assd_mm"] <= forth["hd_mm"] + 1e-12
        assert forth["hd_mm"] <= metrics.surface_distances(pred, truth, spacing).diagonal_mm


@settings(max_examples=60, deadline=None)
@given(pairs(), st.integers(0, 2), st.floats(0.2, 5))
def test_scores_do_not_see_mirroring_margins_or_the_unit_of_length(pair, axis, scale):
    plain = metrics.segmentation_metrics(*pair, SPACING)
    mirrored = metrics.segmentation_metrics(*(np.flip(mask, axis) for mask in pair), SPACING)
    framed = metrics.segmentation_metrics(*(np.pad(mask, ((1, 3), (2, 0), (0, 4))) for mask in pair), SPACING)
    scaled = metrics.segmentation_metrics(*pair, np.multiply(SPACING, scale))
    for name in (*OVERLAP, *DISTANCES):
        assert mirrored[name] == pytest.approx(plain[name], nan_ok=True)
        assert framed[name] == pytest.approx(plain[name], nan_ok=True)
        assert scaled[name] == pytest.approx(plain[name] * (scale if name in DISTANCES else 1), nan_ok=True)


@pytest.mark.parametrize("voxels_per_point", [0, math.inf], ids=["tree", "transform"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.2, 0.8), (0.7, 3.0, 2.0)])
@pytest.mark.parametrize("seed", range(4))
def test_overlap_and_distances_equal_medpy_and_monai(seed, spacing, voxels_per_point, monkeypatch):
    medpy = pytest.importorskip("medpy.metric.binary")
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(surface, "VOXELS_PER_POINT", voxels_per_point)
    pred, truth = blobs(np.random.default_rng(seed))
    found = metrics.segmentation_metrics(pred, truth, spacing)
    assert found["dice"] == pytest.approx(medpy.dc(pred, truth), abs=1e-12)
    assert found["jaccard"] == pytest.approx(medpy.jc(pred, truth), abs=1e-12)
    assert found["precision"] == pytest.approx(medpy.precision(pred, truth), abs=1e-12)
    assert found["sensitivity"] == pytest.approx(medpy.recall(pred, truth), abs=1e-12)
    assert found["hd_mm"] == pytest.approx(medpy.hd(pred, truth, spacing), abs=1e-6)
    assert found["hd95_mm"] == pytest.approx(medpy.hd95(pred, truth, spacing), abs=1e-6)
    assert found["assd_mm"] == pytest.approx(medpy.assd(pred, truth, spacing), abs=1e-6)
    batches = [torch.from_numpy(mask)[None, None].float() for mask in (pred, truth)]
    hd95 = monai.compute_hausdorff_distance(*batches, include_background=True, percentile=95, spacing=spacing)
    assd = monai.compute_average_surface_distance(*batches, include_background=True, symmetric=True, spacing=spacing)
    assert found["hd95_max_directed_mm"] == pytest.approx(float(hd95), rel=1e-6)  # MONAI computes in float32
    assert found["assd_mm"] == pytest.approx(float(assd), rel=1e-6)


def test_both_ways_to_the_nearest_surface_are_taken_and_agree(monkeypatch):
    taken = []
    for name in ("_by_tree", "_by_transform"):
        real = getattr(surface, name)
        monkeypatch.setattr(surface, name, lambda *a, real=real, name=name: (taken.append(name), real(*a))[1])
    compact = [ball(20, SPACING, (16, 60, 80), offset_mm=(0, o, o)) for o in (0, 3)]
    metrics.surface_distances(*compact, SPACING)
    assert set(taken) == {"_by_transform"}
    taken.clear()
    scattered = [voxel(0, 0, 0, shape=(16, 60, 80)), voxel(15, 59, 79, shape=(16, 60, 80))]
    metrics.surface_distances(*scattered, SPACING)
    assert set(taken) == {"_by_tree"}


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, "list", "fortran", "stepped"])
def test_any_way_to_store_a_binary_mask_gives_the_same_scores(kind):
    pred, truth = blobs(np.random.default_rng(1))
    make = {
        "list": lambda m: m.tolist(),
        "fortran": np.asfortranarray,
        "stepped": lambda m: np.repeat(m, 2, axis=2)[:, :, ::2],
    }.get(kind, lambda m: m.astype(kind))
    expected = metrics.segmentation_metrics(pred, truth, SPACING)
    before = make(pred)
    kept = np.array(before)
    assert metrics.segmentation_metrics(before, make(truth), SPACING) == expected
    assert np.array_equal(before, kept)


def test_the_surface_of_a_slice_is_its_outline():
    pred, truth = (mask[6] for mask in blobs(np.random.default_rng(2)))
    disc = ball(6, (1.2, 0.8), (30, 33))
    assert len(metrics.surface_distances(disc, disc, (1.2, 0.8)).both_mm) < disc.sum()
    medpy = pytest.importorskip("medpy.metric.binary")
    flat = metrics.segmentation_metrics(pred, truth, (1.2, 0.8))
    assert flat["hd95_mm"] == pytest.approx(medpy.hd95(pred, truth, (1.2, 0.8)), abs=1e-6)
    assert flat["assd_mm"] == pytest.approx(medpy.assd(pred, truth, (1.2, 0.8)), abs=1e-6)


def test_every_voxel_of_a_volume_of_one_slice_is_surface():
    disc = ball(6, (1.2, 0.8), (30, 33))
    assert len(metrics.surface_distances(disc[None], disc[None], SPACING).pred_to_truth_mm) == disc.sum()


@pytest.mark.parametrize(
    ("pred", "truth", "word"),
    [
        (np.zeros((3, 4, 5)), np.zeros((3, 5, 4)), "shape"),
        (np.full((3, 4, 5), 2, np.uint8), np.zeros((3, 4, 5)), "other values"),
        (np.full((3, 4, 5), 0.5), np.zeros((3, 4, 5)), "other values"),
        (np.full((3, 4, 5), np.nan), np.zeros((3, 4, 5)), "other values"),
        (np.zeros((1, 3, 4, 5)), np.zeros((1, 3, 4, 5)), "shape"),
        (np.zeros((0, 4, 5)), np.zeros((0, 4, 5)), "shape"),
    ],
)
@pytest.mark.parametrize("score", ["dice", "precision", "surface_distances", "segmentation_metrics"])
def test_masks_that_do_not_match_or_are_not_binary_are_refused(score, pred, truth, word):
    more = (SPACING,) if score in ("surface_distances", "segmentation_metrics") else ()
    with pytest.raises(DataError, match=word):
        getattr(metrics, score)(pred, truth, *more)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, -1, 1), (1, np.nan, 1), (1, 1, np.inf), 1.0, None])
def test_a_spacing_that_is_no_spacing_is_refused(spacing):
    some = voxel(1, 1, 1)
    with pytest.raises(ParameterError, match="spacing"):
        metrics.segmentation_metrics(some, some, spacing)


def test_spacing_has_no_default():
    some = voxel(1, 1, 1)
    for score in (metrics.surface_distances, metrics.segmentation_metrics, metrics.volume_difference_ml):
        with pytest.raises(TypeError, match="spacing"):
            score(some, some)


def test_a_convention_that_does_not_exist_is_refused():
    some = voxel(1, 1, 1)
    distances = metrics.surface_distances(some, some, SPACING)
    for call in (
        lambda: metrics.dice(some, some, empty="one"),
        lambda: metrics.hd95_mm(distances, "area"),
        lambda: metrics.hd95_mm(distances, percentile=950),
        lambda: metrics.assd_mm(distances, undefined="zero"),
        lambda: metrics.segmentation_metrics(some, some, SPACING, undefined="inf"),
    ):
        with pytest.raises(ParameterError):
            call()


def per_case(**policies):
    some, moved, none = cube((2, 4), (3, 7), (4, 8)), cube((2, 4), (3, 7), (5, 9)), cube((0, 0), (0, 0), (0, 0))
    cases = [(some, some), (moved, some), (none, some), (some, none), (none, none), (none, none)]
    rows = [metrics.segmentation_metrics(*pair, SPACING, **policies) for pair in cases]
    return pd.DataFrame(rows).assign(case=[f"c{i}" for i in range(len(rows))])


def test_a_summary_counts_the_empty_cases_and_names_each_mean():
    row = metrics.summarise(per_case()).loc["dice"]
    assert row["mean"] == pytest.approx((1 + 0.75 + 0 + 0) / 4)
    assert row["sd"] == pytest.approx(np.std([1, 0.75, 0, 0], ddof=1))
    assert row["median"] == pytest.approx(0.375)
    assert row["lesion_positive_mean"] == pytest.approx((1 + 0.75 + 0) / 3)
    assert row["all_case_mean"] == pytest.approx((1 + 0.75 + 0 + 0 + 1 + 1) / 6)
    counts = row[["n", "n_cases", "n_both_empty", "n_missed", "n_false_alarm"]]
    assert counts.tolist() == [4, 6, 2, 1, 1]


def test_a_summary_never_averages_distances_over_a_miss_in_silence():
    raw, penalised = metrics.summarise(per_case()), metrics.summarise(per_case(undefined="penalised"))
    diagonal = math.hypot(40, 14.4, 11.2)
    assert raw.loc["hd_mm", "n"] == 2
    assert math.isnan(raw.loc["hd_mm", "lesion_positive_mean"])
    assert math.isnan(raw.loc["hd_mm", "all_case_mean"])
    assert penalised.loc["hd_mm", "lesion_positive_mean"] == pytest.approx((0 + 0.8 + diagonal) / 3)
    assert penalised.loc["hd_mm", "all_case_mean"] == pytest.approx((0 + 0.8 + 2 * diagonal) / 6)


def test_the_all_case_mean_of_raw_scores_is_the_mean_under_the_isles_convention():
    raw, isles = metrics.summarise(per_case()), metrics.summarise(per_case(empty="isles"))
    for name in ("dice", "jaccard"):
        assert raw.loc[name, "all_case_mean"] == isles.loc[name, "all_case_mean"] == isles.loc[name, "mean"]


@pytest.mark.parametrize("frame", [pd.DataFrame({"dice": [1.0]}), pd.DataFrame({"dice": [1.0], "status": ["fine"]})])
def test_a_summary_of_rows_without_a_known_status_is_refused(frame):
    with pytest.raises(DataError, match="status"):
        metrics.summarise(frame)
