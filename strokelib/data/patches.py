"""From whole volumes to batches of 3-D patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from strokelib.data.augment3d import NONE_3D, Augmentation3d, change_intensities, draw_move
from strokelib.data.loading import Batch
from strokelib.data.moves import cut
from strokelib.data.streams import SeededStream
from strokelib.data.volumes import Volumes
from strokelib.errors import DataError, ParameterError

VERSION = 1


class PatchSampler(SeededStream):
    """An endless stream of batches of patches, a set share of which is centred on a lesion voxel.

    Source: oversampling of foreground, Isensee et al. 2021.
    Deviation: of any n samples in a row ``share n`` are centred on a lesion, to within one, also across the borders
        of batches; the scan is then one of those that hold lesion, so that scans without it do not water the share
        down, and the patch is centred exactly, also where it passes the volume's edge.

    A scan is drawn with equal probability, then a lesion voxel of it, or a place at which the patch lies inside the
    volume. Where the patch is longer than the volume it is centred on it.

    Args:
        volumes: What to draw from, with replacement.
        size: Sides (d, h, w) of a patch in voxels.
        batch: Patches a batch.
        seed: Seed of the stream.
        lesion_share: Share of samples that are centred on a lesion voxel, 0 to 1; others may hold lesion too.
        augmentation: Changes to each sample; none by default.
        inside: Move a patch that passes the volume's edge into the volume, as nnU-Net does, so that it shows as much of
            it as it can; its lesion voxel is then no longer in the middle.

    Raises:
        ParameterError: Size or share is impossible.
        DataError: A share above 0 is asked for and no scan holds lesion.
    """

    def __init__(
        self,
        volumes: Volumes,
        size: Sequence[int],
        batch: int,
        seed: int,
        lesion_share: float = 1 / 3,
        augmentation: Augmentation3d = NONE_3D,
        inside: bool = False,
    ) -> None:
        super().__init__(batch, seed)
        if len(size) != 3 or min(size) < 1 or not 0 <= lesion_share <= 1:
            raise ParameterError(
                "patches",
                found=f"size {tuple(size)}, lesion_share {lesion_share}",
                wanted="three sides of 1 voxel or more, and a share from 0 to 1",
                next_step="correct the recipe",
            )
        self.volumes, self.size, self.lesion_share = volumes, tuple(size), lesion_share
        self.augmentation, self.holding, self.inside = augmentation, np.flatnonzero(volumes.with_lesion), inside
        if lesion_share > 0 and not len(self.holding):
            raise DataError(
                "volumes",
                found=f"0 of {len(volumes)} with lesion",
                wanted=f"a share of {lesion_share:g}",
                next_step="give other cases, or lesion_share=0",
            )

    def centred_on_lesion(self, number: int) -> bool:
        """Whether sample ``number`` of the stream is one of those that are centred on a lesion."""
        # Rounded: 0.3 * 10 must not fall below 3.
        return bool(
            np.floor(round((number + 1) * self.lesion_share, 9)) > np.floor(round(number * self.lesion_share, 9))
        )

    def place(self, number: int, generator: np.random.Generator) -> tuple[int, tuple[int, int, int]]:
        """Scan and first voxel (z, y, x) of sample ``number``; the patch may pass the volume's edges."""
        if self.centred_on_lesion(number):
            scan = int(generator.choice(self.holding))
            shape = self.volumes.shapes[scan]
            voxel = np.unravel_index(generator.choice(self.volumes.lesion_voxels[scan]), shape)
            start = tuple(int(v) - side // 2 for v, side in zip(voxel, self.size, strict=True))
            if self.inside:
                free = [n - side for n, side in zip(shape, self.size, strict=True)]
                start = tuple(min(max(s, 0), f) if f >= 0 else f // 2 for s, f in zip(start, free, strict=True))
            return scan, start
        scan = int(generator.integers(len(self.volumes)))
        free = [n - side for n, side in zip(self.volumes.shapes[scan], self.size, strict=True)]
        return scan, tuple(int(generator.integers(f + 1)) if f >= 0 else f // 2 for f in free)

    def draw(self, first: int, generators: list[np.random.Generator]) -> Batch:
        """The batch of these generators, the first of which is that of sample ``first``."""
        images, lesions = [], []
        for number, generator in enumerate(generators, first):
            which, start = self.place(number, generator)
            scan, move = self.volumes[which], draw_move(self.augmentation, generator)
            image, lesion = cut(
                scan.images, scan.lesions, start, self.size, spacing=scan.spacing, move=move, fill=scan.fill
            )
            images.append(change_intensities(image, self.augmentation, generator, scan.spacing, scan.fill))
            lesions.append(lesion)
        return Batch(torch.stack(images), torch.stack(lesions))
