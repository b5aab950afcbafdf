import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from network_checks import in_both_layouts, overfitted_dice, without_gradient

from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror
from strokelib.nn.baselines.san_net import (
    AdaptiveNormalisation,
    SANNet,
    SANOutput,
    SiteClassifier,
    brain_of,
    reverse_gradient,
)
from strokelib.nn.blocks import count_parameters
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.nn.precision import channels_last


def parameters(**settings):
    with torch.device("meta"):
        return count_parameters(SANNet(**settings))


class TestNetwork:
    def test_with_eight_sites_the_count_is_that_of_the_public_code(self):
        assert parameters(out_channels=1, sites=8) == 48_522_657
        assert f"{parameters(out_channels=1, sites=8) / 1e6:.1f}" == "48.5"
        with torch.device("meta"):
            assert f"{count_parameters(SiteClassifier(1024, 8)) / 1e6:.1f}" == "18.9"

    def test_counts_with_and_without_its_blocks_stand_in_the_docstring(self):
        with torch.device("meta"):
            adaptive, classifier = count_parameters(AdaptiveNormalisation(1)), count_parameters(SiteClassifier(1024, 8))
        assert adaptive == 2688 * 256 + 256 + 8 * (9 + 2)
        assert parameters() == parameters(halves=False) == 29_636_058
        assert parameters(adaptive=False) == parameters() - adaptive == 28_947_586
        assert parameters(sites=8) == parameters() + classifier
        for number in (parameters(), parameters(out_channels=1), parameters(adaptive=False), 48_522_657):
            assert f"{number:,}" in SANNet.__doc__

    @pytest.mark.parametrize("halves", [True, False])
    @pytest.mark.parametrize("size", [(256, 256), (96, 112), (32, 32), (37, 54), (224, 192)])
    def test_logits_have_the_size_of_the_input(self, size, halves):
        with torch.device("meta"):
            model = SANNet(2, 3, width=8, halves=halves, sites=4)
            output = model(torch.empty(2, 2, *size))
            assert output.logits.shape == (2, 3, *size)
            assert output.sites.shape == (4 if halves else 2, 4)
            assert model.eval()(torch.empty(2, 2, *size)).shape == (2, 3, *size)

    @pytest.mark.parametrize("shape", [(1, 1, 31, 32), (1, 1, 32, 33), (1, 2, 32, 32), (1, 1, 32, 32, 32), (1, 32, 32)])
    def test_an_input_that_does_not_fit_is_refused_in_words(self, shape):
        with pytest.raises(ParameterError, match=r"input of the SAN-Net.*sides of at least 32, W even"):
            SANNet(width=8)(torch.zeros(shape))

    def test_no_site_at_all_is_refused_in_words(self):
        with pytest.raises(ParameterError, match="sites of the SAN-Net: found 0"):
            SANNet(width=8, sites=0)

    def test_whole_slices_may_have_an_odd_width(self):
        assert SANNet(width=8, halves=False).eval()(torch.zeros(1, 1, 32, 33)).shape == (1, 2, 32, 33)

    @pytest.mark.parametrize("settings", [{}, {"sites": 3}, {"adaptive": False}, {"halves": False}])
    def test_a_gradient_reaches_every_parameter(self, settings):
        torch.manual_seed(0)
        model, x, y = SANNet(width=8, **settings), torch.randn(2, 1, 64, 64), torch.randint(0, 2, (2, 64, 64))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                # At 0 the scale of one channel has no gradient: the next batch normalisation takes it out again.
                nn.init.normal_(module.bias)
        output = model(x)
        sites = torch.tensor([0, 2])
        loss = output.square().sum() if isinstance(output, torch.Tensor) else model.loss(output, y, sites=sites)
        loss.backward()
        assert without_gradient(model) == []

    def test_only_training_on_several_sites_gives_more_than_logits(self):
        x = torch.randn(2, 1, 32, 32)
        assert isinstance(SANNet(width=8)(x), torch.Tensor)
        assert isinstance(SANNet(width=8, sites=2)(x), SANOutput)
        assert isinstance(SANNet(width=8, sites=2).eval()(x), torch.Tensor)

    def test_without_the_adaptive_normalisation_the_same_weights_give_other_output(self):
        torch.manual_seed(0)
        whole, without, x = SANNet(width=8), SANNet(width=8, adaptive=False), torch.randn(2, 1, 64, 64)
        without.load_state_dict({name: whole.state_dict()[name] for name in without.state_dict()})
        rescaled = whole.adaptive(x, brain_of(x))
        assert (whole(x) - without(x)).abs().max() > 1e-3
        torch.testing.assert_close(whole(x), without(rescaled))

    def test_a_brain_mask_that_is_given_takes_the_place_of_the_one_found(self):
        torch.manual_seed(0)
        model, x, brain = SANNet(width=8).eval(), torch.randn(2, 1, 32, 32), torch.ones(2, 32, 32)
        brain[:, :, 16:] = 0
        given = model(x, brain)
        assert torch.equal(given[..., 16:], model(torch.rand_like(x), brain)[..., 16:])
        assert not torch.equal(given, model(x))

    def test_a_half_does_not_see_the_other_and_a_whole_slice_does(self):
        torch.manual_seed(0)
        x = torch.randn(2, 1, 64, 64)
        changed = x.clone()
        changed[..., 32:] += 1
        for halves in (True, False):
            model = SANNet(width=8, adaptive=False, halves=halves).eval()
            assert torch.equal(model(changed)[..., :32], model(x)[..., :32]) is halves

    def test_of_a_mirrored_slice_the_halves_give_the_mirror_image(self):
        torch.manual_seed(0)
        model, x = SANNet(width=8, adaptive=False).eval(), torch.randn(1, 1, 32, 64)
        torch.testing.assert_close(model(mirror(x)), mirror(model(x)))

    def test_it_overfits_one_case(self):
        assert overfitted_dice(lambda: SANNet(width=8), steps=30, size=(32, 64), noise=torch.rand) > 0.98

    def test_the_layout_changes_nothing_and_bfloat16_gives_finite_gradients(self):
        torch.manual_seed(0)
        model, x = SANNet(width=8, sites=2).double().eval(), torch.randn(2, 1, 32, 64, dtype=torch.float64)
        torch.testing.assert_close(*in_both_layouts(model, x))
        with torch.autocast("cpu", torch.bfloat16):
            output = model.float().train()(channels_last(x.float()))
        model.loss(output, torch.ones(2, 32, 64), sites=torch.tensor([0, 1])).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


class TestSites:
    def test_the_loss_is_the_sum_of_both_parts_and_a_half_has_its_slices_site(self):
        logits, target = torch.randn(2, 2, 3, 4), torch.randint(0, 2, (2, 3, 4))
        # Left halves of both slices, then right ones; the sites are 1 and 0.
        scores = torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
        each = [
            torch.log1p(torch.exp(torch.tensor(-2.0))),
            torch.log1p(torch.exp(torch.tensor(-1.0))),
            torch.log(torch.tensor(2.0)),
            torch.log1p(torch.exp(torch.tensor(3.0))),
        ]
        found = SANNet(width=8, sites=2).loss(SANOutput(logits, scores), target, sites=torch.tensor([1, 0]))
        torch.testing.assert_close(found, dice_and_cross_entropy(logits, target) + sum(each) / 4)

    def test_of_whole_slices_each_has_one_site(self):
        model = SANNet(width=8, sites=2, halves=False)
        scores = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
        zero = model.loss(SANOutput(torch.zeros(2), scores), torch.zeros(2), _nothing, sites=torch.tensor([0, 1]))
        nine = model.loss(SANOutput(torch.zeros(2), scores), torch.zeros(2), _nothing, sites=torch.tensor([1, 0]))
        assert zero.item() == pytest.approx(0, abs=2e-4)
        assert nine.item() == pytest.approx(9, abs=2e-4)

    def test_the_gradient_turns_round_and_the_values_stay(self):
        x = torch.tensor([1.0, -2.0], requires_grad=True)
        y = reverse_gradient(x)
        assert torch.equal(y, x)
        (y * torch.tensor([3.0, 5.0])).sum().backward()
        assert x.grad.tolist() == [-3.0, -5.0]

    def test_the_encoder_learns_against_the_classifier(self):
        torch.manual_seed(0)
        model, x, sites = SANNet(width=8, sites=2), torch.randn(2, 1, 64, 64), torch.tensor([0, 1])
        grads = []
        for reverse in (reverse_gradient, lambda f: f):
            model.zero_grad()
            halves = torch.cat([x[..., :32], mirror(x[..., 32:])])
            features = model.encode(halves)[-1]
            functional.cross_entropy(model.sites(reverse(features)), sites.repeat(2)).backward()
            grads.append((model.encoder[0][0].weight.grad, model.sites[-1].weight.grad))
        torch.testing.assert_close(grads[0][0], -grads[1][0])
        torch.testing.assert_close(grads[0][1], grads[1][1])

    def test_over_one_site_the_cross_entropy_says_nothing(self):
        scores = torch.randn(4, 1, requires_grad=True)
        loss = functional.cross_entropy(scores, torch.zeros(4, dtype=torch.long))
        loss.backward()
        assert loss.item() == 0
        assert scores.grad.abs().max() == 0
        assert SANNet(width=8, sites=1).sites is None


def _nothing(logits, target):
    return torch.zeros(())


class TestAdaptiveNormalisation:
    def test_it_rescales_each_image_by_two_numbers_and_clears_the_outside(self):
        torch.manual_seed(0)
        module, x = AdaptiveNormalisation(1).eval(), torch.randn(3, 1, 48, 40)
        brain = torch.rand(3, 48, 40) > 0.3
        found = module(x, brain)
        style = module.style(x)
        assert style.shape == (3, 1, 16, 16)
        for b in range(3):
            gamma, beta = module.gamma(style)[b].item(), module.beta(style)[b].item()
            assert min(gamma, beta) >= 0
            expected = torch.where(brain[b], gamma * x[b, 0] + beta, torch.zeros(48, 40))
            torch.testing.assert_close(found[b, 0], expected)

    def test_at_the_published_size_the_grid_changes_nothing(self):
        torch.manual_seed(0)
        module, x = AdaptiveNormalisation(1).eval(), torch.randn(2, 1, 224, 192)
        y = x
        for layer in module.style:
            y = y if isinstance(layer, nn.AdaptiveAvgPool2d) else layer(y)
        torch.testing.assert_close(module.style(x), y, rtol=0, atol=0)

    def test_in_evaluation_an_image_does_not_depend_on_its_neighbours(self):
        torch.manual_seed(0)
        module, x = AdaptiveNormalisation(2).eval(), torch.randn(2, 2, 32, 32)
        brain = torch.ones(2, 32, 32)
        torch.testing.assert_close(module(x, brain)[:1], module(x[:1], brain[:1]))


class TestBrain:
    def test_dark_places_within_belong_to_it_and_the_outside_does_not(self):
        rows = ["......", ".####.", ".#..#.", ".####.", "..#...", "......"]
        inside = ["......", ".####.", ".####.", ".####.", "..#...", "......"]
        x = torch.tensor([[float(mark == "#") for mark in row] for row in rows])[None, None]
        wanted = torch.tensor([[mark == "#" for mark in row] for row in inside])[None]
        assert torch.equal(brain_of(x), wanted)
        assert torch.equal(brain_of(7 * x - 3), wanted)

    def test_a_notch_at_the_border_stays_outside(self):
        x = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])[None, None]
        assert brain_of(x)[0].tolist() == [[True, True, True], [True, False, False], [True, True, True]]

    def test_faint_noise_outside_is_no_brain(self):
        torch.manual_seed(0)
        x = torch.zeros(1, 1, 16, 16)
        x[..., 4:12, 5:11] = 1
        noisy = x + 0.01 * torch.randn_like(x)
        assert torch.equal(brain_of(noisy), brain_of(x))
        assert brain_of(x).sum() == 48

    def test_a_slice_of_one_value_has_none(self):
        assert not brain_of(torch.full((2, 1, 8, 8), 3.0)).any()
