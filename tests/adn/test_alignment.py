"""T: its loss, what it learns from tilted heads, and its maps in voxels of one grid and of another."""

import os
import sys

import numpy as np
import pytest
import torch

from strokelib.adn import alignment
from strokelib.adn.alignment import SYMMETRY, build, find_matrix, matrices, step_loss
from strokelib.adn.poses import residual_pose
from strokelib.adn.recipe import AlignmentRecipe
from strokelib.adn.transformation import align
from strokelib.adn.volumes import heads_of, pooled_grid
from strokelib.errors import ParameterError

sys.path.insert(0, os.path.dirname(__file__))
import made_heads
from made_heads import posed, stopped_and_whole, train_once, turned

POSE = (0.25, 0.4, -0.3)  # of 60 degrees and of half the field


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_heads.steady(monkeypatch)


def recipe(**changes):
    return AlignmentRecipe.at("smoke", **{"pool": 1, "validations": 1, **changes})


def images_of(cases):
    return heads_of(cases).images


# The network and its loss


def test_an_untrained_network_moves_nothing_and_bad_limits_are_refused():
    heads = images_of(made_heads.heads(range(2)))
    torch.testing.assert_close(matrices(build(recipe()), heads, made_heads.SPACING), torch.eye(4).expand(2, 4, 4))
    with pytest.raises(ParameterError, match="'paper' or 'code'"):
        build(recipe(limits="none"))


def test_the_network_has_the_public_codes_parameters_at_the_papers_size():
    with torch.device("meta"):
        model = build(AlignmentRecipe.at("paper"))
    assert sum(p.numel() for p in model.parameters()) == 7_459_142


def by_hand(heads, form):
    """Asymmetry and lost mass of heads moved by a matrix that is written out."""
    angle, x, y = 60 * POSE[0], 14 * POSE[1], 16 * POSE[2]
    matrix = torch.from_numpy(turned(angle, made_heads.SHAPE, x, y)).float()
    moved = align(heads, matrix.expand(len(heads), 4, 4))
    difference = (moved - moved.flip(-1)).abs()
    if form == "relative":
        asymmetry = np.mean([float(d.mean() / m.mean()) for d, m in zip(difference, moved, strict=True)])
    else:
        asymmetry = float(difference.mean())
    if form == "code":
        back = align(moved.flip(-1), torch.linalg.inv(matrix).expand(len(heads), 4, 4))
        asymmetry += float((heads - back).abs().mean())
    lost = np.mean([max(0.0, float(1 - m.mean() / h.mean())) for h, m in zip(heads, moved, strict=True)])
    return asymmetry, lost


@pytest.mark.parametrize("form", ["relative", "printed", "code"])
def test_the_loss_of_a_batch_is_its_asymmetry_and_the_weighted_share_that_was_lost(form):
    heads = images_of(made_heads.heads(range(2), tilt_deg=5.0))
    used = recipe(loss=form, mass_weight=3.0)
    found = step_loss(posed(build(used), POSE), used, heads, made_heads.SPACING)
    asymmetry, lost = by_hand(heads, form)
    assert lost > 0.005
    assert float(found["asymmetry"]) == pytest.approx(asymmetry, rel=1e-4)
    assert float(found["lost"]) == pytest.approx(lost, rel=1e-3)
    assert found["loss"].item() == pytest.approx(asymmetry + 3 * lost, rel=1e-4)
    assert found["loss"].requires_grad
    assert not found["asymmetry"].requires_grad


def test_another_loss_is_refused():
    with pytest.raises(ParameterError, match="form"):
        step_loss(build(recipe()), recipe(loss="squared"), images_of([made_heads.head(0)]), made_heads.SPACING)


# Its maps


def test_heads_have_the_same_maps_together_and_alone_and_the_network_keeps_its_mode():
    heads = images_of(made_heads.heads(range(3)))
    model = build(recipe())
    with torch.no_grad():
        model.head.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    found = matrices(model, heads, made_heads.SPACING)
    assert model.training
    assert found.shape == (3, 4, 4)
    assert (found[0] - found[1]).abs().max() > 1e-4
    for number, case in enumerate(made_heads.heads(range(3))):
        np.testing.assert_allclose(find_matrix(model, recipe(), case), found[number], atol=1e-5)


@pytest.mark.parametrize("sides", [(66, 70), (64, 72), (67, 65)])
@pytest.mark.parametrize("pool", [1, 2, 3])
def test_in_voxels_of_another_grid_the_map_takes_every_point_to_the_same_millimetres(sides, pool):
    case = made_heads.head(0, shape=(16, *sides), spacing=(5.0, 1.5, 1.5))
    used = recipe(pool=4)
    model = posed(build(used), POSE)
    own, other = find_matrix(model, used, case), find_matrix(model, used, case, pool)
    assert (own.dtype, own.shape, other.shape) == (np.float64, (4, 4), (4, 4))
    assert np.abs(own - other).max() > 0.5
    points = np.array([[0, 0, 0, 1], [30, -20, 40, 1], [-55, 60, 12, 1]], float).T
    ways = []
    for matrix, grid in ((own, pooled_grid(case, 4)), (other, pooled_grid(case, pool))):
        ways.append(grid.affine @ matrix @ np.linalg.inv(grid.affine) @ points)
    np.testing.assert_allclose(ways[1], ways[0], atol=1e-6)
    assert np.abs(ways[0] - points).max() > 5


def test_the_recipes_own_grid_is_the_default():
    case, used = made_heads.head(0, shape=(16, 64, 64)), recipe(pool=4)
    model = posed(build(used), POSE)
    np.testing.assert_array_equal(find_matrix(model, used, case, 4), find_matrix(model, used, case))


def test_no_reference_is_needed_to_find_a_pose():
    case = made_heads.head(0, lesion=False)
    bare = type(case)(**{**vars(case), "lesion": None})
    model = posed(build(recipe()), POSE)
    np.testing.assert_array_equal(find_matrix(model, recipe(), bare), find_matrix(model, recipe(), case))


# Training


TILTED = [made_heads.head(number, tilt_deg=14.0 + number) for number in range(3)]
HELD_OUT = [made_heads.head(number, "val", tilt_deg=15.0) for number in (6, 7)]


def test_on_tilted_heads_the_symmetry_rises_and_the_heads_come_upright(tmp_path):
    used = recipe(steps=25, validations=5, lr=3e-3, batch=3, mirror=0.0, rotation_deg=2.0)
    model, history = train_once(alignment, used, TILTED, HELD_OUT, tmp_path)
    steps, symmetry = history.curve(SYMMETRY)
    heads = images_of(HELD_OUT)
    before = 1 - np.mean([float((h - h.flip(-1)).abs().mean() / h.mean()) for h in heads])
    assert symmetry.max() > before + 0.1
    assert history.best_step == steps[symmetry.argmax()]
    for case in HELD_OUT:
        assert abs(residual_pose(case, find_matrix(model, used, case)).angle_deg) < 5
    moved = align(heads, matrices(model, heads, made_heads.SPACING))
    after = [
        1 - float((m - m.flip(-1)).abs().mean() / m.mean()) - max(0.0, float(1 - m.mean() / h.mean()))
        for m, h in zip(moved, heads, strict=True)
    ]
    assert symmetry.max() == pytest.approx(np.mean(after), abs=1e-4)


def test_the_history_holds_both_parts_of_the_loss(tmp_path):
    _, history = train_once(alignment, recipe(steps=2), TILTED, HELD_OUT, tmp_path)
    loss, asymmetry, lost = (history.curve(name, "train")[1] for name in ("loss", "asymmetry", "lost"))
    np.testing.assert_allclose(loss, asymmetry + lost, rtol=1e-6)


def test_a_training_that_was_stopped_in_the_middle_ends_with_the_same_bytes(tmp_path):
    used = recipe(steps=4, validations=2, loss="code", ema_decay=0.9)
    whole, resumed = stopped_and_whole(alignment, used, TILTED, HELD_OUT, tmp_path, stop=3)
    assert "resumed at step 2" in resumed[2].notes
    assert whole[1] == resumed[1]
    assert {name: v.tobytes() for name, v in whole[0].items()} == {name: v.tobytes() for name, v in resumed[0].items()}
