"""Intensity mixture with spatial priors: which tissue each brain voxel of a CT holds.

Three tissues and two outlier classes. Fluid is a Gaussian for pure fluid and a flat part for voxels that fluid shares
with brain, up to half-way to grey matter. The dark class is brain of lowered density (an acute infarct, white-matter
change), the bright one what is denser than brain (calcification, the falx, bone in the rim). Neither outlier is a
tissue of its own: their voxels go to the tissues that the priors expect there. How common they are is estimated per
place, from the voxel's surroundings, since an infarct is one region and noise is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokelib.data.tissue_fields import monomials, neighbour_sums, smoother
from strokelib.errors import DataError

VERSION = 1
CLASSES = ("grey", "white", "csf", "dark", "bright")
SOFTEST_HU = 1.2
GREY_ABOVE_WHITE_HU = (1.5, 12.0)
WHITE_ABOVE_CSF_HU = 16.0
BOUNDS_HU = (-30.0, 120.0)
MEDIAN_HU = (10.0, 60.0)
LEAST_VOXELS = 1000
START_SD_HU = (3.5, 3.0, 6.0)
LARGEST_OUTLIER_SHARE = 0.3
RIDGE = 0.01
TINY = 1e-12


@dataclass(frozen=True)
class MixtureSettings:
    """What the mixture is run with; lengths in mm.

    The defaults were chosen by eye and by Dice on five embedded training heads of anatomy A, and by eye on the shipped
    head CT.

    Args:
        smooth_mm: SD of the Gaussian over the image, along each axis, inside the brain.
        iterations: At most so many rounds of expectation and maximisation.
        tolerance: Stop where the mean log-likelihood of a voxel changes by less.
        neighbours: Weight of the tissues of the six neighbours (mean field); 0 leaves them out.
        own_proportions: How far the tissues' proportions follow the image and not the priors: 0 not at all, 1 wholly.
        mixed_share: Share of fluid whose voxels also hold brain.
        outlier_share: Share of each outlier class before anything is seen; 0 leaves them out.
        outlier_mm: SD of the surroundings over which the outliers' share is estimated.
        dark_drop: Centre of the dark class, as a share of the way from white matter down to fluid.
        bias_order: Order of the polynomial that stands for slow drift such as cupping; 0 fits none.
    """

    smooth_mm: float = 0.0
    iterations: int = 15
    tolerance: float = 5e-4
    neighbours: float = 0.5
    own_proportions: float = 0.5
    mixed_share: float = 0.5
    outlier_share: float = 0.03
    outlier_mm: float = 8.0
    dark_drop: float = 0.33
    bias_order: int = 2


@dataclass(frozen=True)
class MixtureFit:
    """Tissues of a brain and what was fitted.

    Args:
        tissues: (3, D, H, W) float32: grey, white, fluid; they sum to 1 in the brain and are 0 outside.
        means_hu: Mean of each of :data:`CLASSES`.
        sds_hu: Standard deviation of each.
        shares: Mean posterior of each in the brain.
        bias_hu: (D, H, W) float32, the drift that was taken off; 0 outside.
        iterations: Rounds run.
        log_likelihood: Mean of a voxel after each round.
    """

    tissues: np.ndarray
    means_hu: dict[str, float]
    sds_hu: dict[str, float]
    shares: dict[str, float]
    bias_hu: np.ndarray
    iterations: int
    log_likelihood: tuple[float, ...]


def _drift(
    basis: np.ndarray, values: np.ndarray, tissues: np.ndarray, means: np.ndarray, sds: np.ndarray
) -> np.ndarray:
    """The polynomial that explains best, by weighted least squares, what the tissues' means leave: (N,)."""
    precision = tissues / sds[:, None] ** 2
    pull = precision.sum(axis=0)
    left = (precision * (values - means[:, None])).sum(axis=0)
    system = basis.T @ (basis * pull[:, None]) + RIDGE * pull.sum() * np.eye(basis.shape[1])
    return basis @ np.linalg.solve(system, basis.T @ left)


def _gaussian(values: np.ndarray, mean: float, sd: float) -> np.ndarray:
    return np.exp(-0.5 * ((values - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))


def _apart(means: np.ndarray) -> np.ndarray:
    """Means in the order and at the distances that CT knows: grey above white above fluid."""
    low, high = GREY_ABOVE_WHITE_HU
    middle, half = (means[0] + means[1]) / 2, float(np.clip(means[0] - means[1], low, high)) / 2
    return np.array([middle + half, middle - half, min(means[2], middle - half - WHITE_ABOVE_CSF_HU)])


def _start(values: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Medians of the tenth of the brain where each prior is highest."""
    return _apart(np.array([np.median(values[prior >= np.quantile(prior, 0.9)]) for prior in priors]))


@dataclass
class _State:
    means: np.ndarray
    sds: np.ndarray
    weights: np.ndarray
    share: np.ndarray
    drift: np.ndarray

    def densities(self, seen: np.ndarray, top: float, s: MixtureSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Densities of the tissues (3, N), of the outliers (2, N), and pure fluid's part of fluid's density (N,)."""
        each = np.stack([_gaussian(seen, m, d) for m, d in zip(self.means, self.sds, strict=True)])
        upper = (self.means[0] + self.means[2]) / 2
        pure = (1 - s.mixed_share) * each[2]
        mixed = s.mixed_share * ((seen > self.means[2]) & (seen < upper)) / (upper - self.means[2])
        each[2] = pure + mixed
        (dark_mean, dark_sd), (low, width) = self.dark(s), self.bright(top)
        outliers = np.stack([_gaussian(seen, dark_mean, dark_sd), (seen > low) / width])
        return each, outliers, pure / np.maximum(each[2], TINY)

    def dark(self, s: MixtureSettings) -> tuple[float, float]:
        """Mean and SD of the dark class."""
        drop = s.dark_drop * (self.means[1] - self.means[2])
        return float(self.means[1] - drop), float(0.5 * drop + 1.0)

    def bright(self, top: float) -> tuple[float, float]:
        """Lower end and width of the bright class, which is flat."""
        low = float(self.means[0] + 3 * self.sds[0])
        return low, max(top - low, 1.0)


def fit_mixture(
    hu: np.ndarray,
    priors: np.ndarray,
    brain: np.ndarray,
    spacing: tuple[float, float, float],
    settings: MixtureSettings | None = None,
) -> MixtureFit:
    """Fit the mixture by expectation and maximisation.

    Source: the model of Ashburner and Friston, NeuroImage 26:839 (2005), which SPM's segmentation follows.
    Deviation: the priors are not moved with the fit; one Gaussian a tissue, fluid's flat part aside; the drift is
        added, not multiplied; two outlier classes with a share of their own in each place; neighbours by a mean field,
        so that the log-likelihood need not rise in every round.

    Args:
        hu: (D, H, W) in HU.
        priors: (3, D, H, W): grey, white, fluid; any positive scale.
        brain: (D, H, W) bool.
        spacing: (dz, dy, dx) in mm.
        settings: Defaults where None.

    Returns:
        The fit.

    Raises:
        DataError: Fewer than 1,000 brain voxels, other shapes, or densities that are no brain in HU.
    """
    s = settings or MixtureSettings()
    _check(hu, priors, brain)
    values = smoother(brain, s.smooth_mm, spacing)(np.clip(hu[brain], *BOUNDS_HU).astype(np.float64))
    around, top = smoother(brain, s.outlier_mm, spacing), float(values.max())
    prior = np.maximum(priors[:, brain].astype(np.float64), TINY)
    prior /= prior.sum(axis=0)
    solid = prior[:2] / prior[:2].sum(axis=0)
    basis = monomials(brain, s.bias_order) if s.bias_order else None
    state = _State(
        _start(values, prior),
        np.array(START_SD_HU),
        np.ones(3),
        np.full((2, values.size), s.outlier_share),
        np.zeros(values.size),
    )
    tissues, history = prior, []
    while len(history) < s.iterations:
        spatial = prior * state.weights[:, None]
        if s.neighbours and history:
            spatial *= np.exp(s.neighbours * neighbour_sums(tissues, brain, spacing))
        spatial /= spatial.sum(axis=0)
        each, odd, pure = state.densities(values - state.drift, top, s)
        odd *= state.share
        odd[0] *= spatial[0] + spatial[1]
        each *= spatial * (1 - state.share.sum(axis=0))
        total = each.sum(axis=0) + odd.sum(axis=0) + TINY
        usual, odd = each / total, odd / total
        tissues = usual + odd[1] * prior
        tissues[:2] += odd[0] * solid
        tissues /= tissues.sum(axis=0)
        history.append(float(np.log(total).mean()))
        if len(history) > 3 and abs(history[-1] - history[-2]) < s.tolerance:
            break
        _maximise(state, values, usual, pure, prior, s.own_proportions)
        state.share = np.stack([np.clip(around(part), s.outlier_share / 4, LARGEST_OUTLIER_SHARE) for part in odd])
        state.share *= s.outlier_share > 0
        if basis is not None:
            state.drift = _drift(basis, values, np.stack([*usual[:2], usual[2] * pure]), state.means, state.sds)
    return _result(state, tissues, np.concatenate([usual, odd]), brain, history, top, s)


def _check(hu: np.ndarray, priors: np.ndarray, brain: np.ndarray) -> None:
    if hu.shape != brain.shape or priors.shape != (3, *brain.shape) or brain.sum() < LEAST_VOXELS:
        found = f"image {hu.shape}, priors {priors.shape}, brain {brain.shape} with {int(brain.sum())} voxels"
        wanted = f"one grid and {LEAST_VOXELS} brain voxels or more"
        raise DataError("tissue mixture", found=found, wanted=wanted, next_step="give the brain mask of the whole head")
    median, (low, high) = float(np.median(hu[brain])), MEDIAN_HU
    if not low <= median <= high:
        wanted = f"{low:.0f} to {high:.0f} HU"
        raise DataError(
            "brain", found=f"a median of {median:.1f}", wanted=wanted, next_step="give the CT in HU, unwindowed"
        )


def _maximise(
    state: _State, values: np.ndarray, usual: np.ndarray, pure: np.ndarray, prior: np.ndarray, own_proportions: float
) -> None:
    """New means, SDs and proportions from the posteriors."""
    taken, seen = np.stack([*usual[:2], usual[2] * pure]), values - state.drift
    counts = taken.sum(axis=1) + TINY
    means = (taken * seen).sum(axis=1) / counts
    sds = np.sqrt((taken * (seen - means[:, None]) ** 2).sum(axis=1) / counts)
    state.means, state.sds = _apart(means), np.maximum(sds, SOFTEST_HU)
    expected = (prior / (prior * state.weights[:, None]).sum(axis=0)).sum(axis=1)
    weights = (usual.sum(axis=1) + TINY) / expected
    state.weights = (weights / weights.mean()) ** own_proportions


def _result(
    state: _State,
    tissues: np.ndarray,
    posterior: np.ndarray,
    brain: np.ndarray,
    history: list[float],
    top: float,
    s: MixtureSettings,
) -> MixtureFit:
    maps, drift = np.zeros((3, *brain.shape), np.float32), np.zeros(brain.shape, np.float32)
    maps[:, brain], drift[brain] = tissues, state.drift
    (dark_mean, dark_sd), (low, width) = state.dark(s), state.bright(top)
    measures = (
        (*state.means, dark_mean, low + width / 2),
        (*state.sds, dark_sd, width / np.sqrt(12)),
        posterior.mean(axis=1),
    )
    means, sds, shares = (dict(zip(CLASSES, map(float, row), strict=True)) for row in measures)
    return MixtureFit(maps, means, sds, shares, drift, len(history), tuple(history))
