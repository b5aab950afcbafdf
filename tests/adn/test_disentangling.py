"""P and Q against the truth: twins to the byte, hand-worked scores, and the references that need no network."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from strokelib.adn.disentangling import (
    disentangling_scores,
    rank_auc,
    reference_scores,
    true_asymmetries,
    twin_images,
)
from strokelib.adn.volumes import heads_of
from strokelib.data.cases import Case, Volume, load_case, save_case
from strokelib.data.phantom import embedded
from strokelib.errors import DataError
from strokelib.nn.alignment import rigid_matrix_3d, voxel_matrix

NAME = "aisd-0395"
# Six voxels of brain and one outside it: A, P, P*, reference.
A = np.array([0.4, 0.2, 0.1, 0.0, 0.0, 0.2, 9.0]).reshape(1, 1, 7)
P = np.array([0.3, 0.1, 0.1, 0.0, 0.1, 0.0, 9.0]).reshape(1, 1, 7)
TRUTH = np.array([0.4, 0.2, 0.0, -0.1, 0.0, 0.0, 9.0]).reshape(1, 1, 7)
LESION = np.array([1, 1, 0, 0, 0, 0, 1], bool).reshape(1, 1, 7)
BRAIN = np.array([1, 1, 1, 1, 1, 1, 0], bool).reshape(1, 1, 7)


def hand_made(hu, shape=(1, 2, 4)):
    """A case of a few voxels that passes for a rendered one; its twin is given by hand."""
    array = np.array(hu, np.float32).reshape(shape)
    lesion = np.zeros(shape, bool)
    lesion[0, 0, 0] = True
    affine = np.diag([-4.0, -4.0, 5.0, 1.0])
    return Case("hand", "p", "made", "test", Volume(array, affine), lesion, np.ones(shape, bool), embedded=True)


@pytest.fixture(scope="module")
def pair():
    return embedded.render_pair(NAME)


@pytest.fixture(scope="module")
def found(pair):
    return true_asymmetries(pair[0], np.eye(4), pool=2, twin_hu=pair[1].image.array)


def test_the_prepared_case_is_the_first_of_the_pair_and_its_twin_the_second(pair, tmp_path):
    prepared = load_case(save_case(embedded.render(NAME), tmp_path / "case.safetensors"))
    assert prepared.image.array.tobytes() == pair[0].image.array.tobytes()
    assert prepared.lesion.tobytes() == pair[0].lesion.tobytes()
    twin = twin_images(prepared)
    assert (twin.dtype, twin.tobytes()) == (pair[1].image.array.dtype, pair[1].image.array.tobytes())


def test_real_cases_and_cases_that_were_changed_have_no_twin(pair):
    case = pair[0]
    with pytest.raises(DataError, match="no rendered case"):
        twin_images(dataclasses.replace(case, embedded=False))
    with pytest.raises(DataError, match="no rendered case"):
        twin_images(dataclasses.replace(case, facts={}))
    with pytest.raises(DataError, match="another pose"):
        twin_images(dataclasses.replace(case, facts=case.facts | {"pose": case.facts["pose"] | {"angle_deg": 20.0}}))
    cut = Volume(case.image.array[:, :, :-1], case.image.affine)
    with pytest.raises(DataError, match="another field"):
        twin_images(dataclasses.replace(case, image=cut))


def test_the_pathological_part_is_signed_and_the_rest_is_the_twins_own_asymmetry():
    # Rows of four voxels; the mirror of voxel 0 is voxel 3. Healthy: voxel 3 is the darker one of its pair by 4 HU.
    twin = hand_made([34, 30, 30, 30, 33, 30, 36, 33])
    case = hand_made([24, 30, 30, 30, 33, 30, 36, 33])
    asymmetries = true_asymmetries(case, torch.eye(4), twin_hu=twin.image.array)
    np.testing.assert_allclose(asymmetries.total.ravel() * 100, [6, 0, 0, 0, 0, 6, 0, 0], atol=1e-5)
    np.testing.assert_allclose(asymmetries.intrinsic.ravel() * 100, [0, 0, 0, 4, 0, 6, 0, 0], atol=1e-5)
    # The infarct darkens voxel 0 by 10 HU: 6 are new asymmetry there, 4 undo that of voxel 3.
    np.testing.assert_allclose(asymmetries.pathological.ravel() * 100, [6, 0, 0, -4, 0, 0, 0, 0], atol=1e-5)
    assert asymmetries.lesion.ravel().tolist() == [True] + 7 * [False]
    assert asymmetries.brain.all()


def test_the_window_hides_what_lies_outside_it():
    case, twin = hand_made([5, 30, 30, 30] * 2), hand_made([30, 30, 30, 30] * 2)
    narrow = true_asymmetries(case, np.eye(4), window_hu=(20.0, 120.0), twin_hu=twin.image.array)
    assert narrow.pathological.max() == pytest.approx(0.1)


def test_a_rendered_head_has_pathology_in_its_lesion_and_the_parts_make_the_whole(pair, found):
    np.testing.assert_allclose(found.pathological + found.intrinsic, found.total, atol=1e-6)
    assert found.total.shape == (30, 56, 48)
    assert found.total.min() >= 0
    assert found.intrinsic.min() >= 0
    assert found.pathological[found.lesion].mean() > 5 * abs(found.pathological[found.brain & ~found.lesion].mean())
    healthy = heads_of([pair[1]], pool=2).images[0, 0].numpy()
    np.testing.assert_allclose(found.intrinsic, np.maximum(healthy[..., ::-1] - healthy, 0), atol=1e-5)


def test_both_heads_the_lesion_and_the_brain_go_through_the_same_matrix(pair):
    case, twin = pair
    angles, way = torch.tensor([[0.0, 0.0, 0.1]]), torch.tensor([[6.0, 3.0, 0.0]])
    matrix = voxel_matrix(rigid_matrix_3d(angles, way), case.image.spacing, case.image.array.shape)[0]
    moved = true_asymmetries(case, matrix, twin_hu=twin.image.array)
    still = true_asymmetries(case, np.eye(4), twin_hu=twin.image.array)
    assert moved.lesion.sum() == pytest.approx(still.lesion.sum(), rel=0.1)
    assert moved.brain.sum() == pytest.approx(still.brain.sum(), rel=0.02)
    index = np.argwhere(moved.lesion).mean(axis=0)[::-1]
    np.testing.assert_allclose(
        (matrix.numpy() @ [*index, 1])[:3], np.argwhere(still.lesion).mean(axis=0)[::-1], atol=0.5
    )
    np.testing.assert_allclose(moved.pathological + moved.intrinsic, moved.total, atol=1e-6)


def test_scores_of_a_few_voxels_are_those_worked_by_hand():
    scores = disentangling_scores(A, P, TRUTH, LESION, BRAIN, voxel_ml=2.0)
    p, t = P.ravel()[:6], TRUTH.ravel()[:6]
    assert scores["correlation"] == pytest.approx(np.corrcoef(p, t)[0, 1])
    assert scores["correlation_asymmetric"] == pytest.approx(np.corrcoef(p[[0, 1, 2, 5]], t[[0, 1, 2, 5]])[0, 1])
    assert scores["correlation_gained"] == pytest.approx(np.corrcoef(p, np.maximum(t, 0))[0, 1])
    assert scores["mae_hu"] == pytest.approx((0.1 + 0.1 + 0.1 + 0.1 + 0.1 + 0) / 6 * 100)
    # Where A > 0: reference 0.3 and 0.1 against 0.1 and 0; of four pairs three are right and one is a tie.
    assert scores["auc"] == pytest.approx(3.5 / 4)
    assert scores["leakage"] == pytest.approx(0.2 / 0.6)
    assert scores["recall"] == pytest.approx(0.4 / 0.6)
    assert scores["total_inside"] == pytest.approx(2 * 0.6)
    assert scores["total_outside"] == pytest.approx(2 * 0.3)
    assert scores["pathological_inside"] == pytest.approx(2 * 0.4)
    assert scores["pathological_outside"] == pytest.approx(2 * 0.2)
    # Q is 0.1, 0.1, 0, 0, 0 (not -0.1), 0.2.
    assert scores["intrinsic_inside"] == pytest.approx(2 * 0.2)
    assert scores["intrinsic_outside"] == pytest.approx(2 * 0.2)


def test_the_scale_of_p_changes_error_recall_and_sums_alone():
    one, half = (disentangling_scores(A, factor * P, TRUTH, LESION, BRAIN) for factor in (1.0, 0.5))
    for name in ("correlation", "correlation_gained", "correlation_asymmetric", "auc", "leakage", "total_inside"):
        assert half[name] == pytest.approx(one[name])
    assert half["mae_hu"] != pytest.approx(one["mae_hu"])
    assert half["recall"] < one["recall"]
    assert half["pathological_inside"] == pytest.approx(one["pathological_inside"] / 2)


def test_hu_are_counted_by_the_width_of_the_window():
    wide = disentangling_scores(A, P, TRUTH, LESION, BRAIN, window_width_hu=80.0)
    assert wide["mae_hu"] == pytest.approx(0.8 * disentangling_scores(A, P, TRUTH, LESION, BRAIN)["mae_hu"])


def test_the_positive_part_of_the_truth_is_all_recalled_and_a_perfect_map_has_no_error():
    truth = np.maximum(TRUTH, 0)
    scores = disentangling_scores(A, truth, truth, LESION, BRAIN)
    assert scores["correlation"] == scores["correlation_gained"] == pytest.approx(1)
    assert scores["mae_hu"] == 0
    assert scores["recall"] == pytest.approx(1)
    assert scores["leakage"] == 0
    assert scores["auc"] == 1


def test_what_is_undefined_is_nan_and_never_a_number():
    nothing, none = np.zeros_like(TRUTH), np.zeros_like(LESION)
    healthy = disentangling_scores(A, P, nothing, none, BRAIN)
    undefined = {name for name, value in healthy.items() if math.isnan(value)}
    assert undefined == {"correlation", "correlation_gained", "correlation_asymmetric", "auc", "recall"}
    assert healthy["leakage"] == 1
    symmetric = disentangling_scores(nothing, nothing, nothing, LESION, BRAIN)
    assert {name for name, value in symmetric.items() if math.isnan(value)} == undefined | {"leakage"}


def test_the_references_are_all_pathological_and_none():
    scores = reference_scores(A, TRUTH, LESION, BRAIN, voxel_ml=2.0)
    assert list(scores) == ["P = A", "P = 0"]
    assert scores["P = A"] == disentangling_scores(A, A, TRUTH, LESION, BRAIN, voxel_ml=2.0)
    assert scores["P = A"]["recall"] == pytest.approx(1)
    assert scores["P = A"]["intrinsic_outside"] == 0
    none = scores["P = 0"]
    assert (none["auc"], none["recall"]) == (0.5, 0)
    assert none["mae_hu"] == pytest.approx(0.7 / 6 * 100)
    undefined = {"correlation", "correlation_gained", "correlation_asymmetric", "leakage"}
    assert {name for name, value in none.items() if math.isnan(value)} == undefined
    assert none["intrinsic_inside"] == scores["P = A"]["pathological_inside"]


def test_tensors_and_arrays_score_alike():
    tensors = [torch.from_numpy(values) for values in (A, P, TRUTH, LESION, BRAIN)]
    tensors[1].requires_grad_()
    assert disentangling_scores(*tensors) == disentangling_scores(A, P, TRUTH, LESION, BRAIN)


def test_the_auc_counts_pairs_and_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    values, positive = rng.integers(0, 6, 60) / 5, rng.random(60) < 0.3
    pairs = [(p > n) + 0.5 * (p == n) for p in values[positive] for n in values[~positive]]
    assert rank_auc(values, positive) == pytest.approx(np.mean(pairs))
    assert rank_auc(values, positive) == pytest.approx(roc_auc_score(positive, values))
    assert math.isnan(rank_auc(values, np.ones(60, bool)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pathological", {"pathological": -P}),
        ("total", {"total": np.full_like(A, np.nan)}),
        ("maps", {"truth": TRUTH[..., :-1]}),
        ("maps", {"brain": np.zeros_like(BRAIN)}),
    ],
)
def test_logits_other_shapes_and_empty_brains_are_refused(name, change):
    maps = {"total": A, "pathological": P, "truth": TRUTH, "lesion": LESION, "brain": BRAIN} | change
    with pytest.raises(DataError, match=f"^{name}: "):
        disentangling_scores(**maps)


def test_on_a_rendered_head_the_truth_beats_the_references(found):
    maps = (found.pathological, found.lesion, found.brain)
    references = reference_scores(found.total, *maps)
    perfect = disentangling_scores(found.total, np.maximum(found.pathological, 0), *maps)
    # What is negative in P* is out of reach of any P, so that even the best one does not reach 1.
    assert 0.99 > perfect["correlation"] > 0.9 > references["P = A"]["correlation"]
    assert perfect["correlation_gained"] == pytest.approx(1)
    assert perfect["auc"] > references["P = A"]["auc"] > 0.5
    assert perfect["mae_hu"] < references["P = 0"]["mae_hu"] < references["P = A"]["mae_hu"]
    assert perfect["leakage"] < references["P = A"]["leakage"]
