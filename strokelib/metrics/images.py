"""How close a synthesised image is to the real one: SSIM and PSNR, over the whole slice and around the lesion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokelib.errors import DataError, ParameterError

WINDOW, SIGMA = 11, 1.5
MARGIN = 10


@dataclass(frozen=True)
class ImageScores:
    """Image quality of one case, means over slices.

    Args:
        ssim: Structural similarity in [-1, 1]; 1 for equal images.
        psnr_db: Peak signal-to-noise ratio in dB; infinite for equal images.
        local_ssim: The same around the lesion; NaN without a lesion.
        local_psnr_db: The same around the lesion; NaN without a lesion.
        n_slices: Slices of the global means.
        n_local: Slices with lesion.
    """

    ssim: float
    psnr_db: float
    local_ssim: float
    local_psnr_db: float
    n_slices: int
    n_local: int


def psnr_db(image: np.ndarray, reference: np.ndarray, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / mean squared error), in dB; infinite for equal images.

    Args:
        image: Any shape.
        reference: That shape.
        data_range: Largest possible difference of two values.

    Raises:
        DataError: The shapes differ, there is nothing in them, or a value is not finite.
        ParameterError: The range is not positive.
    """
    image, reference = _checked(image, reference, data_range)
    error = float(np.mean((image - reference) ** 2))
    return float(10 * np.log10(data_range**2 / error)) if error else float("inf")


def ssim_map(image: np.ndarray, reference: np.ndarray, data_range: float = 1.0) -> np.ndarray:
    """Structural similarity at every pixel of a slice, with the Gaussian window of Wang et al. 2004.

    Args:
        image: (H, W), at least 11 pixels a side.
        reference: That shape.
        data_range: Largest possible difference of two values.

    Returns:
        (H, W) float64 in [-1, 1]. Window of 11 pixels with SD 1.5, K1 0.01, K2 0.03, population covariance.

    Raises:
        DataError: The shapes differ, a side is too short, or a value is not finite.
        ParameterError: The range is not positive.
    """
    from skimage.metrics import structural_similarity

    image, reference = _checked(image, reference, data_range)
    if image.ndim != 2 or min(image.shape) < WINDOW:
        wanted = f"one slice (H, W) of at least {WINDOW} x {WINDOW} pixels"
        raise DataError("image", found=f"shape {image.shape}", wanted=wanted, next_step="pass slice by slice")
    how = {"gaussian_weights": True, "sigma": SIGMA, "use_sample_covariance": False, "K1": 0.01, "K2": 0.03}
    return structural_similarity(image, reference, data_range=data_range, full=True, **how)[1]


def local_box(mask: np.ndarray, margin: int = MARGIN) -> tuple[slice, slice] | None:
    """Rows and columns of a slice that hold its lesion and ``margin`` pixels around; None without a lesion.

    Source: Table 1, Wang et al. 2020 (local SSIM and PSNR).
    Deviation: the paper does not say how far around the lesion; 10 pixels here.
    """
    if not mask.any():
        return None
    sides = []
    for axis in (1, 0):
        used = np.flatnonzero(mask.any(axis=axis))
        sides.append(slice(max(0, int(used[0]) - margin), min(mask.shape[1 - axis], int(used[-1]) + margin + 1)))
    return sides[0], sides[1]


def image_scores(
    image: np.ndarray,
    reference: np.ndarray,
    lesion: np.ndarray | None = None,
    *,
    data_range: float = 1.0,
    margin: int = MARGIN,
) -> ImageScores:
    """SSIM and PSNR of a volume, slice by slice: global, and local in the lesion's box.

    SSIM around the lesion is the mean of the whole slice's map over the box, so that the window sees what lies around.

    Args:
        image: (D, H, W), e.g. a synthesised diffusion image scaled to [0, 1].
        reference: The real one.
        lesion: (D, H, W) bool, or None.
        data_range: Largest possible difference of two values.
        margin: Pixels around the lesion's box.

    Raises:
        DataError: The shapes differ, a side is too short, or a value is not finite.
        ParameterError: The range is not positive.
    """
    if np.ndim(image) != 3 or (lesion is not None and np.shape(lesion) != np.shape(image)):
        found = f"image {np.shape(image)}, lesion {np.shape(lesion) if lesion is not None else None}"
        raise DataError("image", found=found, wanted="volumes (D, H, W) of one shape", next_step="pass one case")
    image, reference = _checked(image, reference, data_range)
    globals_, locals_ = [], []
    for z in range(len(image)):
        similar = ssim_map(image[z], reference[z], data_range)
        globals_.append((float(similar.mean()), psnr_db(image[z], reference[z], data_range)))
        box = None if lesion is None else local_box(np.asarray(lesion[z], bool), margin)
        if box is not None:
            locals_.append((float(similar[box].mean()), psnr_db(image[z][box], reference[z][box], data_range)))
    none = (float("nan"), float("nan"))
    local = tuple(float(v) for v in np.mean(locals_, axis=0)) if locals_ else none
    whole = tuple(float(v) for v in np.mean(globals_, axis=0))
    return ImageScores(*whole, *local, len(globals_), len(locals_))


def _checked(image: np.ndarray, reference: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    image, reference = np.asarray(image, float), np.asarray(reference, float)
    if image.shape != reference.shape or not image.size:
        found = f"shapes {image.shape} and {reference.shape}"
        raise DataError("image", found=found, wanted="two images of one shape", next_step="bring them onto one grid")
    if not (np.isfinite(image).all() and np.isfinite(reference).all()):
        raise DataError("image", found="a value that is not finite", wanted="numbers", next_step="mask it out first")
    if not data_range > 0:
        raise ParameterError("data_range", found=data_range, wanted="above 0", next_step="pass 1 for images in [0, 1]")
    return image, reference
