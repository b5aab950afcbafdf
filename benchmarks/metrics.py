"""Times every score of strokelib.metrics against those of MedPy, MONAI and surface-distance, called as a user would.

Dice, Jaccard, precision, sensitivity, Hausdorff distance, HD95 and ASSD of two overlapping ellipsoids of 5, 70 and
200 mL on 256 x 256 x 40 voxels of 1.2 x 1.2 x 5 mm; in the scattered pairs the prediction also holds six islands of
4 x 4 x 2 voxels. The libraries take turns, so that a busy machine slows all of them; only the ratios mean something.

    python benchmarks/metrics.py [repeats]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

from strokelib.metrics import segmentation_metrics

SHAPE, SPACING = (40, 256, 256), (5.0, 1.2, 1.2)
MEDPY = ("dc", "jc", "precision", "recall", "hd", "hd95", "assd")


def ellipsoid(centre: tuple[int, int, int], radii_mm: tuple[float, float, float]) -> np.ndarray:
    """A (D, H, W) mask."""
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    return sum(((i - c) * s / r) ** 2 for i, c, s, r in zip(axes, centre, SPACING, radii_mm, strict=True)) <= 1


def pair(volume_ml: float, scattered: bool) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and its reference."""
    r = (volume_ml * 1000 * 3 / 4 / np.pi) ** (1 / 3)
    truth, pred = ellipsoid((20, 128, 128), (r, r, r)), ellipsoid((21, 132, 126), (0.95 * r, 0.9 * r, 1.05 * r))
    rng = np.random.default_rng(0)
    for z, y, x in rng.integers(2, (36, 240, 240), (6 if scattered else 0, 3)):
        pred[z : z + 2, y : y + 4, x : x + 4] = True
    return pred, truth


def with_medpy(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The seven scores, one call each."""
    from medpy.metric import binary

    plain = {name: float(getattr(binary, name)(pred, truth)) for name in MEDPY[:4]}
    return plain | {name: float(getattr(binary, name)(pred, truth, SPACING)) for name in MEDPY[4:]}


def with_monai(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The scores MONAI has, one call each."""
    import torch
    from monai import metrics

    pair = [torch.from_numpy(mask)[None, None].float() for mask in (pred, truth)]
    surface = {"include_background": True, "spacing": SPACING}
    matrix = metrics.get_confusion_matrix(*pair)
    found = {
        "dc": metrics.compute_dice(*pair),
        "jc": metrics.compute_iou(*pair),
        "precision": metrics.compute_confusion_matrix_metric("precision", matrix),
        "recall": metrics.compute_confusion_matrix_metric("sensitivity", matrix),
        "hd": metrics.compute_hausdorff_distance(*pair, **surface),
        "hd95": metrics.compute_hausdorff_distance(*pair, percentile=95, **surface),
        "assd": metrics.compute_average_surface_distance(*pair, symmetric=True, **surface),
    }
    return {name: float(value) for name, value in found.items()}


def with_surface_distance(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The scores surface-distance has; its definitions weight by area, so that the values are its own."""
    import surface_distance

    measured = surface_distance.compute_surface_distances(truth, pred, SPACING)
    return {
        "dc": float(surface_distance.compute_dice_coefficient(truth, pred)),
        "hd": float(surface_distance.compute_robust_hausdorff(measured, 100)),
        "hd95": float(surface_distance.compute_robust_hausdorff(measured, 95)),
        "assd": float(np.mean(surface_distance.compute_average_surface_distance(measured))),
    }


def with_strokelib(pred: np.ndarray, truth: np.ndarray) -> dict[str, float | str]:
    """All scores from one call, both conventions of HD95 among them."""
    return segmentation_metrics(pred, truth, SPACING)


def seconds(call: Callable, *arguments: np.ndarray) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def main(repeats: int) -> None:
    """Print one line a pair: median milliseconds, and the median of the ratios within each turn."""
    warnings.simplefilter("ignore")
    libraries = (with_strokelib, with_medpy, with_monai, with_surface_distance)
    names = ("MedPy", "MONAI", "surface-distance")
    print("| pair | strokelib, ms | " + " | ".join(f"{n}, ms" for n in names), end=" | ")
    print(" | ".join(f"{n} / strokelib" for n in names) + " |")
    print("| --- " * 8 + "|")
    for volume_ml in (5, 70, 200):
        for scattered in (False, True):
            masks = pair(volume_ml, scattered)
            ours, medpy, monai, _ = (library(*masks) for library in libraries)
            keys = ("dice", "jaccard", "precision", "sensitivity", "hd_mm", "hd95_mm", "assd_mm")
            np.testing.assert_allclose([ours[key] for key in keys], [medpy[name] for name in MEDPY], rtol=1e-9)
            keys = (*keys[:5], "hd95_max_directed_mm", "assd_mm")
            np.testing.assert_allclose([ours[key] for key in keys], [monai[name] for name in MEDPY], rtol=1e-6)
            times = np.array([[seconds(library, *masks) for library in libraries] for _ in range(repeats)])
            ms, ratios = np.median(times, axis=0) * 1000, np.median(times[:, 1:] / times[:, :1], axis=0)
            name = f"{volume_ml} mL{', scattered' if scattered else ''}"
            cells = [
                f"{ms[0]:.2f}",
                *(f"{v:.0f}" for v in ms[1:]),
                *(f"{v:.1f}" if v < 10 else f"{v:.0f}" for v in ratios),
            ]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
