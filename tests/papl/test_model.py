"""PAPL around each of its backbones: shapes, what reaches what, transfer of the encoder, and learning in each stage."""

import pytest
import torch
from torch import nn

from strokelib.errors import DataError, ParameterError
from strokelib.nn.alignment import mirror
from strokelib.nn.baselines.cenet import CENet
from strokelib.nn.baselines.unet_plus_plus import UNetPlusPlus
from strokelib.nn.blocks import count_parameters
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.nn.unet import UNet
from strokelib.papl.losses import (
    cosine_similarity,
    feature_compensation_loss,
    inter_sample_loss,
    intra_sample_loss,
    knowledge_preparation_loss,
    perception_refinement_loss,
    sharpened_prediction,
    total_loss,
)
from strokelib.papl.model import PAPL, ProjectionHead

BACKBONES = {
    "unet": lambda width=4: UNet(1, 2, width, depth=4),
    "cenet": lambda width=4: CENet(1, 2, width),
    "unet++": lambda width=4: UNetPlusPlus(1, 2, width, depth=4),
}


@pytest.fixture(params=BACKBONES)
def model(request):
    torch.manual_seed(1)
    return PAPL(BACKBONES[request.param](), hidden=8, out=6)


def slices(batch=2, size=(32, 64), seed=0):
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def triplet(batch=2, size=(32, 64)):
    return [slices(batch, size, seed) for seed in range(3)]


def copies(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def differing(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


def reached(model):
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def names_of(model, parameters):
    wanted = {id(p) for p in parameters}
    return {name for name, p in model.named_parameters() if id(p) in wanted}


class TestHead:
    def test_the_published_size_has_1_180_800_parameters_and_the_whole_32_2_million(self):
        with torch.device("meta"):
            whole = PAPL(UNet(1, 2, 64))
        assert count_parameters(whole.head) == 1024 * 1024 + 1024 + 1024 * 128 + 128 == 1_180_800
        assert count_parameters(whole) == count_parameters(whole.backbone) + 1_180_800 == 32_217_346

    def test_it_is_the_same_when_written_out(self):
        torch.manual_seed(0)
        head, features = ProjectionHead(3, 7, 5), torch.randn(4, 3, 2, 6)
        first, _, second = head.mlp
        found = head(features)
        for b in range(4):
            pooled = torch.stack([features[b, c].sum() / 12 for c in range(3)])
            hidden = (first.weight @ pooled + first.bias).clamp_min(0)
            wanted = second.weight @ hidden + second.bias
            torch.testing.assert_close(found[b], wanted / wanted.square().sum().sqrt())

    def test_embeddings_have_length_1_also_under_autocast_and_of_bfloat16(self):
        torch.manual_seed(0)
        head, features = ProjectionHead(3, 7, 5), torch.randn(4, 3, 2, 6)
        with torch.autocast("cpu", torch.bfloat16):
            found = head(features)
            half = head(features.bfloat16())
        assert torch.equal(found, head(features))
        assert half.dtype == torch.float32
        for v in (found, half):
            torch.testing.assert_close(v.norm(dim=1), torch.ones(4))

    def test_a_map_without_features_has_finite_gradients(self):
        head = ProjectionHead(3, 7, 5)
        for layer in (head.mlp[0], head.mlp[2]):
            nn.init.zeros_(layer.bias)
        features = torch.zeros(2, 3, 2, 6, requires_grad=True)
        head(features).sum().backward()
        assert features.grad.isfinite().all()

    def test_sizes_and_maps_that_do_not_fit_are_refused(self):
        for sizes in ((0, 4, 4), (4, 0, 4), (4, 4, 0)):
            with pytest.raises(ParameterError, match="projection head"):
                ProjectionHead(*sizes)
        for shape in ((2, 4, 2, 6), (2, 3), (2, 3, 6)):
            with pytest.raises(ParameterError, match="input of the projection head"):
                ProjectionHead(3)(torch.zeros(shape))


class TestShapes:
    @pytest.mark.parametrize("size", [(96, 80), (48, 36), (64, 128)])
    @pytest.mark.parametrize("width", [4, 12])
    @pytest.mark.parametrize("name", BACKBONES)
    def test_each_backbone_of_any_width_gives_embeddings_features_and_logits(self, name, width, size):
        with torch.device("meta"):
            model = PAPL(BACKBONES[name](width), out=16)
            x = torch.empty(3, 1, *size)
            v, features = model.embed(x)
            found = model(x, x, x)
            assert v.shape == (3, 16)
            assert features.shape[:2] == (3, model.backbone.feature_channels)
            assert [each.shape for each in found.features] == [features.shape] * 3
            assert found.logits.shape == model.segment(x).shape == (3, 2, *size)

    @pytest.mark.parametrize("name", ["unet", "unet++"])
    def test_odd_sizes_go_through(self, name):
        torch.manual_seed(0)
        model = PAPL(BACKBONES[name](), hidden=8, out=6)
        x = slices(2, (37, 53))
        assert model(x, x, x).logits.shape == (2, 2, 37, 53)
        features = model.embed(x)[1]
        assert features.shape == (2, 32, 4, 6)
        assert intra_sample_loss(features, torch.tensor([0, 1])).isfinite()

    def test_the_published_shapes_are_those_of_the_specification(self):
        with torch.device("meta"):
            model, x = PAPL(UNet(1, 2, 64)), torch.empty(2, 1, 256, 256)
            v, features = model.embed(x)
            assert (v.shape, features.shape) == ((2, 128), (2, 1024, 16, 16))


class TestPasses:
    def test_embedding_is_the_head_of_the_coarsest_features(self, model):
        model.eval()
        v, features = model.embed(slices())
        torch.testing.assert_close(features, model.backbone.encode(slices())[-1])
        torch.testing.assert_close(v, model.head(features))

    def test_a_triplet_is_encoded_as_its_slices_are_and_the_middle_one_segmented(self, model):
        model.eval()
        three = triplet()
        found = model(*three)
        for each, features in zip(three, found.features, strict=True):
            torch.testing.assert_close(features, model.embed(each)[1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.logits, model.segment(three[1]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.segment(three[1]), model.backbone(three[1]))

    def test_neighbours_reach_the_logits_by_batch_normalisation_alone(self, model):
        three = [each.requires_grad_() for each in triplet()]
        for training in (True, False):
            slopes = torch.autograd.grad(model.train(training)(*three).logits.square().sum(), three)
            assert [float(slope.abs().sum()) > 0 for slope in slopes] == [training, True, training]

    def test_no_second_encoder_is_kept(self, model):
        assert count_parameters(model) == count_parameters(model.backbone) + count_parameters(model.head)
        assert count_parameters(model.head) == model.backbone.feature_channels * 8 + 8 + 8 * 6 + 6


class TestGradients:
    def test_stage_1_reaches_all_that_it_trains_and_nothing_else(self, model):
        x, y = slices(6), torch.tensor([0, 1, 0, 1, 1, 0])
        v, features = model.embed(x)
        knowledge_preparation_loss(inter_sample_loss(v, y), intra_sample_loss(features, y)).backward()
        assert reached(model) == names_of(model, model.knowledge_parameters())
        assert all(p.grad is None for name, p in model.named_parameters() if name not in reached(model))
        assert {f"backbone.{name}" for name in model.encoder_state()} >= {
            name for name in reached(model) if not name.startswith("head.")
        }

    def test_stages_2_and_3_reach_all_that_they_train_and_nothing_else(self, model):
        found, y = model(*triplet()), (slices(seed=5)[:, 0] > 0.5).long()
        at = torch.tensor([0, 2]), torch.tensor([1, 3]), torch.tensor([2, 4]), torch.tensor([9, 9])
        refinement = perception_refinement_loss(sharpened_prediction(found.logits), slices(seed=6)[:, 0].sigmoid(), y)
        compensation = feature_compensation_loss(*found.features, *at)
        total_loss(dice_and_cross_entropy(found.logits, y), compensation, refinement).backward()
        assert reached(model) == names_of(model, model.segmentation_parameters())
        assert all(p.grad is None for p in model.head.parameters())

    def test_compensation_alone_reaches_the_encoder_alone(self, model):
        at = torch.tensor([0, 2]), torch.tensor([1, 3]), torch.tensor([2, 4]), 9
        feature_compensation_loss(*model(*triplet()).features, *at).backward()
        state = {f"backbone.{name}" for name in model.encoder_state()}
        assert reached(model) == {name for name, _ in model.named_parameters() if name in state}


class TestTransfer:
    def test_the_encoder_is_taken_over_with_its_statistics_and_nothing_else(self, model, request):
        for seed in range(3):
            model.embed(slices(4, seed=seed))
        torch.manual_seed(9)
        other = PAPL(BACKBONES[request.node.callspec.params["model"]](), hidden=5, out=3)
        before = copies(other)
        other.load_encoder(model.encoder_state())
        changed = differing(before, copies(other))
        assert changed == {f"backbone.{name}" for name in model.encoder_state()} & changed
        assert {name.removeprefix("backbone.") for name in names_of(other, other.segmentation_parameters()) & changed}
        x = slices(seed=8)
        torch.testing.assert_close(other.eval().embed(x)[1], model.eval().embed(x)[1], rtol=0, atol=0)
        assert not torch.equal(other.segment(x), model.segment(x))

    def test_what_is_handed_over_is_a_copy(self, model):
        state = model.encoder_state()
        kept = {name: tensor.clone() for name, tensor in state.items()}
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1)
        assert differing(state, kept) == set()
        model.load_encoder(state)
        state[next(iter(state))].add_(1)
        assert differing(model.encoder_state(), kept) == set()

    def test_an_encoder_that_does_not_fit_changes_nothing(self, model):
        state, before = model.encoder_state(), copies(model)
        name = next(iter(state))
        wrong = {
            "found nothing": {key: tensor for key, tensor in state.items() if key != name},
            "no such weight": state | {"encoder.more": torch.zeros(1)},
            r"found shape \(1,\)": state | {name: torch.zeros(1)},
            "not finite": state | {name: torch.full_like(state[name], torch.nan)},
        }
        for words, given in wrong.items():
            with pytest.raises(DataError, match=words):
                model.load_encoder({key: tensor + 1 if key != name else tensor for key, tensor in given.items()})
            assert differing(before, copies(model)) == set()


class TestLearning:
    def test_stage_1_learns_a_tiny_batch_and_the_sides_of_positives_grow_unlike(self):
        torch.manual_seed(0)
        model = PAPL(UNet(1, 2, 6, depth=3), hidden=16, out=8)
        half = slices(8, (16, 12), seed=3)
        x, y = torch.cat([half, mirror(half)], dim=-1), torch.tensor([0, 1] * 4)
        x[1::2, :, 4:10, 3:8] -= 2
        optimizer = torch.optim.Adam(model.knowledge_parameters(), 1e-2)
        losses = []
        for _ in range(40):
            optimizer.zero_grad()
            v, features = model.embed(x)
            inter, intra = inter_sample_loss(v, y), intra_sample_loss(features, y)
            knowledge_preparation_loss(inter, intra).backward()
            optimizer.step()
            losses.append((inter.item(), intra.item()))
        # With three likes each, log(3) is the least there is.
        assert losses[0][0] > 1.6
        assert losses[-1][0] == pytest.approx(torch.tensor(3.0).log().item(), abs=0.02)
        assert losses[-1][1] < losses[0][1] - 0.03
        s = cosine_similarity(model.embed(x)[0], model.embed(x)[0])
        assert s[y[:, None] == y].min() > s[y[:, None] != y].max()

    @pytest.mark.parametrize(
        ("name", "side", "steps", "lr"), [("unet", 32, 40, 1e-2), ("cenet", 48, 240, 3e-3), ("unet++", 32, 40, 1e-2)]
    )
    def test_stages_2_and_3_overfit_one_triplet(self, name, side, steps, lr):
        torch.manual_seed(0)
        model = PAPL(BACKBONES[name](8), hidden=8, out=6)
        three = triplet(1, (side, side))
        y = torch.zeros(1, side, side, dtype=torch.long)
        y[:, 8:20, 18:28] = 1
        unit = three[1][:, 0].sigmoid()
        optimizer = torch.optim.Adam(model.segmentation_parameters(), lr)
        for _ in range(steps):
            optimizer.zero_grad()
            found = model(*three)
            at = torch.tensor([3]), torch.tensor([4]), torch.tensor([5]), 12
            compensation = feature_compensation_loss(*found.features, *at)
            refinement = perception_refinement_loss(sharpened_prediction(found.logits), unit, y)
            total_loss(dice_and_cross_entropy(found.logits, y), compensation, refinement).backward()
            optimizer.step()
        found = model(*three).logits.argmax(1)
        assert 2 * (found * y).sum() / (found.sum() + y.sum()) > 0.97


class TestErrors:
    def test_a_backbone_that_cannot_be_taken_apart_is_refused(self):
        class NoEncoder(nn.Module):
            feature_channels = 4

            def encode(self, x):
                return [x]

            def decode(self, features):
                return features[-1]

        for backbone in (nn.Conv2d(1, 2, 3), NoEncoder()):
            with pytest.raises(ParameterError, match=type(backbone).__name__):
                PAPL(backbone)

    def test_slices_of_two_sizes_or_of_another_shape_are_refused(self, model):
        first, second, third = triplet()
        with pytest.raises(ParameterError, match="triplet"):
            model(first, second, third[..., :32])
        with pytest.raises(ParameterError, match="triplet"):
            model(first[:1], second, third)
        with pytest.raises(ParameterError, match="input of the"):
            model(*[each[:, 0] for each in triplet()])
        with pytest.raises(ParameterError, match="input of the"):
            model.embed(slices()[:, :, :4])
