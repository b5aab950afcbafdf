import torch

from strokelib.nn.precision import full_precision


def test_within_autocast_a_product_keeps_the_digits_that_bfloat16_drops():
    a, b = torch.tensor([[1.0, 0.003]]), torch.tensor([[1.0], [1.0]])
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ b).dtype == torch.bfloat16
        with full_precision(a):
            found = a @ b
        assert (a @ b).dtype == torch.bfloat16
    torch.testing.assert_close(found, torch.tensor([[1.003]]))


def test_a_tensor_without_values_has_no_device_to_switch():
    x = torch.empty(2, 2, device="meta")
    with torch.autocast("cpu", torch.bfloat16), full_precision(x):
        assert (x @ x).shape == (2, 2)
