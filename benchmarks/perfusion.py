"""Times the four maps of a perfusion series against the plain loops over voxels that people write in numpy.

A series of 256 x 256 x 8 voxels and 47 frames of 1 s: exponential residues with delays and noise. The peers make CBF,
CBV, MTT and Tmax of one voxel after another:

* ``decomposed once``: one singular value decomposition of the block-circulant matrix outside of the loop; a voxel costs
  two products with its factors, and with oSVD two a threshold, 1 % and upwards in steps of 1 %, until the residue is
  quiet. This is the fair peer.
* ``decomposed a voxel``: the same with the decomposition inside of the loop, as the equations read.

The loops run on the first voxels only and their time is given a voxel; ours runs on the whole series. They take turns
on one core. That the maps of cSVD are those of the loop is checked. oSVD takes one pair of singular values away at a
time, where steps of 1 % may skip some; its exactness is checked in ``tests/data/test_perfusion.py``.

    python benchmarks/perfusion.py [turns]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time

import numpy as np
import torch

from strokelib.data import perfusion

SHAPE, FRAMES, STEP_S = (8, 256, 256), 47, 1.0
LOOPED = {("csvd", True): 4_000, ("csvd", False): 60, ("osvd", True): 1_000, ("osvd", False): 60}
PEERS = {True: "decomposed once", False: "decomposed a voxel"}
FACTOR = (1 - perfusion.HAEMATOCRIT[0]) / (1 - perfusion.HAEMATOCRIT[1]) / perfusion.BRAIN_DENSITY


def series() -> tuple[np.ndarray, np.ndarray]:
    """(T, D, H, W) enhancement and (T,) arterial input."""
    rng, t = np.random.default_rng(0), np.arange(FRAMES) * STEP_S
    rise = np.clip(t - 6, 0, None)
    aif = 300 * (rise / 6) ** 3 * np.exp(-3 * (rise / 6 - 1))
    kinds = []
    for _ in range(256):
        flow, mtt, delay = rng.uniform(0.001, 0.01), rng.uniform(3, 10), rng.uniform(0, 6)
        inflow = np.interp(t - delay, t, aif, left=0)
        kinds.append(np.convolve(inflow, flow * np.exp(-t / mtt))[:FRAMES])
    rows = np.array(kinds, np.float32)[rng.integers(0, 256, int(np.prod(SHAPE)))]
    rows = rows + 2 * rng.standard_normal(rows.shape, dtype=np.float32)
    return np.ascontiguousarray(rows.T).reshape(FRAMES, *SHAPE), aif.astype(np.float32)


def loop(rows: np.ndarray, aif: np.ndarray, method: str, once: bool) -> np.ndarray:
    """(4, N): CBF, CBV, MTT and Tmax of one voxel after another."""
    length = 2 * len(aif)
    padded = np.concatenate((aif, np.zeros(len(aif))))
    index = (np.arange(length)[:, None] - np.arange(length)[None]) % length
    matrix = STEP_S * padded[index]
    u, s, vt = np.linalg.svd(matrix)
    shares = [perfusion.THRESHOLD] if method == "csvd" else np.arange(0.01, 1.0, 0.01)
    out = np.empty((4, len(rows)))
    for n, row in enumerate(rows):
        if not once:
            u, s, vt = np.linalg.svd(matrix)
        curve = np.concatenate((row, np.zeros(len(row))))
        for share in shares:
            inverse = np.where(s >= share * s[0], 1 / s, 0)
            residue = vt.T @ (inverse * (u.T @ curve))
            if method == "csvd":
                break
            second = np.abs(residue[2:] - 2 * residue[1:-1] + residue[:-2]).sum()
            if second / (length * max(residue.max(), 1e-12)) <= perfusion.OSCILLATION:
                break
        place = int(residue.argmax())
        cbf, cbv = 6000 * FACTOR * residue[place], 100 * FACTOR * row.sum() / aif.sum()
        out[:, n] = cbf, cbv, 60 * cbv / cbf, place * STEP_S if place < len(aif) else 0
    return out


def main(turns: int) -> None:
    """Print one line a method and peer."""
    torch.set_num_threads(1)
    enhancement, aif = series()
    mask, voxels = np.ones(SHAPE, bool), int(np.prod(SHAPE))
    rows = enhancement.reshape(FRAMES, -1).T
    print(
        "| method | peer | loop, us a voxel | ours, us a voxel | whole series, s | ratio (range) |\n"
        + "| --- " * 6
        + "|"
    )
    for (method, once), count in LOOPED.items():
        times = []
        for _ in range(turns):
            start = time.perf_counter()
            by_loop = loop(rows[:count].astype(np.float64), aif.astype(np.float64), method, once)
            middle = time.perf_counter()
            ours = perfusion.perfusion_maps(enhancement, aif, STEP_S, mask, method)
            times.append(((middle - start) / count, (time.perf_counter() - middle) / voxels))
        if method == "csvd":
            found = np.stack([getattr(ours, name).ravel()[:count] for name in ("cbf", "cbv", "mtt_s", "tmax_s")])
            close = np.abs(found - by_loop) <= 1e-3 * np.abs(by_loop).max(axis=1, keepdims=True)
            assert close.mean() > 0.995  # two samples of equal height may change places in float32
        us, ratio = np.median(times, axis=0) * 1e6, np.divide(*np.transpose(times))
        spread = f"{np.median(ratio):.0f} ({ratio.min():.0f} to {ratio.max():.0f})"
        line = f"{us[0]:.1f} | {us[1]:.3f} | {us[1] * voxels / 1e6:.2f} | {spread}"
        print(f"| {method} | {PEERS[once]} | {line} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
