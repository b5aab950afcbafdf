"""What the viewer shows: a scan, its mirror image, masks and probabilities, checked once and then only read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strokelib.data.cases import Case, Volume
from strokelib.errors import DataError, ParameterError
from strokelib.plotting import PREDICTION_COLOUR, TRUTH_COLOUR
from strokelib.viewer.geometry import Directions, head_box, mirrored

REFERENCES = ("reference", "truth")
PALETTE = (PREDICTION_COLOUR, "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
TOLERANCE = 1e-3
NEXT_GRID = "bring it to the scan's grid first, or give the scan that it was drawn on"


@dataclass(frozen=True)
class Scene:
    """A scan and what is drawn on it.

    Args:
        image: (D, H, W), any real dtype.
        spacing: (dz, dy, dx) in mm.
        masks: Name -> (D, H, W) bool, the reference first. A mask that is cut from a probability is not here.
        probabilities: Name -> (D, H, W) in [0, 1].
        colours: Name of a mask or probability -> ``#rrggbb``.
        directions: Letters at the ends of the axes.
        mirror: (D, H, W) the flipped head, or None.
        mirror_name: How it was flipped, for the picture.
        box: Rows and columns shown.
        title: Name of the scan.
        unit: Of the image.
    """

    image: np.ndarray
    spacing: tuple[float, float, float]
    masks: Mapping[str, np.ndarray]
    probabilities: Mapping[str, np.ndarray]
    colours: Mapping[str, str]
    directions: Directions
    mirror: np.ndarray | None
    mirror_name: str
    box: tuple[slice, slice]
    title: str
    unit: str

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that has an outline: masks, then the probabilities without a mask of their name."""
        return (*self.masks, *(name for name in self.probabilities if name not in self.masks))

    @property
    def depth(self) -> int:
        """Number of slices."""
        return int(self.image.shape[0])

    @property
    def aspect(self) -> float:
        """Height over width of a pixel in mm."""
        return self.spacing[1] / self.spacing[2]

    def mask(self, name: str, z: int, threshold: float) -> np.ndarray:
        """What method ``name`` finds on slice ``z``: (H, W) bool, cut to the field shown."""
        if name in self.masks:
            return self.masks[name][z][self.box]
        return self.probabilities[name][z][self.box] > threshold

    def area_cm2(self, name: str, z: int, threshold: float) -> float:
        """Area of a mask on one slice in square centimetres, over the whole field."""
        whole = self.masks[name][z] if name in self.masks else self.probabilities[name][z] > threshold
        return float(np.count_nonzero(whole)) * self.spacing[1] * self.spacing[2] / 100.0

    def voxels(self, threshold: float) -> np.ndarray:
        """(D,) voxels a slice of the reference; of all masks together where there is none or it is empty."""
        known = [name for name in self.names if name in REFERENCES and self.masks[name].any()] or self.names
        counts = np.zeros(self.depth, int)
        for name in known:
            whole = self.masks[name] if name in self.masks else self.probabilities[name] > threshold
            counts += np.count_nonzero(whole, axis=(1, 2))
        return counts

    def largest(self, threshold: float = 0.5) -> int:
        """The slice with most of the lesion, the first of several; the middle one where no mask has a voxel."""
        counts = self.voxels(threshold)
        return int(counts.argmax()) if counts.any() else self.depth // 2

    def spread(self, number: int, start: int, threshold: float = 0.5) -> list[int]:
        """Slices for a still picture, in order, none twice, ``start`` among them.

        They cut the lesion into parts of equal volume, so that tips of a few voxels take no picture; where no mask has
        a voxel they cut the field into parts of equal height.
        """
        number, counts = min(number, self.depth), self.voxels(threshold)
        share = (counts if counts.any() else np.ones(self.depth)).cumsum(dtype=float)
        wanted = sorted({int(z) for z in np.searchsorted(share / share[-1], (np.arange(number) + 0.5) / number)})
        if start not in wanted:
            wanted[int(np.abs(np.array(wanted) - start).argmin())] = start
        others = sorted(set(range(self.depth)) - set(wanted), key=lambda z: (min(abs(z - w) for w in wanted), z))
        return sorted([*wanted, *others[: number - len(wanted)]])


def _volume(scan: Case | Volume | np.ndarray, spacing: tuple[float, float, float] | None) -> Volume:
    if isinstance(scan, Case | Volume):
        if spacing is not None:
            found = "spacing beside a scan that has one"
            raise ParameterError("spacing", found=found, wanted="none", next_step="leave it out")
        return scan.image if isinstance(scan, Case) else scan
    if not isinstance(scan, np.ndarray):
        wanted = "a Case, a Volume or an array (D, H, W)"
        raise ParameterError("scan", found=type(scan).__name__, wanted=wanted, next_step="read it with data.reading")
    if spacing is None or np.shape(spacing) != (3,):
        raise ParameterError(
            "spacing", found=spacing, wanted="(dz, dy, dx) in mm with a bare array", next_step="give three numbers"
        )
    dz, dy, dx = (float(v) for v in spacing)
    return Volume(scan, np.diag([-dx, -dy, dz, 1.0]))


def _checked_image(volume: Volume) -> np.ndarray:
    array = np.asarray(volume.array)
    if array.ndim != 3 or not array.size or array.dtype.kind not in "buif":
        found = f"{array.dtype} of shape {array.shape}"
        step = "take one volume of a series, and the real part"
        raise DataError("scan", found=found, wanted="real numbers of shape (D, H, W)", next_step=step)
    if not all(np.isfinite(mm) and mm > 0 for mm in volume.spacing):
        found, wanted = f"spacing {volume.spacing} mm", "three positive numbers"
        raise DataError("scan", found=found, wanted=wanted, next_step="mend the header or give spacing=")
    return array


def _fitting(name: str, kind: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != shape:
        found, wanted = f"shape {array.shape}", f"the scan's shape {shape}"
        raise DataError(f"{kind} {name!r}", found=found, wanted=wanted, next_step=NEXT_GRID)
    return array


def checked_mask(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask as bool.

    Raises:
        DataError: It has another shape than the scan, or other values than 0 and 1.
    """
    array = _fitting(name, "mask", values, shape)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        found, step = "other values than 0 and 1", "cut it first, or give it as a probability"
        raise DataError(f"mask {name!r}", found=found, wanted="bool, or 0 and 1", next_step=step)
    return array.astype(bool)


def checked_probability(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A probability as float32 in [0, 1].

    Raises:
        DataError: It has another shape than the scan, or a value outside [0, 1] or not finite.
    """
    array = _fitting(name, "probability", values, shape)
    if array.dtype.kind not in "buif":
        found, wanted = str(array.dtype), "numbers in [0, 1]"
        raise DataError(f"probability {name!r}", found=found, wanted=wanted, next_step="give numbers")
    array = array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also where one of them is not a number
        found = f"values from {low:g} to {high:g}"
        step = "apply the sigmoid or the softmax first"
        raise DataError(f"probability {name!r}", found=found, wanted="finite numbers in [0, 1]", next_step=step)
    return array.clip(0, 1)


def _colours(names: tuple[str, ...], given: Mapping[str, str]) -> dict[str, str]:
    unknown = sorted(set(given) - set(names))
    if unknown:
        wanted = ", ".join(names) or "no name: nothing is overlaid"
        raise ParameterError("colours", found=", ".join(unknown), wanted=wanted, next_step="check the spelling")
    for name, colour in given.items():
        if len(colour) != 7 or colour[0] != "#" or set(colour[1:].lower()) - set("0123456789abcdef"):
            raise ParameterError(f"colour of {name!r}", found=repr(colour), wanted="#rrggbb", next_step="write it so")
    methods = [name for name in names if name not in REFERENCES]
    if len(methods) > len(PALETTE):
        found, wanted = f"{len(methods)} methods", f"at most {len(PALETTE)} beside the reference"
        raise ParameterError("masks", found=found, wanted=wanted, next_step="show them in two calls")
    own = dict(zip(methods, PALETTE, strict=False)) | dict.fromkeys(REFERENCES, TRUTH_COLOUR)
    return {name: own[name] for name in names} | dict(given)


def compose(
    scan: Case | Volume | np.ndarray,
    masks: Mapping[str, np.ndarray] | None = None,
    probabilities: Mapping[str, np.ndarray] | None = None,
    *,
    mirror: bool | str = True,
    reference: bool = True,
    spacing: tuple[float, float, float] | None = None,
    colours: Mapping[str, str] | None = None,
    crop: bool = True,
    title: str | None = None,
    unit: str = "HU",
) -> Scene:
    """Check everything and put it together; the arguments are those of :func:`strokelib.viewer.show`.

    Raises:
        ParameterError: An argument has another type or value than can be shown.
        DataError: An array does not fit; names it.
    """
    volume, case = _volume(scan, spacing), scan if isinstance(scan, Case) else None
    image = _checked_image(volume)
    drawn = dict(masks or {})
    if reference and case is not None and case.lesion is not None and not set(drawn) & set(REFERENCES):
        drawn = {"reference": case.lesion} | drawn
    drawn = {name: checked_mask(name, values, image.shape) for name, values in drawn.items()}
    drawn = dict(sorted(drawn.items(), key=lambda item: item[0] not in REFERENCES))
    maps = {name: checked_probability(name, v, image.shape) for name, v in (probabilities or {}).items()}
    brain = None if case is None or case.brain is None else checked_mask("brain", case.brain, image.shape)
    directions = Directions.of(volume)
    flipped, flipped_name = mirrored(volume, brain, mirror, directions)
    box = head_box(brain, volume.spacing) if crop else (slice(None), slice(None))
    names = (*drawn, *(name for name in maps if name not in drawn))
    told = title if title is not None else (case.id if case is not None else "")
    chosen = _colours(names, colours or {})
    return Scene(image, volume.spacing, drawn, maps, chosen, directions, flipped, flipped_name, box, told, unit)
