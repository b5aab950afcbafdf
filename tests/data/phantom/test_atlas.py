"""The two anatomies."""

import pytest
import torch

from strokelib.data.phantom.atlas import LATTICE, TISSUE, maps
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


@pytest.mark.parametrize("anatomy", ["A", "B"])
def test_brain_tissue_lies_inside_the_skull_and_under_the_skin(anatomy):
    m = maps(anatomy)
    grey, white, _, _ = TISSUE[anatomy]()
    tissue = torch.from_numpy(grey + white > 0.5)
    assert 1300 < float(tissue.sum()) * VOXEL_ML < 1850
    assert bool((m.depth[tissue] > 0).all())
    assert bool((m.skin[tissue] > 5).all())


@pytest.mark.parametrize("anatomy", ["A", "B"])
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("ventricle", (6, -25, 14), (25, 15, 30)),
        ("csf", (-3, -30, -8), (3, 4, 6)),
        ("ventricle", (-8, -54, -42), (8, -38, -18)),
    ],
    ids=["lateral", "third", "fourth"],
)
def test_a_ventricle_holds_fluid_where_it_belongs(anatomy, name, low, high):
    x, y, z = LATTICE.axes()
    there = (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]) & (z >= low[2]) & (z <= high[2])
    assert int((getattr(maps(anatomy), name)[there] > 0.5).sum()) >= 10


@pytest.mark.parametrize(
    ("name", "mean"), [("depth", -15.39), ("ventricle", -39.47), ("csf", -0.42), ("grey", 0.16), ("skin", 5.53)]
)
def test_anatomy_a_is_what_it_was_before_there_were_two(name, mean):
    assert float(getattr(maps(), name).mean()) == pytest.approx(mean, abs=6e-3)


def test_the_anatomies_differ_in_topology():
    a, b = maps("A"), maps("B")
    inside = (a.depth > 4) & (b.depth > 4)
    assert torch.corrcoef(torch.stack((a.csf[inside], b.csf[inside])))[0, 1] < 0.9
    assert torch.corrcoef(torch.stack((a.grey[inside], b.grey[inside])))[0, 1] < 0.9


def test_an_unknown_anatomy_is_refused():
    with pytest.raises(ParameterError, match="A or B"):
        maps("C")
