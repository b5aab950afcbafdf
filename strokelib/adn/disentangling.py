"""Pathological and intrinsic asymmetry against the truth, which embedded heads know by being rendered twice.

P* is the asymmetry of a head less that of the same head, pose and noise without its infarct; Q* is the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from strokelib.adn.model import intrinsic_asymmetry, total_asymmetry
from strokelib.adn.volumes import heads_of
from strokelib.data.cases import Case
from strokelib.data.phantom import embedded
from strokelib.data.phantom.fields import one_thread
from strokelib.errors import DataError
from strokelib.nn.alignment import warp_3d

VERSION = 1
POSED = ("grid", "pose", "seed", "version")
MASK_LEVEL = 0.5


@dataclass(frozen=True)
class TrueAsymmetries:
    """Asymmetries of one embedded case in the aligned frame, (D, h, w) float32 in units of the window.

    Args:
        total: A of the head with its infarct, 0 or more.
        pathological: P*, signed. Above 0 where the infarct made a voxel darker against its mirror voxel than it was.
            Below 0 where it took asymmetry away: the mirror voxel of infarcted tissue had been the darker one, or
            swelling closed spaces of CSF. A map of asymmetry that is never negative, such as P, can at best hit the
            positive part.
        intrinsic: Q* = total - pathological: the asymmetry of the same head without its infarct, 0 or more.
        lesion: (D, h, w) bool, the reference, moved linearly and cut at 0.5.
        brain: (D, h, w) bool, moved and cut in the same way.
    """

    total: np.ndarray
    pathological: np.ndarray
    intrinsic: np.ndarray
    lesion: np.ndarray
    brain: np.ndarray


def twin_images(case: Case) -> np.ndarray:
    """The case's head without its infarct: same anatomy, pose and noise.

    It depends on the case alone: whoever scores a case more than once keeps it.

    Args:
        case: A case of :func:`strokelib.data.phantom.embedded.render`, on any of its grids.

    Returns:
        (D, H, W) in HU, on the case's grid; the second image of ``render_pair``.

    Raises:
        DataError: The case is a real one, or was made in another way (posed anew, resampled, an older version).
    """
    wanted, step = "an embedded case as it was rendered", "render the case, or leave the truth out"
    if not case.embedded or case.facts.get("grid") not in embedded.GRIDS:
        raise DataError(f"case {case.id}", found="no rendered case", wanted=wanted, next_step=step)
    with one_thread():
        twin = embedded.render_plan(replace(embedded.plan(case.id), infarct=None), case.facts["grid"])
    differing = [name for name in POSED if twin.facts[name] != case.facts.get(name)]
    if not np.allclose(twin.image.affine, case.image.affine) or twin.image.array.shape != case.image.array.shape:
        differing.append("field")
    if differing:
        raise DataError(f"case {case.id}", found=f"another {', '.join(differing)}", wanted=wanted, next_step=step)
    return twin.image.array


def true_asymmetries(
    case: Case,
    matrix: Tensor | np.ndarray,
    *,
    window_hu: tuple[float, float] = (0.0, 100.0),
    pool: int = 1,
    twin_hu: np.ndarray | None = None,
) -> TrueAsymmetries:
    """What a perfect disentangling would find.

    ``P* = A(with infarct) - A(without)``, ``Q* = A(with infarct) - P* = A(without)``, ``A = max(X' - X, 0)``. Both
    heads are brought through the same matrix, the one found for the head with its infarct, and take the same brain
    mask.

    Args:
        case: An embedded case as it was rendered.
        matrix: (4, 4), T's, output -> input in voxels of the pooled grid.
        window_hu: As in :func:`strokelib.adn.volumes.heads_of`; below and above it nothing is asymmetric.
        pool: As in :func:`strokelib.adn.volumes.heads_of`.
        twin_hu: (D, H, W) of :func:`twin_images` where the caller has kept it.

    Raises:
        DataError: The case has no reference, or no twin.
    """
    twin = case.image.with_array(twin_images(case) if twin_hu is None else twin_hu)
    heads = heads_of([case, replace(case, image=twin)], window_hu=window_hu, pool=pool)
    layers = torch.cat([heads.images, heads.lesions[:1], heads.brains[:1].float()])
    aligned = warp_3d(layers, torch.as_tensor(matrix).detach().cpu().float())
    with_infarct, without = total_asymmetry(aligned[:2])[:, 0].numpy()
    lesion, brain = (aligned[2:, 0] >= MASK_LEVEL).numpy()
    return TrueAsymmetries(with_infarct, with_infarct - without, without, lesion, brain)


def rank_auc(values: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve from ranks; ties count half.

    Args:
        values: (n,).
        positive: (n,) bool.

    Returns:
        In [0, 1]; 0.5 where all values are equal, NaN where all or none are positive.
    """
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    ranks = float(rankdata(values)[positive].sum())
    return (ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")


def disentangling_scores(
    total: Tensor | np.ndarray,
    pathological: Tensor | np.ndarray,
    truth: Tensor | np.ndarray,
    lesion: Tensor | np.ndarray,
    brain: Tensor | np.ndarray,
    *,
    window_width_hu: float = 100.0,
    voxel_ml: float = 1.0,
) -> dict[str, float]:
    """How well P tells pathological from intrinsic asymmetry, over the voxels of the brain.

    D's P comes from a sigmoid and need not be in A's units. Correlations, AUC and leakage do not change when P is
    multiplied by a positive number; the mean absolute error, the recall and the sums do.

    Args:
        total: (D, H, W) A, 0 or more.
        pathological: (D, H, W) P, 0 or more.
        truth: (D, H, W) P*, signed.
        lesion: (D, H, W) bool, the reference.
        brain: (D, H, W) bool; what lies outside it does not count.
        window_width_hu: HU that 1 stands for.
        voxel_ml: Volume of a voxel in mL, for the sums.

    Returns:
        ``correlation``: Pearson's, of P with P*; below 1 even for P = max(P*, 0), the best that a P of 0 or more can
        be, and far below 1 for large infarcts. ``correlation_gained``: with max(P*, 0) in the place of P*.
        ``correlation_asymmetric``: that with P*, where A > 0. NaN where one of the two does not vary.
        ``mae_hu``: mean of abs(P - P*) in HU.
        ``auc``: that P is higher in a voxel of the reference than in another, among voxels with A > 0; NaN where
        all or none of these are of the reference.
        ``leakage``: share of the sum of P outside the reference; NaN where P sums to 0.
        ``recall``: sum of min(P, P*) over that of P*, where P* > 0; NaN where there is no such voxel.
        ``total_inside``, ``total_outside``, ``pathological_inside``, ..., ``intrinsic_outside``: sums of A, P and
        Q = max(A - P, 0) inside and outside the reference, times ``voxel_ml``.

    Raises:
        DataError: The shapes differ, a value is not finite, A or P is negative somewhere, or the brain is empty.
    """
    maps = {"total": total, "pathological": pathological, "truth": truth, "lesion": lesion, "brain": brain}
    a, p, wanted, inside = _inside_brain(maps)
    asymmetric, gained = a > 0, wanted > 0
    scores = {
        "correlation": _pearson(p, wanted),
        "correlation_gained": _pearson(p, np.maximum(wanted, 0)),
        "correlation_asymmetric": _pearson(p[asymmetric], wanted[asymmetric]),
        "mae_hu": float(np.abs(p - wanted).mean()) * window_width_hu,
        "auc": rank_auc(p[asymmetric], inside[asymmetric]),
        "leakage": _share(float(p[~inside].sum()), float(p.sum())),
        "recall": _share(float(np.minimum(p, wanted)[gained].sum()), float(wanted[gained].sum())),
    }
    q = intrinsic_asymmetry(torch.from_numpy(a), torch.from_numpy(p)).numpy()
    for name, values in (("total", a), ("pathological", p), ("intrinsic", q)):
        scores[f"{name}_inside"] = float(values[inside].sum()) * voxel_ml
        scores[f"{name}_outside"] = float(values[~inside].sum()) * voxel_ml
    return scores


def _inside_brain(maps: Mapping[str, Tensor | np.ndarray]) -> tuple[np.ndarray, ...]:
    """Total, pathological and truth (float64) and lesion (bool) in the voxels of the brain, checked."""
    arrays = {name: torch.as_tensor(values).detach().cpu().double().numpy() for name, values in maps.items()}
    shapes = {name: values.shape for name, values in arrays.items()}
    brain = arrays.pop("brain") > 0
    if len(set(shapes.values())) > 1 or not brain.any():
        found = f"shapes {shapes}, {int(brain.sum())} voxels of brain"
        raise DataError("maps", found=found, wanted="one shape and a brain", next_step="pass the maps of one case")
    total, pathological, truth, lesion = (values[brain] for values in arrays.values())
    for name, values, least in (("total", total, 0), ("pathological", pathological, 0), ("truth", truth, -np.inf)):
        if not np.isfinite(values).all() or (values < least).any():
            found = f"values from {values.min():.3g} to {values.max():.3g}"
            step = "pass the map itself, not logits"
            raise DataError(name, found=found, wanted=f"finite values of {least} or more", next_step=step)
    return total, pathological, truth, lesion > 0


def reference_scores(
    total: Tensor | np.ndarray,
    truth: Tensor | np.ndarray,
    lesion: Tensor | np.ndarray,
    brain: Tensor | np.ndarray,
    *,
    window_width_hu: float = 100.0,
    voxel_ml: float = 1.0,
) -> dict[str, dict[str, float]]:
    """What needs no network: all asymmetry is pathological (``P = A``), or none is (``P = 0``).

    Of ``P = 0`` the correlations and the leakage are NaN, the AUC is 0.5 and the recall 0 where they have a value.

    Args:
        total: As in :func:`disentangling_scores`, like all the others.
        truth: P*.
        lesion: The reference.
        brain: The brain.
        window_width_hu: HU that 1 stands for.
        voxel_ml: Volume of a voxel in mL.

    Returns:
        Name -> scores.
    """
    given = torch.as_tensor(total)
    maps = {"P = A": given, "P = 0": torch.zeros_like(given)}
    rest = {"window_width_hu": window_width_hu, "voxel_ml": voxel_ml}
    return {name: disentangling_scores(given, p, truth, lesion, brain, **rest) for name, p in maps.items()}
