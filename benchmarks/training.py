"""What the training loop itself costs: ``strokelib.train.fit`` against a bare loop of the same steps.

The same network, batches, loss and optimiser in both; fit also writes its history a line a step, clips, and saves three
checkpoints. The two take turns. Shown for a step of about 5 ms, where overhead would hurt, and for the demo's U-Net.

    python benchmarks/training.py [turns]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from strokelib import train
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.nn.precision import autocast, channels_last
from strokelib.nn.unet import UNet
from strokelib.repro import seed_everything

SIZES = {
    "U-Net of width 2, 4 slices of 32 x 32": (2, 3, 32, 300),
    "U-Net of width 12, 4 slices of 96 x 80": (12, 5, 96, 40),
}
CHECKPOINTS = 3


def batches(side: int) -> list[tuple[Tensor, Tensor]]:
    """Eight batches of noise with a square in it."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for _ in range(8):
        lesions = torch.zeros(4, side, side, dtype=torch.uint8)
        lesions[:, 4:12, 6:14] = 1
        out.append((torch.randn(4, 1, side, side, generator=generator) + lesions[:, None], lesions))
    return out


def step(model: nn.Module, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
    """The loss."""
    return dice_and_cross_entropy(model(batch[0]), batch[1])


def bare(width: int, depth: int, side: int, steps: int) -> float:
    """Seconds of a plain loop."""
    seed_everything(0)
    model, data = channels_last(UNet(1, 2, width, depth)), [(channels_last(i), y) for i, y in batches(side)]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    start = time.perf_counter()
    for n in range(steps):
        with autocast("auto", "cpu"):
            loss = step(model, data[n % len(data)], n)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - start


def fitted(width: int, depth: int, side: int, steps: int) -> float:
    """Seconds of the same steps in fit."""
    seed_everything(0)
    model, data = UNet(1, 2, width, depth), batches(side)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    with tempfile.TemporaryDirectory() as folder:
        how = {"steps": steps, "optimizer": optimizer, "seed": 0, "clip_norm": 1.0, "device": "cpu", "progress": False}
        start = time.perf_counter()
        train.fit(model, data, step, out=Path(folder), checkpoint_every=-(-steps // CHECKPOINTS), **how)
        return time.perf_counter() - start


if __name__ == "__main__":
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print("| network | steps | bare loop, ms a step | fit, ms a step | fit over bare (range) |\n" + "| --- " * 5 + "|")
    for name, (width, depth, side, steps) in SIZES.items():
        bare(width, depth, side, 5), fitted(width, depth, side, 5)
        times = np.array([(bare(width, depth, side, steps), fitted(width, depth, side, steps)) for _ in range(turns)])
        ms, ratio = np.median(times, axis=0) * 1000 / steps, times[:, 1] / times[:, 0]
        spread = f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
        print(f"| {name} | {steps} | {ms[0]:.2f} | {ms[1]:.2f} | {spread} |", flush=True)
