"""Bootstrap over patients and over the seeds a method was trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from strokelib.errors import ParameterError
from strokelib.stats.samples import Estimate, along_axis, checked_share, checked_table, finite_rows

FEW_SEEDS = 5
_BATCH = 500
_WANTED = "(n_seeds, n_patients): a row a training, a column a patient"


@dataclass(frozen=True)
class SeedsBootstrap(Estimate):
    """A bootstrap interval over patients and seeds.

    Args:
        n: Patients used.
        n_seeds: Trainings.
        sd_seeds: Standard deviation of the statistic between trainings, divisor n_seeds - 1; NaN for one.
        n_dropped: Patients left out for a NaN in any training.
        n_resamples: Resamples drawn.
        seed: Seed of the resamples.
        note: What the interval lacks for want of seeds; empty where there are five or more.
        method: What was done.
    """

    n: int
    n_seeds: int
    sd_seeds: float
    n_dropped: int
    n_resamples: int
    seed: int
    note: str = ""
    method: str = "percentile bootstrap, seeds and patients crossed"


@dataclass(frozen=True)
class PairedSeedsBootstrap(Estimate):
    """A bootstrap interval of the difference of two methods, over patients and seeds.

    Args:
        n: Patients used, the same for both.
        n_seeds: Trainings of the first and of the second method.
        sd_seeds: Standard deviation of the statistic between the trainings of each; NaN for one.
        n_dropped: Patients left out for a NaN in any training of either.
        n_resamples: Resamples drawn.
        seed: Seed of the resamples.
        note: What the interval lacks for want of seeds; empty where both have five or more.
        method: What was done.
    """

    n: int
    n_seeds: tuple[int, int]
    sd_seeds: tuple[float, float]
    n_dropped: int
    n_resamples: int
    seed: int
    note: str = ""
    method: str = "percentile bootstrap of the difference, the same patients for both, seeds of each apart, crossed"


def seeds_bootstrap_ci(
    values: np.ndarray,
    statistic: Callable = np.mean,
    *,
    level: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> SeedsBootstrap:
    """Confidence interval of a method that was trained with several seeds, each scored on the same patients.

    A resample draws trainings and, apart from them, patients, both with replacement; all trainings drawn get the same
    patients. The statistic is that of the patients of each training, averaged over trainings. Of S seeds the drawn
    part of the variance is (S - 1) / S of what it should be: with few seeds the interval is too narrow, and ``note``
    says so.

    Args:
        values: (n_seeds, n_patients). A patient with a NaN in any training is left out of all.
        statistic: Of the patients of one training, e.g. ``np.mean``; quick where it takes ``axis``.
        level: Confidence level.
        n_resamples: Resamples of seeds and patients.
        seed: Seed of the resamples.

    Returns:
        The statistic and its interval, in the unit of ``values``.

    Raises:
        DataError: The shape is another, or fewer than two patients have all values.
        ParameterError: The level or the number of resamples is out of range.
    """
    tails = _tails(level, n_resamples)
    rows, n_dropped = finite_rows(*checked_table("values", values, _WANTED), at_least=2)
    trained = _Trained(np.stack(rows), along_axis(statistic))
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([trained.draw(_patients(rng, trained.n, size), rng) for size in _batches(n_resamples)])
    low, high = (float(bound) for bound in np.quantile(drawn, tails))
    return SeedsBootstrap(
        trained.value,
        low,
        high,
        level,
        n=trained.n,
        n_seeds=trained.n_seeds,
        sd_seeds=trained.sd,
        n_dropped=n_dropped,
        n_resamples=n_resamples,
        seed=seed,
        note=_note(trained.n_seeds),
    )


def paired_seeds_bootstrap_ci(
    a: np.ndarray,
    b: np.ndarray,
    statistic: Callable = np.mean,
    *,
    level: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> PairedSeedsBootstrap:
    """Confidence interval of one method less another, each trained with several seeds, scored on the same patients.

    As :func:`seeds_bootstrap_ci`, with the same patients drawn for both methods and the trainings of each drawn apart:
    seed 0 of one method has nothing in common with seed 0 of the other.

    Args:
        a: (n_seeds, n_patients), one method.
        b: (n_seeds, n_patients), the other, the same patients in the same order; it may have another number of seeds.
        statistic: Of the patients of one training, e.g. ``np.mean``; quick where it takes ``axis``.
        level: Confidence level.
        n_resamples: Resamples of seeds and patients.
        seed: Seed of the resamples.

    Returns:
        The difference of the statistics and its interval, in the unit of the values.

    Raises:
        DataError: The shapes do not match, or fewer than two patients have all values.
        ParameterError: The level or the number of resamples is out of range.
    """
    tails = _tails(level, n_resamples)
    first, second = checked_table("a", a, _WANTED), checked_table("b", b, _WANTED)
    rows, n_dropped = finite_rows(*first, *second, at_least=2)
    both = [_Trained(np.stack(part), along_axis(statistic)) for part in (rows[: len(first)], rows[len(first) :])]
    rng = np.random.default_rng(seed)
    drawn = []
    for size in _batches(n_resamples):
        patients = _patients(rng, both[0].n, size)
        drawn.append(both[0].draw(patients, rng) - both[1].draw(patients, rng))
    low, high = (float(bound) for bound in np.quantile(np.concatenate(drawn), tails))
    return PairedSeedsBootstrap(
        both[0].value - both[1].value,
        low,
        high,
        level,
        n=both[0].n,
        n_seeds=(both[0].n_seeds, both[1].n_seeds),
        sd_seeds=(both[0].sd, both[1].sd),
        n_dropped=n_dropped,
        n_resamples=n_resamples,
        seed=seed,
        note=_note(min(both[0].n_seeds, both[1].n_seeds)),
    )


class _Trained:
    """The scores (n_seeds, n) of one method with a statistic that takes ``axis``."""

    def __init__(self, scores: np.ndarray, statistic: Callable) -> None:
        self.scores, self.statistic = scores, statistic
        self.n_seeds, self.n = scores.shape
        by_seed = np.asarray(statistic(scores, axis=-1))
        self.value = float(by_seed.mean())
        self.sd = float(by_seed.std(ddof=1)) if self.n_seeds > 1 else float("nan")

    def draw(self, patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The statistic of each resample: of every training on the patients drawn, averaged over trainings drawn."""
        by_seed = np.asarray(self.statistic(self.scores[:, patients], axis=-1))
        seeds = rng.integers(0, self.n_seeds, (self.n_seeds, len(patients)))
        return np.take_along_axis(by_seed, seeds, axis=0).mean(axis=0)


def _patients(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    return rng.integers(0, n, (size, n))


def _batches(n_resamples: int) -> list[int]:
    whole, rest = divmod(n_resamples, _BATCH)
    return [_BATCH] * whole + [rest] * (rest > 0)


def _tails(level: float, n_resamples: int) -> tuple[float, float]:
    tail = (1 - checked_share("level", level)) / 2
    if n_resamples < 1:
        raise ParameterError("n_resamples", found=n_resamples, wanted="1 or more", next_step="pass some thousands")
    return tail, 1 - tail


def _note(n_seeds: int) -> str:
    if n_seeds == 1:
        return "1 seed: over patients only; the spread over trainings is not in this interval"
    if n_seeds < FEW_SEEDS:
        return f"{n_seeds} seeds: so few show the spread over trainings too small, and the interval is too narrow"
    return ""
