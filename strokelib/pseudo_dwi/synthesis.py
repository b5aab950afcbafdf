"""Training and use of pseudo-DWI generators: the rows of Tables 1 and 2 of Wang et al. 2020."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from strokelib import train
from strokelib.data.cases import Case
from strokelib.data.loading import Batch
from strokelib.errors import ParameterError
from strokelib.infer import evaluating, model_device
from strokelib.metrics import local_box
from strokelib.nn.precision import autocast, channels_last
from strokelib.pseudo_dwi.discriminator import MultiScaleDiscriminator
from strokelib.pseudo_dwi.fitting import fit_slices
from strokelib.pseudo_dwi.losses import (
    SYNTHESIS_LOSSES,
    adversarial_loss,
    discriminator_loss,
    synthesis_terms,
)
from strokelib.pseudo_dwi.model import CHANNELS, ContextEncoder, DwiGenerator, FeatureExtractor, xavier
from strokelib.pseudo_dwi.recipe import SynthesisRecipe
from strokelib.pseudo_dwi.slices import WEIGHT, NamedSlices, named_slices, sampler, whole_slices

VERSION = 1
EXPLAINED = "explained"
WIDTHS = CHANNELS | {"extracted": 1, "high_level": 1, "dwi": 1}


class Synthesiser(nn.Module):
    """A generator with what its loss needs: extractor, context encoder, discriminator.

    Args:
        recipe: ``inputs`` of ``maps``, ``mip``, ``frames`` (as they are), ``extracted`` (the frames through an
            extractor that is trained along) and ``high_level`` (a feature made before).

    Raises:
        ParameterError: An unknown input, loss or kind of context encoder.
    """

    def __init__(self, recipe: SynthesisRecipe) -> None:
        super().__init__()
        strange = [name for name in recipe.inputs if name not in WIDTHS]
        if strange or not recipe.inputs or recipe.loss not in SYNTHESIS_LOSSES:
            found = f"inputs {recipe.inputs}, loss {recipe.loss!r}"
            wanted = f"inputs of {', '.join(WIDTHS)}; a loss of {', '.join(SYNTHESIS_LOSSES)}"
            raise ParameterError("synthesis", found=found, wanted=wanted, next_step="correct the recipe")
        if recipe.context not in ("frozen", "joint"):
            found, wanted = repr(recipe.context), "frozen or joint"
            raise ParameterError("context", found=found, wanted=wanted, next_step="correct the recipe")
        self.inputs, terms = tuple(recipe.inputs), SYNTHESIS_LOSSES[recipe.loss]
        given, size = sum(WIDTHS[name] for name in self.inputs), (recipe.width, recipe.depth)
        self.extractor = FeatureExtractor(CHANNELS["frames"], *size) if "extracted" in self.inputs else None
        self.generator = DwiGenerator(given, *size)
        self.context = ContextEncoder(frozen=recipe.context == "frozen") if terms.context else None
        self.discriminator = None
        if terms.adversarial:
            seen = 1 + (given if recipe.conditional else 0)
            self.discriminator = MultiScaleDiscriminator(seen, recipe.judges_width)
        xavier(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the channels it is fed with."""
        return tuple("frames" if name == "extracted" else name for name in self.inputs)

    def forward(self, channels: dict[str, Tensor]) -> tuple[Tensor, Tensor | None, Tensor]:
        """Pseudo-DWI (B, 1, H, W), high-level feature of that shape or None, and the generator's input (B, C, H, W)."""
        high_level = self.extractor(channels["frames"]) if self.extractor is not None else None
        parts = [high_level if name == "extracted" else channels[name] for name in self.inputs]
        seen = torch.cat(parts, dim=1)
        return self.generator(seen), high_level, seen


def adversarial_terms(judge: nn.Module, made: Tensor, real: Tensor, beside: Tensor | None) -> tuple[Tensor, Tensor]:
    """LSGAN's loss of the generator and that of the discriminator, from one batch.

    The first passes gradients to the image alone, the second to the discriminator alone, so that one backward pass and
    one optimiser serve both.

    Args:
        judge: Discriminator.
        made: Pseudo-DWI (B, 1, H, W).
        real: DWI of that shape.
        beside: What the generator saw, where the discriminator sees it too.
    """

    def pair(image: Tensor) -> Tensor:
        return image if beside is None else torch.cat([image, beside.detach()], dim=1)

    held = {name: p.detach() for name, p in judge.named_parameters()}
    of_generator = adversarial_loss(functional_call(judge, held, (pair(made),)))
    return of_generator, discriminator_loss(judge(pair(real)), judge(pair(made.detach())))


def step_loss(
    model: Synthesiser, recipe: SynthesisRecipe, channels: dict[str, Tensor], target: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """The loss of a batch and its parts.

    Args:
        model: The generator with its company.
        recipe: Which loss, and its weights.
        channels: Name -> (B, C, H, W).
        target: DWI (B, 1, H, W) in [0, 1].
        weight: Map of Eq. 9, (B, 1, H, W).
    """
    terms, total = SYNTHESIS_LOSSES[recipe.loss], torch.zeros((), device=target.device)
    image, high_level, seen = model(channels)
    how = {"gamma": recipe.gamma, "norm": terms.context or 1}
    parts: dict[str, Tensor] = {}
    if terms.pixel is not None:
        used = weight if terms.weighted else None
        found = synthesis_terms(image, target, used, model.context, form=terms.pixel, **how)
        total = total + found["loss"]
        parts |= {f"image_{name}": value for name, value in found.items() if name != "loss"}
        if high_level is not None and recipe.supervised:
            extra = synthesis_terms(high_level, target, used, model.context, form=terms.pixel, **how)["loss"]
            total, parts["extractor"] = total + recipe.beta * extra, extra
    if model.discriminator is not None:
        beside = seen if recipe.conditional else None
        made, judged = adversarial_terms(model.discriminator, image, target, beside)
        total = total + made + judged
        parts |= {"adversarial": made, "discriminator": judged}
    return {"loss": total, **{name: value.detach() for name, value in parts.items()}}


def around_lesions(found: NamedSlices) -> Tensor:
    """(N, 1, H, W) bool: the box of each slice's lesion with its margin, where local PSNR is measured.

    Nothing of a slice without lesion; everything where no slice has one.
    """
    inside = torch.zeros((len(found.slices), 1, *found.slices.lesions.shape[1:]), dtype=torch.bool)
    for place, lesion in zip(inside, found.slices.lesions.numpy() > 0, strict=True):
        box = local_box(lesion)
        if box is not None:
            place[(0, *box)] = True
    return inside if inside.any() else torch.ones_like(inside)


def explained(model: Synthesiser, held_out: NamedSlices, inside: Tensor, batch: int) -> float:
    """Share of the DWI's variance around the lesions that the pseudo-DWI explains.

    1 is perfect, below 0 is worse than the mean; NaN where the DWI is constant there. It rises with the local PSNR, and
    in units that a rule for a flat curve can use. Over whole slices the best weights would be those that draw the
    skull's edge best.
    """
    device = model_device(model)
    error = torch.zeros((), dtype=torch.float64)
    target = held_out.slices.images[:, held_out.places["dwi"]]
    with evaluating(model), torch.inference_mode(), autocast("auto", device):
        for start in range(0, len(target), batch):
            part = slice(start, start + batch)
            images = channels_last(held_out.slices.images[part].to(device))
            image = model(held_out.take(images, model.needs))[0].float().cpu()
            error = error + (image - target[part])[inside[part]].double().square().sum()
    values = target[inside].double()
    total = (values - values.mean()).square().sum()
    return float(1 - error / total) if total > 0 else float("nan")


def build(recipe: SynthesisRecipe) -> Synthesiser:
    """The untrained generator with its company, started by Xavier's method."""
    return Synthesiser(recipe)


def fit(
    model: Synthesiser,
    recipe: SynthesisRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train a generator; the weights with the best validation image are kept.

    Args:
        model: From :func:`build`.
        recipe: Hyper-parameters.
        train_cases: With the channels of ``model.needs`` and ``dwi``.
        val_cases: As above, of other patients.
        seed: Of the batches.
        out: Folder of the run.
    """
    names = (*model.needs, "dwi")
    shown = named_slices(train_cases, names, recipe)
    held_out = named_slices(val_cases, names, recipe).spread(recipe.val_slices)
    inside = around_lesions(held_out)

    def step(network: nn.Module, batch: Batch, index: int) -> dict[str, Tensor]:
        found = shown.take(batch.images, (*names, WEIGHT))
        return step_loss(network, recipe, found, found["dwi"], found[WEIGHT])

    def validate(network: nn.Module) -> dict[str, float]:
        return {EXPLAINED: explained(network, held_out, inside, recipe.batch)}

    return fit_slices(model, sampler(shown, recipe, seed), step, validate, EXPLAINED, recipe, seed=seed, out=out)


def synthesise(model: Synthesiser, recipe: SynthesisRecipe, case: Case) -> np.ndarray:
    """Pseudo-DWI (D, H, W) of a case, in (0, 1)."""
    channels, device = whole_slices(case, model.needs), model_device(model)
    out = np.empty(case.image.array.shape, np.float32)
    with evaluating(model), torch.inference_mode(), autocast("auto", device):
        for start in range(0, len(out), recipe.batch):
            part = {n: channels_last(c[start : start + recipe.batch].to(device)) for n, c in channels.items()}
            out[start : start + recipe.batch] = model(part)[0][:, 0].float().cpu().numpy()
    return out
