"""What comes with the CT of a real perfusion scan: maps, series and DWI, moved as the CT is.

A scan of ISLES 2018 has 2 to 22 slices, 4 to 12 mm apart: they are kept as they are and resampled in plane alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from strokelib.data.cases import Volume
from strokelib.data.guarded import read_guarded, read_many
from strokelib.data.opening import open_image
from strokelib.data.preprocess import GRIDS as PUBLISHED_GRIDS
from strokelib.data.preprocess import GridSpec, Prepared
from strokelib.data.sources import RawCase
from strokelib.errors import DataError

VERSION = 1
LAYOUT = "isles2018"
GRIDS: dict[str, GridSpec] = {
    "prepared": GridSpec(shape=(None, 112, 96), spacing=(None, 2.0, 2.0), roll=False),
    "published": GridSpec(shape=(None, 256, 256), roll=False),
    "native": PUBLISHED_GRIDS["native"],
}
MAPS = {"ct_cbf": "cbf", "ct_cbv": "cbv", "ct_mtt": "mtt_s", "ct_tmax": "tmax_s"}
WITH_CHANNELS = (LAYOUT, "bids")
SAME_GRID_MM = 0.01
HALF = 0.5


def on_grid(array_shape: tuple[int, ...], affine: np.ndarray, ct: Volume, name: str, wanted: str) -> None:
    """Refuse an image whose grid is not the CT's.

    Args:
        array_shape: (D, H, W).
        affine: (4, 4).
        ct: On the grid wanted.
        name: The file.
        wanted: Whose grid it is, in words.

    Raises:
        DataError: Another grid.
    """
    if array_shape == ct.array.shape and np.abs(affine - ct.affine).max() < SAME_GRID_MM:
        return
    found = f"a grid of {array_shape}, {np.round(Volume(np.empty(0), affine).spacing, 3).tolist()} mm"
    step = "resample it onto the CT (masks by nearest neighbour), or check which image it belongs to"
    raise DataError(name, found=found, wanted=f"the grid of {wanted}", next_step=step)


def read_maps(raw: RawCase, ct: Volume) -> dict[str, np.ndarray]:
    """The perfusion maps that a data set brings along, as stored.

    Returns:
        Channel -> (D, H, W) on the CT's grid; empty where there is none.

    Raises:
        DataError: A file cannot be used or lies on another grid.
    """
    paths = {name: raw.images[kind] for kind, name in MAPS.items() if kind in raw.images}
    maps = {}
    for name, (path, found) in zip(paths, read_many(paths.values(), kind="nifti"), strict=True):
        if isinstance(found, DataError):
            raise found
        on_grid(found.array.shape, found.affine, ct, path.name, f"the CT of {raw.id}")
        maps[name] = found.array
    return maps


def moved_channels(
    raw: RawCase, ct: Volume, maps: dict[str, np.ndarray], prepared: Prepared
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Maps, series and DWI on the prepared grid of their CT.

    Maps are averaged over brain alone, so that no zero from outside bleeds in, and are 0 outside it. A series or DWI
    that cannot be used is left out, since much can be done without it.

    Args:
        raw: The case's files; nothing is read where its layout is none of :data:`WITH_CHANNELS`.
        ct: Its CT as scanned.
        maps: What :func:`read_maps` read.
        prepared: The prepared CT.

    Returns:
        The channels (maps and DWI float32, the series int16 HU), and facts: ``maps_by``, ``step_s``, ``step_by`` where
        there are maps and a series, ``channels_left_out`` (channel -> why) where there was something else.
    """
    channels: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {"maps_by": "the data set"} if maps else {}
    if maps:
        share = _moved(prepared, ct.affine, prepared.native_brain, 0.0)
        for name, array in maps.items():
            total = _moved(prepared, ct.affine, array * prepared.native_brain, 0.0)
            held = (share > HALF) & prepared.brain
            channels[name] = np.divide(total, share, where=held, out=np.zeros_like(total))
    left_out = {}
    others = (("ctp", "series", _series), ("dwi", "dwi", _dwi)) if raw.layout in WITH_CHANNELS else ()
    for kind, name, move in others:
        if kind in raw.images:
            try:
                channels[name], said = move(raw.images[kind], raw, ct, prepared)
                facts |= said
            except DataError as error:
                left_out[name] = str(error)
    return channels, facts | ({"channels_left_out": left_out} if left_out else {})


def _moved(prepared: Prepared, affine: np.ndarray, array: np.ndarray, fill: float) -> np.ndarray:
    move = prepared.transform
    return move.apply(Volume(array.astype(np.float32), affine), 1, fill=fill, antialias=True).array


def _dwi(path: Path, raw: RawCase, ct: Volume, prepared: Prepared) -> tuple[np.ndarray, dict[str, Any]]:
    image = open_image(path, "dwi")
    on_grid(image.array.shape, image.affine, ct, path.name, f"the CT of {raw.id}")
    return _moved(prepared, image.affine, image.array, 0.0), {}


def _series(path: Path, raw: RawCase, ct: Volume, prepared: Prepared) -> tuple[np.ndarray, dict[str, Any]]:
    """Frame by frame, so that no more than the series as stored and as kept lie in memory."""
    series = read_guarded(path, kind="series")
    on_grid(series.array.shape[1:], series.affine, ct, path.name, f"the CT of {raw.id}")
    out = np.empty((len(series.array), *prepared.hu.array.shape), np.int16)
    for to, frame in zip(out, series.array, strict=True):
        to[:] = np.rint(_moved(prepared, series.affine, frame, -1024.0)).clip(-1024, 4095)
    by = "header" if series.step_known else "assumed: the header has none"
    return out, {"step_s": series.step_s, "step_by": by}
