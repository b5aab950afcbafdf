"""Times deconvolution of a perfusion series against a plain loop over voxels in numpy.

A series of 256 x 256 x 8 voxels and 47 frames of 1 s: exponential residues with delays and noise. The loop does what
one writes first, with the inverse matrix (or, for oSVD, one inverse a rank) made once outside of it; it is run on the
first voxels only and its time is given a voxel. Both give the same residues, which is checked. They take turns.

    python benchmarks/perfusion.py [turns]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time

import numpy as np
import torch

from strokelib.data import perfusion

VOXELS, FRAMES, STEP_S, LOOPED = 256 * 256 * 8, 47, 1.0, {"csvd": 20_000, "osvd": 2_000}


def series() -> tuple[np.ndarray, np.ndarray]:
    """(N, T) tissue curves and (T,) arterial input."""
    rng, t = np.random.default_rng(0), np.arange(FRAMES) * STEP_S
    rise = np.clip(t - 6, 0, None)
    aif = 300 * (rise / 6) ** 3 * np.exp(-3 * (rise / 6 - 1))
    kinds = []
    for _ in range(256):
        flow, mtt, delay = rng.uniform(0.001, 0.01), rng.uniform(3, 10), rng.uniform(0, 6)
        inflow = np.interp(t - delay, t, aif, left=0)
        kinds.append(np.convolve(inflow, flow * np.exp(-t / mtt))[:FRAMES])
    rows = np.array(kinds, np.float32)[rng.integers(0, 256, VOXELS)]
    return rows + 2 * rng.standard_normal(rows.shape, dtype=np.float32), aif.astype(np.float32)


def loop_csvd(rows: np.ndarray, aif: np.ndarray) -> np.ndarray:
    """One matrix-vector product a voxel."""
    matrix = perfusion.residue_matrices(torch.tensor(aif), STEP_S, torch.tensor([perfusion.THRESHOLD]))[0].numpy()
    out = np.empty((len(rows), 2 * FRAMES))
    for n, row in enumerate(rows):
        out[n] = matrix @ row
    return out


def loop_osvd(rows: np.ndarray, aif: np.ndarray) -> np.ndarray:
    """One product a voxel and rank, until the residue is quiet."""
    sizes = torch.fft.rfft(torch.tensor(aif).double(), n=2 * FRAMES).abs()
    shares = torch.sort(sizes / sizes.max()).values * (1 - 1e-9)
    shares = shares[shares >= perfusion.LOWEST_SHARE * (1 - 1e-9)]
    matrices = perfusion.residue_matrices(torch.tensor(aif), STEP_S, shares).numpy()
    out = np.empty((len(rows), 2 * FRAMES))
    for n, row in enumerate(rows):
        for matrix in matrices:
            f = matrix @ row
            second = np.abs(f[2:] - 2 * f[1:-1] + f[:-2]).sum()
            if second / (len(f) * max(f.max(), 1e-12)) <= perfusion.OSCILLATION:
                break
        out[n] = f
    return out


def main(turns: int) -> None:
    """Print one line a method."""
    torch.set_num_threads(1)
    rows, aif = series()
    curves, artery = torch.from_numpy(rows), torch.from_numpy(aif)
    print(
        "| method | loop, us a voxel | strokelib, us a voxel | whole series, s | ratio (range) |\n" + "| --- " * 5 + "|"
    )
    for method, loop in (("csvd", loop_csvd), ("osvd", loop_osvd)):
        count, times = LOOPED[method], []
        for _ in range(turns):
            start = time.perf_counter()
            by_loop = loop(rows[:count], aif)
            middle = time.perf_counter()
            ours = [
                perfusion.deconvolve(part, artery, STEP_S, method) for part in curves.split(perfusion.VOXELS_AT_ONCE)
            ]
            times.append(((middle - start) / count, (time.perf_counter() - middle) / len(rows)))
        found = torch.cat([part for part in ours])[:count].numpy()
        close = np.abs(found - by_loop).max(axis=1) <= 1e-3 * np.abs(by_loop).max()
        assert close.mean() > 0.995  # a voxel at the very limit may stop one rank apart in float32
        us, ratio = np.median(times, axis=0) * 1e6, np.divide(*np.transpose(times))
        spread = f"{np.median(ratio):.0f} ({ratio.min():.0f} to {ratio.max():.0f})"
        print(f"| {method} | {us[0]:.2f} | {us[1]:.3f} | {us[1] * len(rows) / 1e6:.2f} | {spread} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
