"""Train many rows with many seeds, go on after a kill, and write what the claims are tested with.

Each training lies in ``runs/models`` and is made once; the scores of each row and seed lie in ``runs/claims``. The
committed files take the new lines in place of earlier ones of the same rows and seeds; lines of a paper whose recipes
or methods have changed since are dropped. Every finished cohort of a paper is written at once.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from strokelib import __version__, repro, settings
from strokelib.claiming import studies
from strokelib.claiming.sizes import PROFILE, SIZE, SIZES, Changes, fingerprint, plain
from strokelib.claiming.trainings import Row, needed
from strokelib.claims import Claim, all_claims, records, tested
from strokelib.errors import DataError, ParameterError

if TYPE_CHECKING:
    import pandas as pd

METHOD_OF = "t interval and detectable effect over patients and seeds crossed; Wilcoxon, Holm within a paper's group"


@dataclass(frozen=True)
class Campaign:
    """What is trained, how small, and where it is kept.

    Args:
        claims: Whose rows are trained.
        seeds: How many, from 0.
        runs: Folder of heads, models and scores.
        out: Folder of the two committed files.
        profile: From which the size is taken.
        sizes: Paper -> recipe -> what differs from the profile.
    """

    claims: Sequence[Claim]
    seeds: int
    runs: Path = field(default_factory=settings.runs_dir)
    out: Path = field(default_factory=settings.manifests_dir)
    profile: settings.Profile = PROFILE
    sizes: Mapping[str, Changes] = field(default_factory=lambda: SIZES)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row that the claims need."""
        return needed(self.claims)

    def settings_of(self, cohort: str) -> settings.Settings:
        """Of the embedded heads of a cohort, seed 0."""
        return settings.Settings(self.profile, cohort, 0, None, self.runs, settings.project_root() / "figures")

    def key(self, paper: str) -> str:
        """What names a paper's recipes, methods and heads."""
        return fingerprint(paper, self.sizes[paper], self.profile)

    def folder(self, row: Row, seed: int) -> Path:
        """Where the scores of a row and seed are kept; a folder that is there is whole."""
        return self.runs / "claims" / f"{row.folder}-seed{seed}-{self.key(row.paper)}"


def run(campaign: Campaign, *, progress: bool = True) -> pd.DataFrame:
    """Train and score what is not there yet, and write both files and what they came from.

    Args:
        campaign: What to train.
        progress: Show a progress bar with what is being trained.

    Returns:
        What is now known of each claim.

    Raises:
        ParameterError: There is no seed or no claim.
    """
    from tqdm import tqdm

    if campaign.seeds < 1 or not campaign.claims:
        found = f"{campaign.seeds} seeds, {len(campaign.claims)} claims"
        raise ParameterError("campaign", found=found, wanted="1 or more of both", next_step="give --seeds 3")
    table = None
    with tqdm(total=len(campaign.rows) * campaign.seeds, unit="training", disable=None if progress else True) as bar:
        for (paper, cohort), group in groupby(campaign.rows, key=lambda row: (row.paper, row.cohort)):
            lines = list(_group(campaign, paper, cohort, tuple(group), bar))
            table = _written(campaign, lines)
    return table


def _group(campaign: Campaign, paper: str, cohort: str, rows: Sequence[Row], bar: Any) -> Iterator[pd.DataFrame]:
    """The lines of the rows of one paper and cohort, references first; its heads are loaded only where needed."""
    made: list[studies.Scoring] = []

    def study() -> studies.Scoring:
        if not made:
            bar.set_description(f"{paper} {cohort}: heads")
            chosen = campaign.settings_of(cohort)
            repro.seed_everything(chosen.seed)
            made.append(studies.study_of(paper, chosen, campaign.sizes[paper], progress=not bar.disable))
        return made[0]

    beside = Row(paper, cohort, records.REFERENCE, "rows")
    yield _once(campaign.folder(beside, 0), lambda: studies.reference_lines(paper, cohort, study()))
    for seed in range(campaign.seeds):
        for row in rows:
            bar.set_description(f"{row.shown}, seed {seed}")
            yield _once(campaign.folder(row, seed), lambda row=row, seed=seed: _trained(study(), row, seed))
            bar.update()


def _trained(study: studies.Scoring, row: Row, seed: int) -> pd.DataFrame:
    import pandas as pd

    trained, found = study.trained(row, seed)
    lines = studies.lines_of(row, seed, found, study.patients())
    return pd.concat([lines, studies.flag_line(row, seed, trained, found[0].part)], ignore_index=True)


def _once(folder: Path, make: Any) -> pd.DataFrame:
    def build(partial: Path) -> None:
        records.write_scores(make(), partial / records.SCORES)

    return records.scores(repro.once(folder, build) / records.SCORES)


def _written(campaign: Campaign, lines: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put lines into the committed scores, compute the results from them, and write both and their provenance."""
    import pandas as pd

    campaign.out.mkdir(parents=True, exist_ok=True)
    (campaign.runs / "claims").mkdir(parents=True, exist_ok=True)
    new = pd.concat(lines, ignore_index=True)
    with FileLock(campaign.runs / "claims" / "write.lock"):
        old = _still_valid(campaign)
        groups = ["paper", "table", "row", "cohort", "seed"]
        taken = set(new[groups].itertuples(index=False, name=None))
        kept = [line not in taken for line in old[groups].itertuples(index=False, name=None)]
        table = pd.concat([old[kept], new], ignore_index=True) if len(old) else new
        path = records.write_scores(table, campaign.out / records.SCORES)
        found = tested(records.scores(path))
        results = records.write_results(found, campaign.out / records.RESULTS)
        record = json.dumps(_provenance(campaign, table, path, results), indent=1, sort_keys=True)
        repro.write_text(campaign.out / f"{records.RESULTS}.json", record + "\n")
    return found


def _still_valid(campaign: Campaign) -> pd.DataFrame:
    """The committed lines of papers whose recipes, methods and heads are those of now."""
    import pandas as pd

    path, beside = campaign.out / records.SCORES, campaign.out / f"{records.RESULTS}.json"
    if not (path.is_file() and beside.is_file()):
        return pd.DataFrame(columns=list(records.SCORE_COLUMNS))
    keys = json.loads(beside.read_text("utf-8"))["keys"]
    found = records.scores(path)
    return found[found["paper"].map(lambda paper: keys.get(paper) == campaign.key(paper))]


def _provenance(campaign: Campaign, table: pd.DataFrame, scores: Path, results: Path) -> dict[str, Any]:
    papers = sorted(set(table["paper"]))
    trained = table[table["seed"] != records.NOT_TRAINED]
    seeds = {paper: sorted(map(int, set(trained.loc[trained["paper"] == paper, "seed"]))) for paper in papers}
    return {
        "commit": _commit(),
        "data": "embedded",
        "keys": {paper: campaign.key(paper) for paper in papers},
        "method": METHOD_OF,
        "profile": campaign.profile.value,
        "recipes": {paper: plain(campaign.sizes[paper]) for paper in papers},
        "seeds": seeds,
        "sha256": {path.name: repro.sha256(path) for path in (scores, results)},
        "size": SIZE,
        "strokelib": __version__,
        "threads": repro.threads(),
        "trainings": len(trained[["paper", "table", "row", "cohort", "seed"]].drop_duplicates()),
        "versions": repro.versions(),
    }


def _commit() -> str:
    """The checkout's commit; empty where there is no git."""
    try:
        command = ["git", "-C", str(settings.project_root()), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def check(folder: Path | None = None) -> int:
    """Compute the committed results again from the committed scores.

    Args:
        folder: Of both files; by default ``data_manifests/``.

    Returns:
        How many claims have scores.

    Raises:
        DataError: A result differs.
        ManifestError: A file is missing or damaged.
    """
    folder = settings.manifests_dir() if folder is None else folder
    found, wanted = records.results(folder / records.RESULTS), tested(records.scores(folder / records.SCORES))
    step = "strokelib claims writes both"
    if list(found["id"]) != [claim.id for claim in all_claims()]:
        raise DataError(records.RESULTS, found="other claims", wanted="those of claims.csv", next_step=step)
    differ = [name for name in found if not found[name].equals(wanted[name])]
    if differ:
        first = found.loc[(found[differ[0]] != wanted[differ[0]]).to_numpy(), "id"].iloc[0]
        raise DataError(
            records.RESULTS, found=f"another {differ[0]} of {first}", wanted="that of the scores", next_step=step
        )
    return int(found["effect"].notna().sum())
