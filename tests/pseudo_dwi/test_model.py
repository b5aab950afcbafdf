import pytest
import torch
from torch import nn

from strokelib import manifest
from strokelib.errors import ParameterError
from strokelib.nn.blocks import count_parameters
from strokelib.nn.excitation import SqueezeExcitation
from strokelib.nn.normalisation import SwitchNorm
from strokelib.nn.unet import UNet
from strokelib.pseudo_dwi.model import Chain, ContextEncoder, DwiGenerator, FeatureExtractor, PseudoDwi, SLNet, xavier

VARIANTS = {
    "SLNet": {},
    "SLNet (w/o SE)": {"excitation": False},
    "SLNet (w/o SN)": {"switchable": False},
}


def slices(batch=2, size=(16, 16), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(batch, c, *size, generator=generator) for name, c in (("maps", 4), ("mip", 1), ("frames", 6))
    }


def silent_parameters(model):
    return [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]


@pytest.mark.parametrize(
    ("name", "exact"), [("SLNet", 33_835_822), ("SLNet (w/o SE)", 31_038_382), ("SLNet (w/o SN)", 33_835_714)]
)
def test_slnet_and_its_reductions_have_the_parameters_of_table_3_in_every_printed_digit(name, exact):
    with torch.device("meta"):
        found = count_parameters(SLNet(4, 2, **VARIANTS[name]))
    table = manifest.published("pseudo_dwi", 3)
    cell = table[(table["method"] == name) & (table["metric"] == "Parameters")]["published_cell"].item()
    assert found == exact
    assert f"{found / 1e6:.2f}" == cell


def test_extractor_and_generator_are_the_u_net_of_31_04_m_with_six_channels_in_and_one_out():
    with torch.device("meta"):
        expected = count_parameters(UNet(6, 1))
        assert count_parameters(FeatureExtractor()) == count_parameters(DwiGenerator()) == expected
    assert f"{expected / 1e6:.2f}" == "31.04"


@pytest.mark.parametrize("size", [(16, 16), (48, 40), (37, 53)])
def test_each_network_keeps_the_size_of_the_slice(size):
    with torch.device("meta"):
        assert FeatureExtractor(6, width=4)(torch.empty(2, 6, *size)).shape == (2, 1, *size)
        assert DwiGenerator(5, width=4)(torch.empty(2, 5, *size)).shape == (2, 1, *size)
        for settings in VARIANTS.values():
            assert SLNet(4, 3, width=4, **settings)(torch.empty(2, 4, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("network", [FeatureExtractor, DwiGenerator])
def test_extractor_and_generator_are_the_sigmoid_of_a_u_net(network):
    torch.manual_seed(0)
    model, x = network(6, width=4, depth=3).eval(), torch.randn(2, 6, 16, 16)
    plain = UNet(6, 1, width=4, depth=3).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x), 1 / (1 + torch.exp(-plain(x))))


def test_an_image_is_float32_under_bfloat16_and_stays_float64():
    model, x = DwiGenerator(1, width=2, depth=2), torch.rand(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).dtype == torch.float32
    assert model.double()(x.double()).dtype == torch.float64


def test_slnet_has_a_switchable_normalisation_for_each_batch_normalisation_and_one_excitation_a_level():
    def kinds(**settings):
        names = [type(m) for m in SLNet(width=2, **settings).modules()]
        return [names.count(kind) for kind in (nn.BatchNorm2d, SwitchNorm, SqueezeExcitation)]

    assert kinds() == [0, 18, 5]
    assert kinds(switchable=False) == [18, 0, 5]
    assert kinds(excitation=False) == [0, 18, 0]


def test_each_part_of_slnet_changes_the_output():
    torch.manual_seed(0)
    whole, x = SLNet(width=4).eval(), torch.randn(1, 1, 32, 32)
    plain = SLNet(width=4, excitation=False).eval()
    renamed = {
        name.replace(".0.", ".", 1) if name.startswith("encoder") else name: v for name, v in whole.state_dict().items()
    }
    plain.load_state_dict({name: v for name, v in renamed.items() if name in plain.state_dict()})
    assert (whole(x) - plain(x)).abs().max() > 1e-3
    batch = SLNet(width=4, switchable=False).eval()
    batch.load_state_dict({n: v for n, v in whole.state_dict().items() if n in batch.state_dict()}, strict=False)
    assert (whole(x) - batch(x)).abs().max() > 1e-3


def test_skip_connections_and_pool_carry_the_rescaled_features():
    torch.manual_seed(0)
    model, x = SLNet(width=4, depth=3).eval(), torch.randn(1, 1, 16, 16)
    fine, middle, _ = model.encode(x)
    pair, excitation = model.encoder[0]
    torch.testing.assert_close(fine, excitation.scales(pair(x))[..., None, None] * pair(x))
    torch.testing.assert_close(middle, model.encoder[1](model.pool(fine)))


def test_slnet_without_switch_and_excitation_is_the_u_net():
    outputs = []
    for build in (lambda: SLNet(1, 2, 4, 3, switchable=False, excitation=False), lambda: UNet(1, 2, 4, 3)):
        torch.manual_seed(0)
        outputs.append(build().eval()(torch.ones(1, 1, 16, 16)))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)


def test_slnet_overfits_one_case():
    torch.manual_seed(0)
    x, y = torch.randn(1, 1, 32, 32), torch.zeros(1, 32, 32, dtype=torch.long)
    y[:, 8:20, 10:25] = 1
    model = xavier(SLNet(width=6, depth=3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    found = model(x).argmax(1)
    assert 2 * (found * y).sum() / (found.sum() + y.sum()) > 0.99


@pytest.mark.parametrize("shape", [(1, 1, 15, 16), (1, 2, 16, 16), (1, 16, 16)])
def test_a_slice_that_does_not_fit_is_refused_in_words(shape):
    for model in (SLNet(1, width=2), DwiGenerator(1, width=2), FeatureExtractor(1, width=2)):
        with pytest.raises(ParameterError, match=r"wanted \(B, 1, H, W\) with sides of at least 16"):
            model(torch.zeros(shape))


@pytest.mark.parametrize("size", [(256, 256), (48, 40), (37, 53), (5, 7)])
def test_the_context_encoder_makes_16_numbers_of_an_image_of_any_size(size):
    with torch.device("meta"):
        assert ContextEncoder()(torch.empty(3, 1, *size)).shape == (3, 16)


def test_the_context_encoder_has_five_convolutions_with_stride_2_and_two_adaptive_pools():
    encoder = ContextEncoder(frozen=False)
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.kernel_size, m.stride, m.out_channels) for m in convolutions] == [
        ((3, 3), (2, 2), channels) for channels in (16, 32, 64, 32, 16)
    ]
    assert [m.output_size for m in encoder.modules() if isinstance(m, nn.AdaptiveAvgPool2d)] == [8, 1]
    assert count_parameters(encoder) == 46_384


def test_the_context_encoder_is_frozen_unless_told_otherwise_and_gradients_pass_through_it():
    torch.manual_seed(0)
    for frozen, trainable in ((True, 0), (False, 10)):
        encoder, image = ContextEncoder(frozen=frozen), torch.rand(1, 1, 32, 32, requires_grad=True)
        encoder(image).abs().sum().backward()
        assert sum(p.requires_grad for p in encoder.parameters()) == trainable
        assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in encoder.parameters()) == trainable
        assert image.grad.isfinite().all()
        assert (image.grad != 0).float().mean() > 0.95


def test_the_code_tells_a_lesion_from_none_and_from_the_same_lesion_elsewhere():
    torch.manual_seed(0)
    encoder = xavier(ContextEncoder())
    none, here, there = torch.zeros(3, 1, 1, 64, 64)
    here[..., 10:20, 10:20] = 1
    there[..., 40:50, 30:40] = 1
    with torch.no_grad():
        codes = [encoder(image) for image in (none, here, there)]
    for other in (codes[0], codes[2]):
        assert (other - codes[1]).abs().sum() > 0.01


def test_wrong_widths_or_channels_of_the_context_encoder_are_refused_in_words():
    with pytest.raises(ParameterError, match="widths of the context encoder"):
        ContextEncoder((8, 16))
    for shape in [(1, 2, 16, 16), (1, 16, 16)]:
        with pytest.raises(ParameterError, match="input of the context encoder"):
            ContextEncoder()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("inputs", "channels"),
    [(("maps", "mip", "frames"), 6), (("frames", "maps"), 5), (("maps", "mip"), 5), (("maps",), 4), (("frames",), 1)],
)
@pytest.mark.parametrize("segment_maps", [False, True])
def test_the_chain_has_the_parts_and_channels_that_its_inputs_ask_for(inputs, channels, segment_maps):
    with torch.device("meta"):
        chain = PseudoDwi(inputs, segment_maps, width=4, depth=3)
        given = {name: image.to("meta") for name, image in slices(size=(17, 20)).items()}
        logits, image, high_level = chain(**given)
    assert chain.generator.in_channels == channels
    assert chain.segmenter.in_channels == (5 if segment_maps else 1)
    assert logits.shape == (2, 2, 17, 20)
    assert image.shape == (2, 1, 17, 20)
    if "frames" in inputs:
        assert high_level.shape == (2, 1, 17, 20)
    else:
        assert chain.extractor is None
        assert high_level is None


@pytest.mark.parametrize("segment_maps", [False, True])
def test_the_chain_is_its_parts_in_a_row(segment_maps):
    torch.manual_seed(0)
    chain, given = PseudoDwi(segment_maps=segment_maps, width=2, depth=3).eval(), slices()
    high_level = chain.extractor(given["frames"])
    image = chain.generator(torch.cat([given["maps"], given["mip"], high_level], 1))
    logits = chain.segmenter(torch.cat([given["maps"], image], 1) if segment_maps else image)
    found = chain(**given)
    assert isinstance(found, Chain)
    for ours, theirs in zip(found, (logits, image, high_level), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_images_that_the_chain_does_not_use_may_be_left_out_and_change_nothing():
    torch.manual_seed(0)
    chain, given = PseudoDwi(("maps",), width=2, depth=3).eval(), slices()
    torch.testing.assert_close(chain(maps=given["maps"]).logits, chain(**given).logits, rtol=0, atol=0)


def test_the_segmentation_loss_alone_reaches_every_parameter_of_the_whole_chain():
    torch.manual_seed(0)
    chain = PseudoDwi(width=4, depth=3)
    chain(**slices(batch=4)).logits.square().sum().backward()
    assert silent_parameters(chain) == []


def test_the_chain_overfits_one_case_in_image_and_segmentation():
    torch.manual_seed(0)
    chain, given = xavier(PseudoDwi(width=4, depth=3)), slices(batch=1, size=(16, 16))
    lesion = torch.zeros(1, 16, 16, dtype=torch.long)
    lesion[:, 4:10, 5:13] = 1
    given = {name: image + 0.5 * lesion[:, None] for name, image in given.items()}
    dwi = 0.3 + 0.5 * lesion[:, None].float()
    optimizer = torch.optim.Adam(chain.parameters(), 2e-2)
    for _ in range(160):
        optimizer.zero_grad()
        logits, image, high_level = chain(**given)
        loss = nn.functional.cross_entropy(logits, lesion)
        (loss + (image - dwi).square().mean() + (high_level - dwi).square().mean()).backward()
        optimizer.step()
    found = logits.argmax(1)
    assert 2 * (found * lesion).sum() / (found.sum() + lesion.sum()) > 0.97
    assert (image - dwi).square().mean() < 0.01
    assert (high_level - dwi).square().mean() < 0.01


def test_the_chain_of_the_published_size_has_three_networks_of_about_31_to_34_m():
    with torch.device("meta"):
        chain = PseudoDwi()
    assert count_parameters(chain) == sum(map(count_parameters, chain.children())) == 95_912_816


@pytest.mark.parametrize("inputs", [(), ("maps", "ct")])
def test_inputs_that_the_chain_does_not_know_are_refused_in_words(inputs):
    with pytest.raises(ParameterError, match="inputs of the chain"):
        PseudoDwi(inputs, width=2)


def test_a_missing_or_wrong_image_of_the_chain_is_refused_by_its_name():
    chain, given = PseudoDwi(("maps", "frames"), width=2, depth=3), slices()
    with pytest.raises(ParameterError, match="frames of the chain: found none"):
        chain(maps=given["maps"])
    with pytest.raises(ParameterError, match=r"maps of the chain.*wanted \(B, 4, H, W\)"):
        chain(maps=given["mip"], frames=given["frames"])
    with pytest.raises(ParameterError, match="maps of the chain: found none"):
        PseudoDwi(("mip",), segment_maps=True, width=2)(mip=given["mip"])


def test_xavier_spreads_weights_evenly_within_its_bound_and_leaves_normalisation_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 24, 3), nn.BatchNorm2d(24), nn.ConvTranspose2d(24, 8, 2), nn.Linear(30, 50))
    nn.init.constant_(model[1].weight, 0.7)
    nn.init.constant_(model[1].bias, 0.2)
    assert xavier(model) is model
    for part, fans in ((model[0], (8 + 24) * 9), (model[2], (24 + 8) * 4), (model[3], 80)):
        bound = (6 / fans) ** 0.5
        assert 0.9 * bound < part.weight.abs().max() <= bound
        assert part.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert part.bias.eq(0).all()
    assert model[1].weight.eq(0.7).all()
    assert model[1].bias.eq(0.2).all()
