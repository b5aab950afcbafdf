"""What nnU-Net calls a fingerprint: sizes, spacings and intensities of a data set; and the normalisation from it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from strokelib.data.cases import Case, Volume, channel
from strokelib.data.contralateral import CLIP_HU, difference_image
from strokelib.data.grids import box_of
from strokelib.errors import DataError, ParameterError
from strokelib.repro import write_text
from strokelib.ssl_nnunet.exchange_json import Document

VERSION = 1
VOXELS_A_CASE = 50_000
SMALLEST_SD = 1e-8
FOREGROUND = "foreground_intensity_properties_per_channel"
Seen = tuple[np.ndarray, np.ndarray, tuple[float, float, float]]


@dataclass(frozen=True)
class Intensities:
    """Statistics of one channel over the brains of a data set, in HU; the names are those of nnU-Net's files."""

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float

    @classmethod
    def of(cls, values: np.ndarray) -> Intensities:
        """Of values of any shape, at least one; ``std`` divides by their number."""
        values = np.asarray(values, np.float64).ravel()
        low, median, high = (float(v) for v in np.percentile(values, (0.5, 50.0, 99.5)))
        span = float(values.min()), float(values.max())
        return cls(float(values.mean()), median, float(values.std()), *span, low, high)

    @classmethod
    def read(cls, document: Document, *keys: str) -> Intensities:
        """From a JSON file of nnU-Net; a DataError names the key that is missing or no number."""
        names = [field.name for field in dataclasses.fields(cls)]
        found = cls(**{name: float(document.entry(*keys, name, kind=float)) for name in names})
        if not found.percentile_00_5 <= found.percentile_99_5 or found.std < 0:
            values = f"percentiles {found.percentile_00_5} and {found.percentile_99_5}, std {found.std}"
            raise document.refusal(keys, values, "percentiles that rise, and a std of 0 or more")
        return found


@dataclass(frozen=True)
class Fingerprint:
    """A data set in numbers.

    Args:
        shapes: (D, H, W) of each case, cropped to its brain.
        spacings_mm: (dz, dy, dx) of each case.
        channels: Intensities of each channel over the brains of all cases.
        relative_size: Median over the cases of cropped over whole number of voxels.
    """

    shapes: tuple[tuple[int, int, int], ...]
    spacings_mm: tuple[tuple[float, float, float], ...]
    channels: tuple[Intensities, ...]
    relative_size: float

    def with_intensities_of(self, other: Fingerprint) -> Fingerprint:
        """These sizes with the intensities of another data set.

        Source: Sec. 3.3, Seia et al. 2023: the labelled set is normalised as the whole pre-training set was.
        Deviation: none.

        Raises:
            ParameterError: The other one has another number of channels.
        """
        if len(self.channels) != len(other.channels):
            found, wanted = f"{len(other.channels)} channels", f"{len(self.channels)}"
            raise ParameterError("intensities", found=found, wanted=wanted, next_step="use the same channels in both")
        return dataclasses.replace(self, channels=other.channels)

    def save(self, path: str | os.PathLike) -> Path:
        """Write nnU-Net's ``dataset_fingerprint.json``, atomically; returns the path."""
        content = {
            "spacings": self.spacings_mm,
            "shapes_after_crop": self.shapes,
            FOREGROUND: as_foreground(self.channels),
            "median_relative_size_after_cropping": self.relative_size,
        }
        return write_text(path, json.dumps(content, indent=1) + "\n")


def load_fingerprint(path: str | os.PathLike) -> Fingerprint:
    """Read a ``dataset_fingerprint.json`` of nnU-Net or of :meth:`Fingerprint.save`.

    Raises:
        DataError: The file is missing, or an entry is missing or of another kind; file and key are named.
    """
    document = Document.read(path)
    shapes, spacings = document.rows("shapes_after_crop"), document.rows("spacings", kind=float)
    size = float(document.entry("median_relative_size_after_cropping", kind=float))
    if not len(shapes) == len(spacings) > 0:
        found = f"{len(shapes)} shapes and {len(spacings)} spacings"
        raise document.refusal((), found, "as many of both, at least one")
    if min(map(min, shapes)) < 1 or not min(map(min, spacings)) > 0:
        raise document.refusal((), "a shape or a spacing of 0 or less", "positive ones")
    return Fingerprint(shapes, spacings, read_foreground(document), size)


def as_foreground(channels: Iterable[Intensities]) -> dict[str, dict[str, float]]:
    """Intensities as nnU-Net's files hold them: channel number -> name -> value."""
    return {str(number): dataclasses.asdict(one) for number, one in enumerate(channels)}


def read_foreground(document: Document) -> tuple[Intensities, ...]:
    """The intensities in a fingerprint or plans file of nnU-Net.

    Raises:
        DataError: An entry is missing or no number, or the channels are not numbered 0, 1, ...
    """
    held = document.entry(FOREGROUND, kind=dict)
    if not held or sorted(held) != sorted(str(number) for number in range(len(held))):
        raise document.refusal((FOREGROUND,), f"channels {', '.join(held) or 'none'}", "channels 0, 1, ...")
    return tuple(Intensities.read(document, FOREGROUND, str(number)) for number in range(len(held)))


def images_hu(case: Case, channels: int = 1) -> np.ndarray:
    """The images of a case that the networks of this paper know: the CT, and the difference image.

    The difference image is made of the channel ``contralateral``; a case that nnU-Net's files were read from has it
    as its channel ``difference``.

    Args:
        case: A prepared case.
        channels: 1 (CT) or 2 (CT and contralateral - CT).

    Returns:
        (C, D, H, W) float32 in HU, the CT cut to -100 to 400.

    Raises:
        ParameterError: Another number of channels.
        DataError: No contralateral image.
    """
    if channels not in (1, 2):
        raise ParameterError("channels", found=channels, wanted="1 or 2", next_step="give one of these")
    images = [np.clip(case.image.array.astype(np.float32), *CLIP_HU)]
    if channels == 2 and "difference" in case.channels:
        images.append(case.channels["difference"].astype(np.float32))
    elif channels == 2:
        step = "make it with strokelib.ssl_nnunet.volumes.with_contralateral"
        other = Volume(channel(case, "contralateral", step), case.image.affine)
        images.append(difference_image(case.image, other, _brain(case)).array)
    return np.stack(images)


def _brain(case: Case) -> np.ndarray:
    return np.ones(case.image.array.shape, bool) if case.brain is None else np.asarray(case.brain, bool)


def _seen(given: Case | Seen, channels: int, number: int) -> tuple[str, np.ndarray, np.ndarray, tuple[float, ...]]:
    """Name, images (C, D, H, W), brain and spacing of a case or of a triple."""
    if isinstance(given, Case):
        name, images, brain, spacing = given.id, images_hu(given, channels), _brain(given), given.image.spacing
    else:
        name, (images, brain, spacing) = str(number), given
        images, brain = np.asarray(images), np.asarray(brain, bool)
        images = images[None] if images.ndim == 3 else images
    fits = images.ndim == 4 and images.shape == (channels, *brain.shape) and len(spacing) == 3
    if not fits or not brain.any() or not np.isfinite(images[:, brain]).all() or not min(spacing) > 0:
        found = (
            f"images {images.shape}, brain {brain.shape} with {int(brain.sum())} voxels, spacing {tuple(spacing)} mm"
        )
        wanted = f"{channels} images of the shape of a brain that is not empty, finite in it, positive spacing"
        raise DataError(f"case {name}", found=found, wanted=wanted, next_step="prepare the case again")
    return name, images, brain, spacing


def fingerprint(
    cases: Iterable[Case | Seen], channels: int = 1, seed: int = 0, *, voxels: int = VOXELS_A_CASE
) -> Fingerprint:
    """Sizes, spacings and intensities over the brains of all cases, healthy ones too.

    Each case gives as many voxels, drawn from its brain with replacement, so that a large brain counts no more.

    Source: Sec. 3.3, Seia et al. 2023; Isensee et al. 2021 (nnU-Net).
    Deviation: nnU-Net shares 10^8 voxels among the cases (80,645 each for 1,240); here a case gives 50,000 however many
        there are, so that cases can be a stream. The same voxels are drawn in all channels.

    Args:
        cases: Read once: cases, or triples of an image (D, H, W) or (C, D, H, W) in HU, a brain (D, H, W) and a spacing
            (dz, dy, dx) in mm.
        channels: 1 or 2 for cases, as in :func:`images_hu`; any number for triples.
        seed: Of the draw.
        voxels: Voxels a case.

    Raises:
        ParameterError: Not one voxel a case, or another number of channels.
        DataError: No case, an empty brain, shapes that do not fit, or values in a brain that are not finite.
    """
    if voxels < 1:
        raise ParameterError("voxels", found=voxels, wanted="1 or more", next_step=f"take {VOXELS_A_CASE}")
    shapes, spacings, shares, drawn = [], [], [], []
    for number, given in enumerate(cases):
        _, images, brain, spacing = _seen(given, channels, number)
        box = box_of(brain, 0.0, spacing)
        shapes.append(tuple(int(n) for n in brain[box].shape))
        spacings.append(tuple(float(s) for s in spacing))
        shares.append(math.prod(shapes[-1]) / brain.size)
        places = np.flatnonzero(brain)
        chosen = places[np.random.default_rng((seed, number)).integers(len(places), size=voxels)]
        drawn.append(images.reshape(channels, -1)[:, chosen].astype(np.float32))
    if not shapes:
        raise DataError("cases", found="none", wanted="at least one", next_step="choose another split or cohort")
    together = np.concatenate(drawn, axis=1)
    found = tuple(Intensities.of(values) for values in together)
    return Fingerprint(tuple(shapes), tuple(spacings), found, float(np.median(shares)))


@dataclass(frozen=True)
class Normalisation:
    """Clips to the 0.5 and 99.5 percentiles of a data set's brains, subtracts their mean, divides by their SD.

    Source: Sec. 3.5, Seia et al. 2023.
    Deviation: the paper does not say what stands outside the brain: the lower clip in the CT, 0 HU in a difference
        image.

    Args:
        channels: Intensities of each channel; the first is the CT, others are difference images.
    """

    channels: tuple[Intensities, ...]

    @classmethod
    def of(cls, found: Fingerprint) -> Normalisation:
        """The normalisation of a data set."""
        return cls(found.channels)

    @property
    def background(self) -> tuple[float, ...]:
        """The normalised value outside the brain, a channel each."""
        outside = [-math.inf, *[0.0] * (len(self.channels) - 1)]
        return tuple(float(self.apply(np.array(hu), number)) for number, hu in enumerate(outside))

    def apply(self, values: np.ndarray, channel: int = 0, brain: np.ndarray | None = None) -> np.ndarray:
        """Normalise one channel.

        Args:
            values: In HU, any shape.
            channel: Its number.
            brain: Bool of the same shape; outside it stands :attr:`background`. None leaves no outside.

        Returns:
            float32 of the same shape.

        Raises:
            ParameterError: There is no such channel.
        """
        if not 0 <= channel < len(self.channels):
            wanted = f"0 to {len(self.channels) - 1}"
            raise ParameterError("channel", found=channel, wanted=wanted, next_step="make the fingerprint with it")
        one = self.channels[channel]
        cut = np.clip(np.asarray(values, np.float32), one.percentile_00_5, one.percentile_99_5)
        seen = ((cut - np.float32(one.mean)) / np.float32(max(one.std, SMALLEST_SD))).astype(np.float32)
        return seen if brain is None else np.where(brain, seen, np.float32(self.background[channel]))
