"""Read and verify ``data_manifests/``: published numbers, ledgers, cohorts, splits and checksums.

Empty cells come back as NaN in columns of numbers and as "" in columns of text; words such as ``none`` and ``na`` stay
words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from strokelib import settings
from strokelib.errors import ManifestError, ParameterError

if TYPE_CHECKING:
    import pandas as pd

PAPERS = ("papl", "adn", "ssl_nnunet", "pseudo_dwi")
ARTEFACTS = {"table": 20, "figure": 34, "in-text": 2}
EQUATIONS = {"papl": 24, "adn": 6, "ssl_nnunet": 3, "pseudo_dwi": 18}
TEXT = {"number": str, "published_cell": str, "patient": str, "case": str, "case_id": str}
SPLIT_COLUMNS = ("case", "patient", "split", "anatomy", "label")
SPLIT_WORDS = {
    "split": ("train", "val", "test", "hidden"),
    "anatomy": ("A", "B"),
    "label": ("gold", "silver", "none"),
}
REPORTED_COLUMNS = (
    "method", "dataset", "aligned", "split", "lesion_filter", "metric", "statistic", "value", "unit", "direction",
    "published_cell", "note",
)  # fmt: skip
NAMING = ("method", "dataset", "aligned", "lesion_filter", "metric", "statistic")
COLUMNS = {
    "artefacts": (
        "id", "paper", "kind", "number", "caption", "models", "inputs", "metric", "plot_type", "published", "notebook",
        "maker", "output", "limit",
    ),
    "headlines": (
        "id", "says", "method", "metric", "statistic", "dataset", "lesion_filter", "row", "our_filter",
    ),
    "claims": (
        "id", "paper", "metric", "table", "row_a", "row_b", "dataset", "aligned_a", "aligned_b", "lesion_filter",
        "cohort",
    ),
    "equations": ("paper", "number", "name", "formula", "place", "errata", "object"),
    "cohorts": (
        "key", "name", "papers", "access", "modality", "total", "train", "val", "test", "counts_note", "embedded",
        "embedded_detail", "stand_in",
    ),
    "assets": ("path", "bytes", "sha256", "source", "licence", "citation", "modified"),
    "infarcts": ("patient", "sha256", "dtype", "shape", "volume_ml"),
}  # fmt: skip


def read(name: str) -> pd.DataFrame:
    """One ledger.

    Args:
        name: Path below ``data_manifests/`` without ``.csv``: ``artefacts``, ``reported/papl_table2``, ``splits/aisd``.

    Raises:
        ManifestError: The file is missing or is no CSV file, or a column that this module knows of is missing.
    """
    import pandas as pd

    path = settings.manifests_dir() / f"{name}.csv"
    if not path.is_file():
        step = "work in the checkout, whose folder data_manifests/ holds the ledgers"
        raise ManifestError(f"ledger {name}", found="no such file", wanted=f"data_manifests/{name}.csv", next_step=step)
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=TEXT)
    except (ValueError, pd.errors.ParserError) as error:
        step = f"restore data_manifests/{name}.csv from the repository"
        raise ManifestError(f"ledger {name}", found=error, wanted="a CSV table", next_step=step) from error
    wanted = COLUMNS.get(name, REPORTED_COLUMNS if name.startswith("reported/") else ())
    if missing := [column for column in wanted if column not in table]:
        step = f"restore data_manifests/{name}.csv from the repository"
        raise ManifestError(f"ledger {name}", found=f"no column {missing}", wanted=wanted, next_step=step)
    texts = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    return table.assign(**{column: table[column].fillna("") for column in texts})


def _checked_paper(paper: str) -> str:
    if paper not in PAPERS:
        raise ParameterError("paper", found=repr(paper), wanted=" or ".join(PAPERS), next_step="give one of these keys")
    return paper


def published(paper: str, number: int | str) -> pd.DataFrame:
    """A table as its paper printed it, one number a row; never a number of ours.

    Args:
        paper: Key of the paper.
        number: 1, 2, ...; ``B.4`` or ``B4`` in the appendix; ``intext`` for numbers that stand in the text alone.
    """
    number = str(number).replace(".", "").replace("-", "")
    return read(f"reported/{_file_of(_checked_paper(paper), number)}")


def _file_of(paper: str, number: str) -> str:
    return f"{paper}_{number if number == 'intext' else f'table{number}'}"


def cells(table: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    """Rows of a table that hold the wanted words; an empty word, or a column that it lacks, leaves all.

    Args:
        table: One number a row, e.g. from :func:`published`.
        wanted: Column -> word.
    """
    for column, word in wanted.items():
        if word and column in table:
            table = table[table[column] == word]
    return table


def artefacts() -> pd.DataFrame:
    """Every table and figure of the four papers, with the notebook and the function meant to make it."""
    return read("artefacts")


def equations() -> pd.DataFrame:
    """Every numbered equation of the four papers, with the object meant to hold it."""
    return read("equations")


def cohorts() -> pd.DataFrame:
    """The six cohorts, indexed by key: the published data set and what stands in for it."""
    return read("cohorts").set_index("key", drop=False)


def split(cohort: str) -> pd.DataFrame:
    """The committed cases of an embedded cohort.

    Args:
        cohort: Key of the cohort.

    Returns:
        One row a case: ``case``; ``patient`` ("" for a head without infarct); ``split`` (train, val, test or hidden);
        ``anatomy`` (A or B, B in test and hidden parts alone); ``label`` (gold, silver, or none without infarct).

    Raises:
        ManifestError: No such file or column, another word, a case twice, a patient in two parts or with two heads
            (slabs of one head differ in the last piece of the case's name), anatomy B outside the test parts, or a
            label without an infarct.
    """
    if cohort not in settings.COHORTS:
        step = "data_manifests/cohorts.csv lists the cohorts"
        raise ParameterError("cohort", found=repr(cohort), wanted=" or ".join(settings.COHORTS), next_step=step)
    table, step = read(f"splits/{cohort}"), f"restore data_manifests/splits/{cohort}.csv from the repository"
    if missing := [column for column in SPLIT_COLUMNS if column not in table]:
        wanted = ", ".join(SPLIT_COLUMNS)
        raise ManifestError(f"split of {cohort}", found=f"no column {missing}", wanted=wanted, next_step=step)
    for found, wanted in _split_problems(table):
        raise ManifestError(f"split of {cohort}", found=found, wanted=wanted, next_step=step)
    return table


def _split_problems(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """What does not hold in a list of cases, and what should."""
    for column, words in SPLIT_WORDS.items():
        if strange := sorted(set(table[column]) - set(words)):
            yield f"{column} {strange[:5]}", " or ".join(words)
    if twice := table["case"][table["case"].duplicated()].tolist():
        yield f"cases twice: {twice[:5]}", "each case once"
    named = table[table["patient"] != ""]
    parts = named.groupby("patient")["split"].nunique()
    if shared := parts[parts > 1].index.tolist():
        yield f"{shared[:5]} in two parts", "each patient in one"
    heads = named["case"].str.split("-").str[:2].str.join("-").groupby(named["patient"]).nunique()
    if shared := heads[heads > 1].index.tolist():
        yield f"{shared[:5]} with two heads", "each patient once; slabs share the name's first two pieces"
    if seen := table.loc[(table["anatomy"] == "B") & table["split"].isin(["train", "val"]), "case"].tolist():
        yield f"anatomy B in training or validation: {seen[:5]}", "B in test and hidden parts alone"
    if wrong := table.loc[(table["patient"] == "") != (table["label"] == "none"), "case"].tolist():
        yield f"labels that contradict the patient: {wrong[:5]}", "none where there is no infarct, and only there"


@cache
def _asset_rows(folder: Path) -> dict[str, tuple[int, str]]:
    table = read("assets")
    return {row.path: (int(row.bytes), row.sha256) for row in table.itertuples()}


@cache
def _checked_asset(path: Path, size: int, digest: str) -> Path:
    found = path.read_bytes() if path.is_file() else None
    state = "no such file" if found is None else f"{len(found)} bytes, SHA-256 {hashlib.sha256(found).hexdigest()}"
    if state != f"{size} bytes, SHA-256 {digest}":
        step = "restore the file with git, or install strokelib again"
        wanted = f"{size} bytes, SHA-256 {digest} (data_manifests/assets.csv)"
        raise ManifestError(f"shipped file {path.name}", found=state, wanted=wanted, next_step=step)
    return path


def asset(name: str) -> Path:
    """Path of a shipped file, once its checksum has been compared with the ledger (once a process).

    Args:
        name: Path below ``strokelib/assets/``, e.g. ``ct_atlas/scct.nii.gz``.

    Raises:
        ManifestError: The ledger does not list the file, or the file is missing or damaged.
    """
    rows = _asset_rows(settings.manifests_dir())
    if name not in rows:
        step = "use a file that data_manifests/assets.csv lists"
        raise ManifestError(f"shipped file {name}", found="no entry", wanted=f"one of {len(rows)}", next_step=step)
    return _checked_asset(settings.assets_dir() / name, *rows[name])


def _asset_problems() -> Iterator[str]:
    listed = set(read("assets")["path"])
    folder = settings.assets_dir()
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    yield from (f"assets.csv does not list {name}" for name in sorted(present - listed))
    for name in sorted(listed):
        try:
            asset(name)
        except ManifestError as error:
            yield str(error)


def _ledger_problems() -> Iterator[str]:
    items, rows = artefacts(), equations()
    counts = items["kind"].value_counts().to_dict()
    if counts != ARTEFACTS:
        yield f"artefacts.csv: found {counts}; wanted {ARTEFACTS}"
    for column in ("id", "output"):
        yield from (f"artefacts.csv: {column} {v} twice" for v in items[column][items[column].duplicated()])
    reported = {path.name for path in (settings.manifests_dir() / "reported").glob("*.csv")}
    used = set(items["published"]) - {""}
    yield from (f"reported/{name}: named by artefacts.csv and by files, not both" for name in sorted(used ^ reported))
    for paper, count in EQUATIONS.items():
        numbers = sorted(rows.loc[rows["paper"] == paper, "number"].astype(int))
        if numbers != list(range(1, count + 1)):
            yield f"equations.csv: {paper} found {numbers}; wanted 1 to {count}"
    if list(cohorts().index) != list(settings.COHORTS):
        yield f"cohorts.csv: found {list(cohorts().index)}; wanted {list(settings.COHORTS)}"


def _named_cell_problems() -> Iterator[str]:
    """Claims and headlines that do not stand once, or do not name one printed mean each."""
    claims, lines, items = read("claims"), read("headlines"), artefacts().set_index("id")
    for name, table in (("claims", claims), ("headlines", lines)):
        yield from (f"{name}.csv: id {v} twice" for v in table["id"][table["id"].duplicated()])
    if apart := sorted(set(lines["id"]) ^ set(items.index[items["kind"] == "table"])):
        yield f"headlines.csv: {apart} stand here or are tables of artefacts.csv, not both"
    for row in claims[~claims["cohort"].isin(settings.COHORTS)].itertuples():
        yield f"claims.csv: {row.id} found cohort {row.cohort!r}; wanted one of {list(settings.COHORTS)}"
    named = [
        (f"headlines.csv: {row.id}", items["published"].get(row.id, ""), row._asdict()) for row in lines.itertuples()
    ]
    for row in claims.itertuples():
        numbers, words = row.table.split(";"), row._asdict() | {"statistic": "mean"}
        for side, number in (("a", numbers[0]), ("b", numbers[-1])):
            words |= {"method": words[f"row_{side}"], "aligned": words[f"aligned_{side}"]}
            named.append((f"claims.csv: {row.id}, row {side}", f"{_file_of(row.paper, number)}.csv", dict(words)))
    reported = {
        path.name: read(f"reported/{path.stem}") for path in (settings.manifests_dir() / "reported").glob("*.csv")
    }
    for place, file, words in named:
        wanted = {column: words[column] for column in NAMING if column in words}
        found = len(cells(reported[file], wanted)) if file in reported else 0
        if found != 1:
            yield f"{place}: found {found} cells in reported/{file} for {wanted}; wanted one"


def verify() -> list[str]:
    """Everything wrong in ``data_manifests/`` and the shipped files, one line a problem; empty where all holds."""
    problems: list[str] = []
    reported = sorted(f"reported/{path.stem}" for path in (settings.manifests_dir() / "reported").glob("*.csv"))
    for name in (*COLUMNS, *reported):
        try:
            read(name)
        except ManifestError as error:
            problems.append(str(error))
    if not problems:
        problems += [*_asset_problems(), *_ledger_problems(), *_named_cell_problems()]
    return problems + list(_list_problems())


def _list_problems() -> Iterator[str]:
    """What is wrong with the cohorts' lists of cases, each for itself and between them."""
    present = {path.stem for path in (settings.manifests_dir() / "splits").glob("*.csv")}
    seen: dict[str, str] = {}
    for cohort in sorted(present | set(settings.COHORTS)):
        try:
            table, wanted = split(cohort), cohorts()["embedded"].get(cohort)
        except (ManifestError, ParameterError) as error:
            yield str(error)
            continue
        if len(table) != wanted:
            yield f"splits/{cohort}.csv: found {len(table)} cases; wanted {wanted} (cohorts.csv)"
        for patient in sorted(set(table["patient"]) - {""}):
            if seen.setdefault(patient, cohort) != cohort:
                yield f"splits/{cohort}.csv: {patient} stands in splits/{seen[patient]}.csv too"
