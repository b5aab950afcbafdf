"""The four terms that keep P, the pathological part of the asymmetry, clinical (Eq. 5, Ni et al. 2022).

All arguments are volumes (B, 1, D, H, W), the last axis left-right: A (``total``), P (``pathological``) and maps of
tissue in [0, 1], lesions 0 or 1. Means are taken within a volume first, then over the batch, so that no volume makes
up for another; the public code takes those of P and A over the batch. Losses are float32, also of bfloat16.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from strokelib.errors import ParameterError
from strokelib.options import chosen

VERSION = 1
VOXELS = (1, 2, 3, 4)
Form = Literal["recommended", "printed"]


def tissue_loss(pathological: Tensor, mismatch: Tensor, csf: Tensor) -> Tensor:
    """P where the mirrored voxel is of another tissue, or fluid: mean(|pathological (mismatch + csf)|).

    Args:
        pathological: P.
        mismatch: R_GW of :func:`strokelib.adn.tissue_mismatch.tissue_mismatch`, without the lesion.
        csf: R_CSF, without the lesion.

    Returns:
        A scalar in [0, 1] where the two maps do not overlap.

    Raises:
        ParameterError: The shapes differ or are not (B, 1, D, H, W).
    """
    same_volumes(pathological=pathological, mismatch=mismatch, csf=csf)
    return (pathological.float() * (mismatch.float() + csf.float())).abs().mean()


def size_loss(pathological: Tensor, lesion: Tensor, total: Tensor, form: Form = "recommended") -> Tensor:
    """P should hold as much as there is to find: |mean(pathological) - mean(total lesion)|, as in the public code.

    ``printed`` is |mean(pathological) - mean(lesion)|: it asks of P, part of a difference of some hundredths, the mean
    of a mask of ones, which P <= A cannot reach (A7).

    Args:
        pathological: P.
        lesion: T(G), 0 or 1.
        total: A.
        form: One of the two.

    Returns:
        A scalar in [0, 1].

    Raises:
        ParameterError: Another form, or shapes that differ or are not (B, 1, D, H, W).
    """
    chosen("form", form, get_args(Form))
    same_volumes(pathological=pathological, lesion=lesion, total=total)
    goal = lesion.float() if form == "printed" else total.float() * lesion.float()
    return (pathological.float().mean(VOXELS) - goal.mean(VOXELS)).abs().mean()


def asymmetry_loss(pathological: Tensor, total: Tensor, form: Form = "recommended") -> Tensor:
    """P where there is no asymmetry: mean(|pathological (total = 0)|), as in the public code.

    ``printed`` is mean(|pathological (1 - total)|): with A of some hundredths it shrinks P also where A > 0 (A8).

    Args:
        pathological: P.
        total: A.
        form: One of the two.

    Returns:
        A scalar in [0, 1].

    Raises:
        ParameterError: Another form, or shapes that differ or are not (B, 1, D, H, W).
    """
    chosen("form", form, get_args(Form))
    same_volumes(pathological=pathological, total=total)
    symmetric = 1 - total.float() if form == "printed" else (total == 0).float()
    return (pathological.float() * symmetric).abs().mean()


def intrinsic_loss(total: Tensor, pathological: Tensor, form: Form = "recommended") -> Tensor:
    """Reward for asymmetry that is left as intrinsic: -mean(relu(total - pathological)), as in the public code.

    ``printed`` is -|mean(total - pathological)|, which a P far above A lowers, too (A9).

    Args:
        total: A.
        pathological: P.
        form: One of the two.

    Returns:
        A scalar in [-mean(total), 0], or in [-1, 0] (``printed``).

    Raises:
        ParameterError: Another form, or shapes that differ or are not (B, 1, D, H, W).
    """
    chosen("form", form, get_args(Form))
    same_volumes(total=total, pathological=pathological)
    left = total.float() - pathological.float()
    return -(left.mean(VOXELS).abs() if form == "printed" else left.relu().mean(VOXELS)).mean()


def same_volumes(**volumes: Tensor) -> None:
    """Refuse volumes that are not (B, 1, D, H, W) or not of one shape, by a ParameterError; nothing is broadcast."""
    shapes = {name: tuple(volume.shape) for name, volume in volumes.items()}
    first = next(iter(shapes.values()))
    if len(first) != 5 or first[1] != 1 or any(shape != first for shape in shapes.values()):
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        step = "bring all to one shape with one channel; nothing is broadcast"
        raise ParameterError(" and ".join(shapes), found=found, wanted="one shape (B, 1, D, H, W)", next_step=step)
