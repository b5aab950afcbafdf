"""How far the preparation of embedded heads is from the truth: planes in degrees and mm, masks in Dice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from strokelib.data.cases import Case
from strokelib.data.grids import Transform
from strokelib.data.inplane import one_line
from strokelib.data.midsagittal import find_midplane, midplane_transform
from strokelib.data.phantom import embedded
from strokelib.data.phantom.fields import generator
from strokelib.data.preprocess import prepare_ncct
from strokelib.data.skullstrip import skull_strip
from strokelib.errors import DataError
from strokelib.metrics import dice
from strokelib.recipe import Recipe, stated
from strokelib.stats import bootstrap_ci

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
OURS = "ours: no paper reports these errors"


@dataclass(frozen=True)
class PreparationRecipe(Recipe):
    """How many heads of each anatomy the errors are measured on."""

    strip_heads: int = stated(17, demo=6, smoke=1, source=OURS)
    aligned_heads: int = stated(17, demo=5, smoke=1, source=OURS)
    native_heads: int = stated(10, demo=3, smoke=1, source=OURS)
    turn_deg: float = stated(20.0, source=OURS)
    noise_hu: float = stated(6.0, source=OURS)


Plane = tuple[np.ndarray, float]
Finder = Callable[[Case], Plane]


def plane_of_line(case: Case, line: np.ndarray) -> Plane:
    """The upright plane through one line (2, 2) of a scan: unit normal and distance in RAS mm."""
    (x0, y0), (x1, y1) = line
    points = np.array([[x0, y0, 0, 1], [x1, y1, 0, 1], [x0, y0, 1, 1]]) @ case.image.affine.T
    normal = np.cross(points[1, :3] - points[0, :3], points[2, :3] - points[0, :3])
    normal /= np.linalg.norm(normal)
    return normal, float(normal @ points[0, :3])


def plane_of_transform(transform: Transform) -> Plane:
    """The plane that an alignment makes x = 0: unit normal and distance in RAS mm."""
    normal = transform.matrix[:3, 0] / np.linalg.norm(transform.matrix[:3, 0])
    return normal, float(normal @ transform.matrix[:3, 3])


def by_network(find: Callable[[Case], np.ndarray]) -> Finder:
    """The plane from the line of a midline network, one line a scan."""
    return lambda case: plane_of_line(case, one_line(find(case), case.brain.sum(axis=(1, 2)).astype(float)))


def by_symmetry(*, roll: bool) -> Finder:
    """The plane of the classical search: in plane alone, or with roll."""

    def find(case: Case) -> Plane:
        plane = find_midplane(case.image, case.brain, roll=roll)
        return plane_of_transform(midplane_transform(case.image, plane))

    return find


def by_scanner(case: Case) -> Plane:
    """No alignment: the middle column of the field."""
    middle = (case.image.array.shape[2] - 1) / 2
    return plane_of_line(case, np.array([[middle, 0.0], [middle, 1.0]]))


def plane_errors(case: Case, found: Plane) -> dict[str, float]:
    """Errors of a plane against an embedded case's known one.

    Returns:
        ``turn_deg``: angle between their traces in the axial plane; ``angle_deg``: angle between the planes;
        ``offset_mm``: distance at the brain's centroid; ``largest_mm``: largest distance anywhere in the brain.
    """
    *normal, distance = case.facts["midline_plane"]
    true, (normal_found, distance_found) = np.array(normal), found
    if true @ normal_found < 0:
        normal_found, distance_found = -normal_found, -distance_found
    index = np.argwhere(case.brain)[::7, ::-1]
    points = index @ case.image.affine[:3, :3].T + case.image.affine[:3, 3]
    apart = (points @ true - distance) - (points @ normal_found - distance_found)
    flat = [np.arctan2(n[1], n[0]) for n in (true, normal_found)]
    centre = points.mean(axis=0)
    return {
        "turn_deg": abs(float(np.rad2deg((flat[1] - flat[0] + np.pi / 2) % np.pi - np.pi / 2))),
        "angle_deg": float(np.rad2deg(np.arccos(np.clip(true @ normal_found, -1, 1)))),
        "offset_mm": abs(float(centre @ true - distance - centre @ normal_found + distance_found)),
        "largest_mm": float(np.abs(apart).max()),
    }


def alignment_errors(
    case_ids: Sequence[str],
    finders: Mapping[str, Finder],
    *,
    angles_deg: Sequence[float | None] = (None,),
    noise_hu: Sequence[float] = (0.0,),
) -> pd.DataFrame:
    """Errors of several ways of alignment on the same heads, over pose and noise.

    Args:
        case_ids: Embedded cases.
        finders: Name to a function from a case to a plane.
        angles_deg: Angles of the midline to render each head with; None for the case's own.
        noise_hu: SD of Gaussian noise added to each of them, in HU.

    Returns:
        One row a case, way, angle and noise with ``anatomy``, the errors of :func:`plane_errors`, ``seconds`` and
        ``failed`` (why there is no plane; its errors are then NaN).
    """
    import pandas as pd

    rows = []
    for name in case_ids:
        for angle in angles_deg:
            case = embedded.render(name) if angle is None else embedded.render_turned(name, angle)
            for level in noise_hu:
                rng = generator(case.facts["seed"], f"added-{level}")
                added = rng.standard_normal(case.image.array.shape, dtype=np.float32) * level
                noisy = replace(case, image=case.image.with_array(case.image.array + added))
                for way, find in finders.items():
                    row = {
                        "case": name,
                        "anatomy": case.facts["anatomy"],
                        "way": way,
                        "angle_deg": case.facts["pose"]["angle_deg"],
                        "posed": angle is not None,
                        "noise_hu": level,
                    }
                    started = time.perf_counter()
                    try:
                        errors, failed = plane_errors(noisy, find(noisy)), ""
                    except DataError as error:
                        errors, failed = {}, str(error)
                    rows.append(row | errors | {"seconds": time.perf_counter() - started, "failed": failed})
    return pd.DataFrame(rows)


def native_errors(case_ids: Sequence[str], grid: str = "demo") -> pd.DataFrame:
    """The whole chain on scans as the scanner wrote them: strip, align, resample, and the lesion there and back.

    Args:
        case_ids: Embedded cases, rendered on their native grids, tilted gantry and all.
        grid: The prepared grid, as :func:`strokelib.data.preprocess.prepare_ncct` takes it.

    Returns:
        One row a case: ``anatomy``, ``strip_dice`` (brain mask against truth), ``round_trip_dice`` (lesion onto the
        prepared grid and back), the errors of :func:`plane_errors`, ``seconds`` and ``failed``.
    """
    import pandas as pd

    rows = []
    for name in case_ids:
        case = embedded.render(name, "native")
        row = {"case": name, "anatomy": case.facts["anatomy"], "gantry_deg": case.facts["pose"]["gantry_deg"]}
        started = time.perf_counter()
        try:
            prepared = prepare_ncct(case.image, grid=grid)
            back = prepared.to_native(prepared.from_native(case.lesion)).array
            row |= plane_errors(case, plane_of_transform(prepared.transform))
            row |= {
                "strip_dice": dice(prepared.native_brain, case.brain),
                "round_trip_dice": dice(back, case.lesion),
                "failed": "",
            }
        except DataError as error:
            row |= {"failed": str(error)}
        rows.append(row | {"seconds": time.perf_counter() - started})
    return pd.DataFrame(rows)


def strip_errors(case_ids: Sequence[str], noise_hu: Sequence[float] = (0.0,)) -> pd.DataFrame:
    """Brain masks of the classical skull strip on the prepared grid against the known ones, over added noise."""
    import pandas as pd

    rows = []
    for name in case_ids:
        case = embedded.render(name)
        for level in noise_hu:
            rng = generator(case.facts["seed"], f"strip-{level}")
            added = rng.standard_normal(case.image.array.shape, dtype=np.float32) * level
            row = {"case": name, "anatomy": case.facts["anatomy"], "noise_hu": level}
            try:
                mask, _ = skull_strip(case.image.with_array(case.image.array + added))
                rows.append(row | {"dice": dice(mask, case.brain), "failed": ""})
            except DataError as error:
                rows.append(row | {"dice": np.nan, "failed": str(error)})
    return pd.DataFrame(rows)


def summary(frame: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Mean with 95 % bootstrap interval, median, 95th percentile, n and number of failures by group.

    Args:
        frame: Of one of the functions above.
        by: Columns to group by.
        values: Columns to summarise; failures (NaN) count in ``failures`` alone.
    """
    import pandas as pd

    rows = []
    for key, part in frame.groupby(list(by), sort=False):
        for value in values:
            found = part[value].dropna().to_numpy(float)
            row = dict(zip(by, key, strict=True)) | {
                "error": value,
                "n": len(found),
                "failures": int(part[value].isna().sum()),
            }
            if len(found):
                ci = bootstrap_ci(found, seed=0) if len(found) > 1 else None
                row |= {"mean": found.mean(), "low": ci.low if ci else np.nan, "high": ci.high if ci else np.nan}
                row |= {"median": float(np.median(found)), "p95": float(np.percentile(found, 95))}
            rows.append(row)
    return pd.DataFrame(rows)
