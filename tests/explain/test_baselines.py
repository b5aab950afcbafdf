"""Baselines: flips about any column, blurs of brain alone, and what is refused."""

import numpy as np
import pytest
import torch

from strokelib.errors import ParameterError
from strokelib.explain.baselines import baseline_of, blurred, mirrored, other_side


def test_a_flip_about_the_middle_is_a_flip_and_about_another_column_shifts_zeros_in():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert mirrored(values, 1.5).tolist() == [4, 3, 2, 1]
    assert mirrored(values, 1.0).tolist() == [3, 2, 1, 0]
    assert mirrored(values, 2.5).tolist() == [0, 0, 4, 3]
    assert mirrored(np.array([True, False, False]), 0.5).tolist() == [False, True, False]


@pytest.mark.parametrize("centre", [1.0, 1.5, 2.0])
def test_two_flips_give_back_what_did_not_leave_the_image(centre):
    values = np.arange(1.0, 6.0)
    again = mirrored(mirrored(values, centre), centre)
    assert set(again) <= {0.0, *values}
    assert (again[again > 0] == values[again > 0]).all()


def test_a_plane_between_pixels_and_their_borders_is_refused():
    with pytest.raises(ParameterError, match="mirror plane"):
        mirrored(np.zeros(4), 1.3)


def test_the_other_side_is_taken_where_both_sides_show_brain():
    image = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    brain = np.array([[[False, True, True, True]]])
    assert other_side(image, brain, 1.5)[0, 0, 0].tolist() == [1, 3, 2, 4]


def test_a_blur_keeps_a_constant_brain_and_what_lies_outside_and_never_looks_out_of_the_brain():
    brain = np.zeros((1, 20, 20), bool)
    brain[0, 5:15, 5:15] = True
    inside = torch.from_numpy(brain)[None]
    image = torch.where(inside, 3.0, -9.0)
    found = blurred(image, brain, (4.0, 4.0))
    torch.testing.assert_close(found, image)
    spot = image.clone()
    spot[0, 0, 9, 9] = 50.0
    found = blurred(spot, brain, (4.0, 4.0))
    assert 3.0 < float(found[0, 0, 9, 9]) < 10.0
    assert (found[~inside] == -9.0).all()


def test_the_names_give_what_they_say():
    image, brain = torch.randn(2, 1, 4, 4), np.ones((1, 4, 4), bool)
    how = {"fill": torch.tensor([-1.0, 2.0]), "centre": 1.5, "spacing_yx": (4.0, 4.0)}
    ground = baseline_of("background", image, brain, **how)
    assert (ground[0] == -1).all()
    assert (ground[1] == 2).all()
    torch.testing.assert_close(baseline_of("mirrored", image, brain, **how), image.flip(-1))
    assert baseline_of("blurred", image, brain, **how).std() < image.std()
    with pytest.raises(ParameterError, match="background or blurred or mirrored"):
        baseline_of("black", image, brain, **how)
