"""The baseline: a plain U-Net on single slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from strokelib import train
from strokelib.data.augment import Augmentation
from strokelib.data.cases import Case
from strokelib.data.loading import Batch, SliceSampler, slices_of
from strokelib.infer import pooled_dice, predict_case
from strokelib.methods.method import Method
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.nn.unet import UNet
from strokelib.recipe import Recipe, stated

VERSION = 1
SILENT = "assumed: not stated"
SPLIT = "ours: 345 scans in Sun et al. 2024, parts not stated"
BRIEF = "assumed: not stated; off in the demo, which sees each slice less than once"
PAPL = "Sun et al. 2024, Sec. IV.B"


@dataclass(frozen=True)
class UNetRecipe(Recipe):
    """Hyper-parameters of the baseline; where no paper states them for its U-Net, those of PAPL's backbone."""

    train_cases: int = stated(295, demo=80, smoke=8, source=f"{SPLIT}; fewer where a render has to be quick")
    val_cases: int = stated(50, demo=16, smoke=4, source=SPLIT)
    width: int = stated(64, demo=12, smoke=4, source="Wang et al. 2020, Table 3: 31.04 M parameters")
    depth: int = stated(5, smoke=4, source="Wang et al. 2020, Table 3: 31.04 M parameters")
    window_hu: tuple[float, float] = stated((30.0, 100.0), demo=(0.0, 80.0), source=f"{PAPL}; 30 HU cuts off oedema")
    normalise: str = stated("zscore", source=f"{PAPL}; the scope (scan, brain) is assumed")
    smallest_brain_ml: float = stated(5.0, source=SILENT)
    crop: tuple[int, int] | None = stated(None, demo=(96, 80), source="none; here a window about the brain")
    batch: int = stated(32, demo=4, source=f"{PAPL}: stages 2 and 3")
    steps: int = stated(35_000, demo=280, smoke=6, source=f"{PAPL}: 180 epochs, of about 6,200 slices (assumed)")
    lr: float = stated(3e-4, demo=3e-3, source=f"{PAPL}: stages 2 and 3")
    weight_decay: float = stated(0.0, demo=1e-4, source=SILENT)
    schedule_power: float = stated(0.9, source=SILENT)
    clip_norm: float = stated(12.0, source=SILENT)
    dice_weight: float = stated(1.0, source=SILENT)
    ce_weight: float = stated(1.0, source=SILENT)
    lesion_share: float = stated(0.5, demo=0.8, source=SILENT)
    mirror: float = stated(0.5, source=SILENT)
    rotation_deg: float = stated(10.0, demo=0.0, source=BRIEF)
    zoom: float = stated(0.1, demo=0.0, source=BRIEF)
    shift: float = stated(0.03, demo=0.0, source=BRIEF)
    contrast: float = stated(0.1, demo=0.0, source=BRIEF)
    brightness: float = stated(0.1, demo=0.0, source=BRIEF)
    noise: float = stated(0.05, demo=0.0, source=BRIEF)
    validations: int = stated(50, demo=5, smoke=2, source=SILENT)
    val_slices: int = stated(10_000, demo=80, smoke=16, source=SILENT)

    def augmentation(self) -> Augmentation:
        """The augmentation's settings."""
        return Augmentation(
            self.mirror, self.rotation_deg, self.zoom, self.shift, self.contrast, self.brightness, self.noise
        )


def build(recipe: UNetRecipe) -> UNet:
    """The untrained network: one channel in, background and lesion out."""
    return UNet(1, 2, recipe.width, recipe.depth)


def fit(
    model: nn.Module,
    recipe: UNetRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train on single slices with soft Dice and cross-entropy; validate on a fixed set of slices.

    Args:
        model: Maps (B, 1, H, W) to logits (B, 2, H, W).
        recipe: Hyper-parameters.
        train_cases: Prepared cases with a reference.
        val_cases: As above, of other patients.
        seed: Of the batches and of the global generators.
        out: Folder of the run.
    """
    how = {
        "window_hu": recipe.window_hu,
        "normalise": recipe.normalise,
        "smallest_brain_ml": recipe.smallest_brain_ml,
        "crop": recipe.crop,
    }
    sampler = SliceSampler(
        slices_of(train_cases, **how), recipe.batch, seed, recipe.lesion_share, recipe.augmentation()
    )
    held_out = slices_of(val_cases, **how).spread(recipe.val_slices)

    def step(network: nn.Module, batch: Batch, index: int) -> Tensor:
        return dice_and_cross_entropy(network(batch.images), batch.lesions, recipe.dice_weight, recipe.ce_weight)

    return train.fit(
        model,
        sampler,
        step,
        optimizer=torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay),
        schedule=train.poly(recipe.steps, recipe.schedule_power),
        validate=lambda network: {"pooled_dice": pooled_dice(network, held_out.images, held_out.lesions, recipe.batch)},
        clip_norm=recipe.clip_norm,
        **train.paced(recipe),
        out=out,
        seed=seed,
    )


def predict(model: nn.Module, recipe: UNetRecipe, case: Case) -> np.ndarray:
    """Foreground probability (D, H, W) of one case; 0 outside the brain."""
    return predict_case(model, case, window_hu=recipe.window_hu, normalise=recipe.normalise, batch=recipe.batch)


UNET = Method(
    key="unet",
    title="U-Net",
    paper="Ronneberger et al. 2015, as compared in all four papers",
    recipe=UNetRecipe,
    build=build,
    fit=fit,
    predict=predict,
    modules=("strokelib.nn.unet", "strokelib.methods.unet"),
)
