"""The tables of Sun et al. 2024."""

from __future__ import annotations

import numpy as np
import pandas as pd

from strokelib import manifest


def table1_cohort(facts: pd.DataFrame, cohort: str) -> pd.DataFrame:
    """Table I: the published cohort and the embedded one that stands in for it, in columns of their own.

    Source: Table I, Sun et al. 2024.
    Deviation: none; the paper's TSS is read as time from onset to scan in hours.

    Args:
        facts: One row a patient of the embedded cohort: ``sex``, ``age``, ``onset_hours``, ``nihss``, ``side``.
        cohort: Its key.

    Returns:
        Columns variable, published, ours, n (patients of ours in whom it is known), cohort.
    """
    reported = manifest.published("papl", 1)
    cells = reported.drop_duplicates("metric").set_index("metric")["published_cell"]

    def quartiles(values: pd.Series) -> str:
        q1, median, q3 = np.percentile(values, (25, 50, 75))
        return f"{median:.4g} ({q1:.4g}, {q3:.4g})"

    age, hours, nihss = (facts[name].dropna() for name in ("age", "onset_hours", "nihss"))
    sex, side = facts["sex"].dropna(), facts["side"].dropna()
    rows = [
        ("Patients", str(len(facts)), len(facts)),
        ("Male", str(int((sex == "M").sum())), len(sex)),
        ("Female", str(int((sex == "F").sum())), len(sex)),
        ("Age", quartiles(age), len(age)),
        ("TSS", quartiles(hours), len(hours)),
        ("NIHSS", f"{nihss.mean():.2f} ± {nihss.std(ddof=1):.2f}", len(nihss)),
        ("Lesion location left", str(int((side == "left").sum())), len(side)),
        ("Lesion location right", str(int((side == "right").sum())), len(side)),
    ]
    table = pd.DataFrame(rows, columns=["variable", "ours", "n"])
    table.insert(1, "published", table["variable"].map(cells).fillna("not printed").astype(str))
    return table.assign(cohort=f"{cohort} (embedded)")
