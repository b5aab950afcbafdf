"""D and F of Ni et al. 2022, which tell asymmetries apart and segment, and the maps between them (A, P, Q).

T, the third network, is in :mod:`strokelib.adn.transformation`; its names can be had from here, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.adn.transformation import LIMITS, Limits, Transformer3D, align, restore
from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror
from strokelib.nn.baselines.resunet3d import ResUNet3D

__all__ = [
    "ADN",
    "LIMITS",
    "AsymmetryExtractor",
    "Disentangled",
    "Limits",
    "Segmenter",
    "Transformer3D",
    "align",
    "compensate_intrinsic",
    "compensate_pathology",
    "intrinsic_asymmetry",
    "restore",
    "total_asymmetry",
]

VERSION = 1
INPUTS = {"X": 1, "X,A": 2}
RANGES = ("sigmoid", "bounded")
INTRINSIC = ("relu", "printed")


def _checked(thing: str, value: str, allowed: Iterable[str]) -> str:
    allowed = tuple(allowed)
    if value not in allowed:
        raise ParameterError(
            thing, found=repr(value), wanted=" or ".join(map(repr, allowed)), next_step=f"give e.g. {allowed[0]!r}"
        )
    return value


def total_asymmetry(aligned: Tensor) -> Tensor:
    """How much darker a voxel is than its mirror image: A = max(X' - X, 0).

    Source: Eq. 2, Ni et al. 2022.
    Deviation: none.

    Args:
        aligned: X, (B, 1, D, H, W) with the mid-sagittal plane in the middle of the last axis.

    Returns:
        (B, 1, D, H, W), 0 or above; of two mirrored voxels one is 0 at least.
    """
    return functional.relu(mirror(aligned) - aligned)


def intrinsic_asymmetry(total: Tensor, pathological: Tensor, form: str = "relu") -> Tensor:
    """What of the asymmetry is anatomy: Q = max(A - P, 0).

    Source: Sec. 2, "Asymmetry Disentanglement", Ni et al. 2022.
    Deviation: the text has Q = A - P and says that Q is 0 or above, yet nothing keeps P below A (A4). ``relu``, as in
        the public code, makes the words true; ``printed`` is A - P. With ``relu`` no gradient comes back through Q
        where P > A: an untrained D, with P about one half, learns nothing from F until a warm start has lowered P.

    Args:
        total: A, (B, 1, D, H, W).
        pathological: P, same shape.
        form: ``relu`` or ``printed``.

    Returns:
        (B, 1, D, H, W).

    Raises:
        ParameterError: ``form`` has another value.
    """
    difference = total - pathological
    return functional.relu(difference) if _checked("form of Q", form, INTRINSIC) == "relu" else difference


def compensate_intrinsic(aligned: Tensor, intrinsic: Tensor) -> Tensor:
    """The scan with its anatomical asymmetry filled in, so that pathology alone is darker: X_hat = X + Q.

    Source: Eq. 3, Ni et al. 2022.
    Deviation: Q is that of :func:`intrinsic_asymmetry`; with its ``form`` "printed" X_hat = X + A - P as printed.

    Args:
        aligned: X, (B, 1, D, H, W).
        intrinsic: Q, same shape.

    Returns:
        (B, 1, D, H, W); between X and max(X, X') where 0 <= Q <= A.
    """
    return aligned + intrinsic


def compensate_pathology(aligned: Tensor, pathological: Tensor, form: str = "clipped") -> Tensor:
    """The scan with its pathology filled in: X_tilde = min(X + P, max(X, X')).

    Source: Sec. 2, "Asymmetry Disentanglement", Ni et al. 2022.
    Deviation: ``printed`` is X + P; P need not be in units of X (A6), so the public code clips to max(X, X').

    Args:
        aligned: X, (B, 1, D, H, W).
        pathological: P, same shape.
        form: ``clipped`` or ``printed``.

    Returns:
        (B, 1, D, H, W).

    Raises:
        ParameterError: ``form`` has another value.
    """
    filled = aligned + pathological
    if _checked("form of X_tilde", form, ("clipped", "printed")) == "printed":
        return filled
    return torch.minimum(filled, torch.maximum(aligned, mirror(aligned)))


class AsymmetryExtractor(ResUNet3D):
    """D: the pathological asymmetry of an aligned scan, P = sigmoid(U-Net(X)).

    Source: Sec. 2, "Asymmetry Disentanglement", and Sec. 3, Ni et al. 2022.
    Deviation: the text extracts P from A and prints P = D(X) (A5); ``sees`` "X,A" gives it both. A sigmoid is not
        stated; the warm start's cross-entropy needs one (A6). ``range`` "bounded" is P = A sigmoid(U-Net), for
        which 0 <= P <= A holds (A4).

    Args:
        width: Channels of the finest level.
        depth: Number of levels.
        dropout: As in :class:`strokelib.nn.baselines.resunet3d.ResUNet3D`.
        sees: ``X`` or ``X,A``.
        range: ``sigmoid`` or ``bounded``.

    Raises:
        ParameterError: ``sees`` or ``range`` has another value.
    """

    def __init__(
        self, width: int = 32, depth: int = 4, dropout: float = 0.2, sees: str = "X", range: str = "sigmoid"
    ) -> None:
        super().__init__(INPUTS[_checked("what D sees", sees, INPUTS)], 1, width, depth, dropout)
        self.sees, self.range = sees, _checked("range of P", range, RANGES)

    def forward(self, aligned: Tensor, total: Tensor) -> Tensor:
        """P (B, 1, D, H, W) in (0, 1), float32 or better, of X and A (B, 1, D, H, W)."""
        logits = super().forward(aligned if self.sees == "X" else torch.cat([aligned, total], dim=1))
        share = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
        return total * share if self.range == "bounded" else share


class Segmenter(ResUNet3D):
    """F: the infarct's logits (B, 1, D, H, W) of a compensated scan (B, 1, D, H, W).

    Source: Sec. 3, Ni et al. 2022.
    Deviation: that of :class:`strokelib.nn.baselines.resunet3d.ResUNet3D`.

    Args:
        width: Channels of the finest level.
        depth: Number of levels.
        dropout: As in :class:`strokelib.nn.baselines.resunet3d.ResUNet3D`.
    """

    def __init__(self, width: int = 32, depth: int = 4, dropout: float = 0.2) -> None:
        super().__init__(1, 1, width, depth, dropout)


class Disentangled(NamedTuple):
    """What D and F make of an aligned scan, each (B, 1, D, H, W).

    Args:
        total: A, 0 or above.
        pathological: P, in (0, 1).
        intrinsic: Q.
        compensated: X_hat = X + Q, what F saw.
        logits: Of the infarct, in the aligned frame.
    """

    total: Tensor
    pathological: Tensor
    intrinsic: Tensor
    compensated: Tensor
    logits: Tensor


class ADN(nn.Module):
    """D and F, trained together: A from X, P = D(X), Q from both, Y = F(X + Q).

    Source: Sec. 2 and Fig. 2, Ni et al. 2022.
    Deviation: those of the parts. T is not a part, as it is trained before and stays as it is.

    Args:
        width: Channels of the finest level of either network.
        depth: Their number of levels.
        dropout: As in :class:`strokelib.nn.baselines.resunet3d.ResUNet3D`.
        sees: As in :class:`AsymmetryExtractor`.
        range: As in :class:`AsymmetryExtractor`.
        intrinsic: ``form`` of :func:`intrinsic_asymmetry`.

    Raises:
        ParameterError: ``sees``, ``range`` or ``intrinsic`` has another value.
    """

    def __init__(
        self,
        width: int = 32,
        depth: int = 4,
        dropout: float = 0.2,
        sees: str = "X",
        range: str = "sigmoid",
        intrinsic: str = "relu",
    ) -> None:
        super().__init__()
        self.intrinsic = _checked("form of Q", intrinsic, INTRINSIC)
        self.extractor = AsymmetryExtractor(width, depth, dropout, sees, range)
        self.segmenter = Segmenter(width, depth, dropout)

    def forward(self, aligned: Tensor) -> Disentangled:
        """Tell the asymmetries of X apart and segment what is left.

        Args:
            aligned: X, (B, 1, D, H, W) in [0, 1] with sides of at least 2^(depth - 1).

        Raises:
            ParameterError: The input has another number of axes or channels, or is too small.
        """
        total = total_asymmetry(aligned)
        pathological = self.extractor(aligned, total)
        intrinsic = intrinsic_asymmetry(total, pathological, self.intrinsic)
        compensated = compensate_intrinsic(aligned, intrinsic)
        return Disentangled(total, pathological, intrinsic, compensated, self.segmenter(compensated))
