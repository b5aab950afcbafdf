"""Layers drawn anew: their order, what changes, and the likeness of maps."""

import numpy as np
import pytest
import torch
from torch import nn

from strokelib.errors import DataError, ParameterError
from strokelib.explain.gradients import integrated_gradients
from strokelib.explain.randomisation import (
    last_input,
    layers_from_output,
    randomised,
    rank_correlation,
    structural_similarity,
)

pytest.importorskip("captum")
SHAPE = (1, 2, 16, 16)


def a_network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.BatchNorm3d(3), nn.Tanh(), nn.Conv3d(3, 1, 1)).eval()


class Turned(nn.Module):
    """Its parts are used in another order than they were made in, one of them never, one twice."""

    def __init__(self):
        super().__init__()
        self.last, self.never, self.first = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.last(self.first(self.first(x)))


def number(network):
    return lambda x: network(x).sigmoid().flatten(1).sum(1)


def map_of(network):
    torch.manual_seed(5)
    image = torch.randn(SHAPE)
    return integrated_gradients(number(network), image, torch.zeros(SHAPE), steps=4).size


def test_layers_come_in_the_order_of_use_and_those_never_met_do_not_count():
    assert layers_from_output(Turned(), lambda model: model(torch.zeros(1, 2))) == ["last", "first"]
    assert layers_from_output(a_network(0), lambda model: model(torch.zeros(1, *SHAPE))) == ["3", "1", "0"]


def test_a_share_of_the_layers_is_exchanged_from_the_output_with_their_running_statistics():
    trained, fresh = a_network(0), a_network(1)
    trained[1].running_mean.fill_(4.0)
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    part = randomised(trained, fresh, ["3", "1", "0"], 0.67)
    assert torch.equal(part[3].weight, fresh[3].weight)
    assert torch.equal(part[1].running_mean, fresh[1].running_mean)
    assert torch.equal(part[0].weight, trained[0].weight)
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
    whole, none = (randomised(trained, fresh, ["3", "1", "0"], share) for share in (1.0, 0.0))
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in whole.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in none.state_dict().items())


def test_attributions_of_a_network_that_looks_change_and_those_of_a_constant_one_do_not():
    layers = ["3", "1", "0"]
    inside = np.ones(SHAPE[1:], bool)
    looks, other = a_network(0), a_network(1)
    changed = rank_correlation(map_of(looks), map_of(randomised(looks, other, layers, 1.0)), inside)
    assert changed < 0.9
    constants = [a_network(0), a_network(1)]
    for one in constants:
        nn.init.zeros_(one[3].weight)
    found = [map_of(constants[0]), map_of(randomised(*constants, layers, 1.0))]
    assert not np.any(found)


def test_a_share_or_a_network_that_does_not_fit_is_refused():
    with pytest.raises(ParameterError, match="share of layers"):
        randomised(a_network(0), a_network(1), ["3"], 1.5)
    with pytest.raises(DataError, match="1 of them unknown"):
        randomised(a_network(0), a_network(1), ["9"], 0.5)


def test_ranks_are_compared_inside_alone():
    a, b = np.array([[[1.0, 2.0, 3.0, 9.0]]]), np.array([[[10.0, 30.0, 20.0, 0.0]]])
    inside = np.array([[[True, True, True, False]]])
    assert rank_correlation(a, b, inside) == pytest.approx(0.5)
    assert rank_correlation(a, a**3, inside) == pytest.approx(1.0)
    assert np.isnan(rank_correlation(a, np.ones_like(a), inside))


def test_ssim_is_1_for_maps_that_differ_by_a_factor_and_low_for_others():
    rng, inside = np.random.default_rng(0), np.ones((2, 16, 16), bool)
    one = rng.random((2, 16, 16))
    assert structural_similarity(one, 7 * one, inside) == pytest.approx(1.0)
    assert structural_similarity(one, rng.random((2, 16, 16)), inside) < 0.3
    assert np.isnan(structural_similarity(one, np.zeros_like(one), inside))
    assert np.isnan(structural_similarity(one[..., :8], one[..., :8], inside[..., :8]))


def test_the_last_input_is_what_the_last_convolution_sees():
    network, x = a_network(0), torch.randn(1, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(last_input(network, lambda: network(x)), network[:3](x))
    with pytest.raises(DataError, match="convolutions"):
        last_input(nn.Linear(2, 2), lambda: None)
