"""Seeded random fields and sampling in millimetres."""

import numpy as np
import pytest
import torch

from strokelib.data.phantom.fields import Lattice, blur, case_seed, generator, smooth_field

LATTICE = Lattice(corner=(40.0, 60.0, -20.0), step=2.0, shape=(21, 51, 41))


def test_the_same_seed_and_stream_give_the_same_numbers():
    assert generator(5, "a").random() == generator(5, "a").random()


@pytest.mark.parametrize("other", [(5, "b"), (6, "a")])
def test_another_seed_or_stream_gives_other_numbers(other):
    assert generator(5, "a").random() != generator(*other).random()


def test_a_case_keeps_its_seed():
    assert case_seed("aisd-0001") == 261874877453711
    assert case_seed("aisd-0001") != case_seed("aisd-0002")


def test_a_smooth_field_has_mean_zero_and_variance_one():
    fields = torch.stack([smooth_field(generator(s, "f"), LATTICE, 8.0) for s in range(12)])
    assert abs(float(fields.mean())) < 0.1
    assert 0.85 < float(fields.std()) < 1.15


def test_a_field_without_asymmetric_share_is_its_own_mirror_image():
    field = smooth_field(generator(1, "f"), LATTICE, 8.0, asymmetric=0.0)
    torch.testing.assert_close(field, field.flip(-1))


def test_the_asymmetric_share_is_the_share_of_the_variance():
    fields = [smooth_field(generator(s, "f"), LATTICE, 6.0, asymmetric=0.25) for s in range(12)]
    odd = torch.stack([(f - f.flip(-1)) / 2 for f in fields])[..., :12]
    assert 0.18 < float(odd.var()) / float(torch.stack(fields)[..., :12].var()) < 0.33


def test_sampling_reads_a_linear_volume_exactly():
    x, y, z = LATTICE.axes()
    volume = (2 * x - y + 3 * z)[None]
    points = torch.tensor([[3.3, -12.0], [11.1, 0.5], [-4.2, 10.0]])
    torch.testing.assert_close(LATTICE.sample(volume, points)[0], 2 * points[0] - points[1] + 3 * points[2])


def test_sampling_outside_reads_zero_where_asked():
    points = torch.tensor([[100.0], [0.0], [0.0]])
    assert float(LATTICE.sample(torch.ones(1, *LATTICE.shape), points, outside="zeros")) == 0.0


def test_a_blur_onto_a_coarser_lattice_keeps_the_mass():
    spike = torch.zeros(LATTICE.shape)
    spike[10, 25, 20] = 1.0
    coarse = Lattice(LATTICE.corner, 4.0, (11, 26, 21))
    out = blur(spike, LATTICE, coarse, 5.0)
    assert float(out.sum()) * 4.0**3 == pytest.approx(2.0**3, rel=0.02)
    assert np.unravel_index(int(out.argmax()), coarse.shape)[0] == 5
