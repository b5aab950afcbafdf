"""The two anatomies."""

import pytest
import torch

from strokelib.data.phantom.atlas import LATTICE, maps
from strokelib.errors import ParameterError

VOXEL_ML = LATTICE.step**3 / 1000


@pytest.mark.parametrize("anatomy", ["A", "B"])
def test_an_anatomy_is_its_own_mirror_image(anatomy):
    for name, value in vars(maps(anatomy)).items():
        torch.testing.assert_close(value, value.flip(-1), atol=2e-2, rtol=1e-3, msg=name)


@pytest.mark.parametrize("anatomy", ["A", "B"])
def test_an_anatomy_has_a_skull_cavity_and_ventricles_of_plausible_size(anatomy):
    m = maps(anatomy)
    assert 1600 < float((m.depth > 1).sum()) * VOXEL_ML < 2150
    assert 10 < float((m.ventricle > 0).sum()) * VOXEL_ML < 60
    assert bool((m.depth[m.ventricle > 0] > 5).all())


def test_the_anatomies_differ_in_topology():
    a, b = maps("A"), maps("B")
    inside = (a.depth > 4) & (b.depth > 4)
    assert torch.corrcoef(torch.stack((a.csf[inside], b.csf[inside])))[0, 1] < 0.9
    assert torch.corrcoef(torch.stack((a.grey[inside], b.grey[inside])))[0, 1] < 0.9


def test_an_unknown_anatomy_is_refused():
    with pytest.raises(ParameterError, match="A or B"):
        maps("C")
