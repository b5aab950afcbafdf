"""From cases with perfusion channels to batches of slices whose channels have names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from strokelib.data.cases import Case, channel
from strokelib.data.loading import Batch, Slices, SliceSampler, brain_box
from strokelib.errors import DataError, ParameterError
from strokelib.pseudo_dwi.losses import lesion_weight_map
from strokelib.pseudo_dwi.recipe import TrainingRecipe

VERSION = 1
WEIGHT = "weight"
MAKE_INPUTS = "make the inputs with strokelib.pseudo_dwi.sampling.network_inputs"


@dataclass(frozen=True)
class NamedSlices:
    """Slices whose channels are found by name.

    Args:
        slices: Images (N, C, H, W) with all channels, one after the other.
        places: Name -> its channels.
    """

    slices: Slices
    places: dict[str, slice]

    def take(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Channels (B, C_name, H, W) by name, of a batch (B, C, H, W)."""
        return {name: images[:, self.places[name]] for name in names}

    def spread(self, count: int) -> NamedSlices:
        """At most ``count`` slices, evenly spread over all."""
        return replace(self, slices=self.slices.spread(count))


def named_slices(cases: Sequence[Case], names: Sequence[str], recipe: TrainingRecipe) -> NamedSlices:
    """All slices that show brain, with the wanted channels and the weight map of Eq. 9 as the last one.

    Args:
        cases: With channels as :func:`strokelib.pseudo_dwi.sampling.network_inputs` makes them, all on one grid.
        names: Channels wanted.
        recipe: Its crop, ``w`` and ``decay_px``.

    Raises:
        DataError: No case, no reference, a channel is missing, or the in-plane sizes differ.
    """
    if not cases:
        raise DataError("cases", found="none", wanted="at least one", next_step="choose another split")
    size = cases[0].image.array.shape[1:]
    parts, lesions, numbers, levels = [], [], [], []
    for number, case in enumerate(cases):
        if case.lesion is None or case.image.array.shape[1:] != size:
            found = "no reference" if case.lesion is None else f"in-plane size {case.image.array.shape[1:]}"
            wanted = f"a reference, and the in-plane size {size} of the first case"
            step = "prepare the cases on one grid"
            raise DataError(f"case {case.id}", found=found, wanted=wanted, next_step=step)
        brain = np.ones(case.lesion.shape, bool) if case.brain is None else case.brain.astype(bool)
        lesion = case.lesion & brain
        (kept,) = np.nonzero(brain.any(axis=(1, 2)))
        rows, columns = brain_box(brain, recipe.crop) if recipe.crop else (slice(None), slice(None))
        weight = lesion_weight_map(lesion, recipe.w, recipe.decay_px)[None]
        stack = np.concatenate([*(channel(case, name, MAKE_INPUTS) for name in names), weight]).astype(
            np.float32, copy=False
        )
        parts.append(np.moveaxis(stack, 0, 1)[kept][..., rows, columns])
        lesions.append(lesion[kept][:, rows, columns].astype(np.uint8))
        numbers.append(np.full(len(kept), number))
        levels.append(kept)
    places, start = {}, 0
    for name, width in [*((name, len(cases[0].channels[name])) for name in names), (WEIGHT, 1)]:
        places[name] = slice(start, start + width)
        start += width
    image, lesion, number, level = (torch.from_numpy(np.concatenate(p)) for p in (parts, lesions, numbers, levels))
    return NamedSlices(Slices(image, lesion, number.long(), level.long()), places)


class PatchSampler(SliceSampler):
    """A stream of slices, or of parts of them, some mirrored left to right; all channels stay together.

    Args:
        slices: What to draw from.
        batch: Slices a batch.
        seed: Seed of the stream.
        lesion_share: As in :class:`strokelib.data.loading.SliceSampler`; of a slice with lesion the part shows some of
            it as often as this says (always for None).
        size: Height and width of a part, at most those of the slices; None for whole slices.
        mirror: Probability of a mirror image.

    Raises:
        DataError: As :class:`strokelib.data.loading.SliceSampler`.
        ParameterError: The parts are larger than the slices.
    """

    def __init__(
        self,
        slices: Slices,
        batch: int,
        seed: int,
        lesion_share: float | None = None,
        size: tuple[int, int] | None = None,
        mirror: float = 0.0,
    ) -> None:
        super().__init__(slices, batch, seed, lesion_share)
        self.size, self.mirror = size or tuple(slices.images.shape[2:]), mirror
        if any(part > whole for part, whole in zip(self.size, slices.images.shape[2:], strict=True)):
            found, wanted = f"patch {size}", f"at most {tuple(slices.images.shape[2:])}"
            raise ParameterError("patch", found=found, wanted=wanted, next_step="correct the recipe")

    def draw(self, first: int, generators: list[np.random.Generator]) -> Batch:
        """The batch of these generators; ``first`` plays no part."""
        images, lesions = [], []
        for generator in generators:
            chosen = self._pick(generator)
            y, x = self._corner(self.slices.lesions[chosen].numpy() > 0, generator)
            place = (slice(y, y + self.size[0]), slice(x, x + self.size[1]))
            turned = [-1] if generator.random() < self.mirror else []
            images.append(self.slices.images[(chosen, slice(None), *place)].flip(turned))
            lesions.append(self.slices.lesions[(chosen, *place)].flip(turned).long())
        return Batch(torch.stack(images), torch.stack(lesions))

    def _corner(self, lesion: np.ndarray, generator: np.random.Generator) -> list[int]:
        """Upper left corner of a part: a pixel of the lesion at a random place of the part, or anywhere."""
        room, share = np.subtract(lesion.shape, self.size), 1.0 if self.lesion_share is None else self.lesion_share
        if not room.any():
            return [0, 0]
        places = np.argwhere(lesion)
        if len(places) and generator.random() < share:
            corner = places[generator.integers(len(places))] - generator.integers(self.size)
        else:
            corner = generator.integers(room + 1)
        return np.clip(corner, 0, room).tolist()


def sampler(found: NamedSlices, recipe: TrainingRecipe, seed: int) -> PatchSampler:
    """The stream of batches of a recipe."""
    share = recipe.lesion_share
    if share is not None and bool(found.slices.with_lesion.all()):
        share = None
    return PatchSampler(found.slices, recipe.batch, seed, share, recipe.patch, recipe.mirror)


def whole_slices(case: Case, names: Sequence[str]) -> dict[str, Tensor]:
    """All slices of one case, name -> (D, C, H, W) float32."""
    found = {name: channel(case, name, MAKE_INPUTS) for name in names}
    return {name: torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, 0, 1))) for name, array in found.items()}
