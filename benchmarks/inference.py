"""How much quicker the published U-Net predicts in bfloat16 and channels-last than in plain float32, and what it costs.

First table: the U-Net of 31.04 million parameters on slices of 256 x 256, one thread and all cores: plain float32 as
torch runs it by default, bfloat16 and channels-last, and what ``strokelib.infer`` chooses on this machine (``auto``:
bfloat16 only where the processor multiplies it in hardware); the three take turns. Second table: a small U-Net trained
for a few hundred steps on embedded heads, and the Dice of its predictions in both number formats.

    python benchmarks/inference.py [turns]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from strokelib.data.loading import SliceSampler, slices_of
from strokelib.data.phantom import embedded
from strokelib.infer import evaluating, foreground, predict_case, predict_slices
from strokelib.manifest import split
from strokelib.methods import UNetRecipe, unet
from strokelib.metrics import dice
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.nn.precision import bf16_is_fast, channels_last
from strokelib.repro import seed_everything

SLICES, TRAIN, TEST, STEPS = 4, 24, 12, 240


def plain(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """Float32, the layout torch gives by default."""
    with evaluating(model), torch.inference_mode():
        return foreground(model(images)).numpy()


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def speed(turns: int) -> None:
    """Print the first table."""
    torch.manual_seed(0)
    model, fast = unet.build(UNetRecipe.at("paper")), unet.build(UNetRecipe.at("paper"))
    fast.load_state_dict(model.state_dict())
    channels_last(fast)
    images = torch.randn(SLICES, 1, 256, 256)
    print("| threads | float32, ms a slice | bf16, ms | auto, ms | float32 / bf16 (range) | float32 / auto (range) |")
    print("| --- " * 6 + "|")
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        calls = (
            lambda: plain(model, images),
            lambda: predict_slices(fast, images, SLICES, amp="bf16"),
            lambda: predict_slices(fast, images, SLICES, amp="auto"),
        )
        for call in calls:
            call()
        times = np.array([[seconds(call) for call in calls] for _ in range(turns)])
        ms, ratios = np.median(times, axis=0) * 1000 / SLICES, times[:, :1] / times[:, 1:]
        spread = [f"{np.median(r):.2f} ({r.min():.2f} to {r.max():.2f})" for r in ratios.T]
        print(f"| {threads} | " + " | ".join([f"{v:.0f}" for v in ms] + spread) + " |", flush=True)
    said = "bf16" if bf16_is_fast("cpu") else "float32, since it does not multiply bfloat16 in hardware"
    print(f"\nOn this processor `auto` is {said}.\n")


def cost() -> None:
    """Print the second table."""
    seed_everything(0)
    recipe, names = UNetRecipe.at("demo"), split("aisd")
    cases = {part: names["case"][names["split"] == part] for part in ("train", "test")}
    training = [embedded.stripped(embedded.render(name)) for name in cases["train"].iloc[:TRAIN]]
    tests = [embedded.stripped(embedded.render(name)) for name in cases["test"].iloc[:TEST]]
    how = {"window_hu": recipe.window_hu, "normalise": recipe.normalise}
    slices = slices_of(training, smallest_brain_ml=recipe.smallest_brain_ml, crop=recipe.crop, **how)
    model, sampler = channels_last(unet.build(recipe)), SliceSampler(slices, 8, 0, 0.5)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(STEPS):
        batch = next(sampler)
        loss = dice_and_cross_entropy(model(channels_last(batch.images)), batch.lesions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = {
        amp: np.array([dice(predict_case(model, c, amp=amp, **how) > 0.5, c.lesion) for c in tests])
        for amp in ("float32", "bf16")
    }
    gap = found["bf16"] - found["float32"]
    print("| test heads | mean Dice, float32 | mean Dice, bf16 | mean difference | largest difference |")
    print("| --- " * 5 + "|")
    means = " | ".join(f"{values.mean():.4f}" for values in found.values())
    print(f"| {len(gap)} | {means} | {gap.mean():+.5f} | {np.abs(gap).max():.5f} |", flush=True)


if __name__ == "__main__":
    speed(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    cost()
