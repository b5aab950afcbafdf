"""Times the renderer against the same picture painted plainly with numpy and scipy, each of 100 heads, and 400 heads.

The plain version is what one writes first: random fields by ``scipy.ndimage.zoom``, maps read with ``map_coordinates``
at every pixel of every sub-slice, paint in numpy. On the same fields both must agree; each is timed with fields of its
own. The two take turns, so that a busy machine slows both; only the ratio means something.

    python benchmarks/phantom.py [repeats] [heads]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.special import expit

from strokelib import settings
from strokelib.data.phantom import anatomy, cohorts, embedded, infarcts, warp
from strokelib.data.phantom.atlas import LATTICE
from strokelib.data.phantom.fields import Lattice
from strokelib.data.phantom.knobs import KNOBS as K
from strokelib.data.phantom.render import render_scene
from strokelib.data.phantom.scanner import Grid, grid

WHOLE_HEADS = ("aisd", "xwhd", "apis", "icoais", "center_tbi")


def read(maps: np.ndarray, lattice: Lattice, points: np.ndarray, outside: str = "nearest") -> np.ndarray:
    """Maps (C, D, H, W) of a lattice at points (3, N) in mm."""
    x0, y0, z0 = lattice.corner
    where = np.stack([(points[2] - z0), (y0 - points[1]), (x0 - points[0])]) / lattice.step
    return np.stack([ndimage.map_coordinates(m, where, order=1, mode=outside) for m in maps])


def plain_field(
    rng: np.random.Generator, lattice: Lattice, spacing_mm: float, *, asymmetric: float = 1.0, band: bool = False
) -> torch.Tensor:
    """A random field as ``fields.smooth_field`` has it, by scipy."""
    noise = rng.standard_normal([int(np.ceil(n * lattice.step / spacing_mm)) + 4 for n in lattice.shape])
    if band:
        noise -= ndimage.uniform_filter(noise, 3)
    grown = ndimage.zoom(noise, spacing_mm / lattice.step, order=3)
    field = grown[tuple(slice(0, n) for n in lattice.shape)]
    field /= field.std()
    both = np.sqrt((1 - asymmetric) / 2) * (field + field[..., ::-1])
    field = both + np.sqrt(asymmetric / 2) * (field - field[..., ::-1])
    return torch.from_numpy(field.astype(np.float32))


@contextmanager
def plain_fields() -> Iterator[None]:
    """Heads whose fields are made by :func:`plain_field`."""
    modules = (anatomy, warp, infarcts)
    ours = anatomy.smooth_field
    for module in modules:
        module.smooth_field = plain_field
    try:
        yield
    finally:
        for module in modules:
            module.smooth_field = ours


def plain_head(case: str, target: Grid) -> np.ndarray:
    """A head from its name, all of it plainly."""
    with plain_fields():
        return plain(embedded.plan(case), target)


def plain(planned: embedded.Plan, target: Grid) -> np.ndarray:
    """The noiseless image in HU, (D, H, W)."""
    infarct, head = planned.infarct, planned.head
    edge = float(np.hypot(K.edge_mm, 0.16 * target.pixel_mm))
    levels = anatomy.build(head, infarct.squeeze, edge)
    outside, brain, moves = levels.outside.numpy(), levels.brain.numpy(), warp.displacement(head).numpy()
    matrix = warp.world_to_standard(head, planned.pose) @ target.affine
    depth, height, width = target.shape
    out = np.zeros(target.shape)
    rows, columns = (a.ravel().astype(float) for a in np.mgrid[:height, :width])
    for k in range(depth):
        for sample in range(target.samples):
            z = k + ((sample + 0.5) / target.samples - 0.5)
            voxels = np.stack([columns, rows, np.full_like(rows, z), np.ones_like(rows)])
            points = (matrix @ voxels)[:3]
            moved = points + read(moves, warp.WARP, points)
            moved -= read(infarct.push.numpy(), infarcts.COARSE, points)
            seen = read(outside, LATTICE, moved), read(brain, anatomy.BRAIN, moved)
            out[k] += paint(moved, *seen, infarct, levels, edge).reshape(height, width) / target.samples
    return out


def paint(points, outside, brain, infarct, levels, edge):
    """Density in HU at points (3, N)."""
    depth, skin, bone_mm, flesh = outside
    fluid_mm, sheet, half, grey_log, added, falx = brain
    bone, in_head = expit(bone_mm / edge), expit(skin / edge)
    dense = K.diploe_hu + (K.table_hu - K.diploe_hu) * expit((K.table_mm - bone_mm) / 0.3)
    flesh = flesh + (K.skin_hu - flesh) * expit((1.6 - skin) / 0.4) * (flesh > -500)
    wrap = K.air_hu + (flesh + (dense - flesh) * bone - K.air_hu) * in_head
    fluid, grey = expit(np.maximum(fluid_mm, half - np.abs(sheet)) / edge), expit(grey_log / 0.6)
    value = (K.white_hu + (K.grey_hu - K.white_hu) * grey + added) * (1 - fluid) + K.csf_hu * fluid
    across = points[0] + 0.6 * np.tanh(sheet / 6.0)
    dura = np.clip(expit((falx - across) / edge) + expit((falx + across) / edge) - 1, 0, None)
    value = value + np.clip(K.falx_hu - value, 0, None) * dura * (np.abs(points[0]) < 8.0)
    for x, y, z, radius in levels.calcium:
        distance = np.sqrt(((points - [[x], [y], [z]]) ** 2).sum(axis=0))
        value = value + K.calcium_hu * expit((radius - distance) / (0.5 + edge))
    mask, strength, _ = read(infarct.maps.numpy(), infarct.lattice, points, "constant")
    chronic = np.zeros_like(value)
    for x, y, z, radius in levels.chronic:
        distance = np.sqrt(((points - [[x], [y], [z]]) ** 2).sum(axis=0))
        chronic = np.maximum(chronic, expit(radius + 0.35 * radius * np.tanh(sheet / 4.0) - distance))
    chronic *= 1 - mask
    flattening = infarct.contrast_loss * (K.grey_hu - K.white_hu) * (grey - 0.5)
    value = value - strength * (infarct.drop_hu + flattening) * (1 - fluid) * (1 - chronic)
    value = value + (K.chronic_hu - value) * chronic * (1 - fluid)
    inside = expit(depth / edge)
    return wrap * (1 - inside) + value * inside


def seconds(call, *arguments) -> tuple[float, object]:
    """Time and result of one call."""
    start = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - start, result


def cpu_seconds(count: int, name: str = "published") -> np.ndarray:
    """CPU time in seconds of each of ``count`` heads on a grid, evenly spread over the lists of :data:`WHOLE_HEADS`."""
    listed = {cohort: embedded.rows(cohort, settings.manifests_dir()) for cohort in WHOLE_HEADS}
    share = count // len(WHOLE_HEADS)
    ids = [list(rows)[int(n)] for rows in listed.values() for n in np.linspace(0, len(rows) - 1, share)]
    for kind in "AB":  # an anatomy's maps are made once a process
        embedded.render(next(case for case, row in listed["aisd"].items() if row.anatomy == kind), name)
    took = []
    for case in ids:
        start = time.thread_time()
        embedded.render(case, name)
        took.append(time.thread_time() - start)
    return np.array(took)


def main(repeats: int, heads: int) -> None:
    """Print one line a grid, and the time of many demo heads."""
    torch.set_num_threads(1)
    print("| grid | strokelib, s a head on one core | numpy and scipy, s | ratio | mean difference in the brain, HU |")
    print("| --- | --- | --- | --- | --- |")
    planned = embedded.plan("aisd-0003")
    for name in ("published", "prepared"):
        target = grid(name, planned.pose)

        def ours(target: Grid = target) -> object:
            fresh = embedded.plan("aisd-0003", tiny=target.samples > 1)  # as embedded.render does
            return render_scene(target, fresh.head, fresh.pose, fresh.infarct, fresh.protocol, noisy=False)

        ours()
        times = []
        for _ in range(repeats):
            own, scene = seconds(ours)
            other, _ = seconds(plain_head, planned.id, target)
            times.append((own, other))
        difference = np.abs(scene.hu - plain(planned, target))[scene.brain].mean()
        assert difference < 1.5, difference  # nodes 2.4 mm apart against every pixel
        own, other = np.median(times, axis=0)
        ratio = np.median([b / a for a, b in times])
        shape = " x ".join(map(str, target.shape[::-1]))
        print(f"| {name}, {shape} | {own:.2f} | {other:.1f} | {ratio:.1f} | {difference:.2f} |", flush=True)
    took = cpu_seconds(100)
    spread = f"mean {took.mean():.2f} s, median {np.median(took):.2f} s, 95 % within {np.quantile(took, 0.95):.2f} s"
    print(f"\n{len(took)} heads of {', '.join(WHOLE_HEADS)} on the published grid, CPU time on one core:")
    print(spread, end=", ")
    print(f"slowest {took.max():.2f} s; {(took > 0.5).mean():.0%} above 0.5 s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rest, whole = heads, 0.0
        for cohort in ("aisd", "center_tbi"):
            part = min(rest, 295)
            took, _ = seconds(lambda c=cohort, n=part: cohorts.load(c, "train", "paper", root=Path(folder), limit=n))
            rest, whole = rest - part, whole + took
            if not rest:
                break
    print(f"\n{heads} demo heads, written to disk, by {min(2, os.cpu_count() or 1)} processes: {whole:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, int(sys.argv[2]) if len(sys.argv) > 2 else 400)
