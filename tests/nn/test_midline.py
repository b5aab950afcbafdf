"""The mid-sagittal line network."""

import itertools

import pytest
import torch

from strokelib.nn.blocks import count_parameters
from strokelib.nn.midline import MidlineNet


@pytest.mark.parametrize("size", [(112, 96), (96, 80), (50, 64)])
def test_each_slice_gives_two_points_inside_the_image(size):
    ends = MidlineNet(8)(torch.rand(3, 1, *size))
    assert ends.shape == (3, 2, 2)
    assert (ends >= 0).all()
    assert (ends[..., 0] <= size[1] - 1).all()
    assert (ends[..., 1] <= size[0] - 1).all()


def test_gradients_reach_every_parameter():
    model = MidlineNet(8)
    (model(torch.rand(2, 1, 48, 48)) ** 2).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert sum(bool((p.grad != 0).any()) for p in model.parameters()) >= len(list(model.parameters())) - 1


def test_the_parameter_count_is_that_of_its_layers():
    w = 12
    sizes = (1, w, 2 * w, 3 * w, 3 * w, 3 * w)
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(sizes))
    assert count_parameters(MidlineNet(w)) == convolutions + 2 * sum(sizes[1:]) + 2 * (3 * w + 1)


def test_a_shifted_blob_shifts_the_points_of_a_peaked_map():
    model = MidlineNet(4)
    logits = torch.full((1, 2, 10, 8), -50.0)
    logits[0, 0, 2, 3], logits[0, 1, 9, 7] = 50.0, 50.0
    model.heat_maps = lambda _: logits
    ends = model(torch.zeros(1, 1, 40, 32))
    torch.testing.assert_close(ends[0], torch.tensor([[12.0, 8.0], [28.0, 36.0]]))


def test_it_overfits_one_slice():
    torch.manual_seed(0)
    image, truth = torch.zeros(1, 1, 48, 48), torch.tensor([[[20.0, 6.0], [28.0, 40.0]]])
    image[..., 6:41, 10:40] = torch.rand(35, 30) * 0.1 + 0.4
    model = MidlineNet(8)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        loss = (model(image) - truth).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.0
