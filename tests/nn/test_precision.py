import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from strokelib.nn.precision import autocast, full_precision


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


GRADIENT = """
import torch
from torch import nn
from strokelib.nn.precision import autocast
torch.manual_seed(0)
for kernel, slices in ((3, 2), (5, 3), (3, 3)):
    x, weight = torch.randn(2, 16, slices, 4, 6), torch.randn(16, 16, *3 * (kernel,), requires_grad=True)
    found = []
    for amp in ("bf16", "float32"):
        with autocast(amp, "cpu"):
            y = torch.nn.functional.conv3d(x, weight, padding=kernel // 2)
        found.append(torch.autograd.grad(y.float().square().mean(), weight)[0])
    error = (found[0] - found[1]).abs().max() / found[1].abs().max()
    print(kernel, slices, y.dtype, float(error) < 0.02)
"""


def test_the_gradient_of_a_convolution_over_few_slices_takes_nothing_from_unwritten_memory():
    # The C library fills fresh memory with a pattern, so that a read of unwritten memory is seen every time.
    surroundings = os.environ | {"MALLOC_PERTURB_": "1"}
    ran = subprocess.run([sys.executable, "-c", GRADIENT], env=surroundings, capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in ran.stdout.splitlines()] == ["True"] * 3


@pytest.mark.parametrize(("slices", "dtype"), [(1, torch.float32), (2, torch.float32), (3, torch.bfloat16)])
def test_only_a_convolution_over_fewer_slices_than_its_kernel_leaves_bfloat16(slices, dtype):
    with autocast("bf16", "cpu"):
        assert nn.Conv3d(2, 4, 3, padding=1)(torch.zeros(1, 2, slices, 4, 4)).dtype == dtype
