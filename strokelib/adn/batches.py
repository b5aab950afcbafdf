"""From prepared cases to the batches of volumes that ADN's networks are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from strokelib.adn.recipe import HeadRecipe
from strokelib.adn.transformation import align
from strokelib.adn.volumes import Heads, block_means, heads_of
from strokelib.data.cases import Case, channel
from strokelib.data.loading import Batch
from strokelib.data.streams import SeededStream
from strokelib.errors import ParameterError
from strokelib.nn.alignment import rigid_matrix_3d, voxel_matrix, warp_3d

VERSION = 1
ALIGNMENT, TISSUE = "alignment", "tissue"
TISSUES = ("grey", "white", "csf")
FIND_POSES = "train T and give the cases its matrices with strokelib.adn.batches.with_matrices"
FIND_TISSUE = "give the training cases tissue labels, or train without L_tissue"


def with_matrices(cases: Sequence[Case], matrices: Mapping[str, np.ndarray]) -> list[Case]:
    """The cases with the channel ``alignment``: (4, 4), T's map in voxels of the pooled grid, output -> input."""
    return [
        replace(case, channels=case.channels | {ALIGNMENT: np.asarray(matrices[case.id], np.float32)}) for case in cases
    ]


def with_tissue(cases: Sequence[Case], labels: Mapping[str, np.ndarray]) -> list[Case]:
    """The cases with the channel ``tissue``: (D, H, W) uint8, 0 none, 1 grey, 2 white, 3 fluid."""
    return [replace(case, channels=case.channels | {TISSUE: np.asarray(labels[case.id], np.uint8)}) for case in cases]


def matrices_of(cases: Sequence[Case]) -> Tensor:
    """The channel ``alignment`` of each case, (N, 4, 4) float32.

    Raises:
        DataError: A case has none.
    """
    return torch.from_numpy(np.stack([channel(case, ALIGNMENT, FIND_POSES) for case in cases]))


def middle(shape: Sequence[int], crop: tuple[int, int] | None) -> tuple[slice, slice, slice]:
    """The whole depth and a window of ``crop`` rows and columns about the middle of (..., D, H, W); all for None.

    The window has an even rest on both sides, so that the mirror axis stays where it was.

    Raises:
        ParameterError: It is larger than the slices, or leaves an odd rest.
    """
    if crop is None:
        return slice(None), slice(None), slice(None)
    rest = [n - side for n, side in zip(shape[-2:], crop, strict=True)]
    if min(rest) < 0 or any(r % 2 for r in rest):
        wanted = f"at most {tuple(shape[-2:])}, by an even number of pixels"
        raise ParameterError("crop", found=crop, wanted=wanted, next_step="correct the recipe")
    rows, columns = (slice(r // 2, r // 2 + side) for r, side in zip(rest, crop, strict=True))
    return slice(None), rows, columns


@dataclass(frozen=True)
class Volumes:
    """Volumes as a network sees them, aligned or as scanned.

    Args:
        images: (N, 1, D, H, W) float32 in [0, 1].
        lesions: (N, 1, D, H, W) float32, 0 or 1.
        tissues: (N, 3, D, H, W) float32 shares of grey matter, white matter and fluid; None without.
        spacing: (dz, dy, dx) in mm.
    """

    images: Tensor
    lesions: Tensor
    tissues: Tensor | None
    spacing: tuple[float, float, float]


def head_volumes(
    cases: Sequence[Case],
    recipe: HeadRecipe,
    *,
    aligned: bool,
    tissue: bool = False,
    crop: tuple[int, int] | None = None,
) -> Volumes:
    """Volumes of some cases; aligned ones are moved by their channel ``alignment``.

    Args:
        cases: Prepared cases of one shape.
        recipe: Its window and pooling.
        aligned: Move images, references and tissue by T.
        tissue: Bring the tissue labels along.
        crop: Rows and columns that are kept, after the alignment; None for all.

    Raises:
        DataError: As :func:`strokelib.adn.volumes.heads_of`, or a channel is missing.
    """
    heads: Heads = heads_of(cases, window_hu=recipe.window_hu, pool=recipe.pool)
    images, lesions, tissues = heads.images, heads.lesions, _tissues(cases, recipe.pool) if tissue else None
    if aligned:
        matrices = matrices_of(cases)
        images, lesions = align(images, matrices), (align(lesions, matrices) >= 0.5).float()
        tissues = None if tissues is None else align(tissues, matrices)
    place = (..., *middle(images.shape, crop))
    return Volumes(images[place], lesions[place], None if tissues is None else tissues[place], heads.spacing)


def _tissues(cases: Sequence[Case], pool: int) -> Tensor:
    shares = []
    for case in cases:
        labels = channel(case, TISSUE, FIND_TISSUE)
        shares.append(np.stack([block_means(labels == number, pool) for number in range(1, len(TISSUES) + 1)]))
    return torch.from_numpy(np.stack(shares))


class HeadSampler(SeededStream):
    """An endless stream of whole heads, each changed a little; a batch's images hold the tissues as further channels.

    Args:
        volumes: What to draw from, with replacement.
        batch: Heads a batch.
        seed: Seed of the stream.
        mirror: Probability of a mirror image.
        gamma: The exponent of the intensities lies within 1 - gamma and 1 + gamma.
        rotation_deg: Largest turn in plane.
        segment: Slices and rows of a part of the head that is shown in place of the whole, over the full width, so that
            either half has the other one beside it; None for whole heads.
        lesion_share: How often such a part lies about a voxel of the lesion.
    """

    def __init__(
        self,
        volumes: Volumes,
        batch: int,
        seed: int,
        mirror: float = 0.0,
        gamma: float = 0.0,
        rotation_deg: float = 0.0,
        segment: tuple[int, int] | None = None,
        lesion_share: float = 0.5,
    ) -> None:
        super().__init__(batch, seed)
        self.volumes, self.mirror, self.gamma, self.rotation_deg = volumes, mirror, gamma, rotation_deg
        self.segment, self.lesion_share = segment, lesion_share

    def draw(self, first: int, generators: list[np.random.Generator]) -> Batch:
        """The batch of these generators; ``first`` plays no part."""
        chosen = [int(g.integers(len(self.volumes.images))) for g in generators]
        draws = torch.from_numpy(np.array([g.random(3) for g in generators])).float()
        parts = [self.volumes.images[chosen], self.volumes.lesions[chosen]]
        if self.volumes.tissues is not None:
            parts.append(self.volumes.tissues[chosen])
        stack = torch.cat(parts, dim=1)
        if self.rotation_deg:
            stack = self._turned(stack, (2 * draws[:, 0] - 1) * np.deg2rad(self.rotation_deg))
        flipped = draws[:, 1] < self.mirror
        stack[flipped] = stack[flipped].flip(-1)
        exponent = 1 + self.gamma * (2 * draws[:, 2] - 1)
        stack[:, :1] = stack[:, :1].clamp(0, 1) ** exponent.view(-1, 1, 1, 1, 1)
        if self.segment is not None:
            stack = torch.stack([self._part(one, g) for one, g in zip(stack, generators, strict=True)])
        image = stack[:, :1]
        return Batch(torch.cat([image, stack[:, 2:]], dim=1), (stack[:, 1] >= 0.5).long())

    def _part(self, one: Tensor, generator: np.random.Generator) -> Tensor:
        """A part of (C, D, H, W) that lies inside it."""
        size = np.minimum(self.segment, one.shape[1:3])
        room = np.subtract(one.shape[1:3], size)
        lesion = np.argwhere(one[1].numpy() >= 0.5)[:, :2]
        if len(lesion) and generator.random() < self.lesion_share:
            start = lesion[generator.integers(len(lesion))] - generator.integers(size)
        else:
            start = generator.integers(room + 1)
        z, y = np.clip(start, 0, room).tolist()
        return one[:, z : z + size[0], y : y + size[1]]

    def _turned(self, stack: Tensor, angle: Tensor) -> Tensor:
        angles = torch.stack([torch.zeros_like(angle), torch.zeros_like(angle), angle], dim=1)
        matrix = voxel_matrix(rigid_matrix_3d(angles, torch.zeros_like(angles)), self.volumes.spacing, stack.shape[2:])
        return warp_3d(stack, matrix)
