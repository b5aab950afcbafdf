"""What a pre-trained encoder makes of a head: vectors, their neighbours, and the voxels they depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from strokelib.errors import DataError, ParameterError
from strokelib.explain.gradients import Attribution as Attribution
from strokelib.explain.gradients import integrated_gradients
from strokelib.explain.neighbours import standardised
from strokelib.infer import evaluating, model_device
from strokelib.ssl_nnunet.model import pooled
from strokelib.stats.plane import PERPLEXITY, t_sne
from strokelib.stats.plane import bounded as bounded

VERSION = 1
Region = Literal["slab", "box"]
Scaling = Literal["standard", "none"]
SLICES, NEIGHBOURS, POINTS = 16, 6, 3


class Head(Protocol):
    """A head as the encoder sees it, e.g. a :class:`strokelib.data.volumes.Scan` cropped to its brain.

    Attributes:
        images: (C, D, H, W) float32, normalised.
        fill: (C,) values of what lies outside the brain.
    """

    images: Tensor
    fill: Tensor


def region_of(head: Head, region: Region = "slab", slices: int = SLICES) -> Tensor:
    """The part of a head that is represented, (C, d, H, W).

    Args:
        head: Cropped to its brain.
        region: ``slab``: the central slices, all of them in plane; ``box``: the whole head.
        slices: Slices of the slab; a head with fewer is padded on both sides with the value of the background.

    Raises:
        ParameterError: Another region, or no slice.
        DataError: The head is not (C, D, H, W).
    """
    if region not in ("slab", "box"):
        raise ParameterError("region", found=repr(region), wanted="slab or box", next_step="choose one of them")
    if slices < 1:
        raise ParameterError("slices", found=slices, wanted="1 or more", next_step="pass the slices of a view")
    images = head.images
    if images.ndim != 4:
        step = "give heads as the readers of ssl_nnunet.volumes make them"
        raise DataError("head", found=f"shape {tuple(images.shape)}", wanted="(C, D, H, W)", next_step=step)
    if region == "box":
        return images
    depth = images.shape[1]
    if depth >= slices:
        start = (depth - slices) // 2
        return images[:, start : start + slices]
    padded = head.fill.to(images).view(-1, 1, 1, 1).repeat(1, slices, *images.shape[2:])
    start = (slices - depth) // 2
    padded[:, start : start + depth] = images
    return padded


def vectors_of(encoder: nn.Module, images: Tensor) -> Tensor:
    """The representation (B, F) of images (B, C, D, H, W): the encoder's last stage, averaged over all positions."""
    return pooled(encoder(images)[-1])


def represent(
    encoder: nn.Module, heads: Sequence[Head], *, region: Region = "slab", slices: int = SLICES
) -> np.ndarray:
    """One vector a head, 320 values at the published size.

    Source: Sec. 3.4.3, Seia et al. 2023.
    Deviation: the paper does not say how a model of 16 slices represents a volume; here its pooled last stage sees the
        central slab with all of the brain in plane (S35), or the whole brain.

    Args:
        encoder: The teacher's; returns the outputs of its stages from fine to coarse.
        heads: Cropped to their brains; sizes may differ.
        region: As in :func:`region_of`.
        slices: As in :func:`region_of`.

    Returns:
        (n, F) float32, in the order of the heads.

    Raises:
        ParameterError: As in :func:`region_of`.
        DataError: There is no head, or a representation is not finite.
    """
    device = model_device(encoder)
    with evaluating(encoder), torch.no_grad():
        parts = (region_of(head, region, slices)[None].to(device) for head in heads)
        found = [vectors_of(encoder, part)[0].cpu().numpy() for part in parts]
    if not found:
        raise DataError("heads", found="none", wanted="one or more", next_step="choose another split or cohort")
    return _checked(np.stack(found), at_least=1)


def project(
    vectors: np.ndarray, *, seed: int = 0, perplexity: float = PERPLEXITY, scaling: Scaling = "standard"
) -> np.ndarray:
    """t-SNE of the vectors in the plane, started from their first two principal components.

    Source: Sec. 3.4.3, Seia et al. 2023.
    Deviation: the settings are not stated; the perplexity is at most a third of the other heads.

    Args:
        vectors: (n, F), n of 4 or more.
        seed: Of the method's random numbers.
        perplexity: About how many neighbours each head has; as in :func:`strokelib.stats.plane.t_sne`.
        scaling: ``standard``: each feature to mean 0 and SD 1 over the heads first; ``none``: as it is.

    Returns:
        (n, 2) float64; only who lies beside whom has a meaning.

    Raises:
        ParameterError: Another scaling, or a perplexity below 1.
        DataError: Fewer than 4 heads, values that are not finite, or all heads have the same vector.
    """
    scaled = scale(vectors, scaling, at_least=4)
    if not scaled.std(axis=0).any():
        step = "look at RankMe and the teacher's spread over the pre-training"
        raise DataError("vectors", found="the same for all heads", wanted="different ones", next_step=step)
    return t_sne(scaled, seed=seed, perplexity=perplexity)


def scale(vectors: np.ndarray, scaling: Scaling = "standard", *, at_least: int = 2) -> np.ndarray:
    """Vectors (n, F) as float64, each feature with mean 0 and SD 1 (``standard``; 0 where it is constant), or as is."""
    if scaling not in ("standard", "none"):
        raise ParameterError("scaling", found=repr(scaling), wanted="standard or none", next_step="choose one of them")
    values = _checked(np.asarray(vectors), at_least).astype(np.float64)
    return values if scaling == "none" else standardised(values)


def _checked(vectors: np.ndarray, at_least: int) -> np.ndarray:
    if vectors.ndim != 2 or len(vectors) < at_least or not np.isfinite(vectors).all():
        found = f"shape {vectors.shape}, {'all' if np.isfinite(vectors).all() else 'not all'} finite"
        step = "look at the encoder's weights, or give more heads"
        raise DataError("vectors", found=found, wanted=f"(n, F), n >= {at_least}, all finite", next_step=step)
    return vectors


def distances(vectors: np.ndarray) -> np.ndarray:
    """Euclidean distances (n, n) between vectors (n, F)."""
    from scipy.spatial.distance import pdist, squareform

    return squareform(pdist(vectors))


def neighbours(vectors: np.ndarray, k: int = NEIGHBOURS, *, scaling: Scaling = "standard") -> np.ndarray:
    """The k other heads with the nearest vectors, (n, k) indices, nearest first; of two as near the earlier one.

    Source: Sec. 3.4.3, Seia et al. 2023.
    Deviation: looked for among the representations, not in the plane of t-SNE, which does not keep distances (not
        stated).

    Raises:
        ParameterError: k is not within 1 to n - 1, or another scaling.
        DataError: The vectors are not (n, F) and finite.
    """
    away = distances(scale(vectors, scaling))
    if not 1 <= k < len(away):
        step = "ask for fewer neighbours or give more heads"
        raise ParameterError("k", found=k, wanted=f"1 to {len(away) - 1}", next_step=step)
    np.fill_diagonal(away, np.inf)
    return np.argsort(away, axis=1, kind="stable")[:, :k]


def representative_points(projection: np.ndarray, k: int = POINTS, *, seed: int = 0) -> np.ndarray:
    """One head for each of k groups in the plane, (k,) indices, from left to right.

    Source: Sec. 3.4.3, Seia et al. 2023.
    Deviation: the paper picks by eye; these are the medoids of k-means, so that nobody picks.

    Raises:
        ParameterError: k is not within 1 to n.
        DataError: The plane holds fewer than k different points.
    """
    from sklearn.cluster import KMeans

    places = _checked(np.asarray(projection, np.float64), 1)
    if not 1 <= k <= len(places):
        raise ParameterError("k", found=k, wanted=f"1 to {len(places)}", next_step="ask for fewer points")
    if (different := len(np.unique(places, axis=0))) < k:
        step = "ask for fewer points"
        raise DataError("projection", found=f"{different} different points", wanted=f"{k} or more", next_step=step)
    group = KMeans(k, n_init=10, random_state=seed).fit_predict(places)
    away = distances(places)
    members = [np.flatnonzero(group == number) for number in range(k)]
    medoids = np.array([who[away[np.ix_(who, who)].sum(axis=1).argmin()] for who in members])
    return medoids[np.argsort(places[medoids, 0], kind="stable")]


def attributions(
    encoder: nn.Module, image: Tensor, background: Tensor | float, *, steps: int = 50, batch: int = 4
) -> Attribution:
    """Integrated gradients of the sum of the representation: (x - b) times the mean gradient from b to x.

    Source: Sec. 3.4.3, Seia et al. 2023.
    Deviation: the background and the steps are not stated; here the background is the value outside the brain, and the
        integral is a Gauss-Legendre sum (S35). After instance normalisation a channel has the same mean for every
        image, so the sum of averages moves little, by the last activation alone, and most of it close to the
        background: look at ``completeness_error`` and take more steps where it is large.

    Args:
        encoder: Returns the outputs of its stages from fine to coarse.
        image: (C, D, H, W), normalised, e.g. from :func:`region_of`.
        background: One value, or (C,) one a channel.
        steps: Points between background and image.
        batch: Points at a time, for the memory.

    Raises:
        ParameterError: No step or no batch.
        DataError: The image is not (C, D, H, W), or the attributions are not finite.
    """
    image = image.to(model_device(encoder))
    values = torch.as_tensor(background, dtype=image.dtype, device=image.device).reshape(-1)
    if image.ndim != 4 or len(values) not in (1, image.shape[0]):
        found, wanted = f"shape {tuple(image.shape)}, {len(values)} background values", "(C, D, H, W), 1 or C values"
        raise DataError("image", found=found, wanted=wanted, next_step="give one head, not a batch")
    base = values.view(-1, 1, 1, 1).expand_as(image).contiguous()
    with evaluating(encoder):
        summed = lambda x: vectors_of(encoder, x).double().sum(dim=1)  # noqa: E731 (the number explained)
        return integrated_gradients(summed, image, base, steps=steps, batch=batch)
