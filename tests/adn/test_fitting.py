"""What all trainings of the paper share: AdamW, its schedule, the weights that are kept, and the missed lesion."""

import os
import sys

import numpy as np
import pytest
import torch
from torch import nn

from strokelib.adn.fitting import fit_heads
from strokelib.adn.recipe import VolumeRecipe
from strokelib.data.loading import Batch

sys.path.insert(0, os.path.dirname(__file__))
import made_heads


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_heads.steady(monkeypatch)


class Constant(nn.Module):
    """One weight that the loss pushes with a constant gradient."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.ones(1))


def trained(values, folder, **changes):
    """Weight and history of a training whose validations give these values; a step's gradient is 2."""
    steps = len(values)
    used = VolumeRecipe.at("smoke", **{"steps": steps, "lr": 0.01, "ema_decay": None, "validations": steps, **changes})
    model, scripted = Constant(), iter(values)
    batches = [Batch(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1))]
    how = {"seed": 0, "out": folder}

    def step(network, batch, index):
        return 2.0 * network.value.sum()

    def validate(network):
        return {"value": next(scripted)}

    history = fit_heads(model, batches, step, validate, "value", used, **how)
    return model.value.item(), history


def test_the_optimiser_is_adamw_with_a_learning_rate_that_falls_as_a_power(tmp_path):
    value, history = trained([0.0, 0.1, 0.2, 0.3, 0.4], tmp_path, clip_norm=None)
    rates = history.curve("lr", "train")[1]
    np.testing.assert_allclose(rates, [0.01 * (1 - k / 5) ** 0.9 for k in range(5)])
    expected = 1.0
    for rate in rates:  # of a constant gradient Adam's step is the learning rate
        expected = expected * (1 - rate * 5e-4) - rate
    assert value == pytest.approx(expected, rel=1e-6)
    assert history.curve("value")[0].tolist() == [1, 2, 3, 4, 5]


def test_the_weights_of_the_best_validation_are_kept_and_the_last_one_stands_in_the_history(tmp_path):
    best, history = trained([0.1, 0.6, 0.2, 0.6, 0.3], tmp_path / "five")
    assert (history.best_step, history.steps) == (2, 5)
    assert history.curve("value")[1].tolist() == [0.1, 0.6, 0.2, 0.6, 0.3]
    expected = 1.0
    for rate in history.curve("lr", "train")[1][:2]:
        expected = expected * (1 - rate * 5e-4) - rate
    assert best == pytest.approx(expected, rel=1e-6)


def test_gradients_are_clipped_where_the_recipe_says_so_and_validations_are_spread_over_the_run(tmp_path):
    _, history = trained([0.0] * 4, tmp_path / "clipped", clip_norm=0.5, validations=2)
    assert history.curve("gradient_norm", "train")[1].tolist() == [2.0] * 4
    assert history.curve("value")[0].tolist() == [2, 4]
    _, history = trained([0.0] * 2, tmp_path / "few", validations=50)
    assert history.curve("value")[0].tolist() == [1, 2]
