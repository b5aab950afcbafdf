"""Weights kept in the course of a training: when, where, and read back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from strokelib.errors import CheckpointError, ParameterError
from strokelib.papl.snapshots import Keeper, read_snapshot, snapshot_path, snapshot_steps


def network(value: float = 0.0) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in (*model.parameters(), model[1].running_mean):
            tensor.fill_(value)
    return model


def kept(folder):
    return sorted(path.name for path in folder.rglob("*.safetensors"))


def test_shares_of_a_training_become_rising_numbers_of_steps_each_once():
    assert snapshot_steps((), 60) == []
    assert snapshot_steps((0.9, 0.0, 0.25, 1.0, 0.251), 60) == [0, 15, 54, 60]
    # Epochs 0, 50 and 180 of 200, as published.
    assert snapshot_steps((0.0, 0.25, 0.9), 38_750) == [0, 9688, 34_875]


@pytest.mark.parametrize("share", [-0.01, 1.01])
def test_a_share_outside_the_training_is_refused(share):
    with pytest.raises(ParameterError, match="snapshots"):
        snapshot_steps((0.5, share), 60)


def test_weights_are_kept_after_the_named_steps_alone(tmp_path):
    keeper, model = Keeper(tmp_path, [0, 2, 3]), network()
    keeper.begin(model)
    for index in range(4):
        with torch.no_grad():
            model[0].weight.fill_(index + 1.0)
            model[1].running_mean.fill_(10.0 * (index + 1))
        keeper.after_step(model, index)
    assert kept(tmp_path) == ["step_00000000.safetensors", "step_00000002.safetensors", "step_00000003.safetensors"]
    for step in (0, 2, 3):
        found = read_snapshot(network(-1.0), tmp_path, step)
        assert found[0].weight.eq(step).all()
        assert found[1].running_mean.eq(10.0 * step).all()
        assert not found.training
    assert snapshot_path(tmp_path, 2).is_file()


def test_where_nothing_has_to_be_kept_the_loop_calls_nothing_and_no_folder_is_made(tmp_path):
    keeper = Keeper(tmp_path / "run", [])
    keeper.begin(network())
    assert keeper.after_step is None
    assert not (tmp_path / "run").exists()


def test_the_first_weights_are_not_replaced_when_a_killed_training_goes_on(tmp_path):
    keeper = Keeper(tmp_path, [0])
    keeper.begin(network(1.0))
    keeper.begin(network(2.0))
    assert read_snapshot(network(), tmp_path, 0)[0].bias.eq(1.0).all()


def test_without_a_start_among_the_steps_none_is_kept(tmp_path):
    Keeper(tmp_path, [5]).begin(network())
    assert kept(tmp_path) == []


def test_what_was_not_kept_and_another_network_are_refused(tmp_path):
    Keeper(tmp_path, [0]).begin(network())
    with pytest.raises(CheckpointError):
        read_snapshot(network(), tmp_path, 7)
    with pytest.raises(CheckpointError):
        read_snapshot(nn.Linear(3, 3), tmp_path, 0)
