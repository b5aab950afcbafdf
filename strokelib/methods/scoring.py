"""Scores as rows (method, case, metric, value, unit), one file a training, and the comparison with reference rows."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from filelock import FileLock

from strokelib.data.cases import Case
from strokelib.errors import DataError
from strokelib.methods.training import Trained
from strokelib.metrics import segmentation_metrics, unit_of
from strokelib.repro import write_text
from strokelib.stats import Bootstrap, paired_bootstrap_ci

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["method", "case", "metric", "value", "unit"]


class Scored(Protocol):
    """A row of a paper's table after its training, as each paper's ``Outcome`` holds it."""

    @property
    def scores(self) -> pd.DataFrame:
        """:data:`COLUMNS`."""

    @property
    def status(self) -> str:
        """As :func:`status` says."""


def score(
    method: str,
    predictions: Mapping[str, np.ndarray],
    cases: Sequence[Case],
    *,
    threshold: float = 0.5,
    out: Path | None = None,
) -> pd.DataFrame:
    """Score predictions case by case on the cases' own grid.

    Args:
        method: Key of the method or of the reference row.
        predictions: Case id to foreground probability or mask (D, H, W).
        cases: Cases with a reference.
        threshold: A voxel above it is lesion.
        out: Folder whose ``metrics.csv`` takes the rows, in place of earlier ones of the same method and case.

    Returns:
        Columns method, case, metric, value, unit; an undefined value is NaN.

    Raises:
        DataError: A case has no prediction or no reference.
    """
    import pandas as pd

    rows = []
    for case in cases:
        if case.id not in predictions or case.lesion is None:
            found = f"no {'reference' if case.lesion is None else 'prediction'} for {case.id}"
            raise DataError(f"scores of {method}", found=found, wanted="both", next_step="predict this case")
        values = segmentation_metrics(predictions[case.id] > threshold, case.lesion, case.image.spacing)
        rows += [(method, case.id, name, v, unit_of(name)) for name, v in values.items() if not isinstance(v, str)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    if out is not None:
        _merge(frame, Path(out) / "metrics.csv")
    return frame


def penalised(scores: pd.DataFrame, cases: Sequence[Case], metric: str = "hd95_mm") -> pd.DataFrame:
    """Scores with one metric more: a distance that is the image's diagonal where a scan with a lesion has none.

    Args:
        scores: Columns method, case, metric, value, unit.
        cases: The scans scored.
        metric: A distance in mm; ``hd95_mm`` gives ``hd95_penalised_mm``.
    """
    import pandas as pd

    length = {c.id: float(np.linalg.norm(np.multiply(c.image.array.shape, c.image.spacing))) for c in cases}
    ill = {c.id for c in cases if c.lesion is not None and c.lesion.any()}
    rows = scores[scores["metric"] == metric]
    worst = rows["case"].map(lambda name: length[name] if name in ill else float("nan"))
    more = rows.assign(metric=f"{metric.removesuffix('_mm')}_penalised_mm", value=rows["value"].fillna(worst))
    return pd.concat([scores, more[COLUMNS]], ignore_index=True)


def read_scores(path: Path) -> pd.DataFrame:
    """One ``metrics.csv``; names of cases stay text, also where they are digits."""
    import pandas as pd

    empty = {"value": [""]}
    return pd.read_csv(path, dtype={"case": str, "method": str}, keep_default_na=False, na_values=empty)


def _merge(frame: pd.DataFrame, path: Path) -> None:
    import pandas as pd

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if path.is_file():
            old = read_scores(path)
            scored = set(zip(frame["method"], frame["case"], strict=True))
            kept = [pair not in scored for pair in zip(old["method"], old["case"], strict=True)]
            frame = pd.concat([old[kept], frame])
        text = io.StringIO()
        frame.to_csv(text, index=False, lineterminator="\n")
        write_text(path, text.getvalue())


def read_metrics(root: Path) -> pd.DataFrame:
    """All ``metrics.csv`` below a folder as one table, with the training's recipe and seed in two further columns.

    Raises:
        DataError: There is none.
    """
    import pandas as pd

    parts = []
    for path in sorted(Path(root).rglob("metrics.csv")):
        source = path.with_name("trained.json")
        facts = json.loads(source.read_text("utf-8")) if source.is_file() else {}
        parts.append(read_scores(path).assign(recipe=facts.get("recipe", ""), seed=facts.get("seed", -1)))
    if not parts:
        raise DataError("metrics.csv", found="none", wanted="at least one", next_step="score a trained method first")
    return pd.concat(parts, ignore_index=True)


def per_case(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    """One row a case of one method and training, with ``status``, as :func:`strokelib.metrics.summarise` takes it.

    Raises:
        DataError: The table holds no row of this method, or a case more than once (several seeds).
    """
    rows = frame[frame["method"] == method]
    if rows.empty or rows.duplicated(["case", "metric"]).any():
        found = "no row" if rows.empty else "several rows a case and metric"
        raise DataError(
            f"scores of {method}", found=found, wanted="one row a case and metric", next_step="choose one seed"
        )
    wide = rows.pivot(index="case", columns="metric", values="value")[list(dict.fromkeys(rows["metric"]))]
    found, there = wide["pred_volume_ml"] > 0, wide["truth_volume_ml"] > 0
    status = np.select([found & there, there, found], ["ok", "missed", "false_alarm"], "both_empty")
    return wide.assign(status=status).rename_axis(columns=None)


def versus_references(
    frame: pd.DataFrame, method: str, references: Sequence[str], *, seed: int = 0
) -> tuple[str, Bootstrap]:
    """The best reference row, and the paired difference of the mean Dice to it.

    A method whose interval does not lie above 0 is marked ``did not learn``.

    Args:
        frame: Scores of the method and the references on the same cases.
        method: Key of the method.
        references: Keys of the reference rows.
        seed: Seed of the resamples.

    Returns:
        Key of the reference with the highest mean Dice, and Dice of the method minus Dice of that reference.
    """
    dice = {key: per_case(frame, key)["dice"] for key in (method, *references)}
    best = max(references, key=lambda key: dice[key].mean())
    return best, paired_bootstrap_ci(dice[method], dice[best].reindex(dice[method].index), seed=seed)


def status(trained: Trained, margin: Bootstrap) -> str:
    """Status of a result that one seed gave: what it lacks most to ``done``.

    Args:
        trained: The trained method.
        margin: Its difference to the best reference row, from :func:`versus_references`.

    Returns:
        ``undertrained``, ``did not learn`` or ``1 seed``.
    """
    if trained.undertrained:
        return "undertrained"
    return "1 seed" if margin.low > 0 else "did not learn"


def weakest(statuses: Iterable[str]) -> str:
    """The status that says least for a result, where one artefact holds several."""
    order = ("did not learn", "undertrained", "1 seed", "done")
    return min(statuses, key=order.index)


def weakest_of(outcomes: Mapping[str, Scored]) -> str:
    """The same of the rows of a table."""
    return weakest(outcome.status for outcome in outcomes.values())


def scores_of(outcomes: Mapping[str, Scored]) -> pd.DataFrame:
    """The scores of several rows as one table."""
    import pandas as pd

    return pd.concat([outcome.scores for outcome in outcomes.values()], ignore_index=True)
