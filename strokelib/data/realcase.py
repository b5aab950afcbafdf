"""One scan of a public data set or of the user's own to one prepared :class:`Case`.

The head stays in the pose it was scanned in, as the embedded heads do: alignment is a method's business. What the way
back to the scanner's grid needs is kept in the case's facts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from strokelib.data import midsagittal, real_ctp, skullstrip
from strokelib.data.aisd import aisd_labels_report, lesion_of, read_pictures
from strokelib.data.aisd_pictures import NOTE
from strokelib.data.cases import Case, Volume
from strokelib.data.grids import Grid, Transform
from strokelib.data.opening import open_image
from strokelib.data.preprocess import GRIDS as PUBLISHED_GRIDS
from strokelib.data.preprocess import GridSpec, Prepared, prepare_ncct
from strokelib.data.sources import AISD_POLICIES, RawCase
from strokelib.errors import DataError, ParameterError

VERSION = 2
GRIDS: dict[str, GridSpec] = {
    "prepared": GridSpec(shape=(None, 112, 96), spacing=(5.0, 2.0, 2.0), roll=False),
    "published": PUBLISHED_GRIDS["adn"],
    "native": PUBLISHED_GRIDS["native"],
}
READERS = ("first", "any", "all")


@dataclass(frozen=True)
class Choices:
    """What a user can choose about the preparation of real scans.

    Args:
        grid: Key of :data:`GRIDS`.
        labels: Key of :data:`strokelib.data.sources.AISD_POLICIES`: which labels of AISD are lesion.
        readers: Where a case has masks of several readers: ``first``, ``any`` of them, or ``all`` of them.
    """

    grid: str = "prepared"
    labels: str = "official"
    readers: str = "first"

    def __post_init__(self) -> None:
        for name, allowed in (("grid", GRIDS), ("labels", AISD_POLICIES), ("readers", READERS)):
            value = getattr(self, name)
            if value not in allowed:
                step = "give one of these"
                raise ParameterError(name, found=repr(value), wanted=" or ".join(allowed), next_step=step)

    def key(self) -> str:
        """Names these choices and the versions of what prepares, for a folder of prepared cases."""
        versions = (VERSION, real_ctp.VERSION, skullstrip.VERSION, midsagittal.VERSION)
        parts = [self.labels, self.readers, *versions]
        return f"{self.grid}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:6]}"


def prepare_case(raw: RawCase, cohort: str, choices: Choices) -> Case:
    """Read, strip, resample and label one scan.

    Args:
        raw: Its files, with a split.
        cohort: Key of the cohort it stands for.
        choices: Grid, labels and readers.

    Returns:
        A case with ``embedded`` False. Facts: ``native_spacing_mm``, ``native_shape``, ``native_affine``, ``moved``
        (the matrix of :func:`native_transform`), ``readers``, ``mask_report``, ``strip``, ``version``, and of
        :func:`strokelib.data.real_ctp.moved_channels`. No path, date or name but the case's own.

    Raises:
        DataError: A file cannot be used, the skull strip fails, or image and mask do not belong together.
    """
    ct = open_image(raw.images["ct"]) if "ct" in raw.images else None
    if ct is None:
        step = "add the non-contrast CT, or leave the case out"
        raise DataError(f"case {raw.id}", found=f"images {sorted(raw.images)}", wanted="a CT", next_step=step)
    maps = real_ctp.read_maps(raw, ct)
    brain = _given_brain(raw, ct, maps)
    grid = (real_ctp.GRIDS if raw.layout == real_ctp.LAYOUT else GRIDS)[choices.grid]
    prepared = prepare_ncct(ct, grid=grid, window="adn", brain=brain, align=False)
    lesion, report = _lesion(raw, ct, prepared.native_brain, choices)
    if lesion is not None:
        placed = prepared.from_native(lesion)
        report["kept_share"] = _share(placed.sum() * prepared.hu.voxel_ml, lesion.sum() * ct.voxel_ml)
        lesion = placed & prepared.brain
    elif raw.healthy:
        lesion = np.zeros(prepared.hu.array.shape, bool)
    channels, more = real_ctp.moved_channels(raw, ct, maps, prepared)
    facts = {
        "layout": raw.layout,
        "grid": choices.grid,
        "native_spacing_mm": [round(float(v), 4) for v in ct.spacing],
        "native_shape": list(ct.array.shape),
        "native_affine": ct.affine.tolist(),
        "moved": prepared.transform.matrix.tolist(),
        "strip": prepared.report["strip"],
        "readers": sorted(raw.masks),
        "mask_report": report,
        "version": VERSION,
    } | more
    return Case(
        id=raw.id,
        patient=raw.patient,
        cohort=cohort,
        split=raw.split,
        image=_whole_hu(prepared),
        lesion=lesion,
        brain=prepared.brain,
        facts=json.loads(json.dumps(facts, default=_plain)),
        channels=channels,
    )


def native_transform(case: Case) -> Transform:
    """The move from the scanner's grid to a prepared case's grid; its inverse takes a prediction back.

    Raises:
        DataError: The case was not prepared from a scan.
    """
    if "moved" not in case.facts:
        step = "an embedded case has no scanner's grid; render it on the grid native"
        raise DataError(f"case {case.id}", found="no way back", wanted="a prepared scan", next_step=step)
    native = Grid(tuple(case.facts["native_shape"]), np.array(case.facts["native_affine"]))
    return Transform(np.array(case.facts["moved"]), native, Grid.of(case.image))


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays, and notes, as JSON has them."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value.tolist()


def _share(part: float, whole: float) -> float | None:
    return round(float(part / whole), 4) if whole else None


def _whole_hu(prepared: Prepared) -> Volume:
    return prepared.hu.with_array(np.rint(prepared.hu.array).clip(-1024, 4095).astype(np.int16))


def _given_brain(raw: RawCase, ct: Volume, maps: dict[str, np.ndarray]) -> np.ndarray | None:
    """A brain mask that the data set brings along: its own, or where ISLES 2018 has computed perfusion."""
    if raw.brain is not None:
        return _on_grid(open_image(raw.brain), ct, raw.brain.name, f"the CT of {raw.id}").array > 0
    if not maps:
        return None
    seen = np.logical_or.reduce([array > 0 for array in maps.values()])
    return np.stack([ndimage.binary_fill_holes(part) for part in seen])


def _on_grid(volume: Volume, ct: Volume, name: str, wanted: str) -> Volume:
    real_ctp.on_grid(volume.array.shape, volume.affine, ct, name, wanted)
    return volume


def _lesion(raw: RawCase, ct: Volume, brain: np.ndarray, choices: Choices) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The reference on the CT's grid (None without one), and what is worth knowing of it."""
    if not raw.masks:
        return None, {}
    if raw.layout == "aisd":
        labels, found = aisd_labels_report(raw.masks["reader"], raw.images["ct"], ct)
        return lesion_of(labels, choices.labels), found | {"labels": choices.labels}
    if raw.layout == "aisd_png":
        labels = read_pictures(raw.masks["reader"])
        if labels.shape != ct.array.shape:
            found, step = f"masks of {labels.shape}", "unpack both archives again"
            raise DataError(f"case {raw.id}", found=found, wanted=f"pictures of {ct.array.shape}", next_step=step)
        return lesion_of(labels, choices.labels), {"labels": choices.labels, "note": NOTE}
    drawn = {name: _one_mask(path, choices) for name, path in sorted(raw.masks.items())}
    report: dict[str, Any] = {"readers_ml": {k: float(m.array.sum() * m.voxel_ml) for k, m in drawn.items()}}
    first = next(iter(drawn.values()))
    for name, mask in drawn.items():
        _on_grid(mask, first, raw.masks[name].name, f"the other reader's mask of {raw.id}")
    stack = np.stack([mask.array for mask in drawn.values()])
    together = {"first": stack[0], "any": stack.any(axis=0), "all": stack.all(axis=0)}[choices.readers]
    mask = first.with_array(together)
    if raw.mask_on == "ct":
        return _on_grid(mask, ct, next(iter(raw.masks.values())).name, f"the CT of {raw.id}").array, report
    return _from_mr(raw, ct, brain, mask, report)


def _one_mask(path: Path, choices: Choices) -> Volume:
    mask = open_image(path)
    labels = np.unique(mask.array)
    wanted = AISD_POLICIES[choices.labels] if labels.max(initial=0) > 1 else (1,)
    if not set(labels.tolist()) <= {0, 1, 2, 3, 4, 5}:
        step = "write a mask of 0 and 1 (or of AISD's labels 0 to 5)"
        raise DataError(path.name, found=f"labels {labels[:8].tolist()}", wanted="labels 0 and 1", next_step=step)
    return mask.with_array(np.isin(mask.array, wanted))


def _from_mr(
    raw: RawCase, ct: Volume, brain: np.ndarray, mask: Volume, report: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """A mask that was drawn on the MR, taken to the CT by registration."""
    from strokelib.data.mr_to_ct import mr_to_ct

    image = raw.images.get(raw.mask_on)
    if image is None:
        step = "add the image that the mask was drawn on"
        raise DataError(f"case {raw.id}", found=f"no {raw.mask_on}", wanted="the mask's image", next_step=step)
    mr = open_image(image, raw.mask_on)
    _on_grid(mask, mr, next(iter(raw.masks.values())).name, f"the {raw.mask_on} of {raw.id}")
    moved = mr_to_ct(ct, mr, brain, mask=mask.array)
    facts = {"metric": moved.registration.metric, "moved_from": raw.mask_on}
    return moved.mask, report | {"registration": facts}


def fingerprint(raw: RawCase) -> str:
    """Changes when a file of the case is replaced: names, sizes and times of change; nothing is read."""
    parts = []
    paths = [*raw.images.items(), *raw.masks.items(), *([("brain", raw.brain)] if raw.brain else [])]
    for kind, path in sorted(paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        parts += [(kind, f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr((raw.split, parts)).encode()).hexdigest()[:16]
