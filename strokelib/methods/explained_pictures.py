"""What is shown of explanations: one head with four methods' maps, and their features in the plane."""

from __future__ import annotations

import numpy as np
import torch

from strokelib.data.perfused import Perfused
from strokelib.explain.baselines import BASELINES
from strokelib.explain.neighbours import standardised
from strokelib.figures.image_grids import Picture, PictureRow
from strokelib.methods.explained import FEATURES, Study
from strokelib.methods.explained_views import View
from strokelib.stats.plane import t_sne

BRAIN_HU, LATE_S = (0.0, 80.0), (0.0, 12.0)
TOP_PERCENTILE = 99.5


def onto_slice(values: np.ndarray, view: View, head: Perfused, level: int) -> np.ndarray:
    """A map (D, h, w) of a method's grid on a slice (H, W) of the head, nearest voxel; 0 beyond the grid."""
    (dz, dy, dx), affine = head.whole.image.spacing, head.whole.image.affine
    height, width = head.whole.image.array.shape[1:]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    points = np.stack([
        np.full(rows.size, affine[2, 3] + dz * level),
        -affine[1, 3] + dy * rows.ravel(),
        dx * (columns.ravel() - (width - 1) / 2),
    ], axis=1)  # fmt: skip
    places = view.places(points)
    inside = ((places >= 0) & (places < values.shape)).all(axis=1)
    z, y, x = np.clip(places, 0, np.array(values.shape) - 1).T
    return np.where(inside, values[z, y, x], 0.0).reshape(height, width)


def fullest_slice(study: Study, head: int) -> int:
    """Number, in the whole head, of the slice looked at that shows most of the reference."""
    one = study.heads[head]
    spare = (len(one.slab.image.array) - study.recipe.looked) // 2
    areas = one.slab.lesion[spare : spare + study.recipe.looked].sum(axis=(1, 2))
    return int(one.levels.start + spare + areas.argmax())


def middle_head(study: Study) -> int:
    """Number of the head with the median volume of infarct among those shown."""
    ranked = sorted(study.shown, key=lambda head: study.heads[head].whole.lesion_ml)
    return ranked[len(ranked) // 2]


def explanation_rows(study: Study, head: int) -> list[PictureRow]:
    """A method a row: what it sees, what it finds, and its attributions against each baseline.

    Args:
        study: Methods and heads.
        head: Number of the head.
    """
    one, level = study.heads[head], fullest_slice(study, head)
    case, rows = one.whole, []
    truth = case.lesion[level]
    how = {"brain": case.brain[level], "spacing_yx": case.image.spacing[1:]}
    for number, key in enumerate(study.demos):
        view = study.view(key, head)
        seen = _seen(study, key, one, level)
        pictures = [Picture(seen, _title(number, "what is read"), truth=truth, **_look(key))]
        with torch.no_grad():
            found = view.probability(view.image[None])[0].double().cpu().numpy()
        shown = onto_slice(found, view, one, level)
        said = f"{float(found[view.looked].sum()) * view.voxel_ml:.1f} of {_reference_ml(view):.1f} mL"
        pictures.append(Picture(shown, _title(number, "probability"), said, colours="magma", truth=truth,
                                predicted=shown > 0.5))  # fmt: skip
        for baseline in BASELINES:
            values = study.attribution(key, head, baseline).values.sum(axis=0, dtype=np.float64)
            top = max(float(np.percentile(np.abs(values[view.looked]), TOP_PERCENTILE)), 1e-12)
            where = study.pointing(key, head, baseline)
            said = f"in infarct {where.lesion:.0%}, volume {where.volume:.0%}"
            title = _title(number, f"attributions,\n{baseline}")
            shown = onto_slice(values, view, one, level)
            pictures.append(Picture(shown, title, said, (-top, top), "RdBu_r", truth))
        rows.append(PictureRow(pictures, label=study.titles[key], **how))
    return rows


def _title(row: int, text: str) -> str:
    return text if row == 0 else ""


def _seen(study: Study, key: str, head: Perfused, level: int) -> np.ndarray:
    if key == "pseudo_dwi":
        return head.slab.channels["tmax_s"][level - head.levels.start]
    return np.where(head.whole.brain[level], head.whole.image.array[level], 0)


def _look(key: str) -> dict:
    if key == "pseudo_dwi":
        return {"limits": LATE_S, "colours": "viridis", "note": f"Tmax, {LATE_S[0]:g} to {LATE_S[1]:g} s"}
    return {"limits": BRAIN_HU, "colours": "gray", "note": f"CT, {BRAIN_HU[0]:g} to {BRAIN_HU[1]:g} HU"}


def _reference_ml(view: View) -> float:
    return float(view.lesion[view.looked].sum()) * view.voxel_ml


def planes(study: Study) -> dict[str, np.ndarray]:
    """Method -> t-SNE of its features of all patches, (n, 2)."""
    return {
        title: t_sne(standardised(study.vectors(key, FEATURES)), seed=study.seed, perplexity=study.recipe.perplexity)
        for key, title in study.titles.items()
    }


def probabilities(study: Study, head: int) -> dict[str, np.ndarray]:
    """Method -> probability (d, H, W) on the slab of a head, by its whole way: alignment, patches, and back."""
    one = study.heads[head]
    found = {}
    for key, title in study.titles.items():
        demo = study.demos[key]
        maps = demo.predict(one.slab) if demo.needs == "perfusion" else demo.predict(one.whole)[one.levels]
        found[title] = maps.astype(np.float32)
    return found
