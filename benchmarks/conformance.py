"""The same masks scored by strokelib and by five trusted packages: the table of docs/metrics.md.

    python benchmarks/conformance.py            # prints the table
    python benchmarks/conformance.py --write    # puts it into docs/metrics.md

``tests/test_conformance.py`` computes every cell again and holds the page to it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from strokelib import metrics

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
BEGIN, END = "<!-- table: benchmarks/conformance.py -->", "<!-- end of table -->"
SHAPE, SPACING, TOLERANCE_MM = (16, 80, 80), (5.0, 1.2, 0.8), 2.0
Values = dict[str, float]

# Scores in which a package is known to differ, and why; everything else has to agree.
DIFFERENCES = {
    ("surface-distance", "hd95_mm"): "weights distances by surface area",
    ("surface-distance", "hd95_max_directed_mm"): "weights distances by surface area",
    ("surface-distance", "assd_mm"): "weights by area; mean of the two directed means",
    ("surface-distance", "surface_dice"): "weights by surface area",
    ("surface-distance", "hd_mm"): "surface runs between voxels, not through their centres",
    ("SimpleITK", "assd_mm"): "distance to the other mask, 0 inside; mean of the two directed means",
    ("SimpleITK", "hd_mm"): "distance to the other mask, 0 inside",
    ("scikit-image", "hd_voxels"): "distance to the other mask, 0 inside",
}


def ellipsoid(centre: tuple[float, ...], radii_mm: tuple[float, ...]) -> np.ndarray:
    """A (D, H, W) mask."""
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    return sum(((i - c) * s / r) ** 2 for i, c, s, r in zip(axes, centre, SPACING, radii_mm, strict=True)) <= 1


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> prediction and reference."""
    truth = ellipsoid((7, 40, 40), (20, 24, 14))
    pred = ellipsoid((8, 42, 37), (16, 22, 15))
    scattered, edge = pred.copy(), np.zeros(SHAPE, bool)
    for z, y, x in ((2, 5, 6), (12, 70, 8), (3, 66, 70)):
        scattered[z : z + 2, y : y + 3, x : x + 3] = True
    edge[:4, :20, 60:] = True
    hollow = truth & ~ellipsoid((7, 40, 40), (9, 8, 6))
    return {
        "compact": (pred, truth),
        "scattered": (scattered, truth),
        "at the image's edge": (edge, np.roll(edge, (1, 4), (0, 1)) | edge),
        "hollow": (hollow, truth),
        "apart": (ellipsoid((4, 15, 15), (8, 8, 6)), ellipsoid((11, 60, 60), (10, 9, 8))),
    }


def strokelib(pred: np.ndarray, truth: np.ndarray) -> Values:
    """All scores."""
    found = metrics.segmentation_metrics(pred, truth, SPACING, tolerance_mm=TOLERANCE_MM)
    found["hd_voxels"] = metrics.hd_mm(metrics.surface_distances(pred, truth, (1.0, 1.0, 1.0)))
    return {name: float(v) for name, v in found.items() if not isinstance(v, str)}


def medpy(pred: np.ndarray, truth: np.ndarray) -> Values:
    """MedPy."""
    from medpy.metric import binary

    names = {"dice": "dc", "jaccard": "jc", "precision": "precision", "sensitivity": "recall"}
    found = {ours: getattr(binary, theirs)(pred, truth) for ours, theirs in names.items()}
    found |= {f"{name}_mm": getattr(binary, name)(pred, truth, SPACING) for name in ("hd", "hd95", "assd")}
    return {name: float(value) for name, value in found.items()}


def monai(pred: np.ndarray, truth: np.ndarray) -> Values:
    """MONAI."""
    import torch
    from monai import metrics as theirs

    pair = [torch.from_numpy(mask)[None, None].float() for mask in (pred, truth)]
    surface = {"include_background": True, "spacing": SPACING}
    matrix = theirs.get_confusion_matrix(*pair)
    found = {
        "dice": theirs.compute_dice(*pair),
        "jaccard": theirs.compute_iou(*pair),
        "precision": theirs.compute_confusion_matrix_metric("precision", matrix),
        "sensitivity": theirs.compute_confusion_matrix_metric("sensitivity", matrix),
        "hd_mm": theirs.compute_hausdorff_distance(*pair, **surface),
        "hd95_max_directed_mm": theirs.compute_hausdorff_distance(*pair, percentile=95, **surface),
        "assd_mm": theirs.compute_average_surface_distance(*pair, symmetric=True, **surface),
        "surface_dice": theirs.compute_surface_dice(*pair, [TOLERANCE_MM], **surface),
    }
    return {name: float(value) for name, value in found.items()}


def surface_distance(pred: np.ndarray, truth: np.ndarray) -> Values:
    """surface-distance of Google DeepMind."""
    import surface_distance as theirs

    measured = theirs.compute_surface_distances(truth, pred, SPACING)
    return {
        "dice": float(theirs.compute_dice_coefficient(truth, pred)),
        "hd_mm": float(theirs.compute_robust_hausdorff(measured, 100)),
        "hd95_mm": float(theirs.compute_robust_hausdorff(measured, 95)),
        "hd95_max_directed_mm": float(theirs.compute_robust_hausdorff(measured, 95)),
        "assd_mm": float(np.mean(theirs.compute_average_surface_distance(measured))),
        "surface_dice": float(theirs.compute_surface_dice_at_tolerance(measured, TOLERANCE_MM)),
    }


def simpleitk(pred: np.ndarray, truth: np.ndarray) -> Values:
    """SimpleITK's two filters."""
    import SimpleITK as sitk

    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (pred, truth)]
    for image in images:
        image.SetSpacing([float(s) for s in SPACING[::-1]])
    overlap, distance = sitk.LabelOverlapMeasuresImageFilter(), sitk.HausdorffDistanceImageFilter()
    overlap.Execute(images[1], images[0])
    distance.Execute(*images)
    return {
        "dice": overlap.GetDiceCoefficient(),
        "jaccard": overlap.GetJaccardCoefficient(),
        "hd_mm": distance.GetHausdorffDistance(),
        "assd_mm": distance.GetAverageHausdorffDistance(),
    }


def scikit_image(pred: np.ndarray, truth: np.ndarray) -> Values:
    """scikit-image, which knows no spacing."""
    from skimage.metrics import hausdorff_distance

    return {"hd_voxels": float(hausdorff_distance(pred, truth))}


EMPTY_BEGIN, EMPTY_END = "<!-- table of empty masks -->", "<!-- end of the table of empty masks -->"


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], Values]] = {
    "MedPy": medpy,
    "MONAI": monai,
    "surface-distance": surface_distance,
    "SimpleITK": simpleitk,
    "scikit-image": scikit_image,
}
NAMES = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "precision": "precision",
    "sensitivity": "sensitivity",
    "hd_mm": "HD (mm)",
    "hd_voxels": "HD (voxels)",
    "hd95_mm": "HD95 `pooled` (mm)",
    "hd95_max_directed_mm": "HD95 `max_directed` (mm)",
    "assd_mm": "ASSD (mm)",
    "surface_dice": "surface Dice at 2 mm",
}


def computed() -> dict[str, dict[str, Values]]:
    """Pair -> package -> scores; ours is ``strokelib``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: {"strokelib": strokelib(*pair)} | {peer: call(*pair) for peer, call in PEERS.items()}
            for name, pair in pairs().items()
        }


def agrees(ours: float, theirs: float) -> bool:
    """Equal but for rounding to float32."""
    return bool(np.isclose(ours, theirs, rtol=2e-6, atol=1e-7))


def table(found: dict[str, dict[str, Values]]) -> str:
    """The Markdown table: our value, and of each package ``=`` or its own value."""
    lines = ["| masks | score | strokelib | " + " | ".join(PEERS) + " |", "| --- " * (3 + len(PEERS)) + "|"]
    for pair, packages in found.items():
        for name, title in NAMES.items():
            ours = packages["strokelib"][name]
            cells = [
                ""
                if name not in packages[peer]
                else "="
                if agrees(ours, packages[peer][name])
                else f"{packages[peer][name]:.4f}"
                for peer in PEERS
            ]
            lines.append(f"| {pair} | {title} | {ours:.4f} | " + " | ".join(cells) + " |")
    notes = {}
    for (peer, name), why in DIFFERENCES.items():
        notes.setdefault((peer, why), []).append(NAMES[name].replace(" (mm)", ""))
    lines.append("")
    lines += [f"- **{peer}**, {', '.join(names)}: {why}." for (peer, why), names in notes.items()]
    return "\n".join(lines)


def one_score(package: str, name: str, pred: np.ndarray, truth: np.ndarray) -> float:
    """One score of one package, each called alone, so that an error of one score does not hide another."""
    if package == "MedPy":
        from medpy.metric import binary

        return binary.dc(pred, truth) if name == "dice" else binary.hd95(pred, truth, SPACING)
    if package == "MONAI":
        import torch
        from monai import metrics as theirs

        pair = [torch.from_numpy(mask)[None, None].float() for mask in (pred, truth)]
        if name == "dice":
            return theirs.compute_dice(*pair)
        return theirs.compute_hausdorff_distance(*pair, percentile=95, include_background=True, spacing=SPACING)
    if package == "surface-distance" and name == "dice":
        import surface_distance as theirs

        return theirs.compute_dice_coefficient(truth, pred)
    if package == "SimpleITK" and name == "dice":
        import SimpleITK as sitk

        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (truth, pred)))
        return overlap.GetDiceCoefficient()
    return ({"strokelib": strokelib} | PEERS)[package](pred, truth)[name]


def table_of_empty_masks() -> str:
    """What each package says of two empty masks, a missed lesion, a false alarm: a number, or the error it raises."""
    none, some = np.zeros(SHAPE, bool), pairs()["compact"][0]
    cases = ((none, none), (none, some), (some, none))
    asked = [(package, "dice", "Dice") for package in ("strokelib", *PEERS) if package != "scikit-image"]
    asked += [("strokelib", "hd95_mm", "HD95"), ("MedPy", "hd95_mm", "HD95"), ("MONAI", "hd95_max_directed_mm", "HD95")]
    asked += [
        ("surface-distance", "hd95_mm", "HD95"),
        ("SimpleITK", "hd_mm", "HD"),
        ("scikit-image", "hd_voxels", "HD"),
    ]
    lines = ["| score | package | both empty | missed | false alarm |", "| --- " * 5 + "|"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package, name, title in asked:
            cells = []
            for pair in cases:
                try:
                    cells.append(f"{float(one_score(package, name, *pair)):.4g}".replace("nan", "NaN"))
                except (RuntimeError, AttributeError, ValueError) as error:
                    cells.append(type(error).__name__)
            lines.append(f"| {title} | {package} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(page: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """The page with the table between its two marks."""
    before, _, rest = page.partition(begin)
    return before + begin + "\n" + text + "\n" + end + rest.partition(end)[2]


def written(page: str) -> str:
    """The page with both tables as they are now."""
    page = with_table(page, table_of_empty_masks(), EMPTY_BEGIN, EMPTY_END)
    return with_table(page, table(computed()))


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    print(table_of_empty_masks(), table(computed()), sep="\n\n")
