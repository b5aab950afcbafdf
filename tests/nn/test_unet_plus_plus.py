import pytest
import torch
from torch import nn

from strokelib.errors import ParameterError
from strokelib.nn.baselines.unet_plus_plus import Node, UNetPlusPlus
from strokelib.nn.blocks import DoubleConv, count_parameters
from strokelib.nn.unet import UNet


def parameters(*channels, **settings):
    with torch.device("meta"):
        return count_parameters(UNetPlusPlus(*channels, **settings))


def test_the_unit_of_the_paper_has_the_published_counts_with_and_without_the_nest():
    assert parameters(1, 1, unit="dropout") == 9_041_601
    assert parameters(1, 1, unit="dropout", nested=False) == 7_759_521


def test_counts_stand_in_the_docstring():
    counts = [parameters(), parameters(nested=False), parameters(width=64), parameters(1, 1, unit="dropout")]
    assert [f"{count / 1e6:.1f}" for count in counts] == ["9.0", "7.8", "36.2", "9.0"]
    for count in counts:
        assert f"{count:,}" in UNetPlusPlus.__doc__


def test_deep_supervision_adds_three_heads():
    added = parameters(deep_supervision=True) - parameters()
    assert added == 3 * (32 * 2 + 2)
    assert f"{added} parameters more" in UNetPlusPlus.__doc__


@pytest.mark.parametrize("size", [(256, 256), (96, 112), (16, 16), (37, 53)])
@pytest.mark.parametrize("settings", [{}, {"nested": False}, {"deep_supervision": True}, {"unit": "dropout"}])
def test_logits_have_the_size_of_the_input_and_features_halve_it(size, settings):
    with torch.device("meta"):
        model, x = UNetPlusPlus(1, 3, width=8, **settings), torch.empty(2, 1, *size)
        features = model.encode(x)
        assert model(x).shape == (2, 3, *size)
        assert {branch.shape for branch in model.branches(features)} == {(2, 3, *size)}
    assert model.feature_channels == features[-1].shape[1] == 128
    for level, feature in enumerate(features):
        assert feature.shape == (2, 8 * 2**level, *(side // 2**level for side in size))


@pytest.mark.parametrize("shape", [(1, 1, 15, 16), (1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
def test_an_input_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(ParameterError, match=r"wanted \(B, 1, H, W\) with sides of at least 16"):
        UNetPlusPlus(width=2)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"unit": "none"}, "unit: found none; wanted batch_norm or dropout"),
        ({"depth": 1}, "depth of the U-Net.*: found 1"),
        ({"nested": False, "deep_supervision": True}, "found deep_supervision=True, nested=False"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(ParameterError, match=words):
        UNetPlusPlus(width=2, **settings)


@pytest.mark.parametrize(
    "settings", [{}, {"deep_supervision": True}, {"nested": False}, {"unit": "dropout"}, {"depth": 2}]
)
def test_a_gradient_reaches_every_parameter(settings):
    torch.manual_seed(0)
    model = UNetPlusPlus(width=4, **settings)
    model(torch.randn(2, 1, 48, 48)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_it_overfits_one_case():
    torch.manual_seed(0)
    y = torch.zeros(1, 32, 32, dtype=torch.long)
    y[:, 8:20, 10:25] = 1
    x = torch.randn(1, 1, 32, 32) + 2 * y[:, None]
    model = UNetPlusPlus(width=4, depth=4, deep_supervision=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        sum(nn.functional.cross_entropy(branch, y) for branch in model.branches(model.encode(x))).backward()
        optimizer.step()
    found = model(x).argmax(1)
    assert 2 * (found * y).sum() / (found.sum() + y.sum()) > 0.98


@pytest.mark.parametrize("size", [(16, 16), (19, 22)])
def test_every_map_takes_in_all_earlier_ones_of_its_level_when_written_out(size):
    torch.manual_seed(0)
    model, image = UNetPlusPlus(width=2, depth=4, deep_supervision=True).eval(), torch.randn(1, 1, *size)
    x = {(i, 0): feature for i, feature in enumerate(model.encode(image))}
    for j in (1, 2, 3):
        for i in range(4 - j):
            node = model.decoder[j - 1][str(i)]
            coarse = node.up(x[i + 1, j - 1])
            joined = torch.zeros(1, (j + 1) * 2 * 2**i, *x[i, 0].shape[2:])
            for k in range(j):
                joined[:, k * 2 * 2**i : (k + 1) * 2 * 2**i] = x[i, k]
            joined[:, j * 2 * 2**i :, : coarse.shape[2], : coarse.shape[3]] = coarse
            x[i, j] = node.conv(joined)
    heads = [*model.more_heads, model.head]
    expected = [head(x[0, j]) for j, head in enumerate(heads, 1)]
    found = model.branches(model.encode(image))
    assert len(found) == 3
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(model(image), sum(expected) / 3)


def test_without_the_nest_it_is_the_u_net_number_for_number():
    torch.manual_seed(0)
    model, plain, x = UNetPlusPlus(width=4, nested=False), UNet(1, 2, width=4), torch.randn(2, 1, 32, 48)
    for found, wanted in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        wanted.copy_(found)
    torch.testing.assert_close(model(x), plain(x), rtol=0, atol=0)


def test_the_output_listens_to_every_step_of_the_nest_and_differs_without_it():
    torch.manual_seed(0)
    model, x = UNetPlusPlus(width=4), torch.randn(2, 1, 32, 32)
    plain = UNetPlusPlus(width=4, nested=False)
    kept = {name: value for name, value in model.state_dict().items() if "conv.0" not in name}
    plain.load_state_dict({name: kept.get(name, value) for name, value in plain.state_dict().items()})
    whole = model(x)
    assert (plain(x) - whole).abs().max() > 1e-3
    inner = [node for column in model.decoder[:-1] for node in column.values()]
    assert len(inner) == 9
    for node in inner:
        handle = node.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
        assert (model(x) - whole).abs().max() > 1e-3
        handle.remove()


def test_the_unit_of_the_paper_drops_half_in_training_alone_and_normalises_nothing():
    torch.manual_seed(0)
    model, x = UNetPlusPlus(width=8, depth=3, unit="dropout"), torch.randn(1, 1, 32, 32)
    kinds = [type(m) for m in model.modules()]
    assert nn.BatchNorm2d not in kinds
    assert DoubleConv not in kinds
    assert kinds.count(nn.Dropout) == 2 * (3 + kinds.count(Node))
    share = model.train().encode(x)[0].eq(0).float().mean() - model.eval().encode(x)[0].eq(0).float().mean()
    assert 0.15 < share < 0.45
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)
    assert 0.1 < model.encode(x)[-1].std() < 10


def test_channels_last_gives_the_same():
    torch.manual_seed(0)
    model, x = UNetPlusPlus(width=8, deep_supervision=True).eval(), torch.randn(2, 1, 48, 32)
    expected = model(x)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected)
