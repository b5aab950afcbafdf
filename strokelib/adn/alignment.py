"""Training and use of T."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from strokelib import train
from strokelib.adn.batches import HeadSampler, head_volumes
from strokelib.adn.fitting import fit_heads
from strokelib.adn.losses import alignment_loss, mass_loss
from strokelib.adn.recipe import AlignmentRecipe
from strokelib.adn.transformation import Transformer3D, align, restore
from strokelib.adn.volumes import heads_of, pooled_grid
from strokelib.data.cases import Case
from strokelib.data.loading import Batch
from strokelib.infer import evaluating, model_device
from strokelib.nn.alignment import mirror
from strokelib.nn.precision import channels_last

VERSION = 1
SYMMETRY = "symmetry"


def build(recipe: AlignmentRecipe) -> Transformer3D:
    """The untrained network, which moves nothing."""
    return Transformer3D(recipe.width, recipe.limits)


def step_loss(
    model: nn.Module, recipe: AlignmentRecipe, images: Tensor, spacing: tuple[float, ...]
) -> dict[str, Tensor]:
    """Eq. 1 of a batch and the guard that keeps the head in view.

    Args:
        model: T.
        recipe: Its ``loss`` and ``mass_weight``.
        images: (B, 1, D, H, W).
        spacing: (dz, dy, dx) in mm.
    """
    matrix = Transformer3D.matrix(model(images), images.shape[2:], spacing)
    moved = align(images, matrix)
    back = restore(mirror(moved), matrix) if recipe.loss == "code" else None
    asymmetry, lost = alignment_loss(moved, images, back, recipe.loss), mass_loss(images, moved)
    return {"loss": asymmetry + recipe.mass_weight * lost, "asymmetry": asymmetry.detach(), "lost": lost.detach()}


def fit(
    model: nn.Module,
    recipe: AlignmentRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train T without any label; ``symmetry`` of held-out heads is 1 - mean|X - X'| / mean(X), less what was lost.

    Args:
        model: From :func:`build`.
        recipe: Hyper-parameters.
        train_cases: Prepared cases.
        val_cases: As above, of other patients.
        seed: Of the batches.
        out: Folder of the run.
    """
    shown, held_out = (head_volumes(part, recipe, aligned=False) for part in (train_cases, val_cases))
    stream = HeadSampler(shown, recipe.batch, seed, recipe.mirror, recipe.gamma, recipe.rotation_deg)

    def step(network: nn.Module, batch: Batch, index: int) -> dict[str, Tensor]:
        return step_loss(network, recipe, batch.images, shown.spacing)

    def validate(network: nn.Module) -> dict[str, float]:
        images = held_out.images
        moved = align(images, matrices(network, images, held_out.spacing))
        return {SYMMETRY: 1 - float(alignment_loss(moved)) - float(mass_loss(images, moved))}

    return fit_heads(model, stream, step, validate, SYMMETRY, recipe, seed=seed, out=out)


def matrices(model: nn.Module, images: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """T's maps (N, 4, 4), output -> input in voxels, of volumes (N, 1, D, H, W); one at a time."""
    found = []
    with evaluating(model), torch.no_grad():
        for image in images:
            alpha = model(channels_last(image[None].to(model_device(model))))
            found.append(Transformer3D.matrix(alpha, images.shape[2:], spacing).cpu())
    return torch.cat(found)


def find_matrix(model: nn.Module, recipe: AlignmentRecipe, case: Case, pool: int | None = None) -> np.ndarray:
    """T's map of one case, (4, 4) float64, output -> input.

    Args:
        model: T.
        recipe: What it was trained with.
        case: A prepared case.
        pool: In voxels of the grid that this pooling makes; None for the recipe's own.
    """
    head = heads_of([case], window_hu=recipe.window_hu, pool=recipe.pool, unlabelled=True)
    found = matrices(model, head.images, head.spacing)[0].double().numpy()
    if pool is None or pool == recipe.pool:
        return found
    to_own = np.linalg.inv(pooled_grid(case, recipe.pool).affine) @ pooled_grid(case, pool).affine
    return np.linalg.inv(to_own) @ found @ to_own
