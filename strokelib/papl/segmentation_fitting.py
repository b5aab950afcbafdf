"""Training of stages 2 and 3, and by the same slices, optimiser and schedule that of every compared network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from strokelib import train
from strokelib.data.cases import Case
from strokelib.infer import pooled_dice
from strokelib.nn.losses import dice_and_cross_entropy, focus_at, missed_lesion_loss
from strokelib.papl.fitting import fit_slices
from strokelib.papl.inputs import recipe_slices
from strokelib.papl.losses import (
    beta3_at,
    feature_compensation_loss,
    perception_refinement_loss,
    sharpened_prediction,
    total_loss,
)
from strokelib.papl.model import PAPL
from strokelib.papl.networks import build_network
from strokelib.papl.recipe import SegmentationRecipe
from strokelib.papl.triplets import TripletBatch, TripletSampler

VERSION = 1
DICE = "pooled_dice"


def build(recipe: SegmentationRecipe, start: Mapping[str, Tensor] | None = None) -> nn.Module:
    """The untrained network: a compared one as it is, a backbone of PAPL with its stages around it.

    Args:
        recipe: Hyper-parameters.
        start: :meth:`strokelib.papl.model.PAPL.encoder_state` of stage 1.
    """
    network = build_network(recipe.network, recipe.width, recipe.depth, recipe.shape)
    if start is None and not recipe.beta2:
        return network
    model = PAPL(network)
    if start is not None:
        model.load_encoder(start)
    return model


def losses(model: nn.Module, recipe: SegmentationRecipe, batch: TripletBatch, index: int) -> dict[str, Tensor]:
    """Eq. 24 of one batch, with its parts; a term with the weight 0 is not computed.

    Without FCM the middle slices alone go through the network. A network with a loss of its own (IS-Net) has it in
    place of the segmentation loss.

    Source: Eq. 24, Sun et al. 2024.
    Deviation: those of its terms; in a short run missed infarct weighs more at first
        (:func:`strokelib.nn.losses.missed_lesion_loss`), for every network alike.

    Args:
        model: From :func:`build`, in training mode.
        recipe: Hyper-parameters.
        batch: Triplets.
        index: Number of the step, from 0.

    Returns:
        ``loss``, and of the terms that were computed ``segmentation``, ``compensation`` and ``refinement``.
    """
    compensation: Tensor | float = 0.0
    refinement: Tensor | float = 0.0
    if recipe.beta2:
        found = model(batch.front, batch.middle, batch.rear)
        logits = found.logits
        compensation = feature_compensation_loss(*found.features, batch.i, batch.j, batch.k, batch.n, recipe.distance)
    else:
        logits = getattr(model, "backbone", model)(batch.middle)
    if isinstance(logits, Tensor):
        segmentation = dice_and_cross_entropy(logits, batch.lesions)
    else:
        segmentation, logits = model.loss(logits, batch.lesions), logits.logits
    if recipe.focus:
        infarct_against_none = logits[:, 1:] - logits[:, :1]
        missed = missed_lesion_loss(infarct_against_none, batch.lesions[:, None])
        segmentation = segmentation + focus_at(recipe.focus, index, recipe.steps) * missed
    if recipe.beta3:
        prediction = sharpened_prediction(logits, recipe.omega)
        how = (recipe.mu, recipe.gradient, recipe.base, recipe.reduction, recipe.scale)
        refinement = perception_refinement_loss(prediction, batch.unit[:, 0], batch.lesions, *how)
    beta3 = beta3_at(index, recipe.steps, recipe.beta3, recipe.growth, recipe.phases)
    loss = total_loss(segmentation, compensation, refinement, recipe.beta1, recipe.beta2, beta3)
    parts = {"segmentation": segmentation, "compensation": compensation, "refinement": refinement}
    return {"loss": loss} | {name: value.detach() for name, value in parts.items() if isinstance(value, Tensor)}


def fit(
    model: nn.Module,
    recipe: SegmentationRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train on triplets of slices, of which the middle one is segmented; the last weights are kept.

    Source: Secs III.D, III.E and IV.B, Sun et al. 2024.
    Deviation: the compared networks see the same middle slices in the same order, with the segmentation loss alone (and
        the recipe's ``focus``, as PAPL); what the paper gave them is not stated. The validation is ours, for the curve.

    Args:
        model: From :func:`build`.
        recipe: Hyper-parameters.
        train_cases: Cases with a reference, aligned if the recipe is for aligned ones.
        val_cases: As above, of other patients.
        seed: Of the batches.
        out: Folder of the run.
    """
    share = None if recipe.triplets == "printed" else recipe.lesion_share
    how = {"form": recipe.triplets, "lesion_share": share, "augmentation": recipe.augmentation()}
    stream = TripletSampler(recipe_slices(train_cases, recipe), recipe.batch, seed, **how)
    held_out = recipe_slices(val_cases, recipe).spread(recipe.val_slices)

    def step(network: nn.Module, batch: TripletBatch, index: int) -> dict[str, Tensor]:
        return losses(network, recipe, batch, index)

    def validate(network: nn.Module) -> dict[str, float]:
        slicewise = getattr(network, "backbone", network)
        return {DICE: pooled_dice(slicewise, held_out.images, held_out.lesions, recipe.batch)}

    parameters = model.segmentation_parameters() if isinstance(model, PAPL) else model.parameters()
    return fit_slices(model, parameters, stream, step, validate, recipe, seed=seed, out=out)
