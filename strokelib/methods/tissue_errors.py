"""How far tissue maps are from the truth of embedded heads, and what each part of the method adds.

Anatomy A is painted from the very atlas whose priors the method uses, so its figures flatter every way that uses them;
anatomy B is another brain, and its heads are the fair measure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from strokelib import manifest
from strokelib.data.cases import Case
from strokelib.data.phantom import embedded
from strokelib.data.registration import Registration
from strokelib.data.tissue import NAMES, TissueMaps, maps_of, tissue_maps, true_maps
from strokelib.data.tissue_mixture import MixtureSettings
from strokelib.data.tissue_priors import PriorSettings, align_atlas, priors_on
from strokelib.errors import DataError
from strokelib.metrics import dice
from strokelib.recipe import Recipe, stated

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
OURS = "ours: no paper reports these errors"
THRESHOLDS_HU = (23.0, 33.0)
VALUES = (
    *(f"dice_{name}" for name in NAMES),
    *(f"{name}_error_ml" for name in NAMES),
    "lesion_as_csf",
)
Way = Callable[[Case, Registration], TissueMaps]


@dataclass(frozen=True)
class TissueRecipe(Recipe):
    """How many test heads of each anatomy the errors are measured on."""

    heads_a: int = stated(35, demo=3, smoke=1, source=OURS)
    heads_b: int = stated(17, demo=3, smoke=1, source=OURS)


def by_mixture(priors: PriorSettings | None = None, mixture: MixtureSettings | None = None) -> Way:
    """The method, or the method with other settings."""
    return lambda case, registration: tissue_maps(
        case.image, case.brain, registration=registration, priors=priors, mixture=mixture
    )


def by_priors(case: Case, registration: Registration) -> TissueMaps:
    """The registered priors alone: of the image, only its shape counts."""
    maps = priors_on(case.image, case.brain, registration)
    return maps_of(maps, case.image, case.brain, {"source": "priors alone"})


def by_thresholds(case: Case, registration: Registration | None = None) -> TissueMaps:
    """Two thresholds in HU alone: fluid below 23, grey matter from 33 on.

    Of all pairs of whole numbers from 16 to 25 and from 28 to 35, these give the best mean Dice on ten training heads.
    """
    low, high = THRESHOLDS_HU
    hu = case.image.array
    maps = np.stack([hu >= high, (hu >= low) & (hu < high), hu < low])
    return maps_of(maps, case.image, case.brain, {"source": "thresholds alone"})


WAYS: dict[str, Way] = {
    "mixture with priors": by_mixture(),
    "priors alone": by_priors,
    "HU thresholds alone": by_thresholds,
}
ABLATIONS: dict[str, Way] = {
    "with the warp": by_mixture(priors=PriorSettings(warp=True)),
    "without outlier classes": by_mixture(mixture=MixtureSettings(outlier_share=0.0)),
    "without neighbours": by_mixture(mixture=MixtureSettings(neighbours=0.0)),
}


def chosen_cases(recipe: TissueRecipe, cohort: str = "aisd") -> list[str]:
    """Test heads of a cohort, those of anatomy A first, evenly spread over its list."""
    table = manifest.split(cohort)
    names = []
    for anatomy, count in (("A", recipe.heads_a), ("B", recipe.heads_b)):
        listed = table[(table["split"] == "test") & (table["anatomy"] == anatomy)]["case"].tolist()
        count = min(count, len(listed))
        names += [listed[(2 * k + 1) * len(listed) // (2 * count)] for k in range(count)]
    return names


def map_errors(found: TissueMaps, true: TissueMaps, lesion: np.ndarray, voxel_ml: float) -> dict[str, float]:
    """Errors of tissue maps.

    Args:
        found: Maps to judge.
        true: As :func:`strokelib.data.tissue.true_maps` gives them.
        lesion: (D, H, W) bool, the acute infarct itself.
        voxel_ml: Volume of a voxel in mL.

    Returns:
        ``dice_grey``, ``dice_white``, ``dice_csf`` of the likeliest tissues; ``grey_error_ml`` and so on, volume of the
        map (sum of probabilities) minus the true one; ``lesion_as_csf``, share of the infarct's voxels whose likeliest
        tissue is fluid (NaN without an infarct; it should be 0, since no infarct is painted into fluid).
    """
    labels, wanted = found.labels(), true.labels()
    inside = lesion & (wanted > 0)
    errors = {f"dice_{name}": dice(labels == k, wanted == k) for k, name in enumerate(NAMES, start=1)}
    for name in NAMES:
        difference = getattr(found, name).sum(dtype=np.float64) - getattr(true, name).sum(dtype=np.float64)
        errors[f"{name}_error_ml"] = float(difference) * voxel_ml
    errors["lesion_as_csf"] = float((labels[inside] == 3).mean()) if inside.any() else float("nan")
    return errors


def tissue_errors(
    case_ids: Sequence[str], ways: Mapping[str, Way] = WAYS, *, render: Callable[[str], Case] = embedded.render
) -> pd.DataFrame:
    """Errors of several ways to tissue maps on the same heads; the registration is done once a head.

    Args:
        case_ids: Embedded cases.
        ways: Name to a function from a case and the atlas' registration to maps.
        render: From a name to a case with its truth.

    Returns:
        One row a case and way: ``anatomy``, ``split``, ``lesion_ml``, the errors of :func:`map_errors`, ``seconds``
        (without the registration), ``registration_s`` and ``failed`` (why there are no maps; errors are then NaN).
    """
    import pandas as pd

    rows = []
    for name in case_ids:
        case = render(name)
        true, lesion = true_maps(case), case.truth["lesion"]
        shared = {"case": name, "anatomy": case.facts["anatomy"], "split": case.split, "lesion_ml": case.lesion_ml}
        started, registration, failed = time.perf_counter(), None, ""
        try:
            registration = align_atlas(case.image, case.brain)
        except DataError as error:
            failed = str(error)
        shared["registration_s"] = time.perf_counter() - started
        for way, run in ways.items():
            started, errors, why = time.perf_counter(), {}, failed
            if registration is not None:
                try:
                    errors = map_errors(run(case, registration), true, lesion, case.image.voxel_ml)
                except DataError as error:
                    why = str(error)
            rows.append(shared | {"way": way} | errors | {"seconds": time.perf_counter() - started, "failed": why})
    return pd.DataFrame(rows)
