"""Fingerprints: what is counted, what is drawn, nnU-Net's file, and the normalisation."""

import dataclasses
import json

import numpy as np
import pytest

from strokelib.data.cases import Case, Volume
from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.fingerprint import (
    Fingerprint,
    Intensities,
    Normalisation,
    fingerprint,
    images_hu,
    load_fingerprint,
)

SPACING = (5.0, 4.0, 4.0)


def _head(seed=0, shape=(6, 8, 10), mean=30.0, brain=None):
    """Noise; the brain is a box of 4 x 6 x 8 voxels in it."""
    image = np.random.default_rng(seed).normal(mean, 5, shape).astype(np.float32)
    mask = np.zeros(shape, bool)
    mask[1:5, 1:7, 1:9] = True
    return image, mask if brain is None else brain, SPACING


def _case(seed=0, **more):
    image, brain, spacing = _head(seed)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    more = {"brain": brain, **more}
    return Case(f"head-{seed}", f"p{seed}", "made", "train", Volume(image.astype(np.int16), affine), **more)


def test_statistics_are_those_of_the_voxels_by_hand():
    found = Intensities.of(np.arange(101.0))
    assert dataclasses.asdict(found) == pytest.approx(
        {
            "mean": 50.0,
            "median": 50.0,
            "std": (850.0) ** 0.5,
            "min": 0.0,
            "max": 100.0,
            "percentile_00_5": 0.5,
            "percentile_99_5": 99.5,
        }
    )


def test_sizes_are_those_of_the_brains_box():
    found = fingerprint([_head(0), _head(1)], voxels=10)
    assert found.shapes == ((4, 6, 8), (4, 6, 8))
    assert found.spacings_mm == (SPACING, SPACING)
    assert found.relative_size == pytest.approx(4 * 6 * 8 / 480)


def test_only_brain_voxels_count_and_healthy_heads_do_too():
    image, brain, spacing = _head()
    image[~brain] = 3000
    found = fingerprint([(image, brain, spacing)], voxels=2000).channels[0]
    assert found.max <= image[brain].max() < 100
    assert found.mean == pytest.approx(image[brain].mean(), abs=0.5)


def test_a_large_brain_counts_no_more_than_a_small_one():
    small = np.zeros((6, 8, 10), bool)
    small[2, 2, 2] = True
    low, high = _head(0, mean=0.0), _head(1, mean=100.0, brain=small)
    pooled = fingerprint([low, high], voxels=4000).channels[0]
    assert pooled.mean == pytest.approx((low[0][low[1]].mean() + high[0][2, 2, 2]) / 2, abs=0.5)


def test_the_draw_is_seeded_and_a_stream_is_read_once():
    heads = [_head(seed) for seed in range(3)]
    one, same, other = (fingerprint(iter(heads), seed=s, voxels=50) for s in (1, 1, 2))
    assert one == same
    assert one.channels != other.channels
    assert one.shapes == other.shapes


def test_statistics_are_those_of_a_literal_loop_over_the_drawn_voxels():
    heads, drawn = [_head(seed) for seed in range(3)], []
    for number, (image, brain, _) in enumerate(heads):
        inside = [image[place] for place in np.ndindex(image.shape) if brain[place]]
        chosen = np.random.default_rng((7, number)).integers(len(inside), size=40)
        drawn += [float(inside[place]) for place in chosen]
    found = fingerprint(heads, seed=7, voxels=40).channels[0]
    mean = sum(drawn) / len(drawn)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx((sum((v - mean) ** 2 for v in drawn) / len(drawn)) ** 0.5)
    assert (found.min, found.max) == (min(drawn), max(drawn))
    rank = 0.005 * (len(drawn) - 1)
    low, high = sorted(drawn)[int(rank) : int(rank) + 2]
    assert found.percentile_00_5 == pytest.approx(low + (rank - int(rank)) * (high - low))


def test_a_case_gives_its_ct_cut_to_the_papers_range_and_the_difference_of_the_halves():
    case = _case()
    case.image.array[2, 3, 4] = 2000
    other = np.full(case.image.array.shape, 50, np.float32)
    images = images_hu(dataclasses.replace(case, channels={"contralateral": other}), 2)
    assert images.shape == (2, 6, 8, 10)
    assert images[0, 2, 3, 4] == 400
    assert images[1, 2, 3, 4] == 50 - 400
    assert images[1, 0, 0, 0] == 0
    kept = images_hu(dataclasses.replace(case, channels={"difference": images[1]}), 2)
    np.testing.assert_array_equal(kept, images)


def test_each_channel_has_statistics_of_its_own():
    case = _case()
    both = dataclasses.replace(case, channels={"contralateral": case.image.array + np.float32(7)})
    found = fingerprint([both], channels=2, voxels=100)
    assert len(found.channels) == 2
    assert found.channels[1] == Intensities.of(np.full(100, 7.0))


def test_two_channels_need_a_contralateral_image():
    with pytest.raises(DataError, match="with_contralateral"):
        fingerprint([_case()], channels=2)
    with pytest.raises(ParameterError, match="channels"):
        fingerprint([_case()], channels=3)


def test_the_file_has_nnu_nets_keys_and_comes_back_exactly(tmp_path):
    found = fingerprint([_head(0), _head(1)], voxels=100)
    path = found.save(tmp_path / "dataset_fingerprint.json")
    held = json.loads(path.read_text())
    assert set(held) == {
        "spacings",
        "shapes_after_crop",
        "foreground_intensity_properties_per_channel",
        "median_relative_size_after_cropping",
    }
    names = {"mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5"}
    assert set(held["foreground_intensity_properties_per_channel"]["0"]) == names
    assert load_fingerprint(path) == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held.pop("spacings"), "the key spacings"),
        (lambda held: held.update(spacings=[[1, 1]] * 2), "spacings.0"),
        (lambda held: held.update(spacings=[[0, 1, 1]] * 2), "positive"),
        (lambda held: held["shapes_after_crop"].pop(), "as many of both"),
        (lambda held: held["foreground_intensity_properties_per_channel"]["0"].pop("std"), "the key std"),
        (lambda held: held["foreground_intensity_properties_per_channel"]["0"].update(mean="x"), "finite number"),
        (lambda held: held["foreground_intensity_properties_per_channel"]["0"].update(mean=float("nan")), "finite"),
        (lambda held: held["foreground_intensity_properties_per_channel"]["0"].update(std=-1.0), "0 or more"),
        (lambda held: held["foreground_intensity_properties_per_channel"].update({"5": {}}), "channels 0, 1"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_name_and_key(tmp_path, change, said):
    path = fingerprint([_head(0), _head(1)], voxels=10).save(tmp_path / "dataset_fingerprint.json")
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))
    with pytest.raises(DataError, match=said) as raised:
        load_fingerprint(path)
    assert "dataset_fingerprint.json" in raised.value.thing
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize("text", [None, "{", "7"])
def test_a_missing_file_and_one_without_json_are_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "f.json").write_text(text)
    with pytest.raises(DataError, match=r"f\.json"):
        load_fingerprint(tmp_path / "f.json")


@pytest.mark.parametrize(
    "head",
    [
        (np.zeros((4, 4, 4)), np.zeros((4, 4, 4), bool), SPACING),
        (np.zeros((4, 4, 4)), np.ones((4, 4, 5), bool), SPACING),
        (np.full((4, 4, 4), np.nan), np.ones((4, 4, 4), bool), SPACING),
        (np.zeros((2, 4, 4, 4)), np.ones((4, 4, 4), bool), SPACING),
        (np.zeros((4, 4, 4)), np.ones((4, 4, 4), bool), (0.0, 1.0, 1.0)),
    ],
)
def test_a_head_that_cannot_be_counted_is_refused(head):
    with pytest.raises(DataError, match="case 0"):
        fingerprint([head])


def test_no_case_and_no_voxel_are_refused():
    with pytest.raises(DataError, match="at least one"):
        fingerprint([])
    with pytest.raises(ParameterError, match="voxels"):
        fingerprint([_head()], voxels=0)


def _plain(mean, low, high, sd=2.0):
    return Intensities(mean, mean, sd, low - 1, high + 1, low, high)


def test_the_labelled_set_can_take_over_the_intensities_of_the_pre_training_set():
    labelled = Fingerprint(((9, 9, 9),), ((1.0, 1.0, 1.0),), (_plain(1, 0, 2),), 0.5)
    whole = Fingerprint(((5, 5, 5),), ((2.0, 2.0, 2.0),), (_plain(30, 0, 60),), 0.4)
    mixed = labelled.with_intensities_of(whole)
    assert mixed.channels == whole.channels
    assert (mixed.shapes, mixed.spacings_mm, mixed.relative_size) == (labelled.shapes, labelled.spacings_mm, 0.5)
    two = dataclasses.replace(whole, channels=whole.channels * 2)
    with pytest.raises(ParameterError, match="2 channels"):
        labelled.with_intensities_of(two)


def test_normalising_clips_subtracts_and_divides():
    seen = Normalisation((_plain(30.0, 10.0, 50.0),)).apply(np.array([-1000, 10, 30, 34, 50, 3000], np.int16))
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, [-10, -10, 0, 2, 10, 10])


def test_outside_the_brain_stands_the_lower_clip_of_the_ct_and_no_difference():
    norm = Normalisation((_plain(30.0, 10.0, 50.0), _plain(1.0, -20.0, 20.0)))
    assert norm.background == (-10.0, -0.5)
    values, brain = np.array([30.0, 40.0]), np.array([True, False])
    np.testing.assert_allclose(norm.apply(values, 0, brain), [0, -10])
    np.testing.assert_allclose(norm.apply(values, 1, brain), [9.5, -0.5])


def test_a_constant_image_becomes_zero_and_an_unknown_channel_is_refused():
    found = fingerprint([(np.full((4, 4, 4), 7.0), np.ones((4, 4, 4), bool), SPACING)], voxels=20)
    norm = Normalisation.of(found)
    np.testing.assert_array_equal(norm.apply(np.full(3, 9.0)), 0)
    with pytest.raises(ParameterError, match="0 to 0"):
        norm.apply(np.zeros(2), 1)
