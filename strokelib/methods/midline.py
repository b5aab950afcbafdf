"""The mid-sagittal line network: its recipe, its training on embedded heads, and lines for whole cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from strokelib import train
from strokelib.data.cases import Case
from strokelib.data.inplane import known_line
from strokelib.data.loading import Batch, case_images
from strokelib.infer import evaluating, model_device
from strokelib.methods.method import Method
from strokelib.nn.midline import MidlineNet
from strokelib.recipe import Recipe, stated

VERSION = 1
SILENT = "assumed: not stated; the paper takes the network of other authors"


@dataclass(frozen=True)
class MidlineRecipe(Recipe):
    """Hyper-parameters of the mid-sagittal line network."""

    train_cases: int = stated(200, demo=60, smoke=8, source=SILENT)
    val_cases: int = stated(50, demo=12, smoke=3, source=SILENT)
    width: int = stated(32, demo=12, smoke=4, source=SILENT)
    window_hu: tuple[float, float] = stated((0.0, 80.0), source=SILENT)
    smallest_brain_ml: float = stated(8.0, source=SILENT)
    batch: int = stated(64, demo=16, smoke=4, source=SILENT)
    steps: int = stated(10_000, demo=450, smoke=6, source=SILENT)
    lr: float = stated(1e-3, demo=3e-3, source=SILENT)
    turn_deg: float = stated(30.0, source=SILENT)
    shift: float = stated(0.12, source=SILENT)
    noise: float = stated(0.06, source=SILENT)
    direction_weight: float = stated(20.0, source=SILENT)
    validations: int = stated(20, demo=8, smoke=2, source=SILENT)


def _slices(cases: Sequence[Case], recipe: MidlineRecipe) -> tuple[Tensor, Tensor]:
    """Slices (N, 1, H, W) with enough brain, and the ends of their lines (N, 2, 2)."""
    images, ends = [], []
    for case in cases:
        line = known_line(case)
        kept = case.brain.sum(axis=(1, 2)) * case.image.voxel_ml > recipe.smallest_brain_ml
        images.append(case_images(case, recipe.window_hu, "unit")[kept])
        ends.append(line[kept])
    return torch.from_numpy(np.concatenate(images))[:, None], torch.from_numpy(np.concatenate(ends)).float()


class PosedSlices:
    """An endless stream of slices turned and shifted anew, with the ends of their lines; its state is one number.

    Args:
        images: (N, 1, H, W).
        ends: (N, 2, 2) in voxels.
        recipe: For batch size and limits.
        seed: Sample number i is drawn from (seed, i) alone.
    """

    def __init__(self, images: Tensor, ends: Tensor, recipe: MidlineRecipe, seed: int) -> None:
        self.images, self.ends, self.recipe, self.seed, self.drawn = images, ends, recipe, seed, 0

    def __iter__(self) -> PosedSlices:
        return self

    def __next__(self) -> Batch:
        """The next batch: images (B, 1, H, W) and, in place of lesions, ends (B, 2, 2)."""
        generators = [np.random.default_rng((self.seed, self.drawn + i)) for i in range(self.recipe.batch)]
        self.drawn += len(generators)
        chosen = [int(g.integers(len(self.images))) for g in generators]
        images, ends = self.images[chosen], self.ends[chosen]
        height, width = images.shape[2:]
        draws = torch.from_numpy(2 * np.array([g.random(4) for g in generators]) - 1).float()
        angle = draws[:, 0] * np.deg2rad(self.recipe.turn_deg)
        shift = draws[:, 1:3] * self.recipe.shift * width
        turned = posed(images, angle, shift)
        centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
        rotation = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), -1).view(-1, 1, 2, 2)
        moved = (rotation @ (ends - centre)[..., None])[..., 0] + centre + shift[:, None]
        inside = turned > 0
        noise = np.stack([g.standard_normal((1, height, width), dtype=np.float32) for g in generators])
        level = self.recipe.noise * draws[:, 3].abs().view(-1, 1, 1, 1)
        return Batch(torch.where(inside, turned + level * torch.from_numpy(noise), turned), moved)

    def state_dict(self) -> dict[str, int]:
        """The position in the stream."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved position."""
        self.drawn = state["drawn"]


def posed(images: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """Turn slices about their centre and shift them; points go to R(angle) (p - c) + c + shift.

    Args:
        images: (B, 1, H, W).
        angle: (B,) in radians, as in Eq. 4 of Sun et al. 2024: x to the right, y down.
        shift: (B, 2) in voxels.
    """
    height, width = images.shape[2:]
    cos, sin = angle.cos(), angle.sin()
    x = -(cos * shift[:, 0] + sin * shift[:, 1]) * 2 / width
    y = -(cos * shift[:, 1] - sin * shift[:, 0]) * 2 / height
    rows = (torch.stack((cos, sin * height / width, x), -1), torch.stack((-sin * width / height, cos, y), -1))
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def line_errors(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Angle between lines in degrees, and the distance of the found line's ends' mean from the true line in voxels.

    Args:
        found: (B, 2, 2).
        truth: (B, 2, 2).
    """
    way, true_way = found[:, 1] - found[:, 0], F.normalize(truth[:, 1] - truth[:, 0], dim=1)
    cross = way[:, 0] * true_way[:, 1] - way[:, 1] * true_way[:, 0]
    angle = torch.rad2deg(torch.atan2(cross, (way * true_way).sum(1)))
    offset = found.mean(1) - truth[:, 0]
    return angle.abs(), (offset[:, 0] * true_way[:, 1] - offset[:, 1] * true_way[:, 0]).abs()


def build(recipe: MidlineRecipe) -> MidlineNet:
    """The untrained network."""
    return MidlineNet(recipe.width)


def fit(
    model: nn.Module,
    recipe: MidlineRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train on the known planes of embedded heads: L1 on the end points, and on the direction between them.

    Args:
        model: Slices (B, 1, H, W) to ends (B, 2, 2).
        recipe: Hyper-parameters.
        train_cases: Embedded cases.
        val_cases: Embedded cases of other patients.
        seed: Of the poses.
        out: Folder of the run.
    """
    stream = PosedSlices(*_slices(train_cases, recipe), recipe, seed)
    held_out = next(PosedSlices(*_slices(val_cases, recipe), MidlineRecipe(**vars(recipe) | {"batch": 128}), 10_007))

    def step(network: nn.Module, batch: Batch, index: int) -> Tensor:
        found, truth = network(batch.images), batch.lesions
        ways = [F.normalize(points[:, 1] - points[:, 0], dim=1) for points in (found, truth)]
        return F.smooth_l1_loss(found, truth) + recipe.direction_weight * F.l1_loss(*ways)

    def validate(network: nn.Module) -> dict[str, float]:
        angle, distance = line_errors(network(held_out.images), held_out.lesions)
        return {"minus_degrees": -float(angle.median()), "minus_voxels": -float(distance.median())}

    every = max(1, recipe.steps // recipe.validations)
    return train.fit(
        model,
        stream,
        step,
        steps=recipe.steps,
        optimizer=torch.optim.AdamW(model.parameters(), recipe.lr),
        schedule=train.poly(recipe.steps),
        validate=validate,
        validate_every=every,
        checkpoint_every=every,
        log_every=max(1, recipe.steps // 200),
        clip_norm=5.0,
        recipe_key=recipe.key(),
        amp="float32",
        out=out,
        seed=seed,
    )


def find_line(model: nn.Module, recipe: MidlineRecipe, case: Case) -> np.ndarray:
    """Ends of the mid-sagittal line in each slice, (D, 2, 2) in voxels; NaN where there is too little brain."""
    ends = np.full((len(case.brain), 2, 2), np.nan)
    kept = case.brain.sum(axis=(1, 2)) * case.image.voxel_ml > recipe.smallest_brain_ml
    images = torch.from_numpy(case_images(case, recipe.window_hu, "unit")[kept])[:, None]
    with evaluating(model), torch.no_grad():
        for part in range(0, len(images), 32):
            found = model(images[part : part + 32].to(model_device(model)))
            ends[np.flatnonzero(kept)[part : part + 32]] = found.cpu().numpy()
    return ends


MIDLINE = Method(
    key="midline",
    title="Mid-sagittal line network",
    paper="Sun et al. 2024, Sec. III.A; architecture ours",
    recipe=MidlineRecipe,
    build=build,
    fit=fit,
    predict=find_line,
    modules=("strokelib.nn.midline", "strokelib.methods.midline", "strokelib.data.inplane"),
    validation="minus_degrees",
)
