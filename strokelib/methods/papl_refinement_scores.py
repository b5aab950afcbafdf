"""What stages 2 and 3 of Sun et al. 2024 did, in numbers that the paper does not have: of terms, scans and maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from strokelib.data.cases import Case
from strokelib.infer import evaluating, foreground, model_device
from strokelib.methods.papl import Outcome, Study
from strokelib.methods.training import Trained
from strokelib.papl.examples import neighbour_dice
from strokelib.papl.inputs import recipe_slices
from strokelib.papl.losses import beta3_at, bilateral_salience, feature_distance, sharpened_prediction
from strokelib.papl.slices import HeadSlices

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "reference"
TERMS = ("segmentation", "compensation", "refinement")
THIRDS = ("first", "second", "last")
BATCH = 64


def network_of(model: nn.Module) -> nn.Module:
    """What segments a slice: a backbone without what PAPL has around it."""
    return getattr(model, "backbone", model)


def predicted(trained: Trained, slices: HeadSlices) -> Tensor:
    """M of Eq. 18, (N, h, w), of slices by a trained network and its recipe's omega."""
    network = network_of(trained.model)
    device = model_device(network)
    with evaluating(network), torch.inference_mode():
        logits = torch.cat([network(part.to(device)).float().cpu() for part in slices.images.split(BATCH)])
    return sharpened_prediction(logits, trained.recipe.omega)


def fullest(slices: HeadSlices) -> int:
    """The slice with most lesion, the first of several."""
    return int((slices.lesions > 0).sum(dim=(1, 2)).argmax())


def weighted_terms(trained: Trained) -> pd.DataFrame:
    """The terms of Eq. 24 times their weights, as the training logged them: means over its thirds.

    Args:
        trained: With FCM and RPRS.

    Returns:
        A row a third of the steps, a column a term.
    """
    import pandas as pd

    recipe, columns = trained.recipe, {}
    for name, beta in zip(TERMS, (recipe.beta1, recipe.beta2, recipe.beta3), strict=True):
        steps, values = trained.history.curve(name, "train")
        growing = [beta3_at(step - 1, recipe.steps, beta, recipe.growth, recipe.phases) for step in steps]
        weighted = values * (growing if name == TERMS[-1] else beta)
        third = (steps - 1) * 3 // recipe.steps
        columns[name] = [weighted[third == part].mean() if (third == part).any() else np.nan for part in range(3)]
    return pd.DataFrame(columns, index=list(THIRDS))


def perceived(study: Study, outcome: Outcome) -> pd.DataFrame:
    """phi of Eq. 20 in each test scan's slice with most lesion.

    Args:
        study: Its aligned test scans. One whose lesion is lost on the recipe's pixels is left out.
        outcome: A row that was trained on aligned slices.

    Returns:
        Columns case, hours (from onset, NaN where unknown), predicted (phi by the network's M) and reference (phi by
        the reference in its place).
    """
    import pandas as pd

    recipe, rows = outcome.trained.recipe, []
    for case in study.cases(True)[2]:
        slices = recipe_slices([case], recipe)
        one = slices[[fullest(slices)]]
        lesion = one.lesions.float()
        if lesion.any():
            masks = (predicted(outcome.trained, one), lesion)
            salience = [float(bilateral_salience(m, one.unit[:, 0], recipe.mu)) for m in masks]
            rows.append((case.id, hours_of(case), *salience))
    return pd.DataFrame(rows, columns=["case", "hours", "predicted", REFERENCE])


def hours_of(case: Case) -> float:
    """Time from onset to the scan, NaN where unknown."""
    hours = case.facts.get("onset_hours")
    return float("nan") if hours is None else float(hours)


def steadiness(study: Study, outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """Dice of each slice's mask with the next one's, mean over a scan's slices: "continuity and consistency".

    Args:
        study: Its test scans, in their own frame.
        outcomes: Row -> what was trained.

    Returns:
        A row a scan, a column a row and one for the reference; NaN where nothing is marked.
    """
    import pandas as pd

    def mean(mask: np.ndarray) -> float:
        values = neighbour_dice(mask.astype(bool))
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    found = {row: study.probability(outcome) for row, outcome in outcomes.items()}
    columns = {row: {name: mean(values > 0.5) for name, values in of_row.items()} for row, of_row in found.items()}
    columns[REFERENCE] = {case.id: mean(case.lesion) for case in study.test}
    return pd.DataFrame(columns).rename_axis("case").sort_index()


def feature_closeness(study: Study, outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """How far the encoder's coarsest maps of two slices of a scan are apart, and whether the decoder needs them.

    Eq. 16 can be small because neighbours are alike, because all numbers are small, or because one map stands for every
    slice.

    Args:
        study: Its aligned test scans.
        outcomes: Row -> what was trained on aligned slices.

    Returns:
        A row a training. ``size`` is the root mean square of a map, ``next`` and ``far`` are Eq. 16 between neighbours
        and between slices half a scan apart, ``next / far`` and ``far / size`` their ratios; ``swapped`` is the mean
        change of M where each slice is decoded with the map of the slice half a scan away, as a share of the mean M.
        All are means over the scans.
    """
    import pandas as pd

    rows = {
        row: [_closeness(outcome.trained, case) for case in study.cases(True)[2]] for row, outcome in outcomes.items()
    }
    return pd.DataFrame({row: pd.DataFrame(of_scans).mean() for row, of_scans in rows.items()}).T


def _closeness(trained: Trained, case: Case) -> dict[str, float]:
    network, images = network_of(trained.model), recipe_slices([case], trained.recipe).images
    half = max(1, len(images) // 2)
    with evaluating(network), torch.inference_mode():
        *finer, maps = network.encode(images.to(model_device(network)))
        usual, swapped = (foreground(network.decode([*finer, last])) for last in (maps, maps.roll(half, dims=0)))
        near, far = (float(feature_distance(maps[:-step], maps[step:]).mean()) for step in (1, half))
    size = float(maps.float().square().mean().sqrt())
    changed = float((usual - swapped).abs().mean() / usual.mean())
    ratios = {"next / far": near / far if far else np.nan, "far / size": far / size if size else np.nan}
    return {"size": size, "next": near, "far": far, **ratios, "swapped": changed}
