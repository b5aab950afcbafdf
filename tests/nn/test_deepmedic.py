import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.baselines.deepmedic import DeepMedic, Pathway, block_means, repeated
from strokelib.nn.blocks import count_parameters

CHANNELS = (30, 30, 40, 40, 40, 40, 50, 50)


def parameters(**settings):
    with torch.device("meta"):
        return count_parameters(DeepMedic(**settings))


def counted(pathways):
    """Weights of the convolutions, three numbers a channel for normalisation and PReLU, one bias."""
    pathway = 27 * 30 + sum(27 * a * b + 3 * a for a, b in itertools.pairwise(CHANNELS))
    joined = 50 * pathways
    return pathways * pathway + 3 * joined + 27 * joined * 250 + 3 * 250 + 250 * 250 + 3 * 250 + 250 + 1


@pytest.mark.parametrize(
    ("settings", "pathways", "exact"),
    [({}, 3, 2_005_461), ({"multiscale": False}, 1, 711_321), ({"factors": (3,)}, 2, counted(2))],
)
def test_the_count_is_that_of_its_layers_and_stands_in_the_docstring(settings, pathways, exact):
    assert parameters(**settings) == counted(pathways) == exact
    if pathways != 2:
        assert f"{exact:,}" in DeepMedic.__doc__


@pytest.mark.parametrize("size", [(6, 6, 6), (7, 9, 16), (30, 56, 48), (40, 256, 256)])
@pytest.mark.parametrize("factors", [(3, 5), (2,), ((1, 3, 3), 5)])
def test_logits_have_the_size_of_the_input(size, factors):
    with torch.device("meta"):
        assert DeepMedic(2, 3, factors, width=0.1)(torch.empty(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize(
    ("factors", "size"), [((3, 5), (6, 6, 6)), ((2,), (3, 3, 3)), (((1, 3, 3),), (2, 4, 4)), ((), (2, 2, 2))]
)
def test_the_smallest_volume_can_be_trained_on_and_a_smaller_one_is_refused_in_words(factors, size):
    model = DeepMedic(factors=factors, width=0.1)
    assert torch.isfinite(model(torch.randn(1, 1, *size))).all()
    for axis in range(3):
        smaller = [side - (axis == i) for i, side in enumerate(size)]
        with pytest.raises(ParameterError, match="input of DeepMedic"):
            model(torch.randn(1, 1, *smaller))


@pytest.mark.parametrize("shape", [(1, 2, 8, 8, 8), (1, 1, 8, 8), (1, 8, 8, 8)])
def test_wrong_axes_or_channels_are_refused_in_words(shape):
    with pytest.raises(ParameterError, match=r"wanted \(B, 1, D, H, W\)"):
        DeepMedic(width=0.1)(torch.zeros(shape))


@pytest.mark.parametrize("factors", [(3, 0), ((1, -1, 3),)])
def test_a_factor_below_one_is_refused(factors):
    with pytest.raises(ParameterError, match="factors"):
        DeepMedic(factors=factors, width=0.1)


def test_a_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    model = DeepMedic(width=0.1, dropout=0)
    model(torch.randn(2, 1, 7, 11, 12)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("factor", [(3, 3, 3), (1, 2, 5)])
def test_low_resolution_is_the_mean_of_blocks_and_goes_back_to_their_voxels(factor):
    size = (4, 7, 6)
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0))
    low = block_means(x, factor)
    back = repeated(low, factor, size)
    assert low.shape[2:] == tuple(-(-side // f) for side, f in zip(size, factor, strict=True))
    for place in itertools.product(*map(range, size)):
        block = tuple(slice(i // f * f, i // f * f + f) for i, f in zip(place, factor, strict=True))
        expected = x[(slice(None), slice(None), *block)].mean((2, 3, 4))
        torch.testing.assert_close(back[(slice(None), slice(None), *place)], expected)


def written_out(pathway, x, padding):
    """The pathway, layer by layer, with the centre of earlier maps where convolutions shrink them."""

    def plus(y, earlier):
        cut = (earlier.shape[2] - y.shape[2]) // 2
        y = y.clone()
        for channel in range(earlier.shape[1]):
            inner = earlier[:, channel]
            y[:, channel] += inner[:, cut:-cut, cut:-cut, cut:-cut] if cut else inner
        return y

    maps = [x]
    for number, layer in enumerate(pathway.layers, start=1):
        y = maps[-1]
        if number > 1:
            norm, prelu, layer = layer
            y = norm(y)
            y = torch.where(y > 0, y, y * prelu.weight[:, None, None, None])
        y = functional.conv3d(y, layer.weight, padding=padding)
        maps.append(plus(y, maps[number - 2]) if number in (4, 6, 8) else y)
    return maps[-1]


def test_a_pathway_is_the_same_when_written_out():
    torch.manual_seed(0)
    pathway, x = Pathway(1, (3, 3, 4, 4, 4, 4, 5, 5)).eval(), torch.randn(1, 1, 6, 7, 8)
    torch.testing.assert_close(pathway(x), written_out(pathway, x, padding=1))


def test_away_from_the_border_padded_convolutions_give_what_shrinking_ones_give():
    torch.manual_seed(0)
    pathway, x = Pathway(1, (3, 3, 4, 4, 4, 4, 5, 5)).eval(), torch.randn(1, 1, 19, 19, 19)
    padded, shrunk = pathway(x), written_out(pathway, x, padding=0)
    assert shrunk.shape[2:] == (3, 3, 3)
    torch.testing.assert_close(padded[..., 8:-8, 8:-8, 8:-8], shrunk)
    outside = functional.pad(x, [8] * 6)
    assert (written_out(pathway, outside, padding=0) - padded).abs().max() > 1e-3


def test_pathways_are_joined_and_the_second_layer_after_adds_what_was_joined():
    torch.manual_seed(0)
    model, x = DeepMedic(factors=(2,), width=0.1).eval(), torch.randn(1, 1, 5, 6, 7)
    full, low = model.pathways
    joined = torch.cat([full(x), repeated(low(block_means(x, (2, 2, 2))), (2, 2, 2), (5, 6, 7))], 1)
    y = model.hidden(model.join(joined))
    y[:, : joined.shape[1]] += joined
    torch.testing.assert_close(model(x), model.head(y))


def test_dropout_stands_before_the_last_two_layers_alone():
    model = DeepMedic(width=0.1)
    places = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)]
    assert places == ["hidden.2", "head.2"]
    assert not any(isinstance(m, nn.Dropout) for m in DeepMedic(width=0.1, dropout=0).modules())


def test_without_multiscale_far_context_is_not_seen():
    torch.manual_seed(0)
    whole = DeepMedic(width=0.1).eval()
    alone = DeepMedic(width=0.1, multiscale=False).eval()
    alone.pathways[0].load_state_dict(whole.pathways[0].state_dict())
    x = torch.randn(1, 1, 6, 6, 30)
    changed = x.clone()
    changed[..., 15:] += 1
    # 8 layers and the joining one reach 9 voxels; the first 6 columns are out of reach of column 15.
    assert torch.equal(alone(changed)[..., :6], alone(x)[..., :6])
    assert (whole(changed)[..., :6] - whole(x)[..., :6]).abs().max() > 1e-4


def test_it_overfits_one_case():
    torch.manual_seed(0)
    y = torch.zeros(1, 1, 6, 12, 12)
    y[..., 2:4, 3:8, 2:7] = 1
    x = torch.randn(1, 1, 6, 12, 12) + y
    model = DeepMedic(width=0.2, dropout=0)
    start = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()

    def dice(network):
        found = (network(x) > 0).float()
        return 2 * (found * y).sum() / (found.sum() + y.sum())

    assert dice(start) < 0.5
    assert dice(model) > 0.98
