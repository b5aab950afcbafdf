"""What the trainings of a study share: one plan, one normalisation, and a key that names both."""

import dataclasses
import os
import sys

import numpy as np
import pytest
import torch

from strokelib.data.grids import AIR_HU
from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.network import NNUNet, PlainConvEncoder
from strokelib.ssl_nnunet.planning import published_plan
from strokelib.ssl_nnunet.recipe import FinetuningRecipe, PlanRecipe, PretrainingRecipe
from strokelib.ssl_nnunet.setup import Setup, setup_of
from strokelib.ssl_nnunet.volumes import at_spacing

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads

SMALL = {"spacing_mm": (5.0, 4.0, 4.0), "plan": "planned", "patch": None, "memory_gib": 0.01}
SMALL |= {"base": 4, "max_features": 16, "channels": 1, "cache_mib": 512.0}


def recipe(kind=PlanRecipe, **changes):
    return kind.at("smoke", **{**SMALL, **changes})


def with_other_side(case):
    """The plane of the made heads lies in the middle: their mirror image is the array read backwards."""
    other = np.where(case.brain & case.brain[..., ::-1], case.image.array[..., ::-1], AIR_HU).astype(np.float32)
    return dataclasses.replace(case, channels={"contralateral": other})


def printed(**changes):
    return recipe(plan="printed", spacing_mm=(1.0, 1.0, 1.0), **changes)


@pytest.fixture(scope="module")
def cases():
    return made_heads.heads(range(3))


def test_the_printed_plan_is_the_published_one_whatever_the_scans(cases):
    found = setup_of(cases, printed())
    assert found.plan == published_plan()
    with torch.device("meta"):
        encoder = PlainConvEncoder(1, **found.network)
    assert sum(p.numel() for p in encoder.parameters()) == 14_025_120


def test_the_planned_network_follows_the_scans_and_the_recipe(cases):
    found = setup_of(cases, recipe())
    assert found.plan.spacing_mm == (5.0, 4.0, 4.0)
    assert found.plan.features == tuple(min(16, 4 * 2**k) for k in range(len(found.plan.strides)))
    boxes = [[np.ptp(axis) + 1 for axis in np.nonzero(case.brain)] for case in cases]
    assert found.plan.median_shape == tuple(np.median(boxes, axis=0))
    wider = setup_of(cases, recipe(base=8, max_features=12))
    assert set(wider.plan.features) == {8, 12}
    assert set(found.network) == {"features", "strides", "kernels", "convs"}
    assert NNUNet(1, 1, **found.network).encoder.features == found.plan.features


def test_less_memory_gives_a_smaller_patch(cases):
    most, least = (setup_of(cases, recipe(memory_gib=gib)).plan for gib in (0.01, 0.0004))
    assert np.prod(least.patch) < np.prod(most.patch)


def test_scans_of_another_voxel_size_are_measured_at_the_recipes(cases):
    finer = made_heads.heads(range(3), shape=(16, 64, 56), spacing=(5.0, 2.0, 2.0))
    found, coarse = setup_of(finer, recipe()), setup_of(cases, recipe())
    np.testing.assert_allclose(found.plan.median_shape, coarse.plan.median_shape, atol=2)
    assert found == setup_of([at_spacing(case, (5.0, 4.0, 4.0)) for case in finer], recipe())
    # Means of four voxels each have less noise than the voxels.
    assert found.normalisation != setup_of(finer, recipe(spacing_mm=(5.0, 2.0, 2.0))).normalisation


def test_a_patch_of_the_recipe_is_taken_with_the_stages_that_the_rules_give_for_it(cases):
    planned = setup_of(cases, recipe())
    found = setup_of(cases, recipe(patch=(8, 16, 20), memory_gib=0.0001))
    plan = found.plan
    assert all(side <= got < side + step for side, got, step in zip((8, 16, 20), plan.patch, plan.divisor, strict=True))
    assert (plan.spacing_mm, plan.median_shape) == (planned.plan.spacing_mm, planned.plan.median_shape)
    assert plan.features == tuple(min(16, 4 * 2**k) for k in range(len(plan.strides)))
    assert found.normalisation == planned.normalisation
    assert found.key != planned.key
    # What is printed stands.
    assert setup_of(cases[:1], printed(patch=(8, 16, 20))).plan == published_plan()


def test_another_kind_of_plan_is_refused(cases):
    with pytest.raises(ParameterError, match=r"'guessed'(.|\n)*printed or planned"):
        setup_of(cases, recipe(plan="guessed"))


@pytest.mark.parametrize("spacing_mm", [(5.0, 4.0, 4.0), (1.0, 1.0, 1.5)])
def test_the_printed_plan_with_voxels_that_are_not_its_own_is_refused(cases, spacing_mm):
    with pytest.raises(ParameterError, match=r"spacing_mm(.|\n)*1\.0, 1\.0, 1\.0(.|\n)*planned"):
        setup_of(cases, recipe(plan="printed", spacing_mm=spacing_mm))


def test_the_normalisation_is_that_of_all_brains_together(cases):
    brighter = dataclasses.replace(cases[2], image=cases[2].image.with_array(cases[2].image.array + 20))
    found = setup_of([*cases[:2], brighter], recipe()).normalisation
    means = [case.image.array[case.brain].mean() for case in (*cases[:2], brighter)]
    assert found.channels[0].mean == pytest.approx(np.mean(means), abs=0.2)
    assert len(found.channels) == 1


def test_two_channels_need_contralateral_images_and_have_two_normalisations(cases):
    with pytest.raises(DataError, match="contralateral"):
        setup_of(cases, recipe(channels=2))
    found = setup_of([with_other_side(case) for case in cases], recipe(channels=2)).normalisation
    assert len(found.channels) == 2
    assert found.channels[0] == setup_of(cases, recipe()).normalisation.channels[0]
    assert abs(found.channels[1].mean) < 1 < found.channels[0].mean


def test_the_key_names_plan_and_normalisation_and_nothing_else(cases):
    first = setup_of(cases, recipe())
    assert len(first.key) == 10
    assert int(first.key, 16) >= 0
    same = [
        setup_of(cases, recipe()),
        setup_of(cases, recipe(PretrainingRecipe, steps=7, lr=1.0, scans="STKn", symmetry=0.7)),
        setup_of(cases, recipe(FinetuningRecipe, labels="STKp")),
    ]
    assert {one.key for one in same} == {first.key}
    other = [
        setup_of(cases[:2], recipe()),
        setup_of(cases, recipe(base=5)),
        setup_of(cases, recipe(), seed=1),
        setup_of(cases[:1], printed()),
    ]
    assert len({one.key for one in (first, *other)}) == 5
    assert Setup(first.plan, other[0].normalisation).key != Setup(first.plan, first.normalisation).key


def test_heads_have_the_recipes_voxels_channels_and_the_setups_normalisation(cases):
    made, given = [with_other_side(case) for case in cases], recipe(channels=2)
    found = setup_of(made, given)
    plain = list(found.heads(given, made))
    assert [head.images.shape[0] for head in plain] == [2, 2, 2]
    assert all(head.contralateral is None for head in plain)
    head, one = plain[0], found.normalisation.channels[0]
    hu = cases[0].image.array[cases[0].brain]
    seen = (np.clip(hu, one.percentile_00_5, one.percentile_99_5) - one.mean) / one.std
    np.testing.assert_allclose(head.images[0][head.brain].numpy(), seen, atol=1e-4)
    assert found.heads(given, made, contralateral=True)[0].contralateral.shape == head.images.shape
    coarse = found.heads(recipe(spacing_mm=(5.0, 8.0, 8.0), channels=2), made)[0]
    assert coarse.spacing == (5.0, 8.0, 8.0)
    assert max(abs(2 * n - m) for n, m in zip(coarse.images.shape[2:], head.images.shape[2:], strict=True)) <= 2
    assert found.heads(recipe(), cases)[0].images.shape[0] == 1


def test_heads_are_kept_in_memory_as_far_as_the_recipe_allows(cases):
    found = setup_of(cases, recipe())
    assert len(found.heads(recipe(), cases).kept) == 3
    assert len(found.heads(recipe(cache_mib=0.0), cases).kept) == 0


def test_a_scan_without_reference_is_a_head_only_where_it_may_be(cases):
    found, bare = setup_of(cases, recipe()), [dataclasses.replace(cases[0], lesion=None)]
    with pytest.raises(DataError, match="no reference"):
        found.heads(recipe(), bare)
    assert found.heads(recipe(), bare, unlabelled=True)[0].lesions.sum() == 0
    assert setup_of(bare, recipe()).plan == setup_of(cases[:1], recipe()).plan
