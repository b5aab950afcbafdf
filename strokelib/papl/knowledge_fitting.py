"""Training of stage 1, and of the two tasks that Table VI has in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from strokelib import train
from strokelib.data.cases import Case
from strokelib.infer import evaluating, model_device
from strokelib.options import chosen
from strokelib.papl.contrastive import (
    ViewBatch,
    ViewSampler,
    positional_contrastive_loss,
    quarter_contrastive_loss,
)
from strokelib.papl.fitting import fit_slices
from strokelib.papl.inputs import recipe_slices
from strokelib.papl.losses import cosine_similarity, inter_sample_loss, intra_sample_loss, knowledge_preparation_loss
from strokelib.papl.model import PAPL
from strokelib.papl.networks import build_network
from strokelib.papl.recipe import KnowledgeRecipe
from strokelib.papl.rows import ASYMMETRY, GCL, PCL
from strokelib.papl.sampling import RegionBatch, RegionSampler
from strokelib.papl.slices import HeadSlices

VERSION = 1
NEIGHBOUR = "neighbour_accuracy"
VAL_SEED = 10_007


def build(recipe: KnowledgeRecipe) -> PAPL:
    """The untrained network: a backbone of Table II with a projection head."""
    network = build_network(recipe.network, recipe.width, recipe.depth, recipe.shape)
    return PAPL(network, out=recipe.length)


def region_stream(recipe: KnowledgeRecipe, slices: HeadSlices, batch: int, seed: int, *, plain: bool = False):
    """Samples of stage 1 as the recipe draws them.

    Args:
        recipe: Hyper-parameters.
        slices: Of aligned heads.
        batch: Samples a batch.
        seed: Of the stream.
        plain: Neither augmented nor with more infarct than the slices hold.
    """
    more = {} if plain else {"lesion_share": recipe.lesion_share, "augmentation": recipe.augmentation()}
    return RegionSampler(slices, batch, seed, samples=recipe.samples, positive_share=recipe.positive_share, **more)


def held_out_regions(recipe: KnowledgeRecipe, cases: Sequence[Case]) -> RegionBatch:
    """The same samples of held-out heads whenever they are asked for, infarcts as often as in training."""
    slices = recipe_slices(cases, recipe)
    share = recipe.lesion_share if bool(slices.with_lesion.any()) else None
    how = {"samples": recipe.samples, "positive_share": recipe.positive_share, "lesion_share": share}
    return next(RegionSampler(slices, recipe.val_samples, VAL_SEED, **how))


def embeddings(model: PAPL, images: Tensor, batch: int = 64) -> np.ndarray:
    """Embeddings (N, d) of samples (N, 1, H, W), by running statistics.

    Args:
        model: It keeps its mode.
        images: Samples of stage 1.
        batch: Samples at a time.
    """
    device = model_device(model)
    with evaluating(model), torch.inference_mode():
        found = [model.embed(part.to(device))[0].float().cpu() for part in images.split(batch)]
    return torch.cat(found).numpy()


def neighbour_accuracy(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Share of samples whose nearest other one, by cosine, has their label.

    Args:
        vectors: (N, d).
        labels: (N,).
    """
    near = cosine_similarity(torch.from_numpy(vectors), torch.from_numpy(vectors)).fill_diagonal_(-2)
    return float((labels[near.argmax(dim=1).numpy()] == labels).mean())


def fit(
    model: PAPL,
    recipe: KnowledgeRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train encoder and projection head; the last weights are kept.

    Source: Secs III.C and IV.B, Sun et al. 2024.
    Deviation: how often a batch holds infarct is not stated; the validation, which the paper does not mention, is for
        the curve alone: whether the nearest other sample of held-out heads has the same label, whatever the task.

    Args:
        model: From :func:`build`.
        recipe: Hyper-parameters.
        train_cases: Aligned cases with a reference.
        val_cases: As above, of other patients.
        seed: Of the batches.
        out: Folder of the run.

    Raises:
        ParameterError: Another task.
    """
    chosen("task", recipe.task, (ASYMMETRY, PCL, GCL))
    slices = recipe_slices(train_cases, recipe)
    if recipe.task == ASYMMETRY:
        stream = region_stream(recipe, slices, recipe.batch, seed)
    else:
        drawn_by = "slice" if recipe.task == PCL else "quarter"
        stream = ViewSampler(slices, max(1, recipe.batch // 2), seed, drawn_by=drawn_by)
    held_out = held_out_regions(recipe, val_cases)

    def step(network: PAPL, batch: RegionBatch | ViewBatch, index: int) -> dict[str, Tensor]:
        v, features = network.embed(batch.images)
        if recipe.task == PCL:
            return {"loss": positional_contrastive_loss(v, batch.positions, tau=recipe.tau)}
        if recipe.task == GCL:
            parts = (batch.quarters, batch.scans, batch.rows)
            return {"loss": quarter_contrastive_loss(v, *parts, tau=recipe.tau, form=recipe.quarters)}
        inter = inter_sample_loss(v, batch.labels, recipe.tau, recipe.inter)
        how = (recipe.intra, recipe.margin, recipe.halves, recipe.maps, recipe.direction)
        intra = intra_sample_loss(features, batch.labels, *how)
        loss = knowledge_preparation_loss(inter, intra, recipe.lambda1, recipe.lambda2, recipe.aim)
        return {"loss": loss, "inter": inter.detach(), "intra": intra.detach()}

    def validate(network: PAPL) -> dict[str, float]:
        return {NEIGHBOUR: neighbour_accuracy(embeddings(network, held_out.images), held_out.labels.numpy())}

    return fit_slices(model, model.knowledge_parameters(), stream, step, validate, recipe, seed=seed, out=out)


def sample_embeddings(model: PAPL, recipe: KnowledgeRecipe, case: Case) -> np.ndarray:
    """Embeddings (n, d) of as many samples of one case as its slices give."""
    slices = recipe_slices([case], recipe)
    return embeddings(
        model, next(region_stream(recipe, slices, recipe.samples * len(slices), VAL_SEED, plain=True)).images
    )
