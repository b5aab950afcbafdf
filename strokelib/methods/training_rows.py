"""One training by the name of its method and its row: the studies that the notebooks use, and the same folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from strokelib.data.cases import Case
from strokelib.data.scans import load_parts
from strokelib.errors import ParameterError
from strokelib.methods import adn, papl, pseudo_dwi, ssl_nnunet
from strokelib.methods.aligned_heads import midline_network
from strokelib.methods.baseline import BaselineRecipe, run_baseline
from strokelib.methods.midline import MIDLINE, find_line
from strokelib.methods.perfusion_rows import PERFUSION_REFERENCES
from strokelib.methods.reference_rows import REFERENCES, reference_metrics
from strokelib.methods.scoring import per_case, score, status, versus_references
from strokelib.methods.training import Trained, predict, train_method
from strokelib.methods.unet import UNET
from strokelib.methods.weight_kinds import ALIGNED, KINDS, UNALIGNED
from strokelib.papl.rows import RUNS
from strokelib.pseudo_dwi.recipe import InputRecipe
from strokelib.settings import Settings
from strokelib.stats import Bootstrap, bootstrap_ci

if TYPE_CHECKING:
    import pandas as pd

UNET_KEYS = {UNALIGNED: "unet", ALIGNED: "unet_aligned"}


@dataclass(frozen=True)
class Finished:
    """A row that is trained and scored.

    Args:
        key: Of the method.
        row: Of the paper's tables.
        settings: Of the run, for this cohort.
        trained: Its trainings; the last one segments.
        scores: Columns method, case, metric, value, unit, of the row and of the reference rows, on the test scans.
        references: Keys of the reference rows.
        test: The test scans, as they were prepared.
        status: ``done``, ``1 seed``, ``undertrained`` or ``did not learn``.
        networks: Trainings by which demo weights predict, in their order; empty where the row has none.
        more: What the networks need beside their weights.
    """

    key: str
    row: str
    settings: Settings
    trained: tuple[Trained, ...]
    scores: pd.DataFrame
    references: tuple[str, ...]
    test: Sequence[Case]
    status: str
    networks: dict[str, Trained] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def dice(self, name: str = "") -> pd.Series:
        """Dice of each test scan, of the row or of a reference row."""
        return per_case(self.scores, name or self.row)["dice"]

    def mean(self, name: str = "") -> Bootstrap:
        """Mean Dice over the test scans with its 95 % interval."""
        return bootstrap_ci(self.dice(name), seed=self.settings.seed)

    def margin(self) -> tuple[str, Bootstrap]:
        """The best reference row, and Dice of the row minus Dice of that one."""
        return versus_references(self.scores, self.row, self.references, seed=self.settings.seed)


def _papl(row: str, settings: Settings, progress: bool) -> Finished:
    study = papl.load_study(settings, progress=progress)
    found = study.row(4 if row in RUNS[4] else 2, row)
    networks = {papl.SEGMENTATION.key: found.trained}
    if row == KINDS["papl"].row:
        networks = {MIDLINE.key: midline_network(settings, study.out), **networks}
    return _finished("papl", found, (found.trained,), settings, study.references, study.test, networks)


def _adn(row: str, settings: Settings, progress: bool) -> Finished:
    study = adn.load_study(settings, progress=progress)
    found = study.row(row)
    networks = {adn.ALIGNMENT.key: study.transformer(), adn.ADN.key: found.trained}
    more = {"slices": len(study.test[0].image.array)}
    test = study.known if settings.data is None else study.test
    return _finished("adn", found, (found.trained,), settings, study.references, test, networks, more)


def _ssl_nnunet(row: str, settings: Settings, progress: bool) -> Finished:
    study = ssl_nnunet.load_study(settings, progress=progress)
    found = study.outcome(row)
    test, networks = list(study.held_out("test")), {ssl_nnunet.FINETUNING.key: found.trained[0]}
    one = replace(found, scores=found.scores["test"])
    more = {"setup": study.setup()}
    return _finished("ssl_nnunet", one, found.trained, settings, study.references["test", "all"], test, networks, more)


def _pseudo_dwi(row: str, settings: Settings, progress: bool) -> Finished:
    study = pseudo_dwi.load_study(settings, progress=progress)
    if row in pseudo_dwi.CHAINS:
        found = study.chained(row, **pseudo_dwi.CHAINS[row])
    elif row == pseudo_dwi.SEQUENTIAL:
        found = study.sequential()
    else:
        inputs = {"CTA (I*)": ("frames",), pseudo_dwi.REAL: ("dwi",)}
        found = study.segmented(row, **({"inputs": inputs[row]} if row in inputs else {}))
    networks = {pseudo_dwi.CHAIN.key: found.trained[-1]}
    more = {"inputs": InputRecipe.at(settings.profile)}
    references, test = study.references(), study.scans[2]
    return _finished("pseudo_dwi", found, found.trained, settings, references, test, networks, more)


def _unet(row: str, settings: Settings, progress: bool) -> Finished:
    recipe, out = BaselineRecipe.at(settings.profile), settings.runs / "models"
    limits = {"train": recipe.train_cases, "val": recipe.val_cases, "test": None}
    train, val, test = load_parts(settings, progress=progress, **limits)
    key = UNET_KEYS[row]
    if row == ALIGNED:
        network = midline_network(settings, out)
        line = partial(find_line, network.model, network.recipe)
        found = run_baseline(settings.cohort, (train, val, test), recipe, line, seed=settings.seed, out=out)
        scores, trained, said = found.scores, found.trained[key], found.status[key]
    else:
        trained = train_method(UNET, recipe, train, val, seed=settings.seed, out=out)
        references = reference_metrics(train, val, test, out=out)
        scores = _joined(references, score(key, predict(trained, test), test, out=trained.folder))
        said = status(trained, versus_references(scores, key, REFERENCES, seed=settings.seed)[1])
    kept = scores[scores["method"].isin([key, *REFERENCES])].replace({"method": {key: row}})
    how = (settings, (trained,), kept, tuple(REFERENCES), test, said)
    return Finished("unet", row, *how, networks={UNET.key: trained})


def _finished(
    key: str,
    found: Any,
    trained: Sequence[Trained],
    settings: Settings,
    references: pd.DataFrame,
    test: Sequence[Case],
    networks: dict[str, Trained],
    more: dict[str, Any] | None = None,
) -> Finished:
    names = PERFUSION_REFERENCES if key == "pseudo_dwi" else REFERENCES
    scores = _joined(found.scores, references)
    how = (settings, tuple(trained), scores, tuple(names), test, found.status)
    return Finished(key, found.row, *how, networks=networks, more=more or {})


def _joined(*frames: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


_RUNNERS: dict[str, Callable[[str, Settings, bool], Finished]] = {
    "papl": _papl,
    "adn": _adn,
    "ssl_nnunet": _ssl_nnunet,
    "pseudo_dwi": _pseudo_dwi,
    "unet": _unet,
}
_ROWS: dict[str, tuple[str, ...]] = {
    "papl": (*RUNS[2], *RUNS[4]),
    "adn": (*adn.TABLE1, *adn.VARIANTS),
    "ssl_nnunet": tuple(ssl_nnunet.TABLE1),
    "pseudo_dwi": pseudo_dwi.TABLE5,
    "unet": tuple(UNET_KEYS),
}


def rows_of(key: str) -> tuple[str, ...]:
    """The rows of a method that can be trained by name, as their paper prints them.

    Raises:
        ParameterError: Unknown method.
    """
    if key not in _ROWS:
        raise ParameterError("method", found=repr(key), wanted=" or ".join(_ROWS), next_step="give one of these")
    return _ROWS[key]


def cohort_of(key: str, cohort: str = "") -> str:
    """The cohort given, or the one that a method's paper is about."""
    rows_of(key)
    return cohort or KINDS[key].cohort


def train_row(key: str, settings: Settings, row: str = "", *, progress: bool = False) -> Finished:
    """Train a row and score it, or read what was trained before: by a notebook, or by this.

    Args:
        key: ``papl``, ``adn``, ``ssl_nnunet``, ``pseudo_dwi`` or ``unet``.
        settings: Of the run, for the cohort.
        row: One of :func:`rows_of`; by default the row that the paper proposes.
        progress: Show progress bars on a terminal.

    Raises:
        ParameterError: Unknown method or row.
    """
    row, known = row or (KINDS[key].row if key in KINDS else ""), rows_of(key)
    if row not in known:
        step = "`strokelib train --list` prints them"
        raise ParameterError(f"row of {key}", found=repr(row), wanted=" or ".join(known), next_step=step)
    return _RUNNERS[key](row, settings, progress)
