import pytest
import torch
from torch import nn
from torch.nn import functional

from strokelib.errors import DataError, ParameterError
from strokelib.infer import foreground, sliding_window
from strokelib.nn.blocks import count_parameters
from strokelib.nn.precision import channels_last
from strokelib.ssl_nnunet.network import ConvBlock, NNUNet, PlainConvEncoder, he_normal, published_plan_shapes

PLAN = {"features": (4, 6, 8), "strides": ((1, 1, 1), (2, 2, 2), (1, 2, 2)), "kernels": ((1, 3, 3), *[(3, 3, 3)] * 2)}


def volume(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(in_channels=1, out_channels=2, seed=0, **plan):
    """A small network whose normalisations and biases are not at their start."""
    torch.manual_seed(seed)
    model = NNUNet(in_channels, out_channels, **(PLAN | plan))
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            nn.init.normal_(parameter, 0.5, 0.5)
    return model


def written_out(block, x, stride=(1, 1, 1)):
    """Convolution, instance normalisation and leaky ReLU of a block by elementary operations."""
    padding = tuple(side // 2 for side in block.conv.weight.shape[2:])
    x = functional.conv3d(x, block.conv.weight, block.conv.bias, stride, padding)
    mean, variance = x.mean((2, 3, 4), keepdim=True), x.var((2, 3, 4), unbiased=False, keepdim=True)
    x = (x - mean) / (variance + 1e-5).sqrt()
    x = x * block.norm.weight[:, None, None, None] + block.norm.bias[:, None, None, None]
    return torch.where(x > 0, x, 0.01 * x)


def before_a_normalisation(name):
    return name.endswith("conv.bias")


class TestPublishedSize:
    @pytest.mark.parametrize(("channels", "exact"), [(1, 14_025_120), (2, 14_025_984)])
    def test_the_encoder_has_its_number_of_parameters_for_one_and_two_channels(self, channels, exact):
        with torch.device("meta"):
            assert count_parameters(PlainConvEncoder(channels, **published_plan_shapes())) == exact

    @pytest.mark.parametrize(("classes", "exact"), [(1, 30_785_189), (2, 30_785_994)])
    def test_the_network_with_four_halvings_along_z_has_30_79_million(self, classes, exact):
        with torch.device("meta"):
            assert count_parameters(NNUNet(1, classes, **published_plan_shapes())) == exact

    def test_five_halvings_along_every_axis_make_31_20_million_of_the_same_encoder(self):
        plan = published_plan_shapes() | {"strides": ((1, 1, 1), *[(2, 2, 2)] * 5)}
        with torch.device("meta"):
            model = NNUNet(1, 2, **plan)
        assert count_parameters(model) == 31_195_594
        assert count_parameters(model.encoder) == 14_025_120

    def test_a_view_of_16_slices_passes_all_stages_and_a_patch_gives_four_losses(self):
        with torch.device("meta"):
            model = NNUNet(1, 2, **published_plan_shapes())
            outputs, logits = model.encode(torch.empty(2, 1, 16, 112, 112)), model(torch.empty(2, 1, 96, 160, 160))
        sizes = [(16, 112, 112), (8, 56, 56), (4, 28, 28), (2, 14, 14), (1, 7, 7), (1, 4, 4)]
        assert [tuple(t.shape) for t in outputs] == [
            (2, n, *size) for n, size in zip((32, 64, 128, 256, 320, 320), sizes, strict=True)
        ]
        assert model.encoder.sizes((16, 112, 112)) == sizes
        assert [tuple(t.shape[2:]) for t in logits] == [(96, 160, 160), (48, 80, 80), (24, 40, 40), (12, 20, 20)]
        assert model.encoder.sizes((96, 160, 160))[-1] == (6, 5, 5)


class TestEncoder:
    @pytest.mark.parametrize("size", [(8, 8, 8), (28, 46, 38), (9, 17, 31), (1, 5, 5), (7, 1, 1)])
    def test_stages_have_the_rounded_up_size(self, size):
        encoder = PlainConvEncoder(2, **PLAN)
        outputs = encoder(volume(2, 2, *size))
        d, h, w = size
        halves = (-(-d // 2), -(-h // 2), -(-w // 2))
        quarters = (halves[0], -(-halves[1] // 2), -(-halves[2] // 2))
        wanted = [(2, 4, *size), (2, 6, *halves), (2, 8, *quarters)]
        assert [tuple(t.shape) for t in outputs] == wanted
        assert encoder.sizes(size) == [shape[2:] for shape in wanted]

    def test_each_stage_is_the_same_when_written_out_also_where_nothing_divides(self):
        encoder, x = built(2).encoder, volume(2, 2, 5, 9, 7)
        found = encoder(x)
        for stage, stride, output in zip(encoder.stages, PLAN["strides"], found, strict=True):
            x = written_out(stage[1], written_out(stage[0], x, stride))
            torch.testing.assert_close(output, x, rtol=1e-4, atol=1e-5)

    def test_a_stage_has_as_many_convolutions_as_asked_for_and_the_kernel_of_its_plan(self):
        encoder = PlainConvEncoder(1, **PLAN, convs=3)
        shapes = [[tuple(block.conv.weight.shape) for block in stage] for stage in encoder.stages]
        assert shapes == [
            [(4, 1, 1, 3, 3), (4, 4, 1, 3, 3), (4, 4, 1, 3, 3)],
            [(6, 4, 3, 3, 3), (6, 6, 3, 3, 3), (6, 6, 3, 3, 3)],
            [(8, 6, 3, 3, 3), (8, 8, 3, 3, 3), (8, 8, 3, 3, 3)],
        ]

    def test_the_second_channel_counts(self):
        encoder, x = PlainConvEncoder(2, **PLAN), volume(1, 2, 4, 8, 8)
        other = torch.cat([x[:, :1], volume(1, 1, 4, 8, 8, seed=1)], dim=1)
        assert all((a - b).abs().max() > 0.1 for a, b in zip(encoder(x), encoder(other), strict=True))

    @pytest.mark.parametrize("shape", [(1, 2, 8, 8, 8), (1, 8, 8, 8), (1, 1, 2, 4, 4), (1, 1, 1, 1, 1)])
    def test_a_volume_that_does_not_fit_is_refused_in_words(self, shape):
        with pytest.raises(ParameterError, match=r"input of the encoder: .*\(B, 1, D, H, W\)"):
            PlainConvEncoder(1, **PLAN)(torch.zeros(shape))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"features": (4, 6)},
            {"strides": ((2, 2, 2), (2, 2, 2), (2, 2, 2))},
            {"strides": ((1, 1), (2, 2), (2, 2))},
            {"strides": ((1, 1, 1), (2, 2, 2), (0, 2, 2))},
            {"kernels": ((3, 3, 3), (2, 3, 3), (3, 3, 3))},
            {"features": (4, 0, 8)},
            {"features": (), "strides": (), "kernels": ()},
            {"convs": 0},
        ],
    )
    def test_a_plan_that_does_not_fit_is_refused_in_words(self, wrong):
        with pytest.raises(ParameterError, match="plan of the encoder"):
            PlainConvEncoder(1, **(PLAN | wrong))

    def test_convolutions_start_with_he_s_spread_and_without_bias(self):
        torch.manual_seed(0)
        block, up = ConvBlock(16, 32, (3, 3, 3)).apply(he_normal), nn.ConvTranspose3d(8, 64, 2, 2).apply(he_normal)
        for layer, fan_in in ((block.conv, 16 * 27), (up, 64 * 8)):
            expected = (2 / (1 + 0.01**2) / fan_in) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert layer.bias.abs().max() == 0
        assert all(p.abs().max() == 0 for n, p in NNUNet(1, 2, **PLAN).named_parameters() if n.endswith("bias"))


class TestNNUNet:
    @pytest.mark.parametrize("size", [(8, 8, 8), (5, 9, 7), (28, 46, 38), (3, 3, 2)])
    def test_logits_have_the_size_of_the_volume_also_where_no_stride_divides_it(self, size):
        model, x = NNUNet(2, 1, **PLAN), volume(1, 2, *size)
        assert [tuple(t.shape) for t in model(x)] == [(1, 1, *size)]
        assert model.eval()(x).shape == (1, 1, *size)

    def test_training_gives_logits_of_all_decoder_levels_but_the_coarsest_and_eval_the_finest(self):
        plan = {"features": (2, 3, 4, 5), "strides": ((1, 1, 1), *[(2, 2, 2)] * 3)}
        model, x = NNUNet(1, 2, **plan), volume(1, 1, 9, 16, 13)
        logits = model(x)
        assert model.supervised == len(logits) == 2
        assert [tuple(t.shape) for t in logits] == [(1, 2, 9, 16, 13), (1, 2, 5, 8, 7)]
        torch.testing.assert_close(model.eval()(x), logits[0])
        plain = NNUNet(1, 2, **plan, deep_supervision=False)
        plain.load_state_dict(model.state_dict())
        torch.testing.assert_close(plain(x), logits[0])

    def test_a_network_of_two_stages_is_the_same_when_written_out_also_where_the_stride_does_not_divide(self):
        two = {name: values[:2] for name, values in PLAN.items()}
        model, x = built(1, 2, **two).eval(), volume(1, 1, 5, 7, 6)
        fine, coarse = model.encode(x)
        up = functional.conv_transpose3d(coarse, model.ups[0].weight, model.ups[0].bias, stride=2)
        assert up.shape[2:] == (6, 8, 6)
        joined = torch.cat([up[:, :, :5, :7, :6], fine], dim=1)
        for block in model.stages[0]:
            assert block.conv.weight.shape[2:] == (1, 3, 3)
            joined = written_out(block, joined)
        head = model.heads[0]
        expected = torch.einsum("kc,bcdhw->bkdhw", head.weight[..., 0, 0, 0], joined) + head.bias.view(-1, 1, 1, 1)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)

    def test_every_level_is_up_sampled_by_the_stride_that_led_down_to_it(self):
        model = NNUNet(1, 1, **PLAN)
        assert [tuple(up.weight.shape) for up in model.ups] == [(8, 6, 1, 2, 2), (6, 4, 2, 2, 2)]
        assert [up.stride for up in model.ups] == [(1, 2, 2), (2, 2, 2)]
        assert [head.in_channels for head in model.heads] == [6, 4]

    def test_the_output_depends_on_each_stage(self):
        model = built().eval()
        outputs = model.encode(volume(1, 1, 8, 8, 8))
        (whole,) = model.decode(outputs)
        for level in range(len(outputs)):
            without = [torch.zeros_like(f) if i == level else f for i, f in enumerate(outputs)]
            assert (model.decode(without)[0] - whole).abs().max() > 1e-2

    def test_a_gradient_reaches_every_parameter_but_the_coarsest_head(self):
        plan = {"features": (2, 3, 4, 5), "strides": ((1, 1, 1), *[(2, 2, 2)] * 3), "kernels": None}
        model = built(2, 2, **plan).double()
        sum(t.square().mean() for t in model(volume(2, 2, 8, 9, 11).double())).backward()
        unused = {name for name, p in model.named_parameters() if p.grad is None}
        assert unused == {"heads.0.weight", "heads.0.bias"}
        for name, parameter in model.named_parameters():
            if name not in unused:
                assert parameter.grad.isfinite().all(), name
                # What a normalisation follows loses its mean, and with it the bias: its gradient is rounding.
                assert (parameter.grad.abs().max() > 1e-10) != before_a_normalisation(name), name

    def test_it_overfits_one_case(self):
        torch.manual_seed(0)
        x, y = volume(1, 1, 8, 13, 11), torch.zeros(1, 1, 8, 13, 11)
        y[..., 2:6, 3:8, 4:10] = 1
        x = x + 2 * y
        model = NNUNet(1, 1, (8, 12, 16), PLAN["strides"])
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
        for _ in range(40):
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(model(x)[0], y).backward()
            optimizer.step()
        found = (model.eval()(x) > 0).float()
        assert 2 * (found * y).sum() / (found.sum() + y.sum()) > 0.98

    @pytest.mark.parametrize("classes", [1, 2])
    def test_sliding_windows_take_its_logits_and_leave_it_in_train_mode(self, classes):
        model = built(1, classes)
        logits = sliding_window(model, volume(1, 6, 13, 10), (4, 8, 8), (2, 4, 4), mirror_axes=(2,), amp="float32")
        assert logits.shape == (classes, 6, 13, 10)
        assert foreground(logits[None]).shape == (1, 6, 13, 10)
        assert model.training
        assert isinstance(model(volume(1, 1, 4, 8, 8)), list)

    def test_the_memory_layout_does_not_change_the_output(self):
        model, x = built().eval(), volume(2, 1, 8, 12, 9)
        expected = model(x)
        torch.testing.assert_close(channels_last(model)(channels_last(x)), expected, rtol=1e-4, atol=1e-4)

    def test_a_single_stage_is_no_network(self):
        with pytest.raises(ParameterError, match="nnU-Net: found 1 stages"):
            NNUNet(1, 2, (4,), ((1, 1, 1),))


class TestFreezingAndTransfer:
    def test_a_frozen_encoder_stays_while_the_decoder_learns_and_goes_on_when_thawed(self):
        model, x = built(), volume(1, 1, 4, 8, 8)
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

        def step():
            model(x)[0].square().mean().backward()
            optimizer.step()  # without zero_grad: a stale gradient would show

        def moved(part, before):
            return [name for name, p in part.named_parameters() if not torch.equal(p, before[name])]

        def weights(part):
            return [name for name, _ in part.named_parameters() if not before_a_normalisation(name)]

        step()
        encoder, decoder = (
            {n: p.detach().clone() for n, p in m.named_parameters()} for m in (model.encoder, model.ups)
        )
        model.freeze_encoder(True)
        step()
        assert moved(model.encoder, encoder) == []
        assert moved(model.ups, decoder) == weights(model.ups)
        model.freeze_encoder(False)
        step()
        assert set(moved(model.encoder, encoder)) >= set(weights(model.encoder))

    def test_a_loaded_encoder_gives_the_same_features_and_the_decoder_stays(self):
        source, model, x = PlainConvEncoder(1, **PLAN), built(seed=3), volume(1, 1, 5, 9, 7)
        decoder = {name: t.clone() for name, t in model.state_dict().items() if not name.startswith("encoder.")}
        model.load_encoder(source.state_dict())
        for found, wanted in zip(model.encode(x), source(x), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in decoder.items())

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda s: s.pop("stages.1.0.conv.weight"), r"stages\.1\.0\.conv\.weight: found nothing"),
            (lambda s: s.update(extra=torch.zeros(2)), r"extra: found shape \(2,\); wanted no such weight"),
            (
                lambda s: s.update({"stages.0.0.conv.weight": torch.zeros(4, 2, 1, 3, 3)}),
                r"stages\.0\.0\.conv\.weight: found shape \(4, 2, 1, 3, 3\); wanted shape \(4, 1, 1, 3, 3\)",
            ),
            (lambda s: s["stages.2.1.norm.bias"].fill_(torch.nan), r"stages\.2\.1\.norm\.bias: .*not finite"),
        ],
    )
    def test_an_encoder_that_does_not_fit_is_refused_by_name_and_nothing_changes(self, change, match):
        model = built()
        before = {name: t.clone() for name, t in model.state_dict().items()}
        state = {name: t.clone() for name, t in PlainConvEncoder(1, **PLAN).state_dict().items()}
        change(state)
        with pytest.raises(DataError, match=match):
            model.load_encoder(state)
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
