"""The MR of a case: bright where the infarct is, in a pose of its own whose way to the CT is known."""

import numpy as np
import pytest
from scipy import ndimage

from strokelib.data.phantom import embedded, mr
from strokelib.errors import ParameterError

NAME = "xwhd-0003"


@pytest.fixture(scope="module")
def pair():
    return embedded.render(NAME), mr.render_mr(NAME)


def test_the_infarct_is_bright_on_dwi_and_fluid_is_dark(pair):
    _, dwi = pair
    normal = dwi.brain & ~ndimage.binary_dilation(dwi.lesion, iterations=4)
    assert dwi.image.array[dwi.lesion].mean() > 1.5 * np.median(dwi.image.array[normal])
    assert dwi.facts["modality"] == "dwi"


def test_the_adc_is_low_in_the_infarct():
    plans = (embedded.plan(f"apis-{n:04d}") for n in range(1, 37))
    planned = next(p for p in plans if p.infarct is not None and p.infarct.volume_ml > 20)
    adc = mr.render_mr(planned.id)
    normal = adc.brain & ~ndimage.binary_dilation(adc.lesion, iterations=4)
    assert adc.image.array[adc.lesion].mean() < 0.8 * np.median(adc.image.array[normal])
    assert 600 < np.median(adc.image.array[normal]) < 1100


def test_the_known_transform_lays_the_mr_lesion_on_the_ct_lesion(pair):
    ct, dwi = pair
    k, j, i = np.nonzero(dwi.lesion)
    points = np.array(dwi.facts["mr_to_ct"]) @ dwi.image.affine @ np.stack([i, j, k, np.ones(i.size)])
    x, y, z, _ = np.rint(np.linalg.inv(ct.image.affine) @ points).astype(int)
    grown = ndimage.binary_dilation(ct.lesion, iterations=2)
    assert grown[z, y, x].mean() > 0.9
    assert not np.allclose(np.array(dwi.facts["mr_to_ct"])[:3, 3], 0, atol=0.5)


def test_the_infarct_grows_and_never_shrinks():
    infarct = embedded.plan(NAME).infarct
    before, after = infarct.maps[0], mr.grown(infarct, 2.0, 5).maps[0]
    assert (after >= before).all()
    assert after.sum() > before.sum()
    assert mr.grown(infarct, 0.0, 5).maps[0].sum() == before.sum()


def test_the_same_name_gives_the_same_mr(pair):
    np.testing.assert_array_equal(mr.render_mr(NAME).image.array, pair[1].image.array)


def test_a_cohort_without_mr_is_refused():
    with pytest.raises(ParameterError, match="MR"):
        mr.render_mr("center_tbi-0001")
