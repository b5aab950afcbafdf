"""Training and use of the networks that segment whole heads: ADN, and the comparators in three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from strokelib import train
from strokelib.adn.batches import HeadSampler, head_volumes, matrices_of, middle
from strokelib.adn.fitting import DICE, fit_heads
from strokelib.adn.inference import AT_A_TIME, lesion_probability, outputs, pooled_dice
from strokelib.adn.losses import segmentation_loss, tissue_aware_loss, total_loss, warm_start_loss
from strokelib.adn.model import ADN, Disentangled, total_asymmetry
from strokelib.adn.recipe import AdnRecipe, VolumeRecipe
from strokelib.adn.tissue_mismatch import tissue_mismatch, without_lesion
from strokelib.adn.transformation import align, restore
from strokelib.adn.volumes import heads_of, to_case_grid
from strokelib.data.cases import Case
from strokelib.data.loading import Batch
from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror
from strokelib.nn.baselines.deepmedic import DeepMedic
from strokelib.nn.baselines.resunet3d import ResUNet3D
from strokelib.nn.baselines.unet3d import UNet3D
from strokelib.nn.losses import focus_at, missed_lesion_loss

VERSION = 1
NOWHERE = -10.0  # a logit
# A width of 32, the paper profile's, is DeepMedic as published. All its layers have full resolution, so that narrower
# profiles take more from it than from a U-Net.
DEEPMEDIC_FULL = 32
DEEPMEDIC_POWER = 1.5


class BothSides(nn.Module):
    """A network that sees a volume and its mirror image as two channels.

    Source: Clerigues et al. 2020 as Ni et al. 2022, Table 1, compare it: CT and mirrored CT into the 3-D ResUNet.
    Deviation: none from that reading; Clerigues' own network has two dimensions.

    Args:
        network: Two channels in.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, D, H, W) to what the network makes of (B, 2, D, H, W)."""
        return self.network(torch.cat([x, mirror(x)], dim=1))


# Networks by the names in Table 1.
NETWORKS: dict[str, Callable[[VolumeRecipe], nn.Module]] = {
    "DeepMedic": lambda r: DeepMedic(1, 1, width=(r.width / DEEPMEDIC_FULL) ** DEEPMEDIC_POWER),
    "3D U-Net": lambda r: UNet3D(1, 1, r.width, r.depth),
    "3D ResUNet": lambda r: ResUNet3D(1, 1, r.width, r.depth, r.dropout),
    "Clèrigues et al.": lambda r: BothSides(ResUNet3D(2, 1, r.width, r.depth, r.dropout)),
}


def build(recipe: VolumeRecipe) -> nn.Module:
    """The untrained network of a row.

    Raises:
        ParameterError: Unknown network.
    """
    if recipe.network not in NETWORKS:
        wanted = " or ".join(NETWORKS)
        raise ParameterError("network", found=repr(recipe.network), wanted=wanted, next_step="correct the recipe")
    return NETWORKS[recipe.network](recipe)


def build_adn(recipe: AdnRecipe, start: nn.Module | None = None) -> ADN:
    """Untrained D and F, or both with the weights of ``start``, a 3-D ResUNet of their size.

    Such a network was trained with the loss of D's warm start on the same volumes, so that it can stand for that, once
    for several trainings.

    Raises:
        ParameterError: D does not see X alone, so that its first layer is another one.
    """
    network = ADN(recipe.width, recipe.depth, recipe.dropout, recipe.sees, recipe.range, recipe.intrinsic)
    parts = (network.extractor, network.segmenter)
    if start is not None and recipe.sees != "X":
        step = "train with prior_steps=0"
        raise ParameterError("start of D", found=f"sees={recipe.sees!r}", wanted="'X'", next_step=step)
    for part in parts:
        if start is not None:
            part.load_state_dict(start.state_dict())
    return network


def adn_loss(model: nn.Module, recipe: AdnRecipe, batch: Batch, index: int) -> dict[str, Tensor]:
    """Eq. 6 of a batch; in the first ``warm_steps`` the regulariser is replaced by, or added to, D's supervision.

    Args:
        model: ADN.
        recipe: Its weights and forms.
        batch: Images (B, 1 or 4, D, H, W): X, and with ``tissue`` shares of grey matter, white matter and fluid.
        index: Number of the step.
    """
    aligned, lesion = batch.images[:, :1], batch.lesions[:, None].float()
    found: Disentangled = model(aligned)
    segmentation = segmentation_loss(found.logits, lesion)
    masks: dict[str, Tensor] = {}
    if recipe.tissue:
        grey, white, csf = (batch.images[:, k : k + 1] for k in (1, 2, 3))
        masks = {"mismatch": without_lesion(tissue_mismatch(grey, white, recipe.sides), lesion)}
        masks["csf"] = without_lesion(csf, lesion)
    terms = tissue_aware_loss(found.total, found.pathological, lesion, form=recipe.form, tissue=recipe.tissue, **masks)
    warm = warm_start_loss(found.pathological, lesion) if index < recipe.warm_steps else None
    missed = recipe.focus * missed_lesion_loss(found.logits, lesion)
    loss = total_loss(segmentation + missed, terms.loss, recipe.lambda_, warm_start=warm, warm=recipe.warm)
    parts = {name: value.detach() for name, value in terms._asdict().items() if name != "loss"}
    return {"loss": loss, "segmentation": segmentation.detach(), **parts}


def fit(
    model: nn.Module,
    recipe: VolumeRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train a network on whole heads; the weights with the best pooled validation Dice are kept.

    Source: Sec. 3 and Eq. 4, Ni et al. 2022.
    Deviation: compared in the aligned frame, as the public code does (A11).

    Args:
        model: From :func:`build` or :func:`build_adn`.
        recipe: Hyper-parameters.
        train_cases: With the channel ``alignment`` where ``recipe.aligned``; with ``tissue`` where ADN asks for it.
        val_cases: As above, of other patients; no tissue is needed.
        seed: Of the batches.
        out: Folder of the run.
    """
    tissue = isinstance(recipe, AdnRecipe) and recipe.tissue
    shown = head_volumes(train_cases, recipe, aligned=recipe.aligned, tissue=tissue, crop=recipe.crop)
    held_out = head_volumes(val_cases, recipe, aligned=recipe.aligned, crop=recipe.crop)
    turn = 0.0 if recipe.aligned else recipe.rotation_deg
    change = (recipe.mirror, recipe.gamma, turn, recipe.segment, recipe.lesion_share)
    stream = HeadSampler(shown, recipe.batch, seed, *change)

    def step(network: nn.Module, batch: Batch, index: int) -> Tensor | dict[str, Tensor]:
        if isinstance(recipe, AdnRecipe):
            return adn_loss(network, recipe, batch, index)
        logits, lesion = network(batch.images), batch.lesions[:, None].float()
        more = focus_at(recipe.focus, index, recipe.steps)
        return segmentation_loss(logits, lesion) + more * missed_lesion_loss(logits, lesion)

    def validate(network: nn.Module) -> dict[str, float]:
        return {DICE: pooled_dice(network, held_out, recipe.segment)}

    return fit_heads(model, stream, step, validate, DICE, recipe, seed=seed, out=out)


def segment(model: nn.Module, recipe: VolumeRecipe, case: Case) -> np.ndarray:
    """Foreground probability (D, H, W) of a case in its own frame; 0 outside the brain.

    Source: O = T^-1(Y), Eq. 4, Ni et al. 2022.
    Deviation: none.
    """
    return segment_all(model, recipe, [case])[case.id]


def segment_all(model: nn.Module, recipe: VolumeRecipe, cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """As :func:`segment`, case id -> probability of many cases of one shape, some at a time."""
    maps = {}
    for part in _some(cases):
        images, place = _seen(recipe, part)
        found = torch.zeros_like(images)
        found[place] = lesion_probability(model, images[place], recipe.segment)
        found = restore(found, matrices_of(part)) if recipe.aligned else found
        maps |= {case.id: to_case_grid(one[0], case, recipe.pool) for case, one in zip(part, found, strict=True)}
    return maps


def _some(cases: Sequence[Case]) -> Iterator[list[Case]]:
    for start in range(0, len(cases), AT_A_TIME):
        yield [cases[k] for k in range(start, min(start + AT_A_TIME, len(cases)))]


def _seen(recipe: VolumeRecipe, cases: Sequence[Case]) -> tuple[Tensor, tuple]:
    """The whole volumes of some cases, aligned where the recipe says so, and the part of them that a network sees."""
    images = heads_of(cases, window_hu=recipe.window_hu, pool=recipe.pool, unlabelled=True).images
    images = align(images, matrices_of(cases)) if recipe.aligned else images
    return images, (..., *middle(images.shape, recipe.crop))


def disentangle(model: ADN, recipe: AdnRecipe, case: Case) -> Disentangled:
    """A, P, Q, X_hat and the logits of one case in the aligned frame.

    Returns:
        Each (1, 1, D, H, W) float32 over the whole field; beyond the recipe's crop, where the networks see nothing, P
        and Q are 0 and no lesion is found.
    """
    return next(disentangle_all(model, recipe, [case]))


def disentangle_all(model: ADN, recipe: AdnRecipe, cases: Sequence[Case]) -> Iterator[Disentangled]:
    """As :func:`disentangle`, of many cases of one shape in their order."""
    for part in _some(cases):
        images, place = _seen(recipe, part)
        beyond = (total_asymmetry(images), torch.zeros_like(images), torch.zeros_like(images), images.clone())
        whole = [*beyond, torch.full_like(images, NOWHERE)]
        found = list(outputs(model, images[place], segment=recipe.segment))
        for full, seen in zip(whole, zip(*found, strict=True), strict=True):
            full[place] = torch.cat(seen).float().cpu()
        yield from (Disentangled(*(full[k : k + 1] for full in whole)) for k in range(len(part)))
