import pytest
import torch
from torch import nn

from strokelib.errors import ParameterError
from strokelib.nn.normalisation import SwitchNorm

INSTANCE, LAYER, BATCH = 0, 1, 2


def only(layer, scope):
    """The layer with all its weight on one scope."""
    with torch.no_grad():
        for logits in (layer.mean_logits, layer.variance_logits):
            logits.fill_(-1e4)[scope] = 0
    return layer


def by_hand(x, layer):
    """The formula in loops over images and channels."""
    w, v = ((raw.exp() / raw.exp().sum()).tolist() for raw in (layer.mean_logits, layer.variance_logits))
    y = torch.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            scopes = [x[n, c], x[n], x[:, c]]
            means = [s.sum() / s.numel() for s in scopes]
            variances = [((s - m) ** 2).sum() / s.numel() for s, m in zip(scopes, means, strict=True)]
            mean = sum(a * m for a, m in zip(w, means, strict=True))
            variance = sum(a * s for a, s in zip(v, variances, strict=True))
            y[n, c] = layer.weight[c] * (x[n, c] - mean) / (variance + layer.eps) ** 0.5 + layer.bias[c]
    return y


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (1, 4, 5, 6), (2, 3, 2, 3, 4), (2, 3, 1, 1)])
def test_it_is_the_formula_in_loops(shape):
    torch.manual_seed(0)
    layer = SwitchNorm(shape[1], dims=len(shape) - 2).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(shape, dtype=torch.float64) * 3 + torch.arange(shape[1]).view(1, -1, *[1] * (len(shape) - 2))
    y = layer(x)
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, by_hand(x, layer))


def test_a_small_case_worked_by_hand():
    # One image, channels {0, 2} and {4, 4}: instance means 1 and 4, variances 1 and 0; batch the same; layer 2.5 and
    # 2.75. Equal shares give means 1.5 and 3.5, variances 4.75 / 3 and 2.75 / 3.
    x = torch.tensor([[[[0.0, 2.0]], [[4.0, 4.0]]]])
    first, second = (4.75 / 3) ** -0.5, (2.75 / 3) ** -0.5
    expected = torch.tensor([[[[-1.5 * first, 0.5 * first]], [[0.5 * second, 0.5 * second]]]])
    torch.testing.assert_close(SwitchNorm(2, eps=0.0)(x), expected)


def test_the_three_scopes_start_with_equal_shares():
    layer = SwitchNorm(4)
    for logits in (layer.mean_logits, layer.variance_logits):
        assert logits.softmax(0).tolist() == pytest.approx([1 / 3] * 3)
    assert sum(p.numel() for p in layer.parameters()) == 2 * 4 + 6


def test_with_one_scope_alone_it_is_torchs_instance_layer_or_batch_normalisation():
    torch.manual_seed(0)
    x = torch.randn(3, 4, 6, 5) * 2 + 1
    for scope, theirs in ((INSTANCE, nn.InstanceNorm2d(4)), (LAYER, nn.GroupNorm(1, 4)), (BATCH, nn.BatchNorm2d(4))):
        torch.testing.assert_close(only(SwitchNorm(4), scope)(x), theirs(x), rtol=1e-4, atol=1e-5)
    volume = torch.randn(2, 4, 3, 6, 5)
    ours = only(SwitchNorm(4, dims=3), BATCH)(volume)
    torch.testing.assert_close(ours, nn.BatchNorm3d(4)(volume), rtol=1e-4, atol=1e-5)


def test_running_statistics_are_moving_averages_as_in_batch_normalisation():
    torch.manual_seed(0)
    ours, theirs = only(SwitchNorm(3, momentum=0.9), BATCH), nn.BatchNorm2d(3, momentum=0.1)
    variance = torch.ones(3)
    for _ in range(4):
        x = torch.randn(2, 3, 4, 4) * 3 + 5
        ours(x), theirs(x)
        variance = 0.9 * variance + 0.1 * x.var(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_variance, variance)
    theirs.running_var.copy_(variance)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


def test_in_evaluation_an_image_does_not_depend_on_its_neighbours_and_the_state_rests():
    torch.manual_seed(0)
    layer, x = SwitchNorm(3), torch.randn(4, 3, 5, 5)
    layer(x)
    layer.eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name
    layer.train()
    assert (layer(x)[:1] - layer(x[:1])).abs().max() > 1e-3


def test_the_state_travels_with_the_weights():
    layer = SwitchNorm(2)
    assert set(layer.state_dict()) == {
        "weight",
        "bias",
        "mean_logits",
        "variance_logits",
        "running_mean",
        "running_variance",
    }


def test_statistics_are_float32_under_bfloat16():
    torch.manual_seed(0)
    layer = SwitchNorm(3)
    x = (torch.randn(2, 3, 40, 40) + 100).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert layer.running_mean.dtype == torch.float32
    assert torch.equal(y, SwitchNorm(3)(x.float()).bfloat16())


def test_the_memory_layout_of_the_input_is_kept():
    x = torch.randn(2, 8, 6, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    layer = SwitchNorm(8)
    y = layer(last)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, layer(x))


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer = SwitchNorm(2).double()
    x = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


def test_a_constant_image_in_a_batch_of_one_gives_the_bias_and_a_finite_gradient():
    layer = only(SwitchNorm(2), BATCH)
    x = torch.full((1, 2, 4, 4), 7.0, requires_grad=True)
    y = layer(x)
    torch.testing.assert_close(y, torch.zeros_like(y))
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("shape", [(1, 2, 4, 4), (1, 3, 4), (1, 3, 4, 4, 4)])
def test_an_input_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(ParameterError, match=r"switchable normalisation.*wanted \(B, 3, H, W\)"):
        SwitchNorm(3)(torch.zeros(shape))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dims", "shape"), [(2, (3, 4, 5, 6)), (3, (2, 3, 3, 4, 2))])
def test_the_gradient_by_hand_is_that_of_finite_differences(dims, shape, training):
    generator = torch.Generator().manual_seed(0)
    norm = SwitchNorm(shape[1], dims).double().train(training)
    for tensor in (*norm.parameters(), norm.running_mean):
        tensor.data.normal_(generator=generator)
    norm.running_variance.uniform_(0.5, 2, generator=generator)
    names = [name for name, _ in norm.named_parameters()]

    def apply(x, *parameters):
        buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
        given = dict(zip(names, parameters, strict=True)) | buffers
        return torch.func.functional_call(norm, given, (x,))

    x = torch.randn(shape, dtype=torch.double, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(apply, (x, *(p.detach().clone().requires_grad_() for p in norm.parameters())))
