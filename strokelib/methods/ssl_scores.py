"""Scores of the rows of Seia et al. 2023 as its tables take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from strokelib.errors import DataError
from strokelib.methods.scoring import score
from strokelib.methods.ssl_nnunet import TABLE1, Outcome, Study
from strokelib.methods.training import predict

if TYPE_CHECKING:
    import pandas as pd

ALL, ABOVE = "all", "above"


def scores_of(outcomes: Mapping[str, Outcome], split: str, which: str = ALL) -> pd.DataFrame:
    """The scores of several rows as one table.

    Args:
        outcomes: Row -> what was trained for it.
        split: ``val`` or ``test``.
        which: ``all`` lesions, or those ``above`` 3 mL.

    Returns:
        Columns method, case, metric, value, unit.
    """
    import pandas as pd

    parts = [(one.scores if which == ALL else one.above)[split] for one in outcomes.values()]
    return pd.concat(parts, ignore_index=True)


def scores_with_references(study: Study, outcomes: Mapping[str, Outcome], split: str, which: str = ALL) -> pd.DataFrame:
    """As :func:`scores_of`, with the rows that need no network last."""
    import pandas as pd

    return pd.concat([scores_of(outcomes, split, which), study.references[split, which]], ignore_index=True)


def run_scores(study: Study, outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """Dice of every single training on the validation scans, before any vote.

    Returns:
        Columns method (the row), seed, case, value.
    """
    import pandas as pd

    cases, parts = list(study.held_out("val")), []
    for row, outcome in outcomes.items():
        for one in outcome.trained:
            seen = study.mirrored(cases) if one.recipe.channels > 1 else cases
            found = score(row, predict(one, seen), cases).query("metric == 'dice'")
            parts.append(found.assign(seed=one.seed)[["method", "seed", "case", "value"]])
    return pd.concat(parts, ignore_index=True)


def best_pretrained(outcomes: Mapping[str, Outcome]) -> str:
    """The pre-trained row with the highest mean Dice on the validation scans.

    Raises:
        DataError: None of the rows starts from a pre-trained encoder.
    """
    dice = {
        row: one.scores["val"].query("metric == 'dice'")["value"].mean()
        for row, one in outcomes.items()
        if TABLE1[row][1]
    }
    if not dice:
        wanted, step = "a pre-trained row", "pre-train on more scans"
        raise DataError("rows", found=", ".join(outcomes), wanted=wanted, next_step=step)
    return max(dice, key=dice.__getitem__)


def folders_of(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Row and number of the run -> name of the training's folder: what a table or figure was made from."""
    return {
        f"{row}, run {number}": one.folder.name
        for row, outcome in outcomes.items()
        for number, one in enumerate(outcome.trained, 1)
    }
