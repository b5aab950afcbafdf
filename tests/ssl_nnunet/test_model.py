import pytest
import torch
from torch import nn
from torch.nn import functional

from strokelib import train
from strokelib.data.streams import SeededStream
from strokelib.errors import ParameterError
from strokelib.nn.blocks import count_parameters
from strokelib.ssl_nnunet.model import (
    DeepSelfDistillation,
    ProjectionHead,
    Prototypes,
    head_memory,
    pooled,
)
from strokelib.ssl_nnunet.network import NNUNet, published_plan_shapes

PLAN = {"features": (4, 6, 8), "strides": ((1, 1, 1), (2, 2, 2), (1, 2, 2))}
SMALL = {"hidden": 16, "bottleneck": 5, "out": 12}


def views(batch=4, channels=1, size=(4, 8, 8), seed=0):
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def built(channels=1, seed=0):
    torch.manual_seed(seed)
    return DeepSelfDistillation(channels, **PLAN, **SMALL)


def tensors(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def differing(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


def loss_of(model, made):
    """The objective written for these tests: cross-entropy of each stage with the teacher's view, crosswise."""
    targets = [((logits - model.centre) / 0.04).softmax(1) for logits in made.teacher]
    pairs = [(targets[0], stage[1]) for stage in made.student] + [(targets[1], stage[0]) for stage in made.student]
    return torch.stack([-(t * (s / 0.1).log_softmax(1)).sum(1).mean() for t, s in pairs]).mean()


class TestHead:
    def test_a_published_head_has_21_6_to_22_2_million_parameters_and_six_of_them_131_million(self):
        exact = [21_573_888, 21_639_424, 21_770_496, 22_032_640, 22_163_712, 22_163_712]
        with torch.device("meta"):
            model = DeepSelfDistillation(1, **published_plan_shapes())
        assert [count_parameters(head) for head in model.student.heads] == exact
        assert sum(exact) == 131_343_872
        assert count_parameters(model.student) == 14_025_120 + sum(exact)
        assert sum(p.numel() for p in model.teacher.parameters()) == 14_025_120 + exact[-1]
        assert count_parameters(model.teacher) == 0
        # The public code counts a gain for each prototype, which it then keeps at 1.
        assert sum(exact) + 6 * 65536 == 131_737_088

    @pytest.mark.parametrize("training", [True, False])
    def test_a_head_is_the_same_when_written_out(self, training):
        torch.manual_seed(0)
        head, x = ProjectionHead(6, 16, 5, 12), torch.randn(7, 6)
        for layer in head.mlp:
            if isinstance(layer, nn.BatchNorm1d):
                for tensor in (layer.weight, layer.bias, layer.running_mean):
                    nn.init.normal_(tensor)
                nn.init.uniform_(layer.running_var, 0.5, 2)
        expected = x
        for place in (0, 3):
            linear, norm = head.mlp[place], head.mlp[place + 1]
            expected = expected @ linear.weight.T + linear.bias
            mean, variance = expected.mean(0), expected.var(0, unbiased=False)
            if not training:
                mean, variance = norm.running_mean.clone(), norm.running_var.clone()
            expected = (expected - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias
            expected = expected * (1 + torch.erf(expected / 2**0.5)) / 2
        expected = expected @ head.mlp[6].weight.T + head.mlp[6].bias
        logits, latent = (tensor.detach() for tensor in head.train(training)(x))
        torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-6)
        for row in range(7):
            for k in range(12):
                a, b = expected[row].detach(), head.prototypes.weight[k].detach()
                assert logits[row, k].item() == pytest.approx(float(a @ b / a.norm() / b.norm()), abs=1e-4)

    def test_logits_are_cosines_and_neither_the_length_of_a_prototype_nor_of_the_latent_counts(self):
        torch.manual_seed(0)
        head, x = ProjectionHead(6, 16, 5, 12), torch.randn(7, 6)
        logits, latent = head(x)
        assert logits.abs().max() <= 1 + 1e-6
        assert (latent.norm(dim=1) - 1).abs().min() > 0.01
        with torch.no_grad():
            head.prototypes.weight.mul_(torch.linspace(0.1, 9, 12)[:, None])
            head.mlp[6].weight.mul_(3)
        again, longer = head(x)
        torch.testing.assert_close(again, logits)
        torch.testing.assert_close(longer, 3 * latent)

    def test_prototypes_by_hand(self):
        layer = Prototypes(2, 3)
        layer.weight.data = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-5.0, 0.0]])
        torch.testing.assert_close(layer(torch.tensor([[1.0, 2.0]])), torch.tensor([[2.2, 2.0, -1.0]]))

    def test_under_autocast_logits_and_latent_are_float32_and_the_cosines_lose_nothing_more(self):
        torch.manual_seed(0)
        head, x = ProjectionHead(6, 16, 5, 12).eval(), torch.randn(7, 6)
        with torch.autocast("cpu", torch.bfloat16):
            logits, latent = head(x)
        assert logits.dtype == latent.dtype == torch.float32
        wanted = functional.normalize(latent, dim=1) @ functional.normalize(head.prototypes.weight, dim=1).T
        torch.testing.assert_close(logits, wanted)
        assert head.double()(x.double())[0].dtype == torch.float64

    def test_a_single_row_is_refused_in_train_mode_and_taken_in_eval_mode(self):
        head = ProjectionHead(6, 16, 5, 12)
        with pytest.raises(ParameterError, match=r"shape \(1, 6\) in train mode.*batch normalisation compares rows"):
            head(torch.zeros(1, 6))
        assert head.eval()(torch.ones(1, 6))[0].shape == (1, 12)

    @pytest.mark.parametrize("shape", [(4, 5), (4, 6, 1), (6,)])
    def test_features_that_do_not_fit_are_refused_in_words(self, shape):
        with pytest.raises(ParameterError, match="input of the projection head"):
            ProjectionHead(6, 16, 5, 12)(torch.zeros(shape))

    def test_a_size_of_zero_is_refused(self):
        with pytest.raises(ParameterError, match=r"projection head: .*hidden=0"):
            ProjectionHead(6, 0, 5, 12)

    def test_a_stage_is_pooled_over_its_voxels_in_float32(self):
        x = views(2, 3).bfloat16()
        assert pooled(x).dtype == torch.float32
        torch.testing.assert_close(pooled(x), x.float().flatten(2).mean(2))


class TestForward:
    @pytest.mark.parametrize(("channels", "size"), [(1, (4, 8, 8)), (2, (4, 8, 8)), (1, (5, 9, 7))])
    def test_it_gives_logits_of_every_stage_and_view_of_the_teacher_and_its_latents(self, channels, size):
        model = built(channels)
        made = model(views(3, channels, size), views(3, channels, size, seed=1))
        assert [[tuple(logits.shape) for logits in stage] for stage in made.student] == [[(3, 12)] * 2] * 3
        assert [tuple(logits.shape) for logits in made.teacher] == [(3, 12)] * 2
        assert made.latent.shape == (6, 5)

    def test_both_views_pass_together_and_come_back_in_their_order(self):
        model, one, two = built(), views(), views(seed=1)
        made = model(one, two)
        together = model.student(torch.cat([one, two]))
        for stage, logits in zip(made.student, together, strict=True):
            torch.testing.assert_close(torch.cat(stage), logits, rtol=0, atol=0)
        logits, latent = model.teacher(torch.cat([one, two]))
        torch.testing.assert_close(torch.cat(made.teacher), logits, rtol=0, atol=0)
        torch.testing.assert_close(made.latent, latent, rtol=0, atol=0)
        alone = model.student(one)
        assert (alone[-1] - made.student[-1][0]).abs().max() > 1e-3

    def test_each_head_sees_the_average_of_its_own_stage(self):
        model, x = built(), views()
        stages = model.student.encoder(x)
        for head, stage, logits in zip(model.student.heads, stages, model.student(x), strict=True):
            torch.testing.assert_close(head(stage.flatten(2).mean(2))[0], logits)

    def test_the_teacher_starts_as_the_student_s_encoder_and_last_head(self):
        model, x = built(), views()
        torch.testing.assert_close(model.teacher(x)[0], model.student(x)[-1], rtol=0, atol=0)
        shared = {p.data_ptr() for p in model.student.parameters()} & {p.data_ptr() for p in model.teacher.parameters()}
        assert shared == set()

    def test_the_teacher_normalises_by_the_batch_in_train_mode_and_by_its_own_history_in_eval_mode(self):
        model, x = built().train(), views()
        alone = model.teacher(x[:2])[0]
        assert (alone - model.teacher(x)[0][:2]).abs().max() > 1e-3
        model.eval()
        torch.testing.assert_close(model.teacher(x[:2])[0], model.teacher(x)[0][:2])

    def test_a_gradient_reaches_every_student_parameter_and_no_teacher_one(self):
        model = built().double()
        made = model(views().double(), views(seed=1).double())
        assert not made.latent.requires_grad
        assert not any(logits.requires_grad for logits in made.teacher)
        assert not model.teacher(views().double().requires_grad_())[0].requires_grad
        loss_of(model, made).backward()
        assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
        for name, parameter in model.student.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            # What a normalisation follows loses its mean, and with it the bias: its gradient is rounding.
            shifted = name.endswith(("conv.bias", "mlp.0.bias", "mlp.3.bias"))
            assert (parameter.grad.abs().max() > 1e-10) != shifted, name

    def test_one_pair_is_refused_in_train_mode_with_the_reason_and_taken_in_eval_mode(self):
        model = built()
        with pytest.raises(ParameterError, match=r"pair of views: .*B of 2 or more, as batch normalisation turns"):
            model(views(1), views(1))
        assert model.eval()(views(1), views(1)).latent.shape == (2, 5)

    def test_batch_normalisation_would_make_signs_of_two_rows_as_the_message_says(self):
        normalised = functional.batch_norm(torch.tensor([[3.0, -7.0], [5.0, 90.0]]), None, None, training=True)
        torch.testing.assert_close(normalised, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), rtol=0, atol=1e-4)

    def test_views_of_different_sizes_and_of_no_number_are_refused(self):
        model, one = built(), views()
        with pytest.raises(
            ParameterError, match=r"pair of views: found shapes \(4, 1, 4, 8, 8\) and \(4, 1, 4, 8, 6\)"
        ):
            model(one, one[..., :6])
        with pytest.raises(ParameterError, match="input of the encoder"):
            model(views(4, 2), views(4, 2))
        for bad in (torch.nan, torch.inf):
            other = one.clone()
            other[2, 0, 1, 1, 1] = bad
            with pytest.raises(ParameterError, match="pair of views: found NaN or infinity"):
                model(one, other)


class TestTeacher:
    def test_its_average_is_that_of_a_literal_loop(self):
        model = built()
        names = [n for n, _ in model.teacher.encoder.named_parameters()]
        student = {f"encoder.{n}": model.student.encoder.get_parameter(n) for n in names}
        student |= {f"head.{n}": p for n, p in model.student.heads[-1].named_parameters()}
        expected = {n: p.detach().double() for n, p in model.teacher.named_parameters()}
        assert set(expected) == set(student)
        generator = torch.Generator().manual_seed(0)
        for momentum in (0.9, 0.996, 0.5, 1.0):
            for name, parameter in student.items():
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
                expected[name] = momentum * expected[name] + (1 - momentum) * parameter.detach().double()
            model.update_teacher(momentum)
        for name, parameter in model.teacher.named_parameters():
            torch.testing.assert_close(parameter.double(), expected[name], rtol=1e-5, atol=1e-6)

    def test_a_momentum_of_one_keeps_the_teacher_and_of_zero_copies_the_student(self):
        model, other = built(), built(seed=1)
        model.student.load_state_dict(other.student.state_dict())
        before = tensors(model.teacher)
        model.update_teacher(1.0)
        assert differing(before, tensors(model.teacher)) == set()
        model.update_teacher(0.0)
        wanted = tensors(other.teacher)
        assert differing(wanted, tensors(model.teacher)) == set()
        assert differing(before, wanted)

    def test_the_running_statistics_stay_the_teacher_s_own(self):
        model = built()
        model.student(views())
        before = {n: b.clone() for n, b in model.teacher.named_buffers()}
        model.update_teacher(0.0)
        assert all(torch.equal(b, before[n]) for n, b in model.teacher.named_buffers())
        model.teacher(views())
        moved = differing(before, dict(model.teacher.named_buffers()))
        assert moved == {
            f"head.mlp.{i}.{n}" for i in (1, 4) for n in ("running_mean", "running_var", "num_batches_tracked")
        }

    def test_only_its_last_head_has_a_twin(self):
        model = built()
        for head in model.student.heads[:-1]:
            for parameter in head.parameters():
                parameter.data.fill_(7.0)
        model.update_teacher(0.0)
        assert not any((p == 7.0).any() for p in model.teacher.parameters())

    @pytest.mark.parametrize("momentum", [-0.1, 1.01, float("nan")])
    def test_an_impossible_momentum_is_refused(self, momentum):
        with pytest.raises(ParameterError, match="momentum"):
            built().update_teacher(momentum)

    def test_its_encoder_in_a_segmentation_network_gives_the_same_features(self):
        model, x = built(2), views(2, 2)
        for parameter in model.teacher.parameters():
            parameter.data += 0.1
        torch.manual_seed(5)
        network, state = NNUNet(2, 1, **PLAN), model.teacher_encoder()
        network.load_encoder(state)
        for found, wanted in zip(network.encode(x), model.teacher.encoder(x), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert all(p.requires_grad for p in network.encoder.parameters())
        next(iter(state.values())).fill_(0)
        assert next(model.teacher.encoder.parameters()).abs().min() > 0


class Pairs(SeededStream):
    """Pairs of views of noise."""

    def draw(self, first, generators):
        return torch.stack([torch.from_numpy(g.standard_normal((2, 1, 4, 8, 8))).float() for g in generators])


class TestTraining:
    def test_frozen_prototypes_stay_and_everything_else_of_the_student_moves(self):
        model = built()
        optimizer = torch.optim.AdamW(model.student.parameters(), 0.01, weight_decay=0.1)
        for frozen, expected in (
            (False, set()),
            (True, {f"heads.{i}.prototypes.weight" for i in range(3)}),
            (False, set()),
        ):
            model.freeze_last_layer(frozen)
            before = tensors(model.student)
            loss_of(model, model(views(), views(seed=1))).backward()
            optimizer.step()
            after = tensors(model.student)
            assert {n for n, _ in model.student.named_parameters()} - differing(before, after) == expected

    def test_a_run_that_was_stopped_goes_on_to_the_same_bytes_teacher_and_centre_included(self, tmp_path):
        def run(out, stop_at=None):
            model = built()
            optimizer = torch.optim.AdamW(model.student.parameters(), 1e-3)
            outputs = []

            def step(network, batch, index):
                if index == stop_at:
                    raise KeyboardInterrupt
                network.freeze_last_layer(index < 1)
                made = network(batch[:, 0], batch[:, 1])
                outputs[:] = made.teacher
                return loss_of(network, made)

            def after_step(network, index):
                network.update_teacher(0.9)
                network.centre.lerp_(torch.cat(outputs).mean(0), 0.1)

            how = {"checkpoint_every": 2, "device": "cpu", "amp": "float32", "progress": False}
            train.fit(
                model, Pairs(3, 0), step, steps=5, optimizer=optimizer, out=out, seed=0, after_step=after_step, **how
            )
            return model

        whole = tensors(run(tmp_path / "whole"))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken", stop_at=3)
        assert differing(whole, tensors(run(tmp_path / "broken"))) == set()
        start = tensors(built())
        assert differing(whole, start) >= {"centre", *(f"teacher.{n}" for n, _ in built().teacher.named_parameters())}


class TestHeadMemory:
    def test_its_parts_are_what_tensors_of_that_size_take(self):
        batch, features = 8, (4, 6, 8)
        with torch.device("meta"):
            model = DeepSelfDistillation(1, **PLAN, hidden=128, bottleneck=32, out=1024)
            made = model(torch.empty(batch, 1, 4, 8, 8), torch.empty(batch, 1, 4, 8, 8))
        heads = list(model.student.heads.parameters())
        optimizer = torch.optim.AdamW(heads, foreach=False)
        for parameter in heads:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()

        def mib(found):
            return sum(t.numel() * t.element_size() for t in found) / 2**20

        moments = [t for values in optimizer.state.values() for t in values.values() if t.dim()]
        logits = [view for stage in made.student for view in stage] + list(made.teacher)
        memory = head_memory(batch, features, 128, 32, 1024)
        assert memory["weights"] == pytest.approx(mib([*heads, *model.teacher.head.parameters()]))
        assert memory["gradients"] == pytest.approx(mib(p.grad for p in heads))
        assert memory["moments"] == pytest.approx(mib(moments))
        assert memory["logits"] == pytest.approx(mib(logits))
        assert memory["total"] == pytest.approx(sum(memory[k] for k in memory if k != "total"))

    def test_each_student_head_keeps_its_unit_rows_for_the_backward_pass(self):
        layer, x, kept = Prototypes(32, 1024), torch.randn(4, 32, requires_grad=True), {}
        own = {layer.weight.untyped_storage().data_ptr(), x.untyped_storage().data_ptr()}

        def pack(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(x)
        found = sum(size for place, size in kept.items() if place not in own) / 2**20
        assert head_memory(4, (8,), 16, 32, 1024)["unit_rows"] == pytest.approx(found, rel=0.1)

    def test_the_published_heads_need_2_6_gib(self):
        memory = head_memory(64, published_plan_shapes()["features"])
        rounded = {name: round(value) for name, value in memory.items()}
        parts = {"weights": 586, "gradients": 501, "moments": 1002, "logits": 224, "unit_rows": 384}
        assert rounded == parts | {"total": 2697}
