import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from network_checks import overfitted_dice, without_gradient

from strokelib.errors import ParameterError
from strokelib.nn.baselines.attention_unet import AttentionGate, AttentionUNet, GatedUp
from strokelib.nn.blocks import count_parameters
from strokelib.nn.unet import UNet


def parameters(*channels, **settings):
    with torch.device("meta"):
        return count_parameters(AttentionUNet(*channels, **settings))


def test_the_published_size_has_the_count_of_the_common_form():
    assert parameters(3, 1) == 34_878_573
    assert f"{parameters() / 1e6:.2f}" == "34.88"


def test_counts_with_and_without_gates_stand_in_the_docstring():
    gates = sum(2 * (c * (c // 2) + 3 * (c // 2)) + c // 2 + 3 for c in (64, 128, 256, 512))
    assert parameters() - parameters(gates=False) == gates
    for count in (parameters(3, 1), parameters(), parameters(gates=False)):
        assert f"{count:,}" in AttentionUNet.__doc__


@pytest.mark.parametrize("size", [(256, 256), (96, 112), (16, 16), (37, 53)])
def test_logits_have_the_size_of_the_input_and_features_halve_it(size):
    with torch.device("meta"):
        model, x = AttentionUNet(1, 3, width=8), torch.empty(2, 1, *size)
        features = model.encode(x)
        assert model(x).shape == (2, 3, *size)
    for level, feature in enumerate(features):
        assert feature.shape == (2, 8 * 2**level, *(side // 2**level for side in size))


@pytest.mark.parametrize("network", [UNet, AttentionUNet])
@pytest.mark.parametrize("depth", [1, 3])
def test_feature_channels_are_those_of_the_coarsest_map(network, depth):
    with torch.device("meta"):
        model = network(1, 2, width=4, depth=depth)
        assert model.encode(torch.empty(1, 1, 16, 16))[-1].shape[1] == model.feature_channels == 4 * 2 ** (depth - 1)


def test_decoding_what_was_encoded_is_the_forward_pass():
    torch.manual_seed(0)
    model, x = AttentionUNet(width=2).eval(), torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(model.decode(model.encode(x)), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 1, 15, 16), (1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
def test_an_input_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(ParameterError, match=r"wanted \(B, 1, H, W\) with sides of at least 16"):
        AttentionUNet(width=2)(torch.zeros(shape))


@pytest.mark.parametrize("gates", [True, False])
def test_a_gradient_reaches_every_parameter(gates):
    torch.manual_seed(0)
    # With the running statistics: those of a batch cancel a bias in front of them.
    model = AttentionUNet(width=4, gates=gates).eval()
    model(torch.randn(2, 1, 32, 32)).square().sum().backward()
    assert without_gradient(model) == []


def test_in_training_a_gradient_reaches_all_but_the_biases_that_the_batch_cancels():
    torch.manual_seed(0)
    model = AttentionUNet(width=4).double()
    model(torch.randn(2, 1, 32, 32, dtype=torch.float64)).square().sum().backward()
    cancelled = {
        f"{name}.{place}.bias"
        for name, block in model.named_modules()
        if isinstance(block, nn.Sequential)
        for place, layer in enumerate(block)
        if isinstance(layer, nn.Conv2d)
    }
    assert len(cancelled) == 18 + 4 + 12
    for name, parameter in model.named_parameters():
        assert (parameter.grad.abs().max() > 1e-8) == (name not in cancelled), name


def test_it_overfits_one_case():
    assert overfitted_dice(lambda: AttentionUNet(width=4, depth=4), steps=60, rate=1e-2) > 0.98


def test_without_gates_the_same_weights_give_another_output_and_open_gates_give_the_same():
    torch.manual_seed(0)
    gated, x = AttentionUNet(width=4).eval(), torch.randn(2, 1, 32, 32)
    plain = AttentionUNet(width=4, gates=False).eval()
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if ".gate." not in k})
    assert (gated(x) - plain(x)).abs().max() > 1e-3
    for module in gated.modules():
        if isinstance(module, AttentionGate):
            nn.init.constant_(module.psi[1].bias, 100)
    torch.testing.assert_close(gated(x), plain(x))


def test_a_gate_is_the_same_when_written_out():
    torch.manual_seed(0)
    gate, skip, signal = AttentionGate(4).eval(), torch.randn(1, 4, 3, 2), torch.randn(1, 4, 3, 2)
    scale = (1 + gate.psi[1].eps) ** 0.5

    def projected(layers, pixel):
        return (layers[0].weight[..., 0, 0] @ pixel + layers[0].bias) / scale

    found, weights = gate(skip, signal), gate.weights(skip, signal)
    assert weights.shape == (1, 1, 3, 2)
    for i in range(3):
        for j in range(2):
            inner = projected(gate.skip, skip[0, :, i, j]) + projected(gate.signal, signal[0, :, i, j])
            a = torch.sigmoid(projected(gate.psi, inner.clamp_min(0)))
            torch.testing.assert_close(weights[0, :, i, j], a)
            torch.testing.assert_close(found[0, :, i, j], a * skip[0, :, i, j])


def test_the_gate_listens_to_the_coarser_level():
    torch.manual_seed(0)
    block, skip = GatedUp(8, 4).eval(), torch.randn(1, 4, 6, 6)
    seen = []
    block.gate.register_forward_hook(lambda _, inputs, output: seen.append((inputs, output)))
    for coarse in torch.randn(2, 1, 8, 3, 3):
        block(coarse, skip)
    (first, second) = seen
    assert torch.equal(first[0][0], second[0][0])
    assert (first[1] - second[1]).abs().max() > 1e-3


def test_channels_last_gives_the_same():
    torch.manual_seed(0)
    model, x = AttentionUNet(width=8).eval(), torch.randn(2, 1, 48, 32)
    expected = model(x)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected)
