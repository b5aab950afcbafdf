"""From case to case: another voxel size and back, and the contralateral image, made once."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from strokelib import repro
from strokelib.data import contralateral as sides
from strokelib.data import midsagittal, registration
from strokelib.data.cases import Case, Volume
from strokelib.data.grids import AIR_HU, Grid, resample, sample_on
from strokelib.errors import DataError, ParameterError

VERSION = 1
OTHER_SIDE = "contralateral"
WAYS = ("plane", "atlas")
SAME_MM = 1e-3
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Each(Sequence[Case]):
    """Cases that are changed when they are asked for, so that they need not all be in memory.

    Args:
        cases: They may be read from disk one by one.
        change: Makes what is handed out.
    """

    cases: Sequence[Case]
    change: Callable[[Case], Case]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int | slice) -> Case | Each:
        """A case, or some of them."""
        if isinstance(index, slice):
            return Each(self.cases[index], self.change)
        return self.change(self.cases[index])


def _block_means(volume: Volume, factors: Sequence[int]) -> Volume:
    """Means of blocks of voxels; where the factor does not divide an axis, its end voxels are repeated."""
    missing = [-n % factor for n, factor in zip(volume.array.shape, factors, strict=True)]
    around = [(total // 2, total - total // 2) for total in missing]
    padded = np.pad(volume.array.astype(np.float32), around, mode="edge")
    coarser = np.eye(4)
    for axis, (factor, (before, _)) in enumerate(zip(factors, around, strict=True)):
        column = 2 - axis
        coarser[column, column], coarser[column, 3] = factor, (factor - 1) / 2 - before
        parts = [padded[(slice(None),) * axis + (slice(first, None, factor),)] for first in range(factor)]
        padded = sum(parts[1:], parts[0]) / np.float32(factor)
    return Volume(padded, volume.affine @ coarser)


def _moved(volume: Volume, spacing_mm: Spacing) -> Volume:
    ratios = [new / old for new, old in zip(spacing_mm, volume.spacing, strict=True)]
    whole = [abs(r - round(r)) * old < SAME_MM for r, old in zip(ratios, volume.spacing, strict=True)]
    factors = [max(1, round(r)) if fits else 1 for r, fits in zip(ratios, whole, strict=True)]
    if max(factors) > 1:
        volume = _block_means(volume, factors)
    return volume if np.allclose(volume.spacing, spacing_mm, rtol=0, atol=SAME_MM) else resample(volume, spacing_mm)


def at_spacing(case: Case, spacing_mm: Spacing, *, masks: str = "share") -> Case:
    """A case on voxels of another size.

    An axis that becomes coarser by a whole factor is averaged over blocks of voxels; any other is interpolated
    linearly. In the brain only what is brain counts: values are divided by the share of brain they were mixed from.

    Source: section 3.2 a, Seia et al. 2023.
    Deviation: averages where voxels grow, and masks cut at half a voxel; ``masks="nearest"`` moves them as published.

    Args:
        case: A prepared case.
        spacing_mm: (dz, dy, dx) of the new voxels.
        masks: ``share`` keeps a voxel of lesion or brain where at least half of it is one; ``nearest`` takes the voxel
            at its middle.

    Returns:
        The case itself where it has this voxel size. Otherwise image, lesion, brain and the contralateral image (-1024
        HU where there is none) on the new grid, in the same millimetres; other channels and the truth stay behind.

    Raises:
        ParameterError: A voxel side that is not positive, or another way for masks.
    """
    if len(spacing_mm) != 3 or not all(np.isfinite(side) and side > 0 for side in spacing_mm):
        raise ParameterError("spacing_mm", found=spacing_mm, wanted="three sides above 0", next_step="correct it")
    if masks not in ("share", "nearest"):
        raise ParameterError("masks", found=repr(masks), wanted="share or nearest", next_step="give one of these")
    old = case.image
    if np.allclose(old.spacing, spacing_mm, rtol=0, atol=SAME_MM):
        return case
    move = partial(_moved, spacing_mm=spacing_mm)

    def mask_of(mask: np.ndarray | None) -> np.ndarray | None:
        if mask is None:
            return None
        if masks == "nearest":
            return sample_on(old.with_array(mask.astype(bool)), Grid.of(image), order=0).array
        return move(old.with_array(mask.astype(np.float32))).array >= 0.5

    def hu_of(array: np.ndarray, inside: np.ndarray, outside: np.ndarray | float) -> np.ndarray:
        share = move(old.with_array(inside.astype(np.float32))).array
        mixed = move(old.with_array(np.where(inside, array, 0).astype(np.float32))).array
        return np.where(share >= 0.5, mixed / share.clip(0.5), outside).astype(np.float32)

    image = move(old.with_array(old.array.astype(np.float32)))
    if case.brain is not None:
        image = image.with_array(hu_of(old.array, case.brain.astype(bool), image.array))
    channels = {}
    if OTHER_SIDE in case.channels:
        other = case.channels[OTHER_SIDE]
        channels[OTHER_SIDE] = hu_of(other, other != AIR_HU, AIR_HU)
    lesion, brain = mask_of(case.lesion), mask_of(case.brain)
    return replace(case, image=image, lesion=lesion, brain=brain, truth={}, channels=channels)


def on_case_grid(probability: Volume, case: Case) -> np.ndarray:
    """A map on the grid of a head, back on the case's own grid.

    Args:
        probability: On any grid in the case's millimetres: :meth:`strokelib.ssl_nnunet.heads.Head.placed` puts a
            network's output there.
        case: The case before :func:`at_spacing`.

    Returns:
        (D, H, W) float32, 0 outside the brain: a copy where the grids agree, otherwise linear between the centres of
        the map's voxels. The outer ones keep their value up to their edges; beyond them it falls to 0 within a voxel.
    """
    index = np.linalg.inv(probability.affine) @ case.image.affine
    values, start = np.asarray(probability.array, np.float32), np.rint(index[:3, 3]).astype(int)[::-1]
    if np.allclose(index[:3, :3], np.eye(3), atol=1e-4) and np.allclose(index[:3, 3], start[::-1], atol=1e-3):
        out = np.zeros(case.image.array.shape, np.float32)
        ends = [min(n, m - s) for n, m, s in zip(out.shape, values.shape, start, strict=True)]
        here = tuple(slice(max(0, -s), max(0, -s, end)) for s, end in zip(start, ends, strict=True))
        out[here] = values[tuple(slice(part.start + s, part.stop + s) for part, s in zip(here, start, strict=True))]
    else:
        wider, back = np.pad(values, 1, mode="edge"), np.eye(4)
        back[:3, 3] = -1
        out = sample_on(Volume(wider, probability.affine @ back), Grid.of(case.image), order=1, fill=0.0).array
    return out if case.brain is None else np.where(case.brain, out, np.float32(0))


def contralateral_of(case: Case, how: str = "plane", seed: int = 0) -> np.ndarray:
    """The contralateral image of a case.

    Args:
        case: With a brain mask.
        how: ``plane`` mirrors about the mid-sagittal plane, ``atlas`` by way of the CT atlas, as published.
        seed: Seed of the registrations.

    Returns:
        (D, H, W) float32 in HU; -1024 outside the brain and where the mirrored place is no brain.

    Raises:
        ParameterError: Another way.
        DataError: There is no brain mask, or no mirror is found.
    """
    if how not in WAYS:
        raise ParameterError("how", found=repr(how), wanted=" or ".join(WAYS), next_step="give one of these")
    if case.brain is None:
        step = "strip the skull first"
        raise DataError(f"case {case.id}", found="no brain mask", wanted="a brain mask", next_step=step)
    if how == "plane":
        mirror = sides.mirror_by_plane(case.image, case.brain)
    else:
        mirror = sides.mirror_by_atlas(case.image, case.brain, seed=seed)
    return sides.contralateral_image(case.image, case.brain, mirror).array


def with_contralateral(
    cases: Sequence[Case], how: str = "plane", out: Path | None = None, seed: int = 0
) -> Sequence[Case]:
    """The cases with the channel ``contralateral`` in HU, made once.

    Args:
        cases: With brain masks.
        how: As in :func:`contralateral_of`.
        out: Folder in which the images are kept, a file each, so that a killed run goes on; None keeps them in memory.
        seed: Seed of the registrations.

    Returns:
        In the same order; with ``out`` a case is read from disk when it is asked for.

    Raises:
        ParameterError: Another way.
        DataError: As :func:`contralateral_of`.
    """
    change = partial(_with_other_side, how=how, out=None if out is None else Path(out), seed=seed)
    made = (change(case) for case in tqdm(cases, "contralateral images", disable=None))
    if out is None:
        return list(made)
    for _ in made:
        pass
    return Each(cases, change)


def _with_other_side(case: Case, how: str, out: Path | None, seed: int) -> Case:
    if out is None:
        return replace(case, channels=case.channels | {OTHER_SIDE: contralateral_of(case, how, seed)})
    brain = b"" if case.brain is None else np.packbits(case.brain).tobytes()
    facts = [case.image.array.shape, zlib.crc32(np.ascontiguousarray(case.image.array)), zlib.crc32(brain)]
    versions = [VERSION, sides.VERSION, midsagittal.VERSION, registration.VERSION]
    facts = json.dumps([facts, case.image.affine.round(6).tolist(), how, seed, versions])
    name = f"{case.id}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"

    def run(folder: Path) -> None:
        with repro.atomic_path(folder / "image.safetensors") as temporary:
            save_file({OTHER_SIDE: contralateral_of(case, how, seed)}, temporary)

    kept = repro.once(out / "contralateral" / name, run)
    return replace(case, channels=case.channels | load_file(kept / "image.safetensors"))
