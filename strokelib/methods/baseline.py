"""The U-Net baseline and the reference rows on one cohort, unaligned and aligned, scored in the scanner's frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from strokelib.data.cases import Case
from strokelib.data.inplane import Aligned, align_case
from strokelib.methods.reference_rows import REFERENCES, SHORT, reference_metrics
from strokelib.methods.scoring import per_case, score, status, versus_references
from strokelib.methods.training import Trained, predict, train_method
from strokelib.methods.unet import UNET, UNetRecipe
from strokelib.recipe import stated
from strokelib.stats import Bootstrap, bootstrap_ci

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
PAPL_STEPS = "Sun et al. 2024, Sec. IV.B: 180 epochs, of about 6,200 slices (assumed)"
NAMES = {key: SHORT[key] for key in REFERENCES} | {"unet": "U-Net, unaligned", "unet_aligned": "U-Net, aligned"}


@dataclass(frozen=True)
class BaselineRecipe(UNetRecipe):
    """The U-Net's hyper-parameters where it stands as the baseline: all cases of the profile, and longer."""

    train_cases: int = stated(295, demo=96, smoke=6, source="as many as the cohort and profile have")
    val_cases: int = stated(50, demo=16, smoke=3, source="as many as the cohort and profile have")
    steps: int = stated(35_000, demo=360, smoke=6, source=PAPL_STEPS)
    validations: int = stated(50, demo=8, smoke=2, source="assumed: not stated")


@dataclass(frozen=True)
class Baseline:
    """What one cohort gave.

    Args:
        cohort: Its key.
        scores: Columns method, case, metric, value, unit, for the keys of :data:`NAMES`.
        trained: ``unet`` and ``unet_aligned``.
        best: The best reference row for each of them.
        margins: Paired difference of the mean Dice to that row.
        status: Status of each of them.
        probability: ``unet`` and ``unet_aligned``: case id to (D, H, W) float16 in the scanner's frame.
        anatomy: Case id to ``A`` or ``B``; empty for a real scan.
    """

    cohort: str
    scores: pd.DataFrame
    trained: dict[str, Trained]
    best: dict[str, str]
    margins: dict[str, Bootstrap]
    status: dict[str, str]
    probability: dict[str, dict[str, np.ndarray]]
    anatomy: dict[str, str]

    def dots(self, *, seed: int = 0) -> tuple[pd.DataFrame, dict[str, tuple[float, float, float]]]:
        """Dice of each case (columns method, value) and method -> (mean, low, high), as the plots take them."""
        import pandas as pd

        parts, intervals = [], {}
        for key, name in NAMES.items():
            dice = per_case(self.scores, key)["dice"]
            ci = bootstrap_ci(dice, seed=seed)
            parts.append(dice.rename("value").to_frame().assign(method=name))
            intervals[name] = (ci.value, ci.low, ci.high)
        return pd.concat(parts), intervals

    def table(self, *, seed: int = 0) -> pd.DataFrame:
        """One row a method: n, mean Dice with its 95 % interval, further scores, Dice on A and B, status.

        Means of scores that a case leaves undefined (distances and precision of an empty prediction) are over the
        others; ``n_missed`` counts them.
        """
        import pandas as pd

        rows = []
        for key, name in NAMES.items():
            cases = per_case(self.scores, key)
            ci = bootstrap_ci(cases["dice"], seed=seed)
            of = {a: cases["dice"][[self.anatomy[c] == a for c in cases.index]] for a in "AB"}
            rows.append(
                {
                    "cohort": self.cohort,
                    "method": name,
                    "n": len(cases),
                    "dice": ci.value,
                    "ci95_low": ci.low,
                    "ci95_high": ci.high,
                    "jaccard": cases["jaccard"].mean(),
                    "precision": cases["precision"].mean(),
                    "sensitivity": cases["sensitivity"].mean(),
                    "assd_mm": cases["assd_mm"].mean(),
                    "hd95_mm": cases["hd95_mm"].mean(),
                    "n_missed": int((cases["status"] == "missed").sum()),
                    "dice_anatomy_a": of["A"].mean(),
                    "n_a": len(of["A"]),
                    "dice_anatomy_b": of["B"].mean(),
                    "n_b": len(of["B"]),
                    "status": self.status.get(key, "reference row"),
                }
            )
        return pd.DataFrame(rows)


def run_baseline(
    cohort: str,
    parts: tuple[Sequence[Case], Sequence[Case], Sequence[Case]],
    recipe: BaselineRecipe,
    line: Callable[[Case], np.ndarray],
    *,
    seed: int,
    out: Path,
) -> Baseline:
    """Train the U-Net twice, on heads as they lie and on aligned ones, and score both beside the reference rows.

    Args:
        cohort: Key of the cohort.
        parts: Training, validation and test cases.
        recipe: Hyper-parameters of both trainings.
        line: Ends of the mid-sagittal line in each slice of a case, as :func:`strokelib.methods.midline.find_line`.
        seed: Of both trainings and of the resamples.
        out: Folder of trained models and scores.
    """
    import pandas as pd

    train, val, test = parts
    reference = reference_metrics(train, val, test, out=out)
    trained = {"unet": train_method(UNET, recipe, train, val, seed=seed, out=out)}
    aligned: list[list[Aligned]] = [[align_case(case, line(case)) for case in part] for part in parts]
    moved = [[one.case for one in part] for part in aligned]
    trained["unet_aligned"] = train_method(UNET, recipe, moved[0], moved[1], seed=seed, out=out)
    probability = {"unet": predict(trained["unet"], test)}
    there = predict(trained["unet_aligned"], moved[2])
    probability["unet_aligned"] = {one.case.id: one.restore(there[one.case.id]) for one in aligned[2]}
    frames = [reference]
    for key, maps in probability.items():
        frames.append(score(key, maps, test, out=trained[key].folder))
    scores = pd.concat(frames, ignore_index=True)
    best, margins, marks = {}, {}, {}
    for key, model in trained.items():
        best[key], margins[key] = versus_references(scores, key, REFERENCES, seed=seed)
        marks[key] = status(model, margins[key])
    anatomy = {case.id: case.facts.get("anatomy", "") for case in test}
    return Baseline(cohort, scores, trained, best, margins, marks, probability, anatomy)
