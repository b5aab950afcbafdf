"""Training and use of the generators: losses of Table 1, inputs of Table 2, the adversary in one backward pass."""

import os
import sys

import numpy as np
import pytest
import torch
from torch import nn

from strokelib.errors import DataError, ParameterError
from strokelib.pseudo_dwi import synthesis
from strokelib.pseudo_dwi.discriminator import MultiScaleDiscriminator
from strokelib.pseudo_dwi.losses import SYNTHESIS_LOSSES, adversarial_loss, discriminator_loss
from strokelib.pseudo_dwi.recipe import SynthesisRecipe
from strokelib.pseudo_dwi.slices import named_slices
from strokelib.pseudo_dwi.synthesis import (
    Synthesiser,
    adversarial_terms,
    around_lesions,
    explained,
    step_loss,
    synthesise,
)

sys.path.insert(0, os.path.dirname(__file__))
import made_cases
from made_cases import SMALL, train_once, weights

TRAIN = [made_cases.case(0), made_cases.case(1)]
VAL = [made_cases.case(2, "val")]
ADVERSARIAL = [row for row, terms in SYNTHESIS_LOSSES.items() if terms.adversarial]


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    made_cases.steady(monkeypatch)


def recipe(**changes):
    return SynthesisRecipe.at("smoke", **{**SMALL, "steps": 3, "validations": 1, "lesion_share": None, **changes})


def batch(seed=0, size=(32, 32)):
    """Channels by name, target and weight map of two slices."""
    generator = torch.Generator().manual_seed(seed)
    widths = {"maps": 4, "mip": 1, "frames": 6, "high_level": 1}
    channels = {name: torch.rand(2, width, *size, generator=generator) for name, width in widths.items()}
    return channels, torch.rand(2, 1, *size, generator=generator), 0.5 + torch.rand(2, 1, *size, generator=generator)


def made(seed=0, **changes):
    torch.manual_seed(seed)
    return Synthesiser(recipe(**changes))


# The network and its inputs


@pytest.mark.parametrize(
    "bad", [{"inputs": ("maps", "adc")}, {"inputs": ()}, {"loss": "L3"}, {"inputs": ("series",), "loss": "L1"}]
)
def test_an_unknown_input_or_loss_is_refused_with_those_that_are_known(bad):
    with pytest.raises(ParameterError, match=r"maps, mip, frames(.|\n)*w-L2 \+ l_h1"):
        made(**bad)


def test_another_word_for_the_context_encoder_is_refused():
    with pytest.raises(ParameterError, match="frozen or joint"):
        made(context="melted")


@pytest.mark.parametrize(
    ("inputs", "needs", "channels"),
    [
        (("maps",), ("maps",), 4),
        (("maps", "mip"), ("maps", "mip"), 5),
        (("maps", "mip", "extracted"), ("maps", "mip", "frames"), 6),
        (("maps", "mip", "high_level"), ("maps", "mip", "high_level"), 6),
        (("frames",), ("frames",), 6),
    ],
)
def test_the_generator_sees_its_inputs_in_their_order(inputs, needs, channels):
    model, (given, *_) = made(inputs=inputs), batch()
    assert model.needs == needs
    image, high_level, seen = model({name: given[name] for name in needs})
    assert image.shape == (2, 1, 32, 32)
    assert seen.shape[1] == channels
    assert (high_level is not None) == ("extracted" in inputs) == (model.extractor is not None)
    at = {"maps": slice(0, 4), "mip": slice(4, 5), "frames": slice(0, 6), "high_level": slice(5, 6)}
    for name in set(needs) & set(inputs):
        assert seen[:, at[name]].equal(given[name])
    if high_level is not None:
        assert seen[:, 5:].equal(high_level)
        assert not model.extractor(given["frames"] / 2).equal(high_level)


@pytest.mark.parametrize("row", SYNTHESIS_LOSSES)
def test_a_row_has_the_company_that_its_loss_needs_and_no_more(row):
    model = made(loss=row, inputs=("maps",))
    assert (model.context is not None) == ("l_h" in row)
    assert (model.discriminator is not None) == ("GAN" in row)
    assert model.extractor is None


@pytest.mark.parametrize(("conditional", "channels"), [(True, 7), (False, 1)])
def test_the_discriminator_sees_the_generator_s_input_where_it_is_told_to(conditional, channels):
    model = made(loss="GAN", conditional=conditional)
    assert model.discriminator.in_channels == channels
    assert step_loss(model, recipe(loss="GAN", conditional=conditional), *batch())["loss"].isfinite()


# The losses of the rows


def by_hand(row, model, image, high_level, seen, target, weight, gamma):
    """The printed losses, for the generator's image and, but for the adversary, the extractor's."""

    def of(x):
        error, codes = x - target, None if model.context is None else model.context(x) - model.context(target)
        return {
            "L1": lambda: error.abs().mean(),
            "L2": lambda: error.square().mean(),
            "GAN": lambda: 0.0,
            "L2 + GAN": lambda: error.square().mean(),
            "w-L2": lambda: (weight * error).square().mean(),
            "w-L2 + l_h1": lambda: (weight * error).square().mean() + gamma * codes.abs().sum(dim=1).mean(),
            "w-L2 + l_h2": lambda: (weight * error).square().mean() + gamma * codes.square().sum(dim=1).mean(),
        }[row]()

    adversary = 0.0
    if "GAN" in row:
        real, fake = (model.discriminator(torch.cat([x, seen], dim=1)) for x in (target, image))
        scales = zip(real, fake, strict=True)
        each = [((f - 1) ** 2).mean() / 2 + ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2 for r, f in scales]
        adversary = sum(each) / len(each)
    return of(image), of(high_level), adversary


@pytest.mark.parametrize("row", SYNTHESIS_LOSSES)
def test_the_loss_of_a_row_is_the_printed_one_for_image_and_feature(row):
    used = recipe(loss=row, gamma=0.7, beta=0.3)
    model, (channels, target, weight) = made(loss=row), batch()
    found = step_loss(model, used, channels, target, weight)
    with torch.no_grad():
        image, feature, adversary = by_hand(row, model, *model(channels), target, weight, 0.7)
    torch.testing.assert_close(found["loss"].detach(), torch.as_tensor(image + 0.3 * feature + adversary))
    assert found["loss"].requires_grad
    assert not any(value.requires_grad for name, value in found.items() if name != "loss")
    assert ("adversarial" in found) == ("discriminator" in found) == ("GAN" in row)
    assert ("image_context" in found) == ("l_h" in row)


def test_an_extractor_that_is_not_supervised_has_no_loss_of_its_own_but_learns_by_the_image():
    (channels, target, weight), model = batch(), made()
    with_, without = (
        step_loss(model, recipe(supervised=held, beta=2.0), channels, target, weight) for held in (True, False)
    )
    assert "extractor" not in without
    assert with_["extractor"] > 0
    torch.testing.assert_close(with_["loss"] - without["loss"], 2.0 * with_["extractor"])
    without["loss"].backward()
    assert any(p.grad.abs().sum() > 0 for p in model.extractor.parameters())


# The adversary


def judged(beside):
    torch.manual_seed(0)
    judge = MultiScaleDiscriminator(1 + (3 if beside else 0), width=4)
    image, target, seen = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32)
    return judge, image.requires_grad_(), target, seen.requires_grad_() if beside else None


@pytest.mark.parametrize("beside", [True, False])
def test_the_generator_s_term_reaches_the_image_alone(beside):
    judge, image, target, seen = judged(beside)
    adversarial_terms(judge, image, target, seen)[0].backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in judge.parameters())
    assert seen is None or seen.grad is None


@pytest.mark.parametrize("beside", [True, False])
def test_the_discriminator_s_term_reaches_the_discriminator_alone(beside):
    judge, image, target, seen = judged(beside)
    adversarial_terms(judge, image, target, seen)[1].backward()
    assert image.grad is None
    assert seen is None or seen.grad is None
    assert all(p.requires_grad and p.grad.abs().sum() > 0 for p in judge.parameters())


@pytest.mark.parametrize("row", ADVERSARIAL)
@pytest.mark.parametrize("conditional", [True, False])
def test_one_backward_pass_gives_the_gradients_of_two_separate_ones(row, conditional):
    how = {"loss": row, "conditional": conditional, "inputs": ("maps", "extracted"), "supervised": False}
    model, (channels, target, weight) = made(**how), batch()
    step_loss(model, recipe(**how), channels, target, weight)["loss"].backward()
    image, _, seen = model(channels)

    def judge(x):
        return model.discriminator(torch.cat([x, seen.detach()], dim=1) if conditional else x)

    of_generator = adversarial_loss(judge(image))
    if row == "L2 + GAN":
        of_generator = of_generator + (image - target).square().mean()
    of_discriminator = discriminator_loss(judge(target), judge(image.detach()))
    makers, judges = [*model.generator.parameters(), *model.extractor.parameters()], [*model.discriminator.parameters()]
    separate = torch.autograd.grad(of_generator, makers) + torch.autograd.grad(of_discriminator, judges)
    for parameter, gradient in zip([*makers, *judges], separate, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


# Training


def start(used):
    from strokelib import repro

    repro.seed_everything(0)
    return weights(synthesis.build(used))


def moved(before, after, part):
    return {name for name in before if name.startswith(part) and not np.array_equal(before[name], after[name])}


@pytest.mark.parametrize("row", SYNTHESIS_LOSSES)
def test_every_row_of_table_1_trains_with_finite_losses_and_leaves_only_the_frozen_encoder_alone(row, tmp_path):
    used = recipe(loss=row)
    model, history = train_once(synthesis, used, TRAIN, VAL, tmp_path)
    before, after = start(used), weights(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trained if name.startswith(("generator", "discriminator"))} <= moved(before, after, "")
    # Without a pixel loss the extractor has only the generator's gradient.
    assert moved(before, after, "extractor")
    assert moved(before, after, "context") == set()
    assert all(np.isfinite(value).all() for value in after.values())
    assert history.steps == 3
    assert len(history.curve("loss", "train")[1]) == 3
    assert all(np.isfinite(r.value) for r in history.rows)


def test_a_context_encoder_that_is_trained_along_moves_and_a_frozen_one_does_not(tmp_path):
    for context, moving in (("frozen", False), ("joint", True)):
        used = recipe(context=context, inputs=("maps",))
        model, _ = train_once(synthesis, used, TRAIN, VAL, tmp_path / context)
        assert bool(moved(start(used), weights(model), "context")) == moving


def test_training_slices_without_lesion_give_no_nan(tmp_path):
    healthy = [made_cases.case(number, lesion=False) for number in (0, 1)]
    model, history = train_once(synthesis, recipe(), healthy, VAL, tmp_path)
    assert all(np.isfinite(r.value) for r in history.rows)
    assert all(np.isfinite(value).all() for value in weights(model).values())


def test_cases_without_a_dwi_cannot_train_a_generator(tmp_path):
    with pytest.raises(DataError, match="the public archive of ISLES 2018 has none"):
        train_once(synthesis, recipe(), [made_cases.case(0, dwi=False)], VAL, tmp_path)


@pytest.mark.parametrize("row", ["L2 + GAN", "w-L2 + l_h1"])
def test_a_training_that_was_stopped_in_the_middle_ends_with_the_same_bytes(row, tmp_path):
    used = recipe(loss=row, steps=6, validations=3, ema_decay=0.9, clip_norm=1.0, mirror=0.5, context="joint")
    whole, resumed = made_cases.stopped_and_whole(synthesis, used, TRAIN, VAL, tmp_path, stop=5)
    assert "resumed at step 4" in resumed[2].notes
    assert "resumed at step 4" not in whole[2].notes
    assert whole[1] == resumed[1]
    assert {name: v.tobytes() for name, v in whole[0].items()} == {name: v.tobytes() for name, v in resumed[0].items()}


def test_a_generator_overfits_one_scan(tmp_path):
    used = recipe(inputs=("maps",), loss="L2", steps=80, validations=4, lr=0.005, mirror=0.0, width=8, depth=2)
    model, history = train_once(synthesis, used, TRAIN[:1], TRAIN[:1], tmp_path)
    assert history.curve(synthesis.EXPLAINED)[1].max() > 0.9
    error = synthesise(model, used, TRAIN[0]) - TRAIN[0].channels["dwi"][0]
    assert np.abs(error).mean() < 0.05


# Validation and use


class Answer(nn.Module):
    """Stands for a generator: gives what it is asked to, scaled about the target's mean."""

    needs = ("dwi",)

    def __init__(self, share):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, channels):
        return self.share * channels["dwi"], None, channels["dwi"]


def test_the_validation_looks_at_ten_pixels_around_each_lesion():
    found = named_slices([made_cases.case(2), made_cases.case(3, lesion=False)], ["dwi"], recipe())
    inside = around_lesions(found)
    assert inside.shape == (6, 1, *made_cases.SHAPE[1:])
    for number, lesion in enumerate(found.slices.lesions > 0):
        expected = torch.zeros(made_cases.SHAPE[1:], dtype=torch.bool)
        if lesion.any():
            y, x = lesion.nonzero().unbind(1)
            expected[max(0, y.min() - 10) : y.max() + 11, max(0, x.min() - 10) : x.max() + 11] = True
        assert inside[number, 0].equal(expected)
    assert inside.flatten(1).any(dim=1).tolist() == [False, True, True, False, False, False]
    assert not inside.all()


def test_the_validation_looks_everywhere_where_no_slice_has_a_lesion():
    assert around_lesions(named_slices([made_cases.case(3, lesion=False)], ["dwi"], recipe())).all()


def test_a_perfect_image_explains_everything_and_half_of_a_centred_one_three_quarters():
    held_out = named_slices(VAL, ["dwi"], recipe())
    inside = around_lesions(held_out)
    assert explained(Answer(1.0), held_out, inside, 2) == pytest.approx(1.0)
    images = held_out.slices.images
    images[:, :1] -= images[:, :1][inside].mean()
    images[:, :1][~inside] = 7.0  # does not count
    assert explained(Answer(0.0), held_out, inside, 2) == pytest.approx(0.0, abs=1e-4)
    assert explained(Answer(0.5), held_out, inside, 2) == pytest.approx(0.75, abs=1e-4)
    assert explained(Answer(-1.0), held_out, inside, 1) == pytest.approx(-3.0, abs=1e-4)


def test_the_image_of_a_case_is_the_generator_s_on_whole_slices_and_the_logged_value_is_of_the_weights_kept(tmp_path):
    used = recipe(steps=4, validations=4, crop=(32, 32), batch=2)
    model, history = train_once(synthesis, used, TRAIN, VAL, tmp_path)
    assert model.training
    image = synthesise(model, used, VAL[0])
    assert model.training
    assert image.dtype == np.float32
    assert image.shape == made_cases.SHAPE
    assert ((image > 0) & (image < 1)).all()
    channels = {n: torch.from_numpy(VAL[0].channels[n].swapaxes(0, 1).copy()) for n in model.needs}
    with torch.no_grad():
        expected = model.eval()(channels)[0][:, 0].numpy()
    np.testing.assert_allclose(image, expected, atol=1e-5)
    # Validation looks at the window, use at the whole slice.
    held_out = named_slices(VAL, (*model.needs, "dwi"), used)
    expected = explained(model, held_out, around_lesions(held_out), 3)
    assert history.curve(synthesis.EXPLAINED)[1].max() == pytest.approx(expected, abs=1e-3)
