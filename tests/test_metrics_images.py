"""SSIM, PSNR and surface Dice: hand-worked values, a literal window, scikit-image and MONAI."""

import numpy as np
import pytest
from scipy import ndimage

from strokelib import metrics
from strokelib.errors import DataError, ParameterError


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    reference = ndimage.gaussian_filter(rng.random((3, 40, 36)), (0, 2, 2))
    reference = (reference - reference.min()) / np.ptp(reference)
    return np.clip(reference + 0.1 * rng.normal(size=reference.shape), 0, 1), reference


def test_psnr_of_a_known_error():
    assert metrics.psnr_db(np.full((4, 4), 0.1), np.zeros((4, 4))) == pytest.approx(20.0)
    assert metrics.psnr_db(np.full((4, 4), 10.0), np.zeros((4, 4)), 100.0) == pytest.approx(20.0)
    assert metrics.psnr_db(np.ones(3), np.ones(3)) == float("inf")


def test_psnr_equals_scikit_images(pair):
    from skimage.metrics import peak_signal_noise_ratio

    assert metrics.psnr_db(*pair) == pytest.approx(peak_signal_noise_ratio(pair[1], pair[0], data_range=1.0))


def test_ssim_at_a_pixel_is_the_formula_in_a_gaussian_window(pair):
    image, reference = pair[0][0], pair[1][0]
    y, x, r = 20, 18, 5
    g = np.exp(-(np.arange(-r, r + 1) ** 2) / (2 * 1.5**2))
    w = np.outer(g, g) / g.sum() ** 2
    a, b = (v[y - r : y + r + 1, x - r : x + r + 1] for v in (image, reference))
    ma, mb = (w * a).sum(), (w * b).sum()
    va, vb, cov = (w * a * a).sum() - ma**2, (w * b * b).sum() - mb**2, (w * a * b).sum() - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert metrics.ssim_map(image, reference)[y, x] == pytest.approx(expected, rel=1e-9)


def test_ssim_equals_monais_away_from_the_border(pair):
    import torch
    from monai.metrics.regression import compute_ssim_and_cs

    tensors = [torch.from_numpy(v[0])[None, None] for v in pair]
    how = {"spatial_dims": 2, "kernel_size": (11, 11), "kernel_sigma": (1.5, 1.5), "data_range": 1.0}
    theirs = compute_ssim_and_cs(*tensors, kernel_type="gaussian", **how)[0][0, 0].numpy()
    ours = metrics.ssim_map(pair[0][0], pair[1][0])
    np.testing.assert_allclose(ours[5:-5, 5:-5], theirs, atol=2e-4)  # theirs is float32


def test_equal_images_have_the_best_scores(pair):
    found = metrics.image_scores(pair[1], pair[1])
    assert found.ssim == pytest.approx(1)
    assert found.psnr_db == float("inf")
    assert np.isnan(found.local_ssim)
    assert (found.n_slices, found.n_local) == (3, 0)


def test_local_scores_see_the_lesions_box_alone(pair):
    _, reference = pair
    image, lesion = reference.copy(), np.zeros(reference.shape, bool)
    lesion[1, 15:20, 12:18] = True
    image[1, 15:20, 12:18] += 0.2
    found = metrics.image_scores(image, reference, lesion, margin=3)
    box = (slice(12, 23), slice(9, 21))
    assert metrics.local_box(lesion[1], 3) == box
    assert found.local_psnr_db == pytest.approx(metrics.psnr_db(image[1][box], reference[1][box]))
    assert found.local_ssim == pytest.approx(metrics.ssim_map(image[1], reference[1])[box].mean())
    assert found.n_local == 1
    assert found.local_ssim < found.ssim


def test_the_box_ends_with_the_image_and_is_none_without_a_lesion():
    mask = np.zeros((20, 30), bool)
    assert metrics.local_box(mask) is None
    mask[0, 29] = True
    assert metrics.local_box(mask, 4) == (slice(0, 5), slice(25, 30))


def test_images_that_cannot_be_compared_are_refused(pair):
    with pytest.raises(DataError, match="one shape"):
        metrics.psnr_db(pair[0], pair[1][:2])
    with pytest.raises(DataError, match="slice by slice"):
        metrics.ssim_map(*pair)
    with pytest.raises(DataError, match="finite"):
        metrics.psnr_db(np.array([np.nan]), np.zeros(1))
    with pytest.raises(ParameterError, match="data_range"):
        metrics.psnr_db(*pair, 0.0)


def cube(at, shape=(6, 12, 12)):
    mask = np.zeros(shape, bool)
    mask[2:4, 3:8, at : at + 4] = True
    return mask


def test_surface_dice_by_hand():
    # 2 x 5 x 4 voxels each, one column (1.2 mm) apart; the outer column (10 voxels) of each is 1.2 mm away.
    distances = metrics.surface_distances(cube(3), cube(4), (5.0, 1.0, 1.2))
    n = len(distances.pred_to_truth_mm)
    away = int((distances.pred_to_truth_mm > 0).sum())
    assert metrics.surface_dice(distances, 1.2) == 1
    assert metrics.surface_dice(distances, 1.19) == pytest.approx(1 - away / n)
    assert metrics.surface_dice(distances, 0) == metrics.surface_dice(distances, 1.0)


def test_surface_dice_grows_with_the_tolerance_and_follows_the_policy_for_empties():
    none = np.zeros((6, 12, 12), bool)
    far = metrics.surface_distances(cube(0), cube(8), (5.0, 1.0, 1.2))
    scores = [metrics.surface_dice(far, t) for t in (0, 2, 5, 8, 12)]
    assert scores == sorted(scores)
    assert scores[0] == 0
    assert scores[-1] == 1
    empty = metrics.surface_distances(none, none, (5.0, 1.0, 1.2))
    assert np.isnan(metrics.surface_dice(empty, 2))
    assert metrics.surface_dice(empty, 2, empty="isles") == 1
    assert metrics.surface_dice(metrics.surface_distances(none, cube(3), (5.0, 1.0, 1.2)), 2) == 0
    with pytest.raises(ParameterError, match="tolerance"):
        metrics.surface_dice(far, -1)
