"""Networks of slices and windows over whole stacks."""

import torch
from torch import nn

from strokelib.explain.stitching import by_slices, by_windows
from strokelib.infer import sliding_window


def test_slices_are_seen_one_by_one():
    torch.manual_seed(0)
    network, x = nn.Conv2d(2, 3, 3, padding=1), torch.randn(2, 2, 4, 5, 6)
    found = by_slices(network, x)
    assert found.shape == (2, 3, 4, 5, 6)
    torch.testing.assert_close(found[1, :, 2], network(x[1, :, 2][None])[0])


def test_windows_are_averaged_as_in_prediction_and_let_gradients_through():
    torch.manual_seed(0)
    network = nn.Conv3d(2, 1, 3, padding=1)
    x = torch.randn(2, 2, 5, 9, 6, requires_grad=True)
    found = by_windows(network, x, (4, 5, 6), (3, 3, 6))
    for one, image in zip(found, x.detach(), strict=True):
        torch.testing.assert_close(one, sliding_window(network, image, (4, 5, 6), (3, 3, 6), amp="float32"))
    found.sum().backward()
    assert (x.grad.abs() > 0).all()
