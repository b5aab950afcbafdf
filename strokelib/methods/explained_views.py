"""One head as each of four networks sees it, and the network's answer as a number through which gradients flow.

The same slices of the same straight head for all of them: each network gets the image that it was trained on, in its
own window, on its own pixels; a network of volumes sees the whole slab around the slices looked at. The number is the
volume that the network finds in these slices, in mL: the sum of its probabilities times the volume of a voxel. No
reference enters it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.adn.batches import middle
from strokelib.adn.model import Disentangled
from strokelib.adn.volumes import block_means, heads_of
from strokelib.data.cases import Case
from strokelib.data.loading import case_images
from strokelib.data.perfused import Perfused
from strokelib.data.preprocess import zscore
from strokelib.errors import ParameterError
from strokelib.explain.baselines import mirrored
from strokelib.explain.randomisation import last_input
from strokelib.explain.stitching import by_slices, by_windows
from strokelib.infer import foreground, model_device
from strokelib.methods.weights import Demo
from strokelib.papl.slices import midline_box
from strokelib.pseudo_dwi.sampling import network_inputs
from strokelib.pseudo_dwi.segmentation import in_window
from strokelib.pseudo_dwi.slices import whole_slices
from strokelib.ssl_nnunet.planning import window_stride

Logits = Callable[[nn.Module, Tensor], Tensor]
Fold = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
LOOKED_AT = 4
ON_EDGE_MM = 0.1


@dataclass(frozen=True)
class View:
    """A head as a network sees it.

    Args:
        key: Of the method.
        title: Of the method.
        case: Name of the head.
        image: (C, D, H, W) float32, the network's input.
        looked: The slices looked at.
        brain: (D, H, W) bool on the same grid.
        lesion: (D, H, W) bool, the reference there.
        centre: Column of the mid-sagittal plane.
        spacing: (dz, dy, dx) in mm.
        corner_mm: (z, y) of the first voxel's middle in the image's millimetres.
        fill: (C,) values outside the brain.
        model: The network, in eval mode.
        logits: (network, images) -> logits, of slices or of windows.
        fold: Applies a network of slices or of windows to (B, C, D, H, W).
    """

    key: str
    title: str
    case: str
    image: Tensor
    looked: slice
    brain: np.ndarray
    lesion: np.ndarray
    centre: float
    spacing: tuple[float, float, float]
    corner_mm: tuple[float, float]
    fill: Tensor
    model: nn.Module
    logits: Logits
    fold: Fold

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def other_side(self) -> np.ndarray:
        """(D, H, W) bool, the mirror image of the lesion."""
        return mirrored(self.lesion, self.centre)

    def of(self, model: nn.Module) -> View:
        """The same head as another network of the same kind sees it."""
        return replace(self, model=model)

    def probability(self, x: Tensor) -> Tensor:
        """(B, D, H, W) of images (B, C, D, H, W); 0 outside the brain."""
        found = foreground(self.fold(lambda part: self.logits(self.model, part), x))
        return found * torch.from_numpy(self.brain).to(found)

    def volume_ml(self, x: Tensor) -> Tensor:
        """(B,) volume found in the slices looked at, in mL."""
        return self.probability(x)[:, self.looked].flatten(1).sum(1) * self.voxel_ml

    def features(self) -> np.ndarray:
        """(F, D, H, W) float32: what the network's last convolution sees, at every voxel."""

        def seen(part: Tensor) -> Tensor:
            return last_input(self.model, lambda: self.logits(self.model, part))

        with torch.no_grad():
            return self.fold(seen, self.image[None])[0].float().cpu().numpy()

    def places(self, points_mm: np.ndarray) -> np.ndarray:
        """Voxels (n, 3) of points (n, 3) given as z and y in the image's millimetres and x in mm left of the middle."""
        dz, dy, dx = self.spacing
        z, y = self.corner_mm
        found = (points_mm - [z, y, -self.centre * dx]) / [dz, dy, dx]
        return np.rint(found).astype(np.int64)


def view_of(demo: Demo, head: Perfused, looked: int = LOOKED_AT) -> View:
    """A head as a method's network sees it.

    Args:
        demo: The method with its weights.
        head: Straight, with perfusion.
        looked: Slices looked at, in the middle of the slab.

    Raises:
        ParameterError: Another method, or more slices than the slab has.
    """
    if demo.key not in VIEWS or not 1 <= looked <= len(head.slab.image.array):
        found = f"{looked} slices of {len(head.slab.image.array)} for {demo.key}"
        wanted = f"some of them, for {', '.join(VIEWS)}"
        raise ParameterError("view", found=found, wanted=wanted, next_step="choose another method or fewer slices")
    spare = (len(head.slab.image.array) - looked) // 2
    made = VIEWS[demo.key](demo, head, slice(spare, spare + looked))
    device = model_device(demo.model)
    facts = {"key": demo.key, "title": demo.title, "case": head.whole.id, "model": demo.model}
    return View(**facts, **{**made, "image": made["image"].to(device), "fill": made["fill"].to(device)})


def _papl(demo: Demo, head: Perfused, looked: slice) -> dict[str, Any]:
    """Slices in the window, z-scored over the whole brain, on pooled pixels about the midline."""
    recipe, case = demo.recipe, head.whole
    whole = case.brain.astype(bool)
    unit = case_images(case, recipe.window_hu, "unit")
    scored = zscore(unit, whole)
    full = (slice(None), slice(0, whole.shape[1]), slice(0, whole.shape[2]))
    place = full if recipe.crop is None else (slice(None), *midline_box(whole, recipe.crop))
    levels = slice(head.levels.start + looked.start, head.levels.start + looked.stop)
    image, brain, lesion = (
        block_means(one[levels][place], recipe.pool) for one in (scored, whole, case.lesion & whole)
    )
    fill = torch.full((1,), float(scored[~whole].min()) if (~whole).any() else float(scored.min()))
    network = lambda model, x: getattr(model, "backbone", model)(x)  # noqa: E731 (the network without its stages)
    grid = _grid(case, levels.start, place[1].start, place[2].start, recipe.pool)
    return {
        "image": torch.from_numpy(image)[None],
        "looked": slice(0, len(image)),
        "brain": brain >= 0.5,
        "lesion": (lesion >= 0.5) & (brain >= 0.5),
        "fill": fill,
        "logits": network,
        "fold": by_slices,
        **grid,
    }


def _adn(demo: Demo, head: Perfused, looked: slice) -> dict[str, Any]:
    """The volume in [0, 1] on pooled pixels; by parts as large as those of the training."""
    recipe, case = demo.recipe, head.whole
    seen = heads_of([case], window_hu=recipe.window_hu, pool=recipe.pool)
    place = (0, 0, *middle(seen.images.shape, recipe.crop))
    image, lesion, brain = (one[place][head.levels].contiguous() for one in (seen.images, seen.lesions, seen.brains))
    window, stride = image.shape, image.shape
    if recipe.segment is not None:
        window = (*(min(side, n) for side, n in zip(recipe.segment, image.shape, strict=False)), image.shape[2])
        stride = (max(1, window[0] * 3 // 4), max(1, window[1] * 3 // 4), window[2])

    def logits(model: nn.Module, x: Tensor) -> Tensor:
        found = model(x.repeat(2, 1, 1, 1, 1) if len(x) == 1 else x)  # one volume alone is slow on a CPU
        return (found.logits if isinstance(found, Disentangled) else found)[: len(x)]

    above, left = (place[3].start or 0), (place[4].start or 0)
    sides = zip(seen.images.shape[3:], case.image.array.shape[1:], strict=True)
    before = [(full * recipe.pool - n) // 2 for full, n in sides]
    corner = [n * recipe.pool - pad for n, pad in zip((above, left), before, strict=True)]
    return {
        "image": image[None],
        "looked": looked,
        "brain": brain.numpy().astype(bool),
        "lesion": lesion.numpy() > 0.5,
        "fill": torch.zeros(1),
        "logits": logits,
        "fold": lambda network, x: by_windows(network, x, window, stride),
        **_grid(case, head.levels.start, *corner, recipe.pool),
    }


def _nnunet(demo: Demo, head: Perfused, looked: slice) -> dict[str, Any]:
    """The box of the brain on the planned voxels, filled up to the patch; by patches."""
    setup, recipe = demo.method.predict.keywords["setup"], demo.recipe
    (seen,) = setup.heads(recipe, [head.whole])
    dz, _, dx = seen.spacing
    heights = seen.affine[2, 3] + dz * np.arange(seen.images.shape[1])
    chosen = _between(heights, _ends_mm(head.slab, slice(0, len(head.slab.image.array))))
    shown = _between(heights, _ends_mm(head.slab, looked))
    masks = [torch.as_tensor(m)[chosen].bool() for m in (seen.brain, seen.lesions > 0)]
    missing = [max(0, n - have) for n, have in zip(setup.plan.patch, masks[0].shape, strict=True)]
    pads = [p for m in reversed(missing) for p in (m // 2, m - m // 2)]
    image = torch.stack(
        [functional.pad(one[chosen], pads, value=float(v)) for one, v in zip(seen.images, seen.fill, strict=True)]
    )
    brain, lesion = (functional.pad(mask, pads).numpy() for mask in masks)
    first = [m // 2 for m in missing]
    above = first[0] - chosen.start
    x_first = seen.affine[0, 3] - seen.affine[0, 0] * first[2]
    y_first = -(seen.affine[1, 3] - seen.affine[1, 1] * first[1])
    window, stride = setup.plan.patch, window_stride(setup.plan.patch, recipe.window_step)
    return {
        "image": image,
        "looked": slice(shown.start + above, shown.stop + above),
        "brain": brain,
        "lesion": lesion & brain,
        "centre": _half(x_first / dx),
        "spacing": seen.spacing,
        "corner_mm": (float(heights[chosen.start] - dz * first[0]), float(y_first)),
        "fill": seen.fill.float(),
        "logits": lambda model, x: model(x),
        "fold": lambda network, x: by_windows(network, x, window, stride),
    }


def _chain(demo: Demo, head: Perfused, looked: slice) -> dict[str, Any]:
    """Maps, temporal maximum and frames of the perfusion scan, in the window about the brain."""
    inputs: Mapping[str, Any] = demo.facts["inputs"]
    case = network_inputs(head.slab, **inputs)
    needs = demo.model.needs
    channels = whole_slices(case, needs)
    rows, columns = in_window(case, demo.recipe)
    counts = [channels[name].shape[1] for name in needs]
    image = torch.cat([channels[name] for name in needs], dim=1).transpose(0, 1)[:, looked][..., rows, columns]

    def logits(model: nn.Module, x: Tensor) -> Tensor:
        return model(dict(zip(needs, x.split(counts, dim=1), strict=True))).logits

    brain = case.brain.astype(bool)
    return {
        "image": image.float().contiguous(),
        "looked": slice(0, image.shape[1]),
        "brain": brain[looked, rows, columns],
        "lesion": (case.lesion & brain)[looked, rows, columns],
        "fill": torch.zeros(len(image)),
        "logits": logits,
        "fold": by_slices,
        **_grid(case, looked.start, rows.start or 0, columns.start or 0, 1),
    }


VIEWS: dict[str, Callable[[Demo, Perfused, slice], dict[str, Any]]] = {
    "papl": _papl,
    "adn": _adn,
    "ssl_nnunet": _nnunet,
    "pseudo_dwi": _chain,
}


def _grid(case: Case, level: int, row: int, column: int, pool: int) -> dict[str, Any]:
    """Centre, spacing and corner of a part of a case's grid whose pixels were pooled."""
    dz, dy, dx = case.image.spacing
    affine = case.image.affine
    x, y = affine[0, 3] - dx * (column + (pool - 1) / 2), -affine[1, 3] + dy * (row + (pool - 1) / 2)
    return {
        "centre": _half(x / (dx * pool)),
        "spacing": (dz, dy * pool, dx * pool),
        "corner_mm": (float(affine[2, 3] + dz * level), float(y)),
    }


def _half(column: float) -> float:
    """A column as the nearest multiple of a half: a mirror plane on or between pixels."""
    return round(2 * column) / 2


def _ends_mm(case: Case, levels: slice) -> tuple[float, float]:
    """Heights at which some slices of a case begin and end."""
    dz, low = case.image.spacing[0], case.image.affine[2, 3]
    return float(low + dz * (levels.start - 0.5)), float(low + dz * (levels.stop - 0.5))


def _between(heights: np.ndarray, ends: tuple[float, float]) -> slice:
    """The slices whose middle lies between two heights."""
    found = np.flatnonzero((heights > ends[0] - ON_EDGE_MM) & (heights < ends[1] - ON_EDGE_MM))
    return slice(int(found[0]), int(found[-1]) + 1)
