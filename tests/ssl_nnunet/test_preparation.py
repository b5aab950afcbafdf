"""Seia et al.'s preparation, steps a to e, on one embedded pair whose truth is known."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from strokelib.data.contralateral import AIR_HU
from strokelib.data.grids import Grid, sample_on
from strokelib.data.phantom import embedded
from strokelib.data.phantom.mr import render_mr
from strokelib.metrics import dice
from strokelib.ssl_nnunet.figures import PLACES, fig01_preprocessing
from strokelib.ssl_nnunet.preparation import prepare_pair


@pytest.fixture(scope="module")
def case():
    return embedded.render("aisd-0365")


@pytest.fixture(scope="module")
def pair(case):
    mr = render_mr(case.id)
    return prepare_pair(case.image, mr.image, mr.lesion)


def test_all_images_are_cubes_of_one_millimetre(pair):
    for volume in (pair.ct, pair.mr, pair.registered.image, pair.contralateral, *pair.result):
        assert volume.spacing == pytest.approx((1.0, 1.0, 1.0))
    assert pair.brain.shape == pair.ct.array.shape == pair.registered.mask.shape


def test_the_brain_is_the_known_one(pair, case):
    known = sample_on(case.image.with_array(case.brain), Grid.of(pair.ct), order=0).array
    assert dice(pair.brain, known) > 0.9


def test_the_mask_lies_where_the_true_way_takes_it(pair, case):
    mr = render_mr(case.id)
    true = np.linalg.inv(np.array(mr.facts["mr_to_ct"]))
    known = sample_on(mr.image.with_array(mr.lesion), Grid.of(pair.ct), true, order=0).array
    assert dice(pair.registered.mask, known) > 0.7


def test_the_result_holds_the_published_range_and_the_brain_alone(pair):
    for volume in pair.result:
        assert volume.array.min() == -100.0
        assert volume.array.max() <= 400.0
        assert (volume.array[~pair.brain] == -100.0).all()
    assert (pair.contralateral.array[~pair.brain] == AIR_HU).all()


def test_the_pictures_are_those_of_the_figure_and_go_through_the_infarct(pair):
    shots = pair.shots()
    assert set(shots) == set(PLACES)
    index = np.linalg.inv(pair.ct.affine) @ np.append(shots["mask_on_ct"].at_mm, 1)
    areas = pair.registered.mask.sum(axis=(1, 2))
    assert areas[round(index[2])] == areas.max()
    plt.close(fig01_preprocessing(shots))
