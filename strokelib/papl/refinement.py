"""The regional perception refinement of Sun et al. 2024: the prediction grows and shrinks by bilateral difference.

Eqs 18-23. Predictions M are probabilities (B, H, W), images x and lesions y likewise; images are aligned, so that their
mirror image is the other side, and in [0, 1], the HU window rescaled: the salience of z-scored ones can be no number
(P21). Losses are float32.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror
from strokelib.options import chosen

EPSILON = 1e-7
OMEGA, MU = 1.0, 1.0
Reduction = Literal["means", "sums"]
Gradient = Literal["stopped", "carried"]
Base = Literal["clamped", "printed"]


def sharpened_prediction(logits: Tensor, omega: float = OMEGA) -> Tensor:
    """Probability of infarct: M = softmax(omega logits), its second class.

    Source: Eq. 18, Sun et al. 2024.
    Deviation: none; omega is never given, 1 is assumed (P21).

    Args:
        logits: (B, 2, H, W).
        omega: Above 0; large ones leave little between 0 and 1.

    Returns:
        (B, H, W) in [0, 1], float32.

    Raises:
        ParameterError: An omega that is not positive, or other logits.
    """
    if not (omega > 0 and math.isfinite(omega)):
        step = "sweep 1, 2 and 5"
        raise ParameterError("omega", found=omega, wanted="a positive number", next_step=step)
    if logits.dim() != 4 or logits.shape[1] != 2:
        step = "pass what the decoder puts out"
        raise ParameterError("logits", found=f"shape {tuple(logits.shape)}", wanted="(B, 2, H, W)", next_step=step)
    return (omega * logits.float()).softmax(dim=1)[:, 1]


def bilateral_difference(prediction: Tensor, image: Tensor, reduction: Reduction = "means") -> Tensor:
    """Difference of the two sides inside the prediction: L1 = |M x - M mirror(x)|_1 = sum(M |x - mirror(x)|).

    Source: Eq. 21, Sun et al. 2024.
    Deviation: the mean over pixels, ``sums`` as printed (P23).

    Args:
        prediction: M, (B, H, W).
        image: x, the same shape, in [0, 1].
        reduction: One of the two.

    Returns:
        (B,); in [0, 1] as a mean.

    Raises:
        ParameterError: Another reduction, or shapes that differ or are not (B, H, W).
    """
    _same_slices(prediction=prediction, image=image)
    x = image.float()
    return _reduced(prediction.float() * (x - mirror(x)), reduction)


def bilateral_salience(
    prediction: Tensor, image: Tensor, mu: float = MU, gradient: Gradient = "stopped", base: Base = "clamped"
) -> Tensor:
    """How little the two sides differ inside the prediction: phi = (1 - |M x - M mirror(x)|_1 / |M|_1)^mu.

    It is high for infarcts that can hardly be seen yet. Nothing predicted gives 1.

    Source: Eq. 20, Sun et al. 2024.
    Deviation: a weight, through which no gradient flows unless it is ``carried`` (P22). The base is clamped to [0, 1]:
        as printed it can be below 0 for a z-scored image, and its power is then not a number (P21). 1e-7 is added to
        |M|_1. mu is never given, 1 is assumed.

    Args:
        prediction: M, (B, H, W).
        image: x, the same shape, in [0, 1].
        mu: Above 0.
        gradient: Whether phi depends on M in the backward pass.
        base: ``printed`` does not clamp.

    Returns:
        (B,) in [0, 1], unless ``base`` is ``printed``.

    Raises:
        ParameterError: Another word, a mu that is not positive, or shapes that differ or are not (B, H, W).
    """
    chosen("gradient", gradient, get_args(Gradient))
    chosen("base", base, get_args(Base))
    if not (mu > 0 and math.isfinite(mu)):
        raise ParameterError("mu", found=mu, wanted="a positive number", next_step="sweep 0.5, 1 and 2")
    m = prediction if gradient == "carried" else prediction.detach()
    left = 1 - bilateral_difference(m, image, "sums") / (m.float().abs().sum(dim=(1, 2)) + EPSILON)
    if base == "printed":
        return left**mu
    # Clamped before the power as well: the slope of a root at 0 is infinite, and 0 times infinity is NaN.
    return torch.where(left > EPSILON, left.clamp(EPSILON, 1) ** mu, torch.zeros_like(left))


def soft_false_negatives(prediction: Tensor, truth: Tensor, reduction: Reduction = "means") -> Tensor:
    """Lesion that is not predicted: L2 = |y - M y|_1.

    Source: Eq. 22, Sun et al. 2024.
    Deviation: the mean over pixels, ``sums`` as printed (P23). With L3 it is |y - M|_1 for a lesion of 0 and 1.

    Args:
        prediction: M, (B, H, W).
        truth: y, the same shape, 0 or 1.
        reduction: One of the two.

    Returns:
        (B,); in [0, 1] as a mean.

    Raises:
        ParameterError: Another reduction, or shapes that differ or are not (B, H, W).
    """
    _same_slices(prediction=prediction, truth=truth)
    y = truth.float()
    return _reduced(y - prediction.float() * y, reduction)


def soft_false_positives(prediction: Tensor, truth: Tensor, reduction: Reduction = "means") -> Tensor:
    """Prediction that is no lesion: L3 = |M - M y|_1.

    Source: Eq. 23, Sun et al. 2024.
    Deviation: the mean over pixels, ``sums`` as printed (P23).

    Args:
        prediction: M, (B, H, W).
        truth: y, the same shape, 0 or 1.
        reduction: One of the two.

    Returns:
        (B,); in [0, 1] as a mean.

    Raises:
        ParameterError: Another reduction, or shapes that differ or are not (B, H, W).
    """
    _same_slices(prediction=prediction, truth=truth)
    m = prediction.float()
    return _reduced(m - m * truth.float(), reduction)


def perception_refinement_loss(
    prediction: Tensor,
    image: Tensor,
    truth: Tensor,
    mu: float = MU,
    gradient: Gradient = "stopped",
    base: Base = "clamped",
    reduction: Reduction = "means",
    scale: float = 1.0,
) -> Tensor:
    """scale mean(-phi L1 + L2 + L3) over the slices of a batch.

    With phi fixed the slope at a pixel is 1 - 2 y - phi |x - mirror(x)|. The prediction therefore grows into background
    only where phi |x - mirror(x)| is above 1, which an image in [0, 1] never reaches: there L1 weighs pixels, lesion by
    1 + phi |x - mirror(x)| and background by 1 - phi |x - mirror(x)|.

    Source: Eq. 19, Sun et al. 2024.
    Deviation: M, the upper limit of the sum, is undefined; the slices of the batch here. Means over pixels times
        ``scale`` in place of sums, which would be some hundred (P23); phi is a weight (P22). As printed:
        ``gradient="carried", base="printed", reduction="sums"``.

    Args:
        prediction: M, (B, H, W).
        image: x, the same shape, in [0, 1].
        truth: y, the same shape, 0 or 1.
        mu: Of :func:`bilateral_salience`.
        gradient: Of :func:`bilateral_salience`.
        base: Of :func:`bilateral_salience`.
        reduction: Of L1, L2 and L3.
        scale: Factor on the whole.

    Returns:
        A scalar; in [-scale, scale] as a mean.

    Raises:
        ParameterError: As its parts.
    """
    phi = bilateral_salience(prediction, image, mu, gradient, base)
    found = bilateral_difference(prediction, image, reduction)
    wrong = soft_false_negatives(prediction, truth, reduction) + soft_false_positives(prediction, truth, reduction)
    return scale * (wrong - phi * found).mean()


def _reduced(each: Tensor, reduction: str) -> Tensor:
    """(B,) of (B, H, W): sum or mean of the absolute values."""
    chosen("reduction", reduction, get_args(Reduction))
    return each.abs().sum(dim=(1, 2)) if reduction == "sums" else each.abs().mean(dim=(1, 2))


def _same_slices(**slices: Tensor) -> None:
    """Refuse slices that are not (B, H, W) or not of one shape: nothing is broadcast."""
    shapes = {name: tuple(one.shape) for name, one in slices.items()}
    first = next(iter(shapes.values()))
    if len(first) != 3 or any(shape != first for shape in shapes.values()):
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        step = "leave the channel axis out; nothing is broadcast"
        raise ParameterError(" and ".join(shapes), found=found, wanted="one shape (B, H, W)", next_step=step)
