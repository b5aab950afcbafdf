"""The two committed files of our trainings: scores a patient, and what they say of each claim.

``claims_scores.csv.gz`` has a line a paper, table, row, cohort, part, criterion for lesions, seed, case and score.
Lines of the table ``reference`` belong to rows that need no network, or, of the row ``truth``, to the reference itself;
lines without a case to a training as a whole. ``claims_results.csv`` has a line a claim and is computed from the scores
alone. Equal tables give equal bytes.
"""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from strokelib import settings
from strokelib.errors import ManifestError
from strokelib.repro import atomic_path, write_text

if TYPE_CHECKING:
    import pandas as pd

SCORES, RESULTS = "claims_scores.csv.gz", "claims_results.csv"
KEYS = ("paper", "table", "row", "size", "cohort", "part", "lesions", "seed", "case", "patient", "score")
SCORE_COLUMNS = (*KEYS, "value")
RESULT_COLUMNS = (
    "id", "paper", "group", "cohort", "part", "score", "size",
    "n_scans", "n_patients", "n_dropped", "n_seeds",
    "mean_a", "mean_b", "effect", "patients_low", "patients_high", "seeds_low", "seeds_high", "low", "high",
    "sd_seeds_a", "sd_seeds_b", "se", "df", "mde", "published", "resolves",
    "p", "p_holm", "family", "n_family", "learnt_a", "learnt_b", "undertrained", "verdict", "reason",
)  # fmt: skip
TEXTS = (
    "id", "paper", "group", "cohort", "part", "score", "size", "resolves", "family", "learnt_a", "learnt_b",
    "undertrained", "verdict", "reason",
)  # fmt: skip
REFERENCE, TRUTH, VOLUME, UNDERTRAINED = "reference", "truth", "truth_volume_ml", "undertrained"
NOT_TRAINED = -1
ALL_LESIONS, ABOVE = "all", "> 3 mL"
DIGITS = "%.6g"


def scores(path: str | os.PathLike | None = None) -> pd.DataFrame:
    """The scores of our trainings for the claims.

    Args:
        path: By default ``data_manifests/claims_scores.csv.gz``.

    Raises:
        ManifestError: The file is missing or has other columns.
    """
    return _read(path or settings.manifests_dir() / SCORES, SCORE_COLUMNS, tuple(k for k in KEYS if k != "seed"))


def results(path: str | os.PathLike | None = None) -> pd.DataFrame:
    """What our trainings say of each claim, in the order of ``claims.csv``.

    Args:
        path: By default ``data_manifests/claims_results.csv``.

    Raises:
        ManifestError: The file is missing or has other columns.
    """
    return _read(path or settings.manifests_dir() / RESULTS, RESULT_COLUMNS, TEXTS)


def _read(path: str | os.PathLike, columns: tuple[str, ...], texts: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    path, step = Path(path), "strokelib claims --seeds 3 makes it"
    if not path.is_file():
        raise ManifestError(path.name, found="no such file", wanted=f"data_manifests/{path.name}", next_step=step)
    numbers = {name: float for name in columns if name not in (*texts, "seed")}
    try:
        kinds = dict.fromkeys(texts, str) | numbers | ({"seed": int} if "seed" in columns else {})
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values={name: [""] for name in numbers})
    except (OSError, EOFError, ValueError, pd.errors.ParserError) as error:
        raise ManifestError(path.name, found=error, wanted="a table of numbers and texts", next_step=step) from error
    if tuple(table) != columns:
        raise ManifestError(path.name, found=f"columns {list(table)}", wanted=list(columns), next_step=step)
    return table


def as_text(table: pd.DataFrame) -> str:
    """A table as CSV with six significant digits."""
    return table.to_csv(index=False, lineterminator="\n", float_format=DIGITS)


def rounded_results(table: pd.DataFrame) -> pd.DataFrame:
    """Results as they are when read back."""
    return _read_text(as_text(table[list(RESULT_COLUMNS)]), RESULT_COLUMNS)


def _read_text(text: str, columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    kinds = {name: str if name in TEXTS else float for name in columns}
    empty = {name: [""] for name in columns if name not in TEXTS}
    return pd.read_csv(io.StringIO(text), dtype=kinds, keep_default_na=False, na_values=empty)


def write_scores(table: pd.DataFrame, path: str | os.PathLike | None = None) -> Path:
    """Write scores, sorted, with no time stamp in the compressed file.

    Args:
        table: :data:`SCORE_COLUMNS`.
        path: By default ``data_manifests/claims_scores.csv.gz``.

    Raises:
        ManifestError: A line stands twice, or a column is missing.
    """
    if missing := [name for name in SCORE_COLUMNS if name not in table]:
        raise ManifestError(SCORES, found=f"no column {missing}", wanted=list(SCORE_COLUMNS), next_step="add it")
    if table.duplicated(list(KEYS)).any():
        line = dict(zip(KEYS, table.loc[table.duplicated(list(KEYS)), list(KEYS)].iloc[0], strict=True))
        raise ManifestError(SCORES, found=f"{line} twice", wanted="each line once", next_step="score each row once")
    path = Path(path or settings.manifests_dir() / SCORES)
    text = as_text(table[list(SCORE_COLUMNS)].sort_values(list(KEYS), kind="stable"))
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:  # noqa: SIM117
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as packed:
            packed.write(text.encode())
    return path


def write_results(table: pd.DataFrame, path: str | os.PathLike | None = None) -> Path:
    """Write results.

    Args:
        table: :data:`RESULT_COLUMNS`.
        path: By default ``data_manifests/claims_results.csv``.
    """
    return write_text(path or settings.manifests_dir() / RESULTS, as_text(table[list(RESULT_COLUMNS)]))
