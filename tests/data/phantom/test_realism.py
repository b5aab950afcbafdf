"""The ruler that embedded and real heads are measured with."""

import numpy as np
import pytest

from strokelib.data.cases import Volume
from strokelib.data.phantom import embedded, realism
from strokelib.errors import DataError


def _volume(array, pixel=0.5, dz=5.0):
    return Volume(array, np.diag([-pixel, -pixel, dz, 1.0]))


def test_white_noise_has_a_flat_spectrum_of_its_variance():
    rng = np.random.default_rng(0)
    volume = _volume(rng.normal(30, 4, (3, 192, 192)))
    _, power = realism.noise_spectrum(volume, np.ones(volume.array.shape, bool))
    assert power[3:].mean() == pytest.approx(16 * 0.25, rel=0.2)
    assert power[3:].std() < 0.2 * power[3:].mean()


def test_smooth_noise_has_less_power_at_high_frequencies():
    from scipy import ndimage

    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(0, 4, (3, 192, 192)), (0, 1, 1))
    _, power = realism.noise_spectrum(_volume(smooth), np.ones(smooth.shape, bool))
    assert power[-1] < 0.1 * power[2]


def test_no_patch_is_refused():
    with pytest.raises(DataError, match="no patch"):
        realism.noise_spectrum(_volume(np.zeros((2, 40, 40))), np.zeros((2, 40, 40), bool))


def test_two_tissues_are_found_where_they_are():
    rng = np.random.default_rng(0)
    array = np.where(np.arange(120)[None, None] < 60, 27.0, 36.0) + rng.normal(0, 2, (8, 120, 120))
    brain = np.zeros(array.shape, bool)
    brain[:, 5:-5, 5:-5] = True
    white, grey = realism.grey_white_hu(_volume(array, 1.0), brain)
    assert white == pytest.approx(27, abs=1.0)
    assert grey == pytest.approx(36, abs=1.0)


def test_fluid_is_counted_in_the_middle_alone():
    array, brain = np.full((30, 120, 120), 32.0), np.zeros((30, 120, 120), bool)
    brain[:, 10:-10, 10:-10] = True
    array[10:20, 50:70, 50:70] = 8.0
    array[10:20, 11:20, 11:20] = 8.0
    assert realism.central_fluid_ml(_volume(array, 1.0, 5.0), brain) == pytest.approx(20.0, rel=0.15)


def test_a_rendered_infarct_keeps_its_side_and_artery():
    facts = realism.infarct_facts([embedded.render("xwhd-0003")]).iloc[0]
    assert facts["mask_side"] == facts["lesion_side"]
    assert facts["mask_artery"] == facts["lesion_artery"] == "MCA"
    assert 0.6 < facts["lesion_ml"] / facts["mask_ml"] < 1.5


def test_facts_of_a_cohort_keep_what_is_missing():
    facts = realism.cohort_facts(["xwhd-0001", "center_tbi-0001"])
    assert facts["side"].iloc[0] in ("left", "right")
    assert facts[["side", "nihss", "age"]].iloc[1].isna().all()
