"""Integrated gradients: hand-worked values, completeness, and what is refused."""

import numpy as np
import pytest
import torch

from strokelib.errors import DataError, ParameterError
from strokelib.explain.gradients import Attribution, integrated_gradients

pytest.importorskip("captum")


def test_a_linear_model_gives_weight_times_difference_and_adds_up():
    weight = torch.tensor([[[2.0, -1.0], [0.5, 3.0]]])
    x, b = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[0.0, 1.0], [5.0, 4.0]]])
    found = integrated_gradients(lambda image: (image * weight).flatten(1).sum(1) + 7.0, x, b, steps=1)
    by_hand = np.array([[[2.0, -1.0], [-1.0, 0.0]]])
    np.testing.assert_allclose(found.values, by_hand, atol=1e-6)
    assert found.difference == pytest.approx(0.0, abs=1e-6)
    assert found.completeness_error == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(found.size, np.abs(by_hand[0]), atol=1e-6)


def test_a_square_is_complete_with_two_points_and_not_with_one():
    x, b = torch.tensor([[3.0]]), torch.tensor([[1.0]])
    cube = [integrated_gradients(lambda image: (image**3).flatten(1).sum(1), x, b, steps=n) for n in (1, 2)]
    assert [one.difference for one in cube] == pytest.approx([26.0, 26.0])
    assert cube[0].values[0, 0] == pytest.approx(2 * 3 * 2.0**2)  # the midpoint alone
    assert cube[0].completeness_error == pytest.approx(-2.0)
    assert cube[1].completeness_error == pytest.approx(0.0, abs=1e-4)


def test_the_relative_error_is_a_share_of_the_absolute_values():
    assert Attribution(np.array([[3.0, -1.0]]), 1.0, -1.0).relative_error == pytest.approx(0.25)


def test_impossible_requests_are_refused():
    image = torch.zeros(1, 2)
    total = lambda x: x.flatten(1).sum(1)  # noqa: E731 (a number of an image)
    with pytest.raises(ParameterError, match="0 steps"):
        integrated_gradients(total, image, image, steps=0)
    with pytest.raises(DataError, match="baseline"):
        integrated_gradients(total, image, torch.zeros(1, 3))
    with pytest.raises(DataError, match="not finite"):
        integrated_gradients(lambda x: torch.sqrt(x).flatten(1).sum(1), torch.full((1, 2), -1.0), image, steps=2)
