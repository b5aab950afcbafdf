import pytest
import torch
from torch import nn

from strokelib.errors import ParameterError
from strokelib.nn.blocks import DoubleConv, count_parameters, pad_to
from strokelib.nn.unet import UNet


def test_the_published_size_has_31_038_274_parameters():
    with torch.device("meta"):
        assert count_parameters(UNet(4, 2, 64)) == 31_038_274


@pytest.mark.parametrize(
    ("dims", "size"), [(2, (16, 16)), (2, (112, 96)), (2, (37, 53)), (3, (16, 16, 16)), (3, (17, 18, 31))]
)
def test_logits_have_the_size_of_the_input_and_features_halve_it(dims, size):
    with torch.device("meta"):
        model = UNet(3, 2, width=4, dims=dims)
        x = torch.empty(2, 3, *size)
        features = model.encode(x)
        assert model(x).shape == (2, 2, *size)
    for level, feature in enumerate(features):
        assert feature.shape == (2, 4 * 2**level, *(side // 2**level for side in size))


def test_decoding_what_was_encoded_is_the_forward_pass():
    torch.manual_seed(0)
    model, x = UNet(1, 2, width=2).eval(), torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(model.decode(model.encode(x)), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 1, 15, 16), (1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
def test_an_input_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(ParameterError, match="input of the U-Net"):
        UNet(1, 2, width=2)(torch.zeros(shape))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_gradient_reaches_every_parameter(dims):
    torch.manual_seed(0)
    model = UNet(1, 2, width=2, depth=4, dims=dims)
    model(torch.randn(2, 1, *[16] * dims)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_output_depends_on_each_skip_connection():
    torch.manual_seed(0)
    model, x = UNet(1, 2, width=2), torch.randn(2, 1, 32, 32)
    features = model.encode(x)
    whole = model.decode(features)
    for level in range(len(features) - 1):
        without = [torch.zeros_like(f) if i == level else f for i, f in enumerate(features)]
        assert (model.decode(without) - whole).abs().max() > 1e-3


def test_it_overfits_one_case():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 32, 32)
    y = torch.zeros(1, 32, 32, dtype=torch.long)
    y[:, 8:20, 10:25] = 1
    model = UNet(1, 2, width=6, depth=3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    found = model(x).argmax(1)
    assert 2 * (found * y).sum() / (found.sum() + y.sum()) > 0.99


def test_another_normalisation_takes_the_place_of_every_batch_norm():
    model = UNet(1, 2, width=4, norm=lambda channels: nn.GroupNorm(2, channels))
    kinds = [type(m) for m in model.modules()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(nn.GroupNorm) == 18


def test_a_pair_of_convolutions_is_the_same_when_written_out():
    torch.manual_seed(0)
    block, x = DoubleConv(2, 3).eval(), torch.randn(1, 2, 8, 8)
    expected = x
    for place in (0, 3):
        expected = nn.functional.conv2d(expected, block[place].weight, padding=1) / (1 + block[place + 1].eps) ** 0.5
        expected = expected.clamp_min(0)
    torch.testing.assert_close(block(x), expected)


def test_padding_appends_zeros_at_the_end_and_never_crops():
    padded = pad_to(torch.ones(1, 1, 2, 3), (3, 5))
    assert padded.shape == (1, 1, 3, 5)
    assert padded[0, 0, :2, :3].eq(1).all()
    assert padded.sum() == 6
    with pytest.raises(ParameterError, match="feature map"):
        pad_to(torch.ones(1, 1, 4, 4), (3, 4))
